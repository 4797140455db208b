/* actor.h - the policy network: ONE forward for prefill, decode and training, its reverse, and the
 * head in chunks.
 *
 *   ids -> embed -> layers x { rmsnorm, qkv, qk-norm, rope, paged attention, out, rmsnorm, swiglu }
 * -> rmsnorm -> head
 *
 * Rows of several sequences are packed one after another. Keys and values always go through a paged
 * pool, in training too (there each sequence owns its pages), so rollout and trainer run the same
 * code on the same layout and a row's result has the same bits in both (invariant I6). */
#ifndef ACTOR_ACTOR_H
#define ACTOR_ACTOR_H

#include "actor/loss_rows.h"
#include "actor/params.h"
#include "actor/shape.h"
#include "kernels/kernels.h"

#include <stdint.h>

struct actor; /* compute context: activation slabs, stream, rope tables; one thread at a time */

struct actor_config {
    const struct kern_backend *backend;
    struct shape shape;
    int32_t rows_max;    /* rows of one forward */
    int32_t seqs_max;    /* sequences of one forward */
    int32_t context;     /* positions, <= shape.context */
    int32_t pages, page; /* K/V pool: pages of `page` keys */
    int32_t head_rows;   /* rows of logits at a time (the head's chunk), default 64 if 0 */
    bool train;          /* also allocates what the reverse pass needs */
    int32_t recompute;   /* train: of so many layers, the first, only the input is kept, and each
                            runs again in the reverse pass; the gradients have the same bits */
    bool offload_inputs; /* these inputs wait in host memory, all but two */
    int32_t frames; /* train: most keys of frames (actor_push), a multiple of page; 0: no frames */
    bool offload;   /* frames wait in host memory, so that they take none of rows_max */
    bool pack;      /* keep packed copies of the weights (backends that pack) */
    bool spare;     /* and room for those of the next weights: actor_prepare */
    bool fast;      /* gives up I6 where the backend gains by it (kern_exact) */
};

/* Bytes actor_open will take for this configuration: the memory plan. */
struct actor_plan {
    size_t activations;    /* of layers, kept for the reverse or reused */
    size_t keys;           /* pools of keys and values, and of the gradients of frames' keys */
    size_t gradients;      /* of activations: one layer's worth */
    size_t head;           /* a chunk of logits and what belongs to it */
    size_t packed;         /* copies of the weights */
    size_t rest;           /* batches, rope tables, scratch of ops */
    size_t device;         /* all of these */
    size_t frames, inputs; /* in host memory: frames (offload), inputs of layers (offload_inputs) */
};
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

struct actor_batch { /* host memory, borrowed */
    int32_t n_rows, n_seqs, pages_max;
    const int32_t *ids;  /* [n_rows] token ids, < vocab */
    const int32_t *pos;  /* [n_rows] positions, < context */
    const int32_t *slot; /* [n_rows] where the row's key and value go: page * page_size + offset */
    const int32_t *q_start; /* [n_seqs + 1] rows of sequence s: q_start[s] .. q_start[s+1]-1 */
    const int32_t *kv_len;  /* [n_seqs] keys of the sequence including its rows here */
    const int32_t *pages;   /* [n_seqs, pages_max] page table */
    bool keys_only; /* of these rows only keys and values are wanted: the last layer ends with them,
                       there are no hidden states and no log-probs */
};

/* Runs the layers and the final norm; hidden states stay inside until the next forward. In a
 * training actor the activations are kept for actor_backward. ERR_CONFIG names the field that is
 * out of range. */
MUST_CHECK int actor_forward(struct actor *a, const struct actor_batch *batch);

/* Where the arrays of a batch lie on the backend, and the most keys that its kv_len may say. */
struct actor_places {
    void *ids, *pos, *slot, *q_start, *kv_len, *pages;
    int32_t kv_max;
};

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

/* The loss as the head sees it: fills in the derivatives of rows first .. first + rows->n - 1 of
 * the call. An error of its own ends the call. */
typedef int actor_loss_fn(void *ctx, int64_t first, const struct loss_rows *rows);

/* After actor_forward of the same batch in a training actor: head forward, loss and head reverse
 * chunk by chunk, then the layers in reverse; adds into grads (same layout as the weights). Rows
 * are distinct and every key that a sequence sees is of a row of this batch (its own, or one of
 * another sequence whose pages it shares: a common prompt, computed once) or of a live frame. Uses
 * the activations up: one reverse for each forward. When it fails, grads hold a part of the sum. */
MUST_CHECK int actor_backward(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
                              const int32_t *targets, int64_t n, float inv_temp,
                              actor_loss_fn *loss, void *ctx, struct params *grads);

/* Frames: rows whose reverse waits until that of all rows which read their keys is done. After
 * actor_forward, actor_push makes its batch the newest frame instead of running its reverse; the
 * forward and reverse passes that follow may read its keys and add to their gradient; actor_pop of
 * the same batch is the frame's own reverse, with that gradient and, if n > 0, the head's (never of
 * a keys_only batch). A stack: last in, first out, nothing left at the end.
 *
 * A frame is one sequence that continues the frame before it: key k of the stack lies in slot k of
 * the pool and its rows are a multiple of page, so the frames hold slots 0 .. frames - 1 from below
 * and other batches take theirs above. Without `offload` the rows of live frames and of a batch are
 * at most rows_max together. */
MUST_CHECK int actor_push(struct actor *a);
MUST_CHECK int actor_pop(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
                         const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss,
                         void *ctx, struct params *grads);
void actor_unwind(struct actor *a); /* forgets all frames, after a failure */

#endif
