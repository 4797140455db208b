/* actor.h - the policy network: ONE forward for prefill, decode and training, its backward pass,
 * and the head in chunks.
 *
 *   ids -> embed -> layers x { rmsnorm, qkv, qk-norm, rope, paged attention, out, rmsnorm, swiglu }
 * -> rmsnorm -> head
 *
 * Rows of several sequences are packed one after another. Keys and values always go through a paged
 * pool, in training too (there each sequence owns its pages), so rollout and trainer run the same
 * code on the same layout and a row's result has the same bits in both (invariant I6). */
#ifndef ACTOR_ACTOR_H
#define ACTOR_ACTOR_H

#include "actor/actor_types.h"
#include "actor/params.h"

struct actor; /* compute context: activation slabs, stream, rope tables; one thread at a time */

/* ERR_NOMEM: the sizes exceed the address space. */
MUST_CHECK int actor_plan(struct actor_plan *out, const struct actor_config *cfg);
size_t actor_bytes(const struct actor_config *cfg);      /* on the device; SIZE_MAX as above */
size_t actor_host_bytes(const struct actor_config *cfg); /* in host memory */
/* The fewest layers to recompute so that `bytes` on the device suffice; -1: they never do. */
int32_t actor_fewest_recomputed(const struct actor_config *cfg, size_t bytes);
MUST_CHECK int actor_open(struct actor **out, const struct actor_config *cfg);
void actor_close(struct actor **a);
const struct actor_config *actor_config(const struct actor *a);
struct kern_stream *actor_stream(const struct actor *a);

/* Borrows the weights until the next call; packs them if so configured. Call again whenever their
 * content changed. */
MUST_CHECK int actor_use(struct actor *a, const struct params *weights);
/* Packs about `bytes` more of the weights that will be used next, beside those in use; *done: an
 * actor_use of them will take no time. first: their content is new. Until then it must not change.
 * Without cfg.spare there is nothing to do. */
MUST_CHECK int actor_prepare(struct actor *a, const struct params *next, bool first, size_t bytes,
                             bool *done);

/* Runs the layers and the final norm; hidden states stay inside until the next forward. In a
 * training actor the activations are kept for actor_backward. ERR_CONFIG names the field that is
 * out of range. */
MUST_CHECK int actor_forward(struct actor *a, const struct actor_batch *batch);

/* What actor_forward checks of a batch. */
MUST_CHECK int actor_check(const struct actor *a, const struct actor_batch *batch);
/* actor_forward of a batch of one row a sequence that the caller put to these places, on the
 * actor's stream. It copies nothing and what it issues follows from n_rows, pages_max and kv_max
 * alone: recorded, it serves every batch of these that actor_check accepts. */
MUST_CHECK int actor_forward_at(struct actor *a, const struct actor_batch *batch,
                                const struct actor_places *at);

/* Waits until all that was issued is done. Then the arrays of a batch may be staged again:
 * actor_forward waits itself if nobody did since the last one. actor_waits: how often. */
MUST_CHECK int actor_wait(struct actor *a);
int64_t actor_waits(const struct actor *a);

/* Copies the first keys of page src of every layer's K/V pool over page dst: copy on write of
 * shared pages. */
MUST_CHECK int actor_copy_page(struct actor *a, int32_t dst, int32_t src, int32_t keys);

/* logits[n, vocab] (backend memory owned by the actor, valid until the next call) of the given
 * rows, n <= head_rows. */
MUST_CHECK int actor_logits(struct actor *a, const int32_t *rows, int32_t n,
                            struct kern_tensor *logits);

/* The same without a copy: `at` is where the rows' numbers lie on the backend already; NULL: they
 * are rows[0], rows[0] + 1, ... */
MUST_CHECK int actor_logits_at(struct actor *a, const int32_t *rows, void *at, int32_t n,
                               struct kern_tensor *logits);

/* Of the last forward: log-prob of targets[i] at rows[i], any n, in chunks; logprob, entropy (may
 * be NULL): host [n]. */
MUST_CHECK int actor_logprobs(struct actor *a, const int32_t *rows, const int32_t *targets,
                              int64_t n, float inv_temp, float *logprob, float *entropy);

/* Of the last forward: what the value head says at rows[i], any n; value: host [n]. */
MUST_CHECK int actor_values(struct actor *a, const int32_t *rows, int64_t n, float *value);

/* After actor_forward of the same batch in a training actor: head forward, loss and head backward
 * chunk by chunk, then the layers backward; adds into grads (same layout as the weights). Rows
 * are distinct and every key that a sequence sees is of a row of this batch (its own, or one of
 * another sequence whose pages it shares: a common prompt, computed once) or of a live segment.
 * Uses the activations up: one backward pass for each forward. When it fails, grads hold a part of
 * the sum. */
MUST_CHECK int actor_backward(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
                              const int32_t *targets, int64_t n, float inv_temp,
                              actor_loss_fn *loss, void *ctx, struct params *grads);

/* Prefix segments: rows whose backward pass waits until that of all rows which read their keys is
 * done. After actor_forward, actor_push makes its batch the newest segment instead of running its
 * backward pass; the forward and backward passes that follow may read its keys and add to their
 * gradient; actor_pop of the same batch is the segment's own backward pass, with that gradient and,
 * if n > 0, the head's (never of a keys_only batch). A stack: last in, first out, nothing left at
 * the end.
 *
 * A segment is one sequence that continues the segment before it: key k of the stack lies in slot k
 * of the pool and its rows are a multiple of page, so the segments hold slots 0 .. keys - 1 from
 * below and other batches take theirs above. Without offload_segments the rows of live segments and
 * of a batch are at most rows_max together. */
MUST_CHECK int actor_push(struct actor *a);
MUST_CHECK int actor_pop(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
                         const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss,
                         void *ctx, struct params *grads);
void actor_unwind(struct actor *a); /* forgets all segments, after a failure */

#endif
