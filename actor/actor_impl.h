/* actor_impl.h - what the files of the actor share: the context, its memory and the steps of a
 * layer. Private to actor/. Letters as in MODEL.md: R rows_max, n rows of the batch, d model width,
 * q = H*D, kv = Hkv*D, f feed-forward width, V vocabulary, L layers. */
#ifndef ACTOR_ACTOR_IMPL_H
#define ACTOR_ACTOR_IMPL_H

#include "actor/actor.h"

enum actor_matrix { MAT_Q, MAT_K, MAT_V, MAT_O, MAT_GATE, MAT_UP, MAT_DOWN, MAT_N };
enum actor_norm { NORM_IN, NORM_POST, NORM_Q, NORM_K, NORM_N };

struct actor_weight { /* of one slab: the weights, or the gradients */
    struct kern_tensor w, bias, packed;
    struct kern_tensor spare; /* as packed, of the next weights */
    bool has_bias, has_packed;
};

struct actor_layer {
    struct actor_weight mat[MAT_N];
    struct kern_tensor norm[NORM_N];
};

struct actor_weights {
    struct actor_layer *layers;            /* [L] */
    struct kern_tensor embed, norm, value; /* value [1, d]: if the shape has a value head */
    struct actor_weight head;              /* tied: the embedding again */
};

/* Where a tensor of the table lies: index of its entry, -1 if this network has none. Looked up by
 * name once. */
struct actor_index {
    struct {
        int32_t mat[MAT_N], bias[MAT_N], norm[NORM_N];
    } * layers;
    int32_t embed, norm, head, value;
};

/* Activations of one layer (backend memory; of the shape's type, lse and kept_* f32). Without
 * training all layers share one set and x0, x1, x2 are the same memory; recomputed layers share all
 * but x0 and x2; each other layer has its own. x2 of a layer is x0 of the next. */
struct actor_acts {
    void *x0, *h1;           /* [R, d] input; its norm */
    void *q0, *k0;           /* [R, q], [R, kv] before qk-norm (without it: q0 = q, k0 = k) */
    void *q, *att, *lse;     /* [R, q] rotated queries, attention's result; [R, H] */
    void *x1, *h2;           /* [R, d] after attention; its norm */
    void *gate, *up, *x2;    /* [R, f], [R, f]; [R, d] output */
    void *pool_k, *pool_v;   /* [pages, page, Hkv, D] */
    void *kept_gk, *kept_gv; /* [frames, kv] gradient of the frames' keys and values */
};

struct actor_frame {
    int32_t rows, key; /* key: its first */
    bool keys_only;
};

struct actor {
    struct actor_config cfg;
    const struct kern_backend *b;
    struct kern_stream *s;
    void *memory; /* the one slab that everything below with void * points into */
    size_t bytes;

    const struct params *params; /* borrowed by actor_use */
    struct actor_weights weights, grads;
    struct actor_index index;
    bool indexed;

    const struct params *next; /* being packed by actor_prepare, NULL: none */
    int32_t next_matrix;       /* layer * MAT_N + matrix, the head last */
    int64_t next_row;

    struct actor_acts *acts; /* [L] */
    void *k, *v, *o, *act;   /* [R, kv] x 2, [R, d], [R, f]: scratch of a layer */
    void *hidden;            /* [R, d] after the final norm */
    void *cos, *sin;         /* [context, D/2] */
    void *meta;              /* i32: the batch's arrays */
    int32_t *meta_host;
    int64_t meta_max; /* elements */
    bool staged;      /* meta_host may still be read: nobody waited since it was filled */
    int64_t waits;

    /* head: hr = head_rows rows at a time */
    void *hh, *logits;                /* [hr, d], [hr, V] */
    void *head_ids;                   /* i32 [2, hr]: rows, targets */
    void *lp, *ent, *head_lse, *temp; /* [hr] */
    void *val;                        /* [hr] values */
    int32_t *head_ids_host;           /* [2, hr] */
    float *head_host;                 /* [6, hr]: log-prob, entropy, value and their derivatives */
    float temp_now;                   /* what temp is filled with, 0: nothing yet */
    uint8_t *mark;                    /* [R]: rows seen by one reverse call */
    uint8_t *slot_mark;               /* train: [pages * page]: slots that its rows wrote */

    /* reverse */
    void *g, *gh, *gact, *gatt, *gq, *gk, *gv, *gq0, *gk0;
    void *ghh, *ghead;       /* [hr, d]; f32 [3, hr]: derivatives by log-prob, entropy, value */
    void *gpool_k, *gpool_v; /* f32 */
    void *sum_gk, *sum_gv;   /* f32 [R, kv], from there; f32: gk, gv */
    void *bf16_glogits, *bf16_gval; /* bf16 [hr, V], [hr]: rounded for products */

    /* frames, see actor_push. base: rows of the activations that live frames occupy, where those of
     * the next forward begin; keys: slots that they occupy. */
    struct actor_frame *frame;
    int32_t n_frames, base, keys;
    size_t frame_cap;
    char *host; /* offload: activations, frame after frame */

    /* offload_inputs, see inputs.h */
    char *inputs;              /* [recompute, R, d] on the host */
    struct kern_stream *mover; /* that moves them; NULL: none */
    int32_t resident[2];       /* layers whose input is, or will be, in the two buffers; -1: none */

    /* the newest forward */
    int32_t n;             /* rows, 0: none is valid */
    int32_t slots;         /* reverse: slots below this one take part */
    bool reverse;          /* its activations are whole */
    bool keys_only;        /* its last layer ended with keys and values */
    int32_t n_seqs, slot0; /* sequences; slot of the first row */
    struct kern_tensor ids, pos, slot;
    struct kern_attn attn;
};

/* actor.c */
void actor_bind(const struct actor *a, const struct params *p, struct actor_weights *out);

/* forward.c: checks and uploads a batch; a layer's first norm, what follows up to its keys in the
 * pool, its halves; the last norm. */
int actor_load(struct actor *a, const struct actor_batch *b);
int actor_layer_input(struct actor *a, int32_t l);
int actor_layer_keys(struct actor *a, int32_t l);
int actor_layer_attention(struct actor *a, int32_t l); /* keys and what follows, up to h2 */
int actor_layer_ffn(struct actor *a, int32_t l);       /* up to act, before the down projection */
int actor_last_norm(struct actor *a);

/* backward.c: the reverse of the loaded batch from the head down; pop: of the frame it was. */
int actor_reverse(struct actor *a, const struct actor_batch *b, const int32_t *rows,
                  const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss, void *ctx,
                  struct params *grads, bool pop);

/* frame.c: bytes of one row that a frame keeps in host memory. */
size_t actor_kept_bytes(const struct actor_config *cfg);

/* head.c: head forward, loss and reverse of all rows; leaves d loss / d hidden in gh. */
int actor_head_backward(struct actor *a, const int32_t *rows, const int32_t *targets, int64_t n,
                        float inv_temp, actor_loss_fn *loss, void *ctx);

/* Type of activations and weights, and its size. */
static inline enum kern_dtype actor_type(const struct actor_config *cfg) {
    return cfg->shape.bf16 ? KERN_BF16 : KERN_F32;
}
static inline size_t actor_size(const struct actor_config *cfg) {
    return kern_dtype_bytes(actor_type(cfg));
}

/* Row of an array of that type; of a f32 one. */
static inline void *actor_row(const struct actor *a, void *p, int64_t row, int64_t width) {
    return p ? (char *)p + (size_t)(row * width) * actor_size(&a->cfg) : NULL;
}
static inline void *actor_row_f32(void *p, int64_t row, int64_t width) {
    return p ? (float *)p + row * width : NULL;
}

/* The activations of layer l where the newest forward put them: behind those of live frames. */
static inline struct actor_acts actor_acts_at(const struct actor *a, int32_t l) {
    const struct shape *s = &a->cfg.shape;
    int64_t q = (int64_t)s->heads * s->head_width, kv = (int64_t)s->kv_heads * s->head_width;
    struct actor_acts t = a->acts[l];
    if (a->base == 0) return t;
    void **by_d[] = {&t.x0, &t.h1, &t.x1, &t.h2, &t.x2}, **by_q[] = {&t.q0, &t.q, &t.att};
    for (size_t i = 0; i < sizeof by_d / sizeof by_d[0]; i++)
        *by_d[i] = actor_row(a, *by_d[i], a->base, s->d);
    for (size_t i = 0; i < sizeof by_q / sizeof by_q[0]; i++)
        *by_q[i] = actor_row(a, *by_q[i], a->base, q);
    t.k0 = actor_row(a, t.k0, a->base, kv);
    t.lse = actor_row_f32(t.lse, a->base, s->heads);
    t.gate = actor_row(a, t.gate, a->base, s->ffn);
    t.up = actor_row(a, t.up, a->base, s->ffn);
    return t;
}

static inline struct kern_tensor actor_mat(const struct actor *a, void *p, int64_t rows,
                                           int64_t cols) {
    return kern_view2(p, actor_type(&a->cfg), rows, cols);
}
static inline struct kern_tensor actor_f32(void *p, int64_t rows, int64_t cols) {
    return kern_view2(p, KERN_F32, rows, cols);
}

/* Rows of heads: [n, heads, D]. */
static inline struct kern_tensor actor_heads(const struct actor *a, void *p, int32_t heads) {
    return kern_view3(p, actor_type(&a->cfg), a->n, heads, a->cfg.shape.head_width);
}

static inline struct kern_tensor actor_pool(const struct actor *a, void *p, enum kern_dtype t) {
    return kern_view4(p, t, a->cfg.pages, a->cfg.page, a->cfg.shape.kv_heads,
                      a->cfg.shape.head_width);
}

#endif
