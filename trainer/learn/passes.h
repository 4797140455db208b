/* passes.h - what the network does with the trajectories of one batch: log-probs of all trained
 * tokens, and one forward-and-backward pass that adds their gradient. How the batch is split into
 * microbatches, and what of a shared prompt is computed once, is decided and hidden here.
 *
 * Tokens are numbered as in the batch: trajectory by trajectory, position by position, the trained
 * ones only (mask 1). Arrays "by token" have passes_tokens() elements in this order, so nothing
 * outside depends on the packing.
 *
 * With several ranks each computes its groups (assign.h), arrays by token are filled on all of them
 * with the same bits, and the gradient is that of the rank's own trajectories. All ranks make the
 * same calls. */
#ifndef TRAINER_LEARN_PASSES_H
#define TRAINER_LEARN_PASSES_H

#include "actor/actor.h"
#include "actor/params.h"
#include "proto/recipe/recipe.h"
#include "trainer/batch/batch.h"
#include "trainer/ranks/rank_comm.h"

#include <stdbool.h>

struct passes; /* network, microbatch plan, their memory; one thread */

enum passes_net { PASSES_POLICY, PASSES_REFERENCE };

/* The reference network is there only where the recipe uses one. recompute: of so many layers, the
 * first ones, only the input is kept for the backward pass (memplan.h decides how many). */
MUST_CHECK int passes_open(struct passes **out, const struct kern_backend *b,
                           const struct shape *shape, const struct recipe *r, int32_t recompute);
void passes_close(struct passes **p);
/* What passes_open takes, without the weights: for the policy's network, for the reference's (on
 * the device), and for the microbatches (on the host). */
MUST_CHECK int passes_policy_memory(struct actor_plan *out, const struct kern_backend *b,
                                    const struct shape *shape, const struct recipe *r,
                                    int32_t recompute);
size_t passes_reference_bytes(const struct kern_backend *b, const struct shape *shape,
                              const struct recipe *r);
size_t passes_microbatch_bytes(const struct kern_backend *b, const struct shape *shape,
                               const struct recipe *r);
/* The fewest layers to recompute so that the policy's network takes at most `bytes` of the device;
 * -1: none suffice. */
int32_t passes_fewest_recomputed(const struct kern_backend *b, const struct shape *shape,
                                 const struct recipe *r, size_t bytes);
bool passes_wants_reference(const struct recipe *r);

struct kern_stream *passes_stream(const struct passes *p);
int32_t passes_context(const struct passes *p); /* longest trajectory, tokens */

/* Borrows the weights of a network; again whenever their content changed. */
MUST_CHECK int passes_use(struct passes *p, enum passes_net net, const struct params *weights);

/* Called before each microbatch; an error ends what is being computed. */
void passes_watch(struct passes *p, int (*fn)(void *ctx), void *ctx);

/* From here on each of these ranks computes a part of every batch; borrowed. */
void passes_set_ranks(struct passes *p, const struct rank_comm *ranks);
/* v[n] = its sum over the ranks, in rank order: the same bits on all. */
MUST_CHECK int passes_sum_ranks(const struct passes *p, double *v, size_t n);

/* The batch that the calls below work on; borrowed. alone: this rank computes all of it, and the
 * others need not know. */
void passes_begin(struct passes *p, const struct batch *b);
void passes_begin_alone(struct passes *p, const struct batch *b);
bool passes_is_own(const struct passes *p, uint32_t i); /* trajectory i is computed here */
int64_t passes_tokens(const struct passes *p);
int64_t passes_first(const struct passes *p, uint32_t i); /* number of trajectory i's first token */
/* Splits the batch into microbatches, a function of the batch and these settings alone (I7).
 * flat[i]: no token of trajectory i can have a gradient: it is seen by forward passes only. */
void passes_plan(struct passes *p, const bool *flat);
/* Of all ranks, after passes_gradient. */
int64_t passes_microbatches(const struct passes *p);
int64_t passes_rows(const struct passes *p); /* that forward passes computed since it was opened */

/* By token, of the whole batch, after passes_plan; entropy and value may be NULL. value: what the
 * value head says where the token is predicted (the policy with a value head only). */
MUST_CHECK int passes_logprobs(struct passes *p, enum passes_net net, float inv_temp,
                               float *logprob, float *entropy, float *value);

/* The loss: fills in the derivatives of the rows, of which row i is of token element[i]. */
typedef int passes_loss_fn(void *ctx, const int64_t *element, const struct loss_rows *rows);

/* Adds the gradient into grads; log-probs, entropies and values (NULL without a value head) by
 * token as they were on the way. */
MUST_CHECK int passes_gradient(struct passes *p, float inv_temp, passes_loss_fn *loss, void *ctx,
                               struct params *grads, float *logprob, float *entropy, float *value);

/* Log-probs of all response tokens, masked or not, of one trajectory of a checked batch. */
MUST_CHECK int passes_score(struct passes *p, const struct batch *b, uint32_t i, float inv_temp,
                            float *logprob);

#endif
