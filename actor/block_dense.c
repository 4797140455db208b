/* block_dense.c - the dense feed-forward block: down(silu(gate h) * up h). Letters as in MODEL.md.
 *
 * act is scratch: a layer that keeps its activations makes it again in the backward pass, which is
 * one elementwise op for R f numbers. */
#include "actor/block.h"

enum { NORM = BLOCK_NORM, GATE, UP, DOWN, GATE_BIAS, UP_BIAS, DOWN_BIAS, TENSORS };
enum { A_GATE, A_UP, A_ACT, A_GACT, ARRAYS }; /* of gate and up their gradients too */

_Static_assert((int)TENSORS <= (int)BLOCK_TENSORS_MAX, "tensors");
_Static_assert((int)ARRAYS <= (int)BLOCK_ARRAYS_MAX, "arrays");

static void dense_tensors(struct block_tensor *out, const struct shape *s) {
    int64_t d = s->d, f = s->ffn;
    bool bare = !s->mlp_bias;
    out[NORM] = (struct block_tensor){"post_attention_layernorm.weight", 1, d, false, false};
    out[GATE] = (struct block_tensor){"mlp.gate_proj.weight", f, d, true, false};
    out[UP] = (struct block_tensor){"mlp.up_proj.weight", f, d, true, false};
    out[DOWN] = (struct block_tensor){"mlp.down_proj.weight", d, f, true, false};
    out[GATE_BIAS] = (struct block_tensor){"mlp.gate_proj.bias", 1, f, false, bare};
    out[UP_BIAS] = (struct block_tensor){"mlp.up_proj.bias", 1, f, false, bare};
    out[DOWN_BIAS] = (struct block_tensor){"mlp.down_proj.bias", 1, d, false, bare};
}

static void dense_arrays(struct block_array *out, const struct actor_config *cfg) {
    int64_t f = cfg->shape.ffn;
    out[A_GATE] = (struct block_array){BLOCK_ACTIVATION, BLOCK_ROWS, f, false};
    out[A_UP] = (struct block_array){BLOCK_ACTIVATION, BLOCK_ROWS, f, false};
    out[A_ACT] = (struct block_array){BLOCK_SCRATCH, BLOCK_ROWS, f, false};
    out[A_GACT] = (struct block_array){BLOCK_GRADIENT, BLOCK_ROWS, f, false};
}

static int dense_forward(struct actor_pass *p, const struct block *b, void *out) {
    int64_t f = p->cfg->shape.ffn;
    struct kern_tensor gate = actor_pass_rows(p, b->a[A_GATE], f),
                       up = actor_pass_rows(p, b->a[A_UP], f),
                       act = actor_pass_rows(p, b->a[A_ACT], f);
    TRY(block_linear(p, b, GATE, GATE_BIAS, gate.data, b->h));
    TRY(block_linear(p, b, UP, UP_BIAS, up.data, b->h));
    TRY(kern_swiglu(p->b, p->s, &act, &gate, &up));
    return out ? block_linear(p, b, DOWN, DOWN_BIAS, out, act.data) : 0;
}

static int dense_backward(struct actor_pass *p, const struct block *b, void *gh, void *g,
                          bool again) {
    int64_t f = p->cfg->shape.ffn;
    struct kern_tensor gate = actor_pass_rows(p, b->a[A_GATE], f),
                       up = actor_pass_rows(p, b->a[A_UP], f),
                       act = actor_pass_rows(p, b->a[A_ACT], f),
                       gact = actor_pass_rows(p, b->a[A_GACT], f);
    if (!again) TRY(kern_swiglu(p->b, p->s, &act, &gate, &up));
    TRY(block_linear_bwd(p, b, DOWN, DOWN_BIAS, gact.data, g, act.data, false));
    TRY(kern_swiglu_bwd(p->b, p->s, &gate, &up, &gact, &gate, &up)); /* now their gradients */
    TRY(block_linear_bwd(p, b, GATE, GATE_BIAS, gh, gate.data, b->h, false));
    return block_linear_bwd(p, b, UP, UP_BIAS, gh, up.data, b->h, true);
}

const struct block_kind block_dense = {
    .n_tensors = TENSORS,
    .n_arrays = ARRAYS,
    .tensors = dense_tensors,
    .arrays = dense_arrays,
    .forward = dense_forward,
    .backward = dense_backward,
};
