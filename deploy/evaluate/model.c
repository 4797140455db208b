/* model.c - what the verbs that run a model folder have in common: opening everything a policy
 * needs in the right order, and for `weir generate` and `weir chat` turning the tokens of a
 * response into text.
 *
 * The streaming detokenizer is first shown the prompt, so that what it gives afterwards is exactly
 * what follows the prompt in the text of both together: sentencepiece drops a leading space only at
 * the very beginning. */
#include "deploy/evaluate/model.h"

#include <string.h>

int model_dtype(bool *bf16, const char *dtype) {
    *bf16 = dtype && strcmp(dtype, "bf16") == 0;
    if (!dtype || *bf16 || strcmp(dtype, "fp32") == 0) return 0;
    return FAIL(ERR_CONFIG, "--dtype %s: allowed are fp32 and bf16", dtype);
}

int model_open(struct model *out, const char *dir, const char *chat, const char *device,
               int64_t threads, bool bf16) {
    struct model l = {0};
    int rc;
    TRY_OUT(policy_open(&l.policy, dir, chat));
    l.policy.shape.bf16 = bf16;
    TRY_OUT(kern_open(&l.backend, device, (int)threads));
    TRY_OUT(params_open(&l.weights, l.backend, &l.policy.shape));
    TRY_OUT(params_load(l.weights, dir));
    *out = l;
    l = (struct model){0};
out:
    model_close(&l);
    return rc;
}

void model_close(struct model *l) {
    params_close(&l->weights);
    if (l->backend) kern_close(l->backend);
    policy_close(&l->policy);
    *l = (struct model){0};
}

int model_text_open(struct model_text *out, const struct policy *policy, const int32_t *prompt,
                    int32_t n_prompt) {
    struct model_text t = {tokenizer_stream_open(policy->tokenizer), policy};
    int rc = 0;
    for (int32_t i = 0; i < n_prompt; i++) {
        const char *text;
        size_t bytes;
        TRY_OUT(tokenizer_stream_add(t.stream, prompt[i], &text, &bytes));
    }
    *out = t;
    t.stream = NULL;
out:
    model_text_close(&t);
    return rc;
}

void model_text_close(struct model_text *t) {
    if (t->stream) tokenizer_stream_close(&t->stream);
}

int model_text_add(struct model_text *t, int32_t token, bool last, struct buf *out) {
    const char *text;
    size_t bytes;
    if (!policy_stops(t->policy, token)) {
        TRY(tokenizer_stream_add(t->stream, token, &text, &bytes));
        buf_add(out, text, bytes);
    }
    if (!last) return 0;
    TRY(tokenizer_stream_flush(t->stream, &text, &bytes));
    buf_add(out, text, bytes);
    return 0;
}
