/* embed.cu - ops that move rows by index: embedding and its reverse, gather, scatter_add, and the
 * rows of the paged key/value pools.
 *
 * An index out of range (which the callers' validators exclude) touches no memory: the row reads as
 * zeros, or is not written. The reverse of the embedding has no atomics: one block owns a column
 * range of the table and walks the rows in their order, so a repeated id is added up in row
 * order. */
#include "kernels/cuda/cuda.h"

/* grid: rows; out[i, :] = table[ids[i], :] */
template <typename T>
static __global__ void rows_gather(T *__restrict__ out, const T *__restrict__ table,
                                   const int32_t *__restrict__ ids, int64_t rows, int64_t d) {
    int64_t i = blockIdx.x, id = ids[i];
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
        cuda_set(out + i * d + j, id >= 0 && id < rows ? cuda_get(table + id * d + j) : 0);
}

/* grid: rows; table[ids[i], :] = x[i, :]; ids are distinct */
template <typename T>
static __global__ void rows_scatter(T *__restrict__ table, const T *__restrict__ x,
                                    const int32_t *__restrict__ ids, int64_t rows, int64_t d) {
    int64_t i = blockIdx.x, id = ids[i];
    if (id < 0 || id >= rows) return;
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
        table[id * d + j] = x[i * d + j];
}

/* grid: rows; x[ids[i], :] += g[i, :]; ids are distinct */
template <typename T>
static __global__ void rows_scatter_add(T *__restrict__ x, const T *__restrict__ g,
                                        const int32_t *__restrict__ ids, int64_t rows, int64_t d) {
    int64_t i = blockIdx.x, id = ids[i];
    if (id < 0 || id >= rows) return;
    for (int64_t j = threadIdx.x; j < d; j += blockDim.x)
        cuda_set(x + id * d + j, cuda_get(x + id * d + j) + cuda_get(g + i * d + j));
}

/* A thread owns a column and adds the rows up in order; table f32. */
template <typename T>
static __global__ void
embed_bwd_thread_per_column(float *__restrict__ table, const T *__restrict__ g,
                            const int32_t *__restrict__ ids, int64_t n, int64_t rows, int64_t d) {
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= d) return;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = ids[i];
        if (id >= 0 && id < rows) table[id * d + j] += cuda_get(g + i * d + j);
    }
}

/* --- launchers ------------------------------------------------------------------------------ */

template <typename T>
static int gather_typed(ops_s s, kern_arg out, kern_arg table, kern_arg ids, int64_t rows,
                        int64_t d) {
    CUDA_LAUNCH(rows_gather<T>, (unsigned)ids->dim[0], CUDA_BLOCK, 0, s, cuda_data<T>(out),
                cuda_data<T>(table), cuda_data<int32_t>(ids), rows, d);
    return 0;
}

static int gather_any(ops_s s, kern_arg out, kern_arg table, kern_arg ids, int64_t rows,
                      int64_t d) {
    return out->dtype == KERN_BF16 ? gather_typed<bf16>(s, out, table, ids, rows, d)
                                   : gather_typed<float>(s, out, table, ids, rows, d);
}

int cuda_embed(ops_s s, kern_arg out, kern_arg table, kern_arg ids) {
    return gather_any(s, out, table, ids, table->dim[0], table->dim[1]);
}

int cuda_gather(ops_s s, kern_arg out, kern_arg x, kern_arg rows) {
    return gather_any(s, out, x, rows, x->dim[0], x->dim[1]);
}

int cuda_kv_read(ops_s s, kern_arg k, kern_arg v, kern_arg pool_k, kern_arg pool_v, kern_arg slot) {
    int64_t rows = pool_k->dim[0] * pool_k->dim[1], d = k->dim[1] * k->dim[2];
    TRY(gather_any(s, k, pool_k, slot, rows, d));
    return gather_any(s, v, pool_v, slot, rows, d);
}

template <typename T>
static int scatter_typed(ops_s s, kern_arg pool, kern_arg x, kern_arg slot, int64_t rows,
                         int64_t d) {
    CUDA_LAUNCH(rows_scatter<T>, (unsigned)slot->dim[0], CUDA_BLOCK, 0, s, cuda_data<T>(pool),
                cuda_data<T>(x), cuda_data<int32_t>(slot), rows, d);
    return 0;
}

int cuda_kv_write(ops_s s, kern_arg pool_k, kern_arg pool_v, kern_arg k, kern_arg v,
                  kern_arg slot) {
    int64_t rows = pool_k->dim[0] * pool_k->dim[1], d = k->dim[1] * k->dim[2];
    if (k->dtype == KERN_BF16) {
        TRY(scatter_typed<bf16>(s, pool_k, k, slot, rows, d));
        return scatter_typed<bf16>(s, pool_v, v, slot, rows, d);
    }
    TRY(scatter_typed<float>(s, pool_k, k, slot, rows, d));
    return scatter_typed<float>(s, pool_v, v, slot, rows, d);
}

template <typename T> static int scatter_add(ops_s s, kern_arg x, kern_arg g, kern_arg rows) {
    CUDA_LAUNCH(rows_scatter_add<T>, (unsigned)rows->dim[0], CUDA_BLOCK, 0, s, cuda_data<T>(x),
                cuda_data<T>(g), cuda_data<int32_t>(rows), x->dim[0], x->dim[1]);
    return 0;
}

int cuda_scatter_add(ops_s s, kern_arg x, kern_arg g, kern_arg rows) {
    return x->dtype == KERN_BF16 ? scatter_add<bf16>(s, x, g, rows)
                                 : scatter_add<float>(s, x, g, rows);
}

template <typename T> static int embed_bwd(ops_s s, kern_arg gtable, kern_arg gout, kern_arg ids) {
    int64_t n = ids->dim[0], d = gtable->dim[1];
    const int COLUMNS = 64;
    CUDA_LAUNCH(embed_bwd_thread_per_column<T>, (unsigned)((d + COLUMNS - 1) / COLUMNS), COLUMNS, 0,
                s, cuda_data<float>(gtable), cuda_data<T>(gout), cuda_data<int32_t>(ids), n,
                gtable->dim[0], d);
    return 0;
}

int cuda_embed_bwd(ops_s s, kern_arg gtable, kern_arg gout, kern_arg ids) {
    return gout->dtype == KERN_BF16 ? embed_bwd<bf16>(s, gtable, gout, ids)
                                    : embed_bwd<float>(s, gtable, gout, ids);
}
