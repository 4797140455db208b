/* printable_test.c - no text of a stranger reaches a terminal as a command, and none can pose as a
 * line of the program. */
#include "base/printable.h"

#include "base/rng.h"
#include "tests/test.h"

#include <string.h>

static const char *shown(const char *s, bool lines) {
    static struct buf b;
    buf_reset(&b);
    printable_add(&b, s, strlen(s), lines);
    return b.data;
}

TEST(escapes_what_a_terminal_obeys) {
    CHECK_STR(shown("\x1b[2J\x1b]0;title\x07", false), "\\e[2J\\e]0;title\\x07");
    CHECK_STR(shown("over\rwrite\b\x7f", false), "over\\rwrite\\x08\\x7f");
    CHECK_STR(shown("\xc2\x9b"
                    "31m",
                    false),
              "\\u009b31m"); /* CSI in one character */
    CHECK_STR(shown("\xe2\x80\xae"
                    "evil",
                    false),
              "\\u202eevil"); /* right to left */
    CHECK_STR(shown("a\xe2\x80\x8b\xef\xbb\xbf"
                    "b",
                    false),
              "a\\u200b\\ufeffb");
    CHECK_STR(shown("\xf3\xa0\x81\x81", false), "\\U000e0041"); /* a tag character */
    CHECK_STR(shown("\xff\xc3(", false), "\\xff\\xc3(");
    CHECK_STR(shown("a\nb\tc", false), "a\\nb\\tc");
    CHECK_STR(shown("a\nb", true), "a\nb");
    CHECK_STR(shown("", false), "");
}

TEST(leaves_text_alone) {
    static const char text[] =
        "\\boxed{5} \xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80 \"q\"";
    CHECK_STR(shown(text, false), text);
}

TEST(every_line_behind_the_margin) {
    struct buf b = {0};
    printable_block(&b, "one\nreward 1\n", 13, " | ");
    CHECK_STR(b.data, " | one\n | reward 1\n");
    buf_reset(&b);
    printable_block(&b, "", 0, " | ");
    CHECK_STR(b.data, " | \n");
    buf_reset(&b);
    printable_block(&b, "\n\nx\0y", 5, "|");
    CHECK_STR(b.data, "|\n|\n|x\\x00y\n");
    buf_close(&b);
}

/* Whatever the bytes, none below 0x20 but a line end is left, nor 0x7f, nor U+0080 to U+009F. */
TEST(any_bytes) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    struct buf b = {0};
    for (uint64_t round = 0; round < 2000; round++) {
        char s[64];
        size_t n = (size_t)rng_below(key, round, 1000, sizeof s + 1);
        for (size_t i = 0; i < n; i++)
            s[i] = (char)rng_below(key, round, i, 256);
        buf_reset(&b);
        printable_block(&b, s, n, "");
        for (size_t i = 0; i < b.len; i++) {
            unsigned char c = (unsigned char)b.data[i];
            CHECK((c >= 0x20 || c == '\n') && c != 0x7f);
            CHECK(c != 0xc2 || (unsigned char)b.data[i + 1] >= 0xa0);
        }
    }
    buf_close(&b);
}
