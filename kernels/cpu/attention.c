/* attention.c - attention of the cpu backend: checks and items. Forward items are (sequence, tile
 * of rows, key head), so a long prefill and a batch of decoded rows both spread over the team; the
 * reverse is cut by key head (k_attention_bwd.h says why). */
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"

/* Checks the tables' content and cuts the rows of a key head (its query heads' too) into tiles. */
static int prepare_args(const char *op, struct attn_args *t, kern_arg q, kern_arg pool_k,
                        kern_arg pool_v, const struct kern_attn *a) {
    TRY(host_check_attn(op, a, q->dim[0], pool_k->dim[0]));
    if (q->dim[2] > ATTN_WIDTH)
        return FAIL(ERR_UNSUP, "%s: head width %lld, at most %d", op, (long long)q->dim[2],
                    ATTN_WIDTH);
    *t = (struct attn_args){.q = q->data,
                            .k = pool_k->data,
                            .v = pool_v->data,
                            .heads = q->dim[1],
                            .kv_heads = pool_k->dim[2],
                            .width = q->dim[2],
                            .page = a->page,
                            .pages_max = a->pages.dim[1],
                            .start = host_i32(&a->q_start),
                            .len = host_i32(&a->kv_len),
                            .pages = host_i32(&a->pages),
                            .n_seqs = a->n_seqs,
                            .window = a->window,
                            .scale = a->scale};
    const int64_t pairs = a->q_max * (t->heads / t->kv_heads);
    t->tile = t->width <= ATTN_NARROW ? ATTN_LANES : ATTN_ROWS;
    t->tiles_per_seq = (pairs + t->tile - 1) / t->tile;
    return 0;
}

int cpu_attention(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                  const struct kern_attn *a) {
    struct attn_args t;
    TRY(prepare_args("attention", &t, q, pool_k, pool_v, a));
    t.out = out->data;
    t.lse = host_f32(lse);
    return cpu_for("attention", cpu_isa_of(q)->attention, &t,
                   a->n_seqs * t.tiles_per_seq * t.kv_heads, 4, s, 0);
}

int cpu_attention_bwd(ops_s s, kern_arg gq, kern_arg gpool_k, kern_arg gpool_v, kern_arg gout,
                      kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                      const struct kern_attn *a) {
    struct attn_args t;
    TRY(prepare_args("attention_bwd", &t, q, pool_k, pool_v, a));
    t.out = out->data;
    t.lse = host_f32(lse);
    t.gout = gout->data;
    t.gq = gq->data;
    t.gk = host_f32(gpool_k);
    t.gv = host_f32(gpool_v);
    return cpu_for("attention_bwd", cpu_isa_of(q)->attention_bwd, &t, t.kv_heads, 1, s, 0);
}
