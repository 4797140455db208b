/* nearest_test.c - distances worked out by hand, ties, and words longer than the cut. */
#include "base/nearest.h"
#include "tests/test.h"

TEST(nearest_word_picks_the_closest) {
    static const char *const list[] = {"gsm8k", "math", "exact", "regex", "format", "length"};
    CHECK_STR(nearest_word("gms8k", list, 6), "gsm8k");
    CHECK_STR(nearest_word("MATHS", list, 6), "math");
    CHECK_STR(nearest_word("regexp", list, 6), "regex");
    CHECK_STR(nearest_word("formatted", list, 6), "format");
    CHECK_STR(nearest_word("", list, 6), "math"); /* the shortest */
    CHECK(nearest_word("x", list, 0) == NULL);
    static const char *const pair[] = {"x", "abcdefgi"};
    CHECK_STR(nearest_word("abcdefgh", pair, 2), "abcdefgi"); /* equal letters cost nothing */
}

TEST(nearest_word_cuts_long_input) {
    char word[500];
    memset(word, 'a', sizeof word - 1);
    word[sizeof word - 1] = 0;
    const char *const list[] = {"b", word};
    CHECK_STR(nearest_word(word, list, 2), word);
}
