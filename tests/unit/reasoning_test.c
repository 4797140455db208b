/* reasoning_test.c - the draft before </think> is judged by no verifier of answers, a draft that is
 * not closed is no answer, and what a recipe says about the mark. */
#include "reward/verify/reasoning.h"

#include "reward/verify/verify.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

/* 1, 0 or the ERR_*; why: the reason, or NULL. */
static int judge(struct verify_spec spec, const char *prompt, const char *response,
                 const char *answer, char *why) {
    struct verify *v = NULL;
    struct verify_result r;
    spec.weight = 1;
    CHECK_OK(verify_open(&v, &spec, 1));
    verify_run(v, &(struct verify_input){prompt, response, answer, 1, 10, false}, &r);
    verify_close(&v);
    if (why) memcpy(why, r.reason, VERIFY_REASON);
    return r.error ? r.error : (int)r.total;
}
#define JUDGE(prompt, response, answer, ...)                                                       \
    judge((struct verify_spec){__VA_ARGS__}, prompt, response, answer, NULL)

TEST(reasoning_is_seen_by_no_verifier_of_answers) {
    static const char text[] = "<think>\n#### 3, B, cat\n</think>\n";
    static const struct {
        const char *type, *pattern, *draft, *answer, *tail;
    } c[] = {{"math", NULL, "3", "5", "5"},           {"gsm8k", NULL, "3", "5", "#### 5"},
             {"choice", NULL, "B", "A", "A"},         {"exact", NULL, text, "5", " 5\n"},
             {"contains", NULL, "cat", "dog", "dog"}, {"regex", "B|D", "", "", "D"}};
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        struct verify_spec spec = {.type = c[i].type, .pattern = c[i].pattern};
        char whole[100], why[VERIFY_REASON];
        snprintf(whole, sizeof whole, "%s%s", text, c[i].tail);
        CHECK_INT(judge(spec, "", whole, c[i].answer, NULL), 1);
        CHECK_INT(judge(spec, "", text, c[i].draft, NULL), 0);
        whole[strlen(text) - 3] = '-'; /* </thin-> closes nothing */
        CHECK_INT(judge(spec, "", whole, c[i].answer, why), 0);
        CHECK(strstr(why, "no answer: the reasoning is not closed") != NULL);
    }
    CHECK_INT(JUDGE("", text, "", .type = "format", .pattern = "(?s)<think>.*</think>"), 1);
    CHECK_INT(JUDGE("", "<think> a", "", .type = "format", .pattern = "<think>"), 1);
}

TEST(reasoning_begun_by_the_prompt) {
    CHECK_INT(JUDGE("<|Assistant|><think>\n", "\\boxed{5}", "5", .type = "math"), 0);
    CHECK_INT(JUDGE("<|Assistant|><think>\n", "3</think>\\boxed{5}", "5", .type = "math"), 1);
    CHECK_INT(JUDGE("<think>\n\n</think>\n\n", "\\boxed{5}", "5", .type = "math"), 1);
    CHECK_INT(JUDGE("Reason in <think> tags. Go:", "\\boxed{5}", "5", .type = "math"), 1);
    CHECK_INT(JUDGE("[THINK]", "\\boxed{5}", "5", .type = "math"), 0);
}

TEST(reasoning_marks_of_the_recipe) {
    static const char channel[] = "analysis: \\boxed{3} assistantfinal \\boxed{5}";
    struct verify *v = NULL;
    char mark[200];
    CHECK_INT(JUDGE("", channel, "5", .type = "math", .after = "assistantfinal"), 1);
    CHECK_INT(JUDGE("", "\\boxed{5}", "5", .type = "math", .after = "assistantfinal"), 0);
    struct verify_spec lacks = {.type = "exact", .after = "Answer:"};
    CHECK_INT(judge(lacks, "", "5", "5", mark), 0);
    CHECK_STR(mark, "exact: no answer: \"Answer:\" (after) is not in the response");
    CHECK_INT(judge(lacks, "", "Answer: <think> 5", "5", mark), 0);
    CHECK_STR(mark, "exact: no answer: the reasoning is not closed");
    CHECK_INT(JUDGE("", "<r>7</r>5", "5", .type = "exact", .after = "</r>"), 1);
    CHECK_INT(JUDGE("", "<r>\\boxed{5}", "5", .type = "math", .after = "</r>"), 0);
    CHECK_INT(JUDGE("x <r>\n", "\\boxed{5}", "5", .type = "math", .after = "</r>"), 0);
    CHECK_INT(JUDGE("", "\\boxed{5}", "5", .type = "math", .after = "</r>"), 1);
    CHECK_INT(JUDGE("", "<r>1</r><think>2</think>5", "5", .type = "exact", .after = "</r>"), 1);
    CHECK_INT(JUDGE("", "<think>2</think>5", "<think>2</think>5", .type = "exact", .after = ""), 1);
    CHECK_INT(JUDGE("", "<think>\\boxed{5}", "5", .type = "math", .after = ""), 1);
    CHECK_ERR(
        verify_open(&v, &(struct verify_spec){.type = "format", .pattern = "a", .after = "b"}, 1),
        ERR_CONFIG, "format has no setting after");
    memset(mark, 'a', sizeof mark - 1);
    mark[sizeof mark - 1] = 0;
    CHECK_ERR(verify_open(&v, &(struct verify_spec){.type = "math", .after = mark}, 1), ERR_CONFIG,
              "after has 199 bytes");
}

/* A pattern that was written for the whole response keeps seeing it. */
TEST(reasoning_in_a_pattern_of_the_recipe) {
    static const char *const pattern[] = {"(?s)<think>.*</think>\\s*(?<answer>.*)",
                                          "(?s)<think>.*<\\/think>\\s*(?<answer>.*)"};
    for (size_t i = 0; i < 2; i++) {
        CHECK_INT(JUDGE("", "<think>3</think> 5", "5", .type = "regex", .pattern = pattern[i]), 1);
        CHECK_INT(JUDGE("", "<think>5", "5", .type = "regex", .pattern = pattern[i]), 0);
    }
}

TEST(reasoning_not_closed_keeps_errors_of_the_data) {
    CHECK_INT(JUDGE("", "<think> 5", "", .type = "math"), ERR_CORRUPT);
    CHECK_INT(JUDGE("", "<think> 5", "((", .type = "math"), ERR_UNSUP);
    CHECK_INT(JUDGE("", "<think> 5", "seven", .type = "gsm8k"), ERR_CORRUPT);
}
