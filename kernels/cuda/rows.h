/* rows.h - what the ops over whole rows share: four elements at a time, and the one tree in which
 * the squares of a row are added up. Private to this folder.
 *
 * A row is cut into pieces of CUDA_BLOCK * ROW_PACK elements; thread t adds up its four of each
 * piece, then threads t ^ 16, ^ 8 .. ^ 1, then warps in order. A block does that with all of its
 * threads, or a single warp does the work of the block's warps one after another: rmsnorm, a norm
 * fused with what stands before it and one fused with what follows thus give the same bits. */
#ifndef KERNELS_CUDA_ROWS_H
#define KERNELS_CUDA_ROWS_H

#include "kernels/cuda/cuda.h"

static const int ROW_PACK = 4;

template <typename T> struct alignas(4 * sizeof(T)) row_pack { T e[4]; };
struct row4 {
    float v[4];
};

/* What the storage type keeps of x. */
template <typename T> static __device__ __forceinline__ float row_rounded(float x) {
    T t;
    cuda_set(&t, x);
    return cuda_get(&t);
}

/* Up to four elements from p on, `left` of which exist; the others are zero. packed: rows begin at
 * multiples of four elements, so one access moves all four. */
template <typename T>
static __device__ __forceinline__ row4 row_load(const T *p, int64_t left, bool packed) {
    row4 x;
    if (packed) {
        row_pack<T> four = *reinterpret_cast<const row_pack<T> *>(p);
        for (int i = 0; i < ROW_PACK; i++)
            x.v[i] = cuda_get(four.e + i);
    } else {
        for (int i = 0; i < ROW_PACK; i++)
            x.v[i] = i < left ? cuda_get(p + i) : 0;
    }
    return x;
}

template <typename T>
static __device__ __forceinline__ void row_store(T *p, row4 x, int64_t left, bool packed) {
    if (packed) {
        row_pack<T> four;
        for (int i = 0; i < ROW_PACK; i++)
            cuda_set(four.e + i, x.v[i]);
        *reinterpret_cast<row_pack<T> *>(p) = four;
    } else {
        for (int i = 0; i < ROW_PACK; i++)
            if (i < left) cuda_set(p + i, x.v[i]);
    }
}

/* The packs of a row that belong to thread t of CUDA_BLOCK: element j .. j + 3. */
#define ROW_EACH(j, t, d)                                                                          \
    for (int64_t j = (int64_t)(t)*ROW_PACK; j < (d); j += CUDA_BLOCK * ROW_PACK)

static __device__ __forceinline__ float row_add_squares(float sum, row4 x) {
    for (int i = 0; i < ROW_PACK; i++)
        sum = __fmaf_rn(x.v[i], x.v[i], sum);
    return sum;
}

static __device__ __forceinline__ float row_inverse_rms(float sum, int64_t d, float eps) {
    return rsqrtf(sum / (float)d + eps);
}

/* The sum over a row of what `add` adds for the four elements from j on: by a block, every thread
 * gets it. */
template <typename Add> static __device__ __forceinline__ float row_sum(int64_t d, Add add) {
    float sum = 0;
    ROW_EACH(j, threadIdx.x, d)
    sum = add(sum, j);
    return cuda_block_reduce<cuda_sum>(sum);
}

/* By a warp, the same bits. The warps of a block that have no elements would add zeros: they are
 * left out. */
template <typename Add>
static __device__ __forceinline__ float row_sum_by_warp(int64_t d, Add add) {
    float sum = 0;
    for (int w = 0; w < CUDA_WARPS && w * CUDA_WARP * ROW_PACK < d; w++) {
        float part = 0;
        ROW_EACH(j, w * CUDA_WARP + (int)threadIdx.x % CUDA_WARP, d)
        part = add(part, j);
        sum += cuda_warp_reduce<cuda_sum>(part);
    }
    return sum;
}

/* Of a row: a block's or, WARP, a warp's work. */
template <bool WARP, typename T>
static __device__ __forceinline__ float row_scale(const T *row, int64_t d, float eps, bool packed) {
    auto squares = [&](float sum, int64_t j) {
        return row_add_squares(sum, row_load(row + j, d - j, packed));
    };
    return row_inverse_rms(WARP ? row_sum_by_warp(d, squares) : row_sum(d, squares), d, eps);
}

/* --- launchers ------------------------------------------------------------------------------ */

template <typename T> static inline bool row_aligned(const T *p) {
    return reinterpret_cast<uintptr_t>(p) % sizeof(row_pack<T>) == 0;
}

/* Whether rows of d elements at all of these may be accessed in packs. */
template <typename T, typename... P>
static inline bool row_packs(int64_t d, const T *p, P... more) {
    return d % ROW_PACK == 0 && row_aligned(p) && (row_aligned<T>(more) && ...);
}

#endif
