/* actor_types.h - what the functions of actor.h take: a configuration, a batch, a loss. */
#ifndef ACTOR_ACTOR_TYPES_H
#define ACTOR_ACTOR_TYPES_H

#include "actor/loss_rows.h"
#include "actor/shape.h"
#include "kernels/kernels.h"

#include <stdint.h>

struct actor_config {
    const struct kern_backend *backend;
    struct shape shape;
    int32_t rows_max;    /* rows of one forward */
    int32_t seqs_max;    /* sequences of one forward */
    int32_t context;     /* positions, <= shape.context */
    int32_t pages, page; /* K/V pool: pages of `page` keys */
    int32_t head_rows;   /* rows of logits at a time (the head's chunk), default 64 if 0 */
    bool train;          /* also allocates what the backward pass needs */
    /* train: of so many layers, the first, only the input is kept, and each runs again in the
     * backward pass; the gradients have the same bits. */
    int32_t recompute;
    bool offload_inputs; /* these inputs wait in host memory, all but two */
    /* train: most keys of prefix segments (actor_push), a multiple of page; 0: no segments. */
    int32_t segment_keys;
    bool offload_segments; /* segments wait in host memory, so that they take none of rows_max */
    bool pack;             /* keep packed copies of the weights (backends that pack) */
    bool spare;            /* and room for those of the next weights: actor_prepare */
    bool inexact;          /* gives up I6 where the backend gains by it (kern_exact) */
};

/* Bytes actor_open will take for a configuration: the memory plan. */
struct actor_plan {
    size_t activations; /* of layers, kept for the backward pass or reused, and their scratch */
    size_t keys;        /* pools of keys and values, and of the gradients of segments' keys */
    size_t gradients;   /* of activations: one layer's worth */
    size_t head;        /* a chunk of logits and what belongs to it */
    size_t packed;      /* copies of the weights */
    size_t rest;        /* batches, rope tables, scratch of ops */
    size_t device;      /* all of these */
    /* In host memory: segments (offload_segments), inputs of layers (offload_inputs). */
    size_t segments, inputs;
};

struct actor_batch { /* host memory, borrowed */
    int32_t n_rows, n_seqs, pages_max;
    const int32_t *ids;  /* [n_rows] token ids, < vocab */
    const int32_t *pos;  /* [n_rows] positions, < context */
    const int32_t *slot; /* [n_rows] where the row's key and value go: page * page_size + offset */
    const int32_t *q_start; /* [n_seqs + 1] rows of sequence s: q_start[s] .. q_start[s+1]-1 */
    const int32_t *kv_len;  /* [n_seqs] keys of the sequence including its rows here */
    const int32_t *pages;   /* [n_seqs, pages_max] page table */
    /* Of these rows only keys and values are wanted: the last layer ends with them, there are no
     * hidden states and no log-probs. */
    bool keys_only;
};

/* Where the arrays of a batch lie on the backend, and the most keys that its kv_len may say. */
struct actor_places {
    void *ids, *pos, *slot, *q_start, *kv_len, *pages;
    int32_t kv_max;
};

/* The loss as the head sees it: fills in the derivatives of rows first .. first + rows->n - 1 of
 * the call. An error of its own ends the call. */
typedef int actor_loss_fn(void *ctx, int64_t first, const struct loss_rows *rows);

/* Type of activations and weights, and its size. */
static inline enum kern_dtype actor_type(const struct actor_config *cfg) {
    return cfg->shape.bf16 ? KERN_BF16 : KERN_F32;
}
static inline size_t actor_size(const struct actor_config *cfg) {
    return kern_dtype_bytes(actor_type(cfg));
}

/* Layer l keeps its input only, and runs again in the backward pass. */
static inline bool actor_recomputes(const struct actor_config *cfg, int32_t l) {
    return cfg->train && l < cfg->recompute;
}

#endif
