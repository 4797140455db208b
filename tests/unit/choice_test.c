/* choice_test.c - the forms in which a letter is chosen, and the ones that choose nothing. */
#include "reward/verify/verify.h"
#include "tests/test.h"

static int judge(const struct verify *v, const char *response, const char *answer) {
    struct verify_result r;
    verify_run(v, &(struct verify_input){.response = response, .answer = answer}, &r);
    return r.error ? r.error : (int)r.total;
}

TEST(choice_forms) {
    static const char *const right[] = {"B",
                                        "(B)",
                                        "B.",
                                        "B)",
                                        "b",
                                        "(b)",
                                        "**B**",
                                        "answer: B",
                                        "Answer: (B)",
                                        "The answer is B.",
                                        "the answer is (b)",
                                        "The correct answer is B: because",
                                        "\\boxed{B}",
                                        "\\boxed{\\text{B}}",
                                        "\\boxed{(B)}",
                                        "\\boxed{\\textbf{(B)}}",
                                        "\\boxed{b}",
                                        "A is wrong, C too. \\boxed{B}",
                                        "I pick B",
                                        "A or B? B",
                                        "Option B",
                                        "#### B",
                                        "B. A dog is an animal",
                                        "The answer is B. A is wrong",
                                        "so (B) it is",
                                        "Answer: B) Paris",
                                        "A. x\nB. y\nI choose B",
                                        "**Answer: B**",
                                        "Answer: B because A is false"};
    static const char *const wrong[] = {"A",
                                        "(C)",
                                        "",
                                        "the answer is A",
                                        "\\boxed{A} not B",
                                        "\\boxed{A, B}",
                                        "The answer is A or B",
                                        "Bob",
                                        "none",
                                        "I think",
                                        "A dog",
                                        "BB",
                                        "B2",
                                        "\\boxed{AB}",
                                        "the answer is (a)",
                                        "b c",
                                        "Answer: B or C"};
    struct verify *v = NULL;
    CHECK_OK(verify_open(&v, &(struct verify_spec){.type = "choice", .weight = 1}, 1));
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        if (judge(v, right[i], "B") != 1) test_fail(__FILE__, __LINE__, "\"%s\" is B", right[i]);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (judge(v, wrong[i], "B") != 0)
            test_fail(__FILE__, __LINE__, "\"%s\" is not B", wrong[i]);
    static const char *const refs[] = {"B", "(B)", "b", "B.", "\\boxed{B}", "B) Paris", "#### B"};
    for (size_t i = 0; i < sizeof refs / sizeof refs[0]; i++)
        if (judge(v, "\\boxed{B}", refs[i]) != 1)
            test_fail(__FILE__, __LINE__, "reference \"%s\" is B", refs[i]);
    static const char *const bad[] = {"", "K", "A or B", "Paris", "7"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_INT(judge(v, "B", bad[i]), ERR_CORRUPT);
    verify_close(&v);
}
