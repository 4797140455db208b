/* policy_test.c - the parts of a model folder against each other. */
#include "actor/policy.h"
#include "tests/test.h"

/* The tiny model has the tokens <s> and </s> only: in any format but plain its prompts would be
 * letters, and an end of turn in letters ends nothing. */
TEST(chat_formats_need_their_tokens) {
    static const struct {
        const char *chat, *error;
    } cases[] = {
        {"plain", NULL},
        {"mistral-v1", NULL}, /* [INST] was letters then */
        {"mistral", "recipes/tiny: the chat format mistral needs the token [INST]"},
        {"mistral-tekken", "needs the token [INST]"},
        {"chatml", "the chat format chatml needs the token <|im_start|>"},
        {"qwen3", "needs the token <|im_start|>"},
        {"llama3", "needs the token <|start_header_id|>"},
        {"llama3.1", "needs the token <|start_header_id|>"},
        {"deepseek-r1", "needs the token <"},
    };
    struct policy p;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].error) {
            CHECK_ERR(policy_open(&p, "recipes/tiny", cases[i].chat), ERR_CONFIG, cases[i].error);
        } else {
            CHECK_OK(policy_open(&p, "recipes/tiny", cases[i].chat));
            policy_close(&p);
        }
    }
}
