/* model.h - a policy in memory, ready to generate: backend, tokenizer and weights. */
#ifndef DEPLOY_EVALUATE_MODEL_H
#define DEPLOY_EVALUATE_MODEL_H

#include "actor/policy.h"
#include "base/buf.h"

struct model { /* a zeroed one may be closed */
    const struct kern_backend *backend;
    struct policy policy;
    struct params *weights;
};

MUST_CHECK int model_open(struct model *out, const char *dir, const char *chat, const char *device,
                          int64_t threads, bool bf16);
/* --dtype: fp32 (also if NULL) or bf16. */
MUST_CHECK int model_dtype(bool *bf16, const char *dtype);
void model_close(struct model *l);

/* Text of one response as it comes. What the prompt ended with decides whether the response begins
 * with a space; stop tokens have no text. */
struct model_text {
    struct tokenizer_stream *stream;
    const struct policy *policy;
};

MUST_CHECK int model_text_open(struct model_text *out, const struct policy *policy,
                               const int32_t *prompt, int32_t n_prompt);
void model_text_close(struct model_text *t);
/* Appends the text that became certain with this token; last: and all that is left. */
MUST_CHECK int model_text_add(struct model_text *t, int32_t token, bool last, struct buf *out);

#endif
