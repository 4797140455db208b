/* verify_test.c - the frame around the verifiers: what verify_open refuses, how scores are summed,
 * how errors stay errors. */
#include "reward/verify/verify.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "tests/test.h"

static void refuse(struct verify_spec spec, const char *part) {
    struct verify *v = NULL;
    CHECK_ERR(verify_open(&v, &spec, 1), ERR_CONFIG, part);
    CHECK(v == NULL);
}

TEST(verify_open_refuses_bad_specs) {
    struct verify *v = NULL;
    struct verify_spec many[VERIFY_MAX + 1] = {{0}};
    refuse((struct verify_spec){.type = "gsm9k"}, "nearest known one is \"gsm8k\"");
    refuse((struct verify_spec){.weight = 1}, "type is missing");
    refuse((struct verify_spec){.type = "gsm8k", .pattern = "a"}, "gsm8k has no setting pattern");
    refuse((struct verify_spec){.type = "exact", .flexible = true}, "no setting flexible");
    refuse((struct verify_spec){.type = "gsm8k", .ignore_case = true}, "no setting ignore_case");
    refuse((struct verify_spec){.type = "exact", .whole_word = true}, "no setting whole_word");
    refuse((struct verify_spec){.type = "exact", .max_tokens = 5}, "no setting max_tokens");
    refuse((struct verify_spec){.type = "exact", .penalty = 0.5}, "no setting penalty");
    refuse((struct verify_spec){.type = "regex"}, "needs a pattern");
    refuse((struct verify_spec){.type = "format", .pattern = "a(b"}, "does not compile");
    refuse((struct verify_spec){.type = "regex", .pattern = "(?J)(?<answer>a)|(?<answer>b)"},
           "more than one group");
    refuse((struct verify_spec){.type = "exact", .weight = (double)NAN}, "weight");
    refuse((struct verify_spec){.type = "exact", .name = "a b"}, "may hold letters");
    refuse((struct verify_spec){.type = "exact", .name = ""}, "0 bytes");
    refuse((struct verify_spec){.type = "length"}, "must be above 0");
    refuse((struct verify_spec){.type = "length", .max_tokens = 10, .buffer_tokens = 11}, "above");
    refuse((struct verify_spec){.type = "length", .buffer_tokens = -1}, "from 0");
    refuse((struct verify_spec){.type = "length", .buffer_tokens = 1, .penalty = -1}, "penalty");
    CHECK_ERR(verify_open(&v, many, 0), ERR_CONFIG, "0 entries");
    CHECK_ERR(verify_open(&v, many, VERIFY_MAX + 1), ERR_CONFIG, "17 entries");
    many[0] = many[1] = (struct verify_spec){.type = "exact"};
    CHECK_ERR(verify_open(&v, many, 2), ERR_CONFIG, "both called exact");
}

TEST(verify_types_are_in_the_docs) {
    struct buf rows = {0};
    char *page;
    size_t n;
    verify_document(&rows);
    CHECK_OK(file_read(&page, &n, "docs/rewards.md", 1 << 20));
    const char *table = strstr(page, "| `math` |");
    CHECK(table != NULL);
    if (table && strncmp(table, rows.data, rows.len) != 0)
        CHECK_STR(table, rows.data); /* the rows as they must be */
    mem_free(page);
    buf_close(&rows);
}

/* Each type has a heading of docs/rewards.md; headings may name several, with commas between. */
TEST(verify_types_are_documented) {
    char *text;
    size_t bytes;
    CHECK_OK(file_read(&text, &bytes, "docs/rewards.md", 1 << 20));
    const char *name;
    for (size_t n = 0; (name = verify_types(n, NULL)) != NULL; n++) {
        bool found = false;
        for (const char *line = text; line && !found; line = strstr(line + 1, "\n## ")) {
            const char *end = strchr(line + 1, '\n'), *at = strstr(line, name);
            found = strncmp(line, "\n## ", 4) == 0 && at && end && at < end;
        }
        if (!found) test_fail(__FILE__, __LINE__, "docs/rewards.md has no section about %s", name);
    }
    mem_free(text);
}

TEST(verify_sums_weighted_scores) {
    struct verify *v = NULL;
    struct verify_result r;
    const struct verify_spec specs[] = {
        {.type = "gsm8k", .weight = 1},
        {.type = "format", .name = "tags", .weight = 0.25, .pattern = "<think>.*</think>"},
        {.type = "format", .weight = 0.5, .pattern = "nowhere"},
        {.type = "length", .weight = 1, .max_tokens = 100, .buffer_tokens = 10},
    };
    struct verify_input in = {
        .response = "<think>6*3</think>\n#### 18", .answer = "so\n#### 18", .n_tokens = 95};
    CHECK_OK(verify_open(&v, specs, 4));
    verify_run(v, &in, &r);
    CHECK_INT(r.error, 0);
    CHECK_INT(r.n_scores, 4);
    CHECK_STR(r.scores[1].name, "tags");
    CHECK_NEAR(r.scores[0].value, 1, 0);
    CHECK_NEAR(r.scores[1].value, 1, 0);
    CHECK_NEAR(r.scores[2].value, 0, 0);
    CHECK_NEAR(r.scores[3].value, -0.5, 0);
    CHECK_NEAR(r.total, 1 + 0.25 - 0.5, 0);
    verify_close(&v);
    CHECK(v == NULL);
}

TEST(verify_error_is_not_zero) {
    struct verify *v = NULL;
    struct verify_result r;
    const struct verify_spec specs[] = {{.type = "format", .weight = 1, .pattern = "a"},
                                        {.type = "gsm8k", .weight = 1}};
    struct verify_input in = {.response = "a #### 1", .answer = "unknown \xff\n\x01 value"};
    CHECK_OK(verify_open(&v, specs, 2));
    verify_run(v, &in, &r);
    CHECK_INT(r.error, ERR_CORRUPT);
    CHECK_INT(r.n_scores, 0);
    CHECK_NEAR(r.total, 0, 0);
    CHECK(strstr(r.reason, "gsm8k: the reference answer \"unknown") != NULL);
    CHECK_INT(utf8_valid_prefix(r.reason, strlen(r.reason)), strlen(r.reason));
    CHECK(strpbrk(r.reason, "\n\x01") == NULL);
    in.answer = NULL;
    verify_run(v, &in, &r);
    CHECK_INT(r.error, ERR_CORRUPT);
    CHECK(strstr(r.reason, "no reference answer") != NULL);
    verify_close(&v);
}

static int run_nan(const void *state, const struct verify_input *in, double *value, char *reason) {
    (void)state, (void)in, (void)reason;
    *value = (double)NAN;
    return 0;
}

TEST(verify_refuses_a_score_that_is_no_number) {
    static const struct verify_type type = {.name = "test-nan", .doc = "d", .run = run_nan};
    struct verify *v = NULL;
    struct verify_result r;
    struct verify_input in = {0};
    verify_register(&type);
    CHECK_OK(verify_open(&v, &(struct verify_spec){.type = "test-nan", .weight = 1}, 1));
    verify_run(v, &in, &r);
    CHECK_INT(r.error, ERR_CORRUPT);
    verify_close(&v);
}

static int run_chatty(const void *state, const struct verify_input *in, double *value,
                      char *reason) {
    (void)state, (void)in;
    memset(reason, 'a', 190); /* then two-byte characters across the place of the cut */
    memcpy(reason + 190, "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 9);
    *value = 1;
    return 0;
}

TEST(verify_cuts_reasons_at_a_character) {
    static const struct verify_type type = {.name = "test-chatty", .doc = "d", .run = run_chatty};
    struct verify *v = NULL;
    struct verify_result r;
    struct verify_input in = {0};
    verify_register(&type);
    for (size_t len = 1; len <= 2; len++) {
        const struct verify_spec spec = {
            .type = "test-chatty", .name = len == 1 ? "n" : "nn", .weight = 1};
        CHECK_OK(verify_open(&v, &spec, 1));
        verify_run(v, &in, &r);
        CHECK_INT(r.error, 0);
        CHECK_INT(strlen(r.reason), VERIFY_REASON - len); /* 199 with "n: ", 198 with "nn: " */
        CHECK_INT(utf8_valid_prefix(r.reason, strlen(r.reason)), strlen(r.reason));
        verify_close(&v);
    }
}

TEST(finished_is_about_the_end_only) {
    struct verify *v;
    struct verify_result r;
    struct verify_spec spec = {.type = "finished", .weight = 2};
    struct verify_input in = {.response = "so", .n_tokens = 5};
    CHECK_OK(verify_open(&v, &spec, 1));
    verify_run(v, &in, &r);
    CHECK_NEAR(r.total, 2, 0);
    in.truncated = true;
    verify_run(v, &in, &r);
    CHECK_NEAR(r.total, 0, 0);
    CHECK(strstr(r.reason, "cut off at 5 tokens") != NULL);
    verify_close(&v);
}

/* A reference that can never be judged is known without a response. */
TEST(references_are_checked_before_a_response) {
    static const struct {
        const char *type, *pattern, *answer, *error;
    } cases[] = {
        {"gsm8k", NULL, "18", NULL},
        {"gsm8k", NULL, "two", "gsm8k: the reference answer \"two\" does not hold one number"},
        {"gsm8k", NULL, "", "gsm8k: the row has no reference answer"},
        {"math", NULL, "\\frac{1}{2}", NULL},
        {"math", NULL, "\\frac{1}{", "math: the reference answer"},
        {"choice", NULL, "(B)", NULL},
        {"choice", NULL, "maybe",
         "choice: the reference answer \"maybe\" does not hold one letter"},
        {"exact", NULL, "x", NULL},
        {"exact", NULL, " \n", "exact: the reference answer is blank"},
        {"contains", NULL, "", "contains: the row has no reference answer"},
        {"regex", "x", "", NULL},
        {"regex", "(?<answer>x)", "x", NULL},
        {"regex", "(?<answer>x)", " ", "regex: the reference answer is blank"},
        {"format", "x", "", NULL},
        {"finished", NULL, "", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct verify_spec spec = {.type = cases[i].type, .pattern = cases[i].pattern, .weight = 1};
        struct verify *v;
        CHECK_OK(verify_open(&v, &spec, 1));
        if (cases[i].error) {
            int rc = verify_check(v, cases[i].answer);
            if (rc >= 0 || !strstr(err_text(), cases[i].error))
                test_fail(__FILE__, __LINE__, "%s \"%s\": %d %s", cases[i].type, cases[i].answer,
                          rc, err_text());
        } else {
            CHECK_OK(verify_check(v, cases[i].answer));
        }
        verify_close(&v);
    }
}
