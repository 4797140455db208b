/* score.h - log-probs of given responses, through either of the two ways a policy is run. Both give
 * the same bits, however the responses are batched (I6). */
#ifndef DEPLOY_EVALUATE_SCORE_H
#define DEPLOY_EVALUATE_SCORE_H

#include "actor/params.h"

struct score_item {
    int32_t *ids; /* prompt, then response */
    int32_t n_prompt, n_response;
    float *logprobs; /* [n_response], written */
};

struct score_config {
    const struct kern_backend *backend;
    const struct params *weights;
    int32_t batch; /* sequences at a time */
    int32_t chunk; /* rollout: prefill rows of a step; trainer: rows of a packed forward */
    int32_t page;  /* keys per page */
    int64_t pages; /* rollout: of the pool, 0: enough for the batch */
    float temperature;
};

/* Teacher-forced generation: paged keys, prefill in chunks, decoding in batches. */
MUST_CHECK int score_rollout(const struct score_config *cfg, struct score_item *items, int64_t n);
/* The dense forward of training over sequences packed one after another. */
MUST_CHECK int score_trainer(const struct score_config *cfg, struct score_item *items, int64_t n);

#endif
