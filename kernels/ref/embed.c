/* embed.c - ops that move rows by index: embedding and its reverse, gather, scatter_add, and the
 * rows of the paged key/value pools. Indices are checked here, where the data is at hand: a bad one
 * is an error, never a stray write. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <string.h>

static void copy_rows(float *out, const float *table, const int32_t *ids, int64_t n, int64_t d) {
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * d, table + ids[i] * d, (size_t)d * sizeof *out);
}

static void add_rows(float *table, const float *g, const int32_t *ids, int64_t n, int64_t d) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++)
            table[ids[i] * d + j] += g[i * d + j];
}

int ref_embed(ops_s s, kern_arg out, kern_arg table, kern_arg ids) {
    (void)s;
    TRY(host_check_index("embed", "ids", ids, table->dim[0]));
    copy_rows(host_f32(out), host_f32(table), host_i32(ids), out->dim[0], out->dim[1]);
    return 0;
}

int ref_gather(ops_s s, kern_arg out, kern_arg x, kern_arg rows) {
    (void)s;
    TRY(host_check_index("gather", "rows", rows, x->dim[0]));
    copy_rows(host_f32(out), host_f32(x), host_i32(rows), out->dim[0], out->dim[1]);
    return 0;
}

int ref_embed_bwd(ops_s s, kern_arg gtable, kern_arg gout, kern_arg ids) {
    (void)s;
    TRY(host_check_index("embed_bwd", "ids", ids, gtable->dim[0]));
    add_rows(host_f32(gtable), host_f32(gout), host_i32(ids), gout->dim[0], gout->dim[1]);
    return 0;
}

int ref_scatter_add(ops_s s, kern_arg x, kern_arg g, kern_arg rows) {
    (void)s;
    TRY(host_check_index("scatter_add", "rows", rows, x->dim[0]));
    add_rows(host_f32(x), host_f32(g), host_i32(rows), g->dim[0], g->dim[1]);
    return 0;
}

int ref_kv_write(ops_s s, kern_arg pool_k, kern_arg pool_v, kern_arg k, kern_arg v, kern_arg slot) {
    (void)s;
    const int64_t d = k->dim[1] * k->dim[2];
    const int32_t *at = host_i32(slot);
    TRY(host_check_index("kv_write", "slot", slot, pool_k->dim[0] * pool_k->dim[1]));
    for (int64_t i = 0; i < k->dim[0]; i++) {
        memcpy(host_f32(pool_k) + at[i] * d, host_f32(k) + i * d, (size_t)d * sizeof(float));
        memcpy(host_f32(pool_v) + at[i] * d, host_f32(v) + i * d, (size_t)d * sizeof(float));
    }
    return 0;
}

int ref_kv_read(ops_s s, kern_arg k, kern_arg v, kern_arg pool_k, kern_arg pool_v, kern_arg slot) {
    (void)s;
    const int64_t d = k->dim[1] * k->dim[2];
    TRY(host_check_index("kv_read", "slot", slot, pool_k->dim[0] * pool_k->dim[1]));
    copy_rows(host_f32(k), host_f32(pool_k), host_i32(slot), k->dim[0], d);
    copy_rows(host_f32(v), host_f32(pool_v), host_i32(slot), k->dim[0], d);
    return 0;
}
