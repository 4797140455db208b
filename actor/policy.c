/* policy.c - see policy.h. One place decides what ends a response, so that rollouts, evaluation and
 * `weir generate` stop at the same tokens. */
#include "actor/policy.h"

#include "base/mem.h"

#include <string.h>

bool policy_stops(const struct policy *p, int32_t id) {
    for (int32_t i = 0; i < p->n_stop_ids; i++)
        if (p->stop_ids[i] == id) return true;
    return false;
}

static void add_stop(struct policy *p, int32_t id) {
    if (id >= 0 && !policy_stops(p, id) && p->n_stop_ids < POLICY_STOPS_MAX)
        p->stop_ids[p->n_stop_ids++] = id;
}

/* A token of the format that is none of the tokenizer would be spelled in letters, and an end of
 * turn in letters ends nothing. */
static int check_chat(const struct policy *p, const char *dir) {
    const char *token;
    for (size_t i = 0; (token = chat_token(p->chat, i)); i++) {
        int32_t *ids, id = tokenizer_id(p->tokenizer, token);
        size_t n;
        TRY(tokenizer_encode(p->tokenizer, token, strlen(token), false, &ids, &n));
        bool one = n == 1 && ids[0] == id;
        mem_free(ids);
        if (!one)
            return FAIL(ERR_CONFIG,
                        "%s: the chat format %s needs the token %s, which tokenizer.json does not "
                        "have: it would be spelled in letters; give the format that the model was "
                        "trained with (model.chat; plain: none)",
                        dir, chat_name(p->chat), token);
    }
    return 0;
}

static int check_policy(const struct policy *p, const char *dir) {
    if (tokenizer_size(p->tokenizer) > p->shape.vocab)
        return FAIL(ERR_MISMATCH,
                    "%s: tokenizer.json has ids up to %d, config.json's vocab_size is %d", dir,
                    tokenizer_size(p->tokenizer) - 1, p->shape.vocab);
    return check_chat(p, dir);
}

int policy_open(struct policy *out, const char *dir, const char *chat) {
    struct policy p = {0};
    int rc;
    TRY_OUT(shape_read(&p.shape, dir));
    TRY_OUT(tokenizer_open(&p.tokenizer, dir));
    TRY_OUT(chat_choose(&p.chat, chat, dir));
    TRY_OUT(check_policy(&p, dir));
    for (int32_t i = 0; i < p.shape.n_eos; i++)
        add_stop(&p, p.shape.eos[i]);
    const char *end = chat_end_of_turn(p.chat);
    if (end) add_stop(&p, tokenizer_id(p.tokenizer, end));
    if (p.n_stop_ids == 0) add_stop(&p, tokenizer_eos(p.tokenizer));
    *out = p;
    p.tokenizer = NULL;
out:
    tokenizer_close(&p.tokenizer);
    return rc;
}

void policy_close(struct policy *p) {
    tokenizer_close(&p->tokenizer);
    *p = (struct policy){0};
}
