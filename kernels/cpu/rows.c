/* rows.c - row ops of the cpu backend: norm, rotary embedding, and the moves of rows by index.
 * Copies are the same memcpy as the reference's and are not repeated here. */
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"
#include "kernels/ref/ref.h"

enum { GRAIN = 1 << 14, LANES = 16 }; /* elements worth a thread's attention; columns of an item */

static int64_t grain(int64_t per_item) {
    return per_item >= GRAIN ? 1 : GRAIN / (per_item > 0 ? per_item : 1);
}

int cpu_rmsnorm(ops_s s, kern_arg out, kern_arg x, kern_arg w, float eps) {
    struct norm_args a = {.out = out->data,
                          .x = x->data,
                          .w = w->data,
                          .rows = x->dim[0],
                          .d = x->dim[1],
                          .eps = eps};
    return cpu_for("rmsnorm", cpu_isa_of(x)->rmsnorm, &a, a.rows, grain(a.d), s, 0);
}

int cpu_add_rmsnorm(ops_s s, kern_arg out, kern_arg sum, kern_arg x, kern_arg r, kern_arg w,
                    float eps) {
    struct norm_args a = {.out = out->data,
                          .sum = sum->data,
                          .x = x->data,
                          .add = r->data,
                          .w = w->data,
                          .rows = x->dim[0],
                          .d = x->dim[1],
                          .eps = eps};
    return cpu_for("add_rmsnorm", cpu_isa_of(x)->add_rmsnorm, &a, a.rows, grain(a.d), s, 0);
}

int cpu_rmsnorm_bwd(ops_s s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,
                    float eps, bool accumulate) {
    struct norm_args a = {.gx = gx->data,
                          .gw = host_f32(gw),
                          .gout = gout->data,
                          .x = x->data,
                          .w = w->data,
                          .rows = x->dim[0],
                          .d = x->dim[1],
                          .eps = eps,
                          .accumulate = accumulate};
    TRY(host_scratch(&a.r, s, "rmsnorm_bwd", (size_t)a.rows * sizeof(float)));
    TRY(cpu_for("rmsnorm_bwd", cpu_isa_of(x)->rmsnorm_bwd, &a, a.rows, grain(a.d), s, 0));
    return cpu_for("rmsnorm_bwd", cpu_isa_of(x)->rmsnorm_gw, &a, (a.d + LANES - 1) / LANES,
                   grain(a.rows * LANES), s, 0);
}

int cpu_rope(ops_s s, kern_arg x, kern_arg pos, kern_arg cos, kern_arg sin, bool inverse) {
    struct rope_args a = {.x = x->data,
                          .pos = host_i32(pos),
                          .cos = host_f32(cos),
                          .sin = host_f32(sin),
                          .heads = x->dim[1],
                          .width = x->dim[2],
                          .inverse = inverse};
    TRY(host_check_index("rope", "pos", pos, cos->dim[0]));
    return cpu_for("rope", cpu_isa_of(x)->rope, &a, x->dim[0], grain(a.heads * a.width), s, 0);
}

int cpu_norm_rope(ops_s s, kern_arg q, kern_arg q0, kern_arg w, float eps, kern_arg pos,
                  kern_arg cos, kern_arg sin) {
    struct rope_args a = {.x = q->data,
                          .from = q0->data,
                          .w = w ? w->data : NULL,
                          .eps = eps,
                          .pos = host_i32(pos),
                          .cos = host_f32(cos),
                          .sin = host_f32(sin),
                          .heads = q->dim[1],
                          .width = q->dim[2]};
    TRY(host_check_index("norm_rope", "pos", pos, cos->dim[0]));
    return cpu_for("norm_rope", cpu_isa_of(q)->norm_rope, &a, q->dim[0], grain(a.heads * a.width),
                   s, 0);
}

int cpu_embed(ops_s s, kern_arg out, kern_arg table, kern_arg ids) {
    return ref_embed(s, out, table, ids);
}

int cpu_gather(ops_s s, kern_arg out, kern_arg x, kern_arg rows) {
    return ref_gather(s, out, x, rows);
}

int cpu_kv_write(ops_s s, kern_arg pool_k, kern_arg pool_v, kern_arg k, kern_arg v, kern_arg slot) {
    return ref_kv_write(s, pool_k, pool_v, k, v, slot);
}

int cpu_kv_read(ops_s s, kern_arg k, kern_arg v, kern_arg pool_k, kern_arg pool_v, kern_arg slot) {
    return ref_kv_read(s, k, v, pool_k, pool_v, slot);
}

static struct rows_args rows_of(kern_arg table, kern_arg x, kern_arg ids) {
    return (struct rows_args){.table = table->data,
                              .x = x->data,
                              .ids = host_i32(ids),
                              .rows = x->dim[0],
                              .d = x->dim[1]};
}

int cpu_embed_bwd(ops_s s, kern_arg gtable, kern_arg gout, kern_arg ids) {
    struct rows_args a = rows_of(gtable, gout, ids);
    TRY(host_check_index("embed_bwd", "ids", ids, gtable->dim[0]));
    return cpu_for("embed_bwd", cpu_isa_of(gout)->add_cols, &a, (a.d + LANES - 1) / LANES,
                   grain(a.rows * LANES), s, 0);
}

int cpu_scatter_add(ops_s s, kern_arg x, kern_arg g, kern_arg rows) {
    struct rows_args a = rows_of(x, g, rows);
    TRY(host_check_index("scatter_add", "rows", rows, x->dim[0]));
    return cpu_for("scatter_add", cpu_isa_of(g)->add_rows, &a, a.rows, grain(a.d), s, 0);
}
