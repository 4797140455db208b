/* actor_layers.h - the layers: their blocks' memory, and the pass through them forward and
 * backward. Private to actor/.
 *
 * Invariants: block i reads x and h of block i and writes those of block i + 1; the entry behind
 * the last block is what the head reads. Pointers in `at` are of row 0; actor_layers_block gives
 * them at the rows of the newest pass. */
#ifndef ACTOR_ACTOR_LAYERS_H
#define ACTOR_ACTOR_LAYERS_H

#include "actor/actor_weights.h"
#include "actor/block.h"
#include "actor/inputs.h"

struct actor_layers {
    struct actor_pass *pass;
    const struct actor_weights *weights, *grads;
    struct actor_inputs *inputs;
    const struct block_kind *const *kind; /* [n_kinds]: the blocks of each layer */
    int n_kinds;
    struct block *at; /* [n + 1], n = layers * n_kinds */
    int32_t n;
    void *out;    /* [R, d] what a block adds to the stream */
    void *g, *gh; /* train, [R, d]: gradients of the stream, and of h */
};

void actor_layers_alloc(struct actor_layers *l, const struct actor_config *cfg); /* l->at */
/* l->at NULL: only counting. parts: takes what is for activations, keys and
 * gradients. */
void actor_layers_carve(struct actor_layers *l, struct actor_carve *c,
                        const struct actor_config *cfg, struct actor_plan *parts);
/* The rest of l but what was carved. */
void actor_layers_open(struct actor_layers *l, struct actor_pass *pass,
                       const struct actor_weights *weights, const struct actor_weights *grads,
                       struct actor_inputs *inputs);
void actor_layers_close(struct actor_layers *l);

/* What the head reads, and the input of a layer where the newest pass has it. */
static inline void *actor_layers_hidden(const struct actor_layers *l) {
    return l->at[l->n].h;
}
void *actor_layers_input(const struct actor_layers *l, int32_t layer);
/* Block i, its rows where the newest pass has them. */
struct block actor_layers_block(const struct actor_layers *l, int32_t i);
/* From the ids of the loaded pass to h of the last entry. */
MUST_CHECK int actor_layers_forward(struct actor_layers *l);
/* The norm of the last entry alone, from its x. */
MUST_CHECK int actor_layers_last_norm(struct actor_layers *l);
/* From gh, which the head left, to the gradient of the embedding. */
MUST_CHECK int actor_layers_backward(struct actor_layers *l);
/* Copies the first keys of page src of every pool over page dst. */
MUST_CHECK int actor_layers_copy_page(struct actor_layers *l, int32_t dst, int32_t src,
                                      int32_t keys);

/* No gradient has arrived at n keys of the segments from `key` on yet. */
MUST_CHECK int actor_layers_zero_segment(struct actor_layers *l, int32_t key, int32_t n);

/* The arrays of a layer that have to outlive other passes until its own backward pass, its input
 * first: their number, where the newest pass's rows lie (l NULL: nowhere) and the bytes of a row.
 */
enum { LAYER_KEPT_MAX = 2 + LAYER_BLOCKS_MAX * (2 + BLOCK_ARRAYS_MAX) };
int actor_layers_kept(const struct actor_layers *l, const struct actor_config *cfg, int32_t layer,
                      void *p[LAYER_KEPT_MAX], size_t row[LAYER_KEPT_MAX]);

#endif
