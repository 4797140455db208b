/* block.h - the blocks that a layer is made of. Private to actor/.
 *
 * The residual stream x runs through all blocks of all layers: each reads h, the norm of x, and
 * gives an output that is added to x. What a kind of block needs is said in two tables (its
 * weights, its arrays) and done by two functions (forward and backward). All else follows from the
 * tables: the list of the checkpoint's tensors, the memory plan, packing, which rows a segment
 * keeps. So a new kind (experts) is a file of its own and its layers in block_layer; an adapter on
 * a matrix belongs into block_linear, through which all kinds multiply. */
#ifndef ACTOR_BLOCK_H
#define ACTOR_BLOCK_H

#include "actor/actor_pass.h"

enum { BLOCK_TENSORS_MAX = 12, BLOCK_ARRAYS_MAX = 24, LAYER_BLOCKS_MAX = 4 };
enum { BLOCK_NORM = 0 }; /* the first tensor of every kind: the norm in front of it */

struct block_tensor {
    const char *name;   /* within the layer: "self_attn.q_proj.weight" */
    int64_t rows, cols; /* a vector has rows 1 */
    bool is_matrix;     /* decayed by AdamW, and packed; vectors (norms, biases) are not */
    bool absent;        /* in this shape */
};

enum block_use {
    /* The backward pass reads it: a layer has its own, unless it runs again; without training all
     * layers share one. */
    BLOCK_ACTIVATION,
    BLOCK_SCRATCH,  /* of the forward pass: shared by all layers */
    BLOCK_GRADIENT, /* of the backward pass: shared by all layers, only there in training */
    BLOCK_KEYS      /* each layer has its own, whatever runs again */
};
/* Of a row of the pass, of a slot of the pool, of a key of the segments. */
enum block_length { BLOCK_ROWS, BLOCK_SLOTS, BLOCK_SEGMENTS };

struct block_array { /* of backend memory: [length, width] */
    enum block_use use;
    enum block_length length;
    int64_t width; /* 0: not there */
    bool f32;      /* else of the actor's type */
};

struct block_weight { /* a tensor of the weights in use, or of the gradients */
    struct kern_tensor w;
    struct kern_tensor packed, spare; /* spare: as packed, of the next weights */
    bool has, has_packed;
};

struct block { /* one of a layer, its rows where the newest pass has them */
    int32_t layer;
    void *x, *h; /* [R, d] the residual stream in front of it; the norm of it */
    void *a[BLOCK_ARRAYS_MAX];
    const struct block_weight *w, *g; /* by the table of tensors; g: their gradients */
};

struct block_kind {
    int n_tensors, n_arrays;
    void (*tensors)(struct block_tensor *out, const struct shape *s); /* in the file's order */
    void (*arrays)(struct block_array *out, const struct actor_config *cfg);
    /* out[n, d] = f(h). out NULL: runs again for the backward pass, which reads no output. */
    int (*forward)(struct actor_pass *p, const struct block *b, void *out);
    /* gh = the gradient at h, from g, that at the output; adds those of the weights. again: the
     * scratch is as this block's forward left it. */
    int (*backward)(struct actor_pass *p, const struct block *b, void *gh, void *g, bool again);
    /* Forward and backward of keys and values alone; NULL: a block that has none. */
    int (*keys)(struct actor_pass *p, const struct block *b);
    int (*keys_backward)(struct actor_pass *p, const struct block *b, void *gh);
};

extern const struct block_kind block_attention, block_dense;

/* The blocks of each layer of this shape, in order; *n <= LAYER_BLOCKS_MAX. */
const struct block_kind *const *block_layer(const struct shape *s, int *n);
/* Tensors of one layer, absent ones included. */
int32_t block_layer_tensors(const struct shape *s);

/* --- what blocks are made of ---------------------------------------------------------------- */

/* y[n, out] = x[n, in] w^T + bias; weight and bias by their place in the table. */
MUST_CHECK int block_linear(struct actor_pass *p, const struct block *b, int w, int bias, void *y,
                            void *x);
/* Gradients of weight and bias += gy^T x and gy's column sums; gx (=, +=) gy w. */
MUST_CHECK int block_linear_bwd(struct actor_pass *p, const struct block *b, int w, int bias,
                                void *gx, void *gy, void *x, bool accumulate);
/* gx[rows, width of w] (=, +=) the gradient at x of its norm, whose gradient is gout; gw +=. */
MUST_CHECK int block_norm_bwd(struct actor_pass *p, const struct kern_tensor *w,
                              const struct kern_tensor *gw, void *gx, void *gout, void *x,
                              int64_t rows, bool accumulate);

#endif
