/* embed.c - ops that move rows by index: embedding and its reverse, gather, scatter_add, and the
 * rows of the paged key/value pools. Indices are checked here, where the data is at hand: a bad one
 * is an error, never a stray write. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <string.h>

/* Rows of d elements: out[i] = table[ids[i]] */
static void copy_rows(kern_arg out, kern_arg table, const int32_t *ids, int64_t n, int64_t d) {
    const size_t row = (size_t)d * kern_dtype_bytes(out->dtype);
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)out->data + (size_t)i * row, (char *)table->data + (size_t)ids[i] * row,
               row);
}

static void ref_add_rows(kern_arg table, kern_arg g, const int32_t *ids, int64_t n, int64_t d) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) {
            const int64_t at = ids[i] * d + j;
            host_store(table, at, host_load(table, at) + host_load(g, i * d + j));
        }
}

int ref_embed(ops_s s, kern_arg out, kern_arg table, kern_arg ids) {
    (void)s;
    TRY(host_check_index("embed", "ids", ids, table->dim[0]));
    copy_rows(out, table, host_i32(ids), out->dim[0], out->dim[1]);
    return 0;
}

int ref_gather(ops_s s, kern_arg out, kern_arg x, kern_arg rows) {
    (void)s;
    TRY(host_check_index("gather", "rows", rows, x->dim[0]));
    copy_rows(out, x, host_i32(rows), out->dim[0], out->dim[1]);
    return 0;
}

int ref_embed_bwd(ops_s s, kern_arg gtable, kern_arg gout, kern_arg ids) {
    (void)s;
    TRY(host_check_index("embed_bwd", "ids", ids, gtable->dim[0]));
    ref_add_rows(gtable, gout, host_i32(ids), gout->dim[0], gout->dim[1]);
    return 0;
}

int ref_scatter_add(ops_s s, kern_arg x, kern_arg g, kern_arg rows) {
    (void)s;
    TRY(host_check_index("scatter_add", "rows", rows, x->dim[0]));
    ref_add_rows(x, g, host_i32(rows), g->dim[0], g->dim[1]);
    return 0;
}

int ref_kv_write(ops_s s, kern_arg pool_k, kern_arg pool_v, kern_arg k, kern_arg v, kern_arg slot) {
    (void)s;
    const size_t row = (size_t)(k->dim[1] * k->dim[2]) * kern_dtype_bytes(k->dtype);
    const int32_t *at = host_i32(slot);
    char *to_k = pool_k->data, *to_v = pool_v->data;
    const char *from_k = k->data, *from_v = v->data;
    TRY(host_check_index("kv_write", "slot", slot, pool_k->dim[0] * pool_k->dim[1]));
    for (size_t i = 0; i < (size_t)k->dim[0]; i++) {
        memcpy(to_k + (size_t)at[i] * row, from_k + i * row, row);
        memcpy(to_v + (size_t)at[i] * row, from_v + i * row, row);
    }
    return 0;
}

int ref_kv_read(ops_s s, kern_arg k, kern_arg v, kern_arg pool_k, kern_arg pool_v, kern_arg slot) {
    (void)s;
    const int64_t d = k->dim[1] * k->dim[2];
    TRY(host_check_index("kv_read", "slot", slot, pool_k->dim[0] * pool_k->dim[1]));
    copy_rows(k, pool_k, host_i32(slot), k->dim[0], d);
    copy_rows(v, pool_v, host_i32(slot), k->dim[0], d);
    return 0;
}
