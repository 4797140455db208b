/* head.h - the head: logits, log-probs, entropies, values and their backward pass, head_rows rows
 * at a time. Private to actor/.
 *
 * Invariants: hh and logits are of the last chunk only; temp is filled with temp_now, or unknown
 * where that is 0; what ops read of head_host and ids_host is not written before they are done
 * (both are pageable, so a transfer of them waits). */
#ifndef ACTOR_HEAD_H
#define ACTOR_HEAD_H

#include "actor/actor_pass.h"
#include "actor/actor_weights.h"

struct actor_head {
    const struct actor_pass *pass; /* whose hidden rows are read; and its: */
    const struct actor_config *cfg;
    const struct kern_backend *b;
    struct kern_stream *s;
    const struct actor_weights *weights, *grads;
    void *hidden, *gh; /* [R, d] what the layers leave, and its gradient */
    int32_t rows_max;  /* hr: rows of a chunk */

    void *hh, *logits;           /* [hr, d], f32 [hr, V] */
    void *ids;                   /* i32 [2, hr]: rows, targets */
    void *lp, *ent, *lse, *temp; /* f32 [hr] */
    void *val;                   /* f32 [hr] */
    int32_t *ids_host;           /* [2, hr] */
    float *host;                 /* [6, hr]: log-prob, entropy, value and their derivatives */
    float temp_now;
    uint8_t *mark; /* [R]: rows seen by one backward pass */

    void *ghh, *gout;               /* [hr, d]; f32 [3, hr]: derivatives by log-prob, ... */
    void *bf16_glogits, *bf16_gval; /* bf16 [hr, V], [hr]: rounded for products */
};

int32_t head_rows(const struct actor_config *cfg);
void head_carve(struct actor_head *h, struct actor_carve *c, const struct actor_config *cfg);
void head_open(struct actor_head *h, const struct actor_pass *pass,
               const struct actor_weights *weights, const struct actor_weights *grads, void *hidden,
               void *gh);
void head_close(struct actor_head *h);

/* As the functions of actor.h of these names. */
MUST_CHECK int head_logits(struct actor_head *h, const int32_t *rows, int32_t n,
                           struct kern_tensor *logits);
MUST_CHECK int head_logits_at(struct actor_head *h, const int32_t *rows, void *at, int32_t n,
                              struct kern_tensor *logits);
MUST_CHECK int head_logprobs(struct actor_head *h, const int32_t *rows, const int32_t *targets,
                             int64_t n, float inv_temp, float *logprob, float *entropy);
MUST_CHECK int head_values(struct actor_head *h, const int32_t *rows, int64_t n, float *value);
/* Forward, loss and backward of all rows; leaves d loss / d hidden in gh. */
MUST_CHECK int head_backward(struct actor_head *h, const int32_t *rows, const int32_t *targets,
                             int64_t n, float inv_temp, actor_loss_fn *loss, void *ctx);

#endif
