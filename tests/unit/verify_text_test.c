/* verify_text_test.c - exact, contains, regex, format and length: tables of cases per type. */
#include "reward/verify/verify.h"
#include "tests/test.h"

#include "base/mem.h"

/* Expected value of `error` when a case must fail. */
struct text_case {
    const char *response, *answer;
    double value;
    int error;
};

static void run_cases(struct verify_spec spec, const struct text_case *c, size_t n) {
    struct verify *v = NULL;
    spec.weight = 1;
    CHECK_OK(verify_open(&v, &spec, 1));
    for (size_t i = 0; i < n; i++) {
        struct verify_input in = {.response = c[i].response, .answer = c[i].answer};
        struct verify_result r;
        verify_run(v, &in, &r);
        if (r.error != c[i].error || (!r.error && fabs(r.total - c[i].value) > 1e-15))
            test_fail(__FILE__, __LINE__, "%s case %zu \"%s\" / \"%s\": %g error %s (%s)",
                      spec.type, i, c[i].response, c[i].answer ? c[i].answer : "(none)", r.total,
                      err_name(r.error), r.reason);
    }
    verify_close(&v);
}
#define RUN(c, ...) run_cases((struct verify_spec){__VA_ARGS__}, c, sizeof c / sizeof c[0])

TEST(verify_exact) {
    const struct text_case plain[] = {
        {"Paris", "Paris", 1, 0},
        {"  Paris\n", "\tParis ", 1, 0},
        {"\xc2\xa0Paris\xe3\x80\x80", "Paris", 1, 0}, /* Unicode spaces */
        {"paris", "Paris", 0, 0},
        {"Paris.", "Paris", 0, 0},
        {"Par is", "Paris", 0, 0},
        {"", "Paris", 0, 0},
        {"caf\xc3\xa9", "cafe\xcc\x81", 1, 0}, /* composed and decomposed */
        {"\xff", "\xef\xbf\xbd", 1, 0},
        {"x", "", 0, ERR_CORRUPT},
        {"x", " \n", 0, ERR_CORRUPT},
        {"x", NULL, 0, ERR_CORRUPT},
    };
    const struct text_case folded[] = {
        {"PARIS", "paris", 1, 0},
        {"STRASSE",
         "stra\xc3\x9f"
         "e",
         1, 0},
        {"\xce\xa3\xce\x91\xce\xa3", "\xcf\x83\xce\xb1\xcf\x82", 1, 0}, /* final sigma */
        {"pari", "paris", 0, 0},
    };
    RUN(plain, .type = "exact");
    RUN(folded, .type = "exact", .ignore_case = true);
}

TEST(verify_contains) {
    const struct text_case part[] = {
        {"the cat sat", "cat", 1, 0},
        {"concatenate", "cat", 1, 0},
        {"the dog", "cat", 0, 0},
        {"Cat", "cat", 0, 0},
        {"", "cat", 0, 0},
        {"cat", " cat\n", 1, 0},
        {"ca\xcc\x81t", "c\xc3\xa1t", 1, 0},
        {"x", " ", 0, ERR_CORRUPT},
    };
    const struct text_case word[] = {
        {"the Cat.", "cat", 1, 0},
        {"cat", "cat", 1, 0},
        {"CAT!", "cat", 1, 0},
        {"concatenate a cat", "cat", 1, 0}, /* the second occurrence */
        {"cats", "cat", 0, 0},
        {"bobcat", "cat", 0, 0},
        {"cat_1", "cat", 0, 0},
        {"cat's", "cat", 1, 0},
        {"\xc3\xa9"
         "cat",
         "cat", 0, 0}, /* a letter beyond ASCII before it */
        {"cat\xc3\xa9", "cat", 0, 0},
        {"\xe2\x80\x9c"
         "cat\xe2\x80\x9d",
         "cat", 1, 0}, /* curly quotes */
        {"ice cream van", "ice cream", 1, 0},
        {"catcat cat", "cat", 1, 0},
    };
    RUN(part, .type = "contains");
    RUN(word, .type = "contains", .ignore_case = true, .whole_word = true);
}

TEST(verify_regex) {
    const struct text_case plain[] = {{"ab12", NULL, 1, 0}, {"ab", NULL, 0, 0}, {"", NULL, 0, 0}};
    const struct text_case group[] = {
        {"Answer: 42", "42", 1, 0},         {"Answer: 42 ", " 42", 1, 0},
        {"Answer: 41", "42", 0, 0},         {"Answer 42", "42", 0, 0},
        {"Answer: 42", "", 0, ERR_CORRUPT}, {"Answer: 42", " ", 0, ERR_CORRUPT},
    };
    const struct text_case unset[] = {{"b", "a", 0, 0}, {"a", "a", 1, 0}};
    const struct text_case boom[] = {
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", NULL, 0, ERR_TIMEOUT},
        {"aaaa", NULL, 1, 0},
    };
    const struct text_case bytes[] = {{"\xff\xfe x\xc3\xa9 \xff", NULL, 1, 0},
                                      {"\xff\xfe", NULL, 0, 0}};
    RUN(plain, .type = "regex", .pattern = "\\d+");
    RUN(group, .type = "regex", .pattern = "Answer:(?<answer>.*)$");
    RUN(unset, .type = "regex", .pattern = "(?<answer>a)|b");
    RUN(boom, .type = "regex", .pattern = "^(a|aa|a+)+$");
    RUN(bytes, .type = "regex", .pattern = "x\\w");
    RUN(bytes, .type = "format", .pattern = "X\xc3\x89", .ignore_case = true);
}

TEST(verify_regex_nests_deeply_or_fails) {
    struct verify *v = NULL;
    struct verify_result r;
    size_t n = 3000000;
    char *text = mem_alloc(n + 1);
    memset(text, 'a', n);
    text[n] = 0;
    CHECK_OK(verify_open(
        &v, &(struct verify_spec){.type = "format", .weight = 1, .pattern = "^(a|b)*(?<x>)c"}, 1));
    verify_run(v, &(struct verify_input){.response = text}, &r);
    CHECK(r.error == ERR_TIMEOUT || r.error == ERR_NOMEM);
    verify_close(&v);
    mem_free(text);
}

static double length_score(const struct verify_spec *spec, int32_t n, int32_t max, int *error) {
    struct verify *v = NULL;
    struct verify_result r;
    struct verify_input in = {.n_tokens = n, .max_tokens = max};
    CHECK_OK(verify_open(&v, spec, 1));
    verify_run(v, &in, &r);
    verify_close(&v);
    *error = r.error;
    return r.total;
}

TEST(verify_length_is_dapos_formula) {
    struct verify_spec s = {.type = "length", .weight = 1, .max_tokens = 100, .buffer_tokens = 20};
    const struct {
        int32_t n;
        double value;
    } c[] = {{0, 0},      {79, 0},   {80, 0},   {81, -0.05}, {90, -0.5},
             {99, -0.95}, {100, -1}, {101, -1}, {100000, -1}};
    int error;
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        CHECK_NEAR(length_score(&s, c[i].n, 7, &error), c[i].value, 0);
        CHECK_INT(error, 0);
    }
    s.penalty = 0.5;
    CHECK_NEAR(length_score(&s, 90, 0, &error), -0.25, 0);
    s.max_tokens = 0; /* from the input */
    CHECK_NEAR(length_score(&s, 45, 50, &error), -0.375, 0);
    length_score(&s, 45, 0, &error);
    CHECK_INT(error, ERR_CONFIG);
    length_score(&s, 45, 10, &error);
    CHECK_INT(error, ERR_CONFIG);
    length_score(&s, -1, 100, &error);
    CHECK_INT(error, ERR_CORRUPT);
    s = (struct verify_spec){.type = "length", .weight = 2, .min_tokens = 10};
    CHECK_NEAR(length_score(&s, 10, 0, &error), 0, 0);
    CHECK_NEAR(length_score(&s, 4, 0, &error), -1.2, 1e-15);
    CHECK_NEAR(length_score(&s, 0, 0, &error), -2, 0);
    CHECK_INT(error, 0);
}
