/* attention.h - what the attention kernels share: a call's sizes, and for those on tensor cores
 * (attention_fwd.cu, attention_bwd.cu) which rows a tile has and how rows and keys are loaded.
 *
 * The query heads of a key head are packed into one sequence of rows: packed row r is query
 * r / share, head r % share of the key head's. So a tile uses each key it loads for all of them. */
#ifndef KERNELS_CUDA_ATTENTION_H
#define KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/mma.h"

struct attn_divisor { /* n / d for 0 <= n < 2^31 is (n + n * mul / 2^32) >> shift */
    uint32_t d, mul, shift;
};

struct attn { /* sizes and tables of a call, by value */
    const int32_t *q_start, *kv_len, *pages;
    int32_t n_seqs, page, window;
    struct attn_divisor by_page, by_share;
    int64_t pages_max, n_pages, heads, kv_heads, width;
    float scale;
};

static const int ATTN_KEYS = 64; /* keys of a block */

/* Bytes of stream scratch that attention's ops want. */
size_t attention_scratch(const struct kern_limits *l);

/* bf16 with heads of a multiple of 8 up to 128 that lie on 16 bytes: attention_fwd.cu and
 * attention_bwd.cu. q_max, kv_max as in struct kern_attn. */
int attention_fwd(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                  const struct attn *a, int32_t q_max, int32_t kv_max);

struct attn_reverse { /* arguments of attention_bwd */
    kern_arg gq, gpool_k, gpool_v, gout, out, lse, q, pool_k, pool_v;
};
int attention_bwd(ops_s s, const struct attn_reverse *x, const struct attn *a);

/* --- device --------------------------------------------------------------------------------- */

static const float ATTN_LOG2E = 1.4426950408889634f, ATTN_LN2 = 0.6931471805599453f;

static inline struct attn_divisor attn_divisor_of(uint32_t d) {
    struct attn_divisor x = {d, 0, 0};
    while (1ull << x.shift < d)
        x.shift++;
    x.mul = (uint32_t)((((1ull << x.shift) - d) << 32) / d + 1);
    return x;
}

static __device__ __forceinline__ int32_t attn_div(const struct attn_divisor *x, int32_t n) {
    uint32_t high = (uint32_t)((uint64_t)x->mul * (uint32_t)n >> 32);
    return (int32_t)((high + (uint32_t)n) >> x->shift);
}

/* A tile's place among the packed rows of one sequence and key head */
struct attn_rows {
    int32_t seq, from;       /* the sequence; its first query in the batch */
    int32_t n, r0;           /* packed rows of the sequence; the tile's first */
    int32_t position, share; /* of query 0; query heads of a key head */
};

static __device__ __forceinline__ struct attn_rows attn_rows_of(const struct attn *a, int32_t seq) {
    int32_t from = a->q_start[seq], count = a->q_start[seq + 1] - from;
    int32_t share = (int32_t)(a->heads / a->kv_heads);
    struct attn_rows r = {seq, from, count * share, 0, a->kv_len[seq] - count, share};
    return r;
}

/* Tile t of those of ROWS packed rows. Sequence s has the tiles from (its first packed row in the
 * batch) / ROWS + s on, a rising bound that needs no table; some are empty: r0 >= n. */
template <int ROWS>
static __device__ struct attn_rows attn_tile_of(const struct attn *a, int64_t t) {
    int64_t share = a->heads / a->kv_heads;
    int32_t lo = 0, hi = a->n_seqs - 1;
    while (lo < hi) {
        int32_t mid = (lo + hi + 1) / 2;
        if (a->q_start[mid] * share / ROWS + mid <= t)
            lo = mid;
        else
            hi = mid - 1;
    }
    struct attn_rows r = attn_rows_of(a, lo);
    int64_t r0 = (t - (r.from * share / ROWS + lo)) * ROWS;
    r.r0 = r0 < r.n ? (int32_t)r0 : r.n;
    return r;
}

static inline int64_t attn_tiles(const struct attn *a, int64_t rows, int64_t per_tile) {
    return rows * (a->heads / a->kv_heads) / per_tile + a->n_seqs;
}

/* Position of packed row r, the last for what lies beyond. */
static __device__ __forceinline__ int32_t attn_position(const struct attn *a,
                                                        const struct attn_rows *x, int32_t r) {
    return x->position + attn_div(&a->by_share, min(r, x->n - 1));
}
/* The first key seen from a position. */
static __device__ __forceinline__ int32_t attn_first(const struct attn *a, int32_t position) {
    return a->window && position >= a->window ? position - a->window + 1 : 0;
}

/* Index of packed row r and the key head's heads in an array [rows, heads]. */
static __device__ __forceinline__ int64_t attn_row_at(const struct attn *a,
                                                      const struct attn_rows *x, int32_t r,
                                                      int64_t kv_head) {
    int32_t query = attn_div(&a->by_share, r);
    return (int64_t)(x->from + query) * a->heads + kv_head * x->share + (r - query * x->share);
}

/* Begins to load ROWS packed rows from r0 on, of one array or of two; zeros beyond the sequence's
 * and the head's width. */
template <int WIDTH, int ROWS>
static __device__ __forceinline__ void
attn_load_rows(bf16 *tile, const bf16 *src, bf16 *tile2, const bf16 *src2, const struct attn *a,
               const struct attn_rows *x, int32_t r0, int64_t kv_head) {
    const int PIECES = WIDTH / 8;
    for (int i = (int)threadIdx.x; i < ROWS * PIECES; i += (int)blockDim.x) {
        int r = i / PIECES, p = i % PIECES;
        bool there = r0 + r < x->n && p * 8 < a->width;
        int64_t at = there ? attn_row_at(a, x, r0 + r, kv_head) * a->width + p * 8 : 0;
        mma_copy(mma_piece<WIDTH>(tile, r, p), src + at, there);
        if (tile2) mma_copy(mma_piece<WIDTH>(tile2, r, p), src2 + at, there);
    }
}

/* Begins to load keys key0..key0+63 of the sequence and their values; zeros from key `end` on and
 * for pages that are not there. All look-ups before the first copy: they wait together. */
template <int WIDTH, int THREADS>
static __device__ __forceinline__ void
attn_load_keys(bf16 *k_tile, bf16 *v_tile, const bf16 *k, const bf16 *v, const struct attn *a,
               int32_t seq, int32_t key0, int32_t end, int64_t kv_head) {
    const int PIECES = WIDTH / 8, EACH = ATTN_KEYS * PIECES / THREADS, STEP = THREADS / PIECES;
    const int32_t *pages = a->pages + seq * a->pages_max;
    int r = (int)threadIdx.x / PIECES, p = (int)threadIdx.x % PIECES;
    int32_t slot[EACH];
    MMA_FOR(i, EACH) {
        int32_t key = key0 + r + i * STEP, index = attn_div(&a->by_page, key);
        int32_t page = key < end ? pages[index] : -1;
        slot[i] = page < 0 || page >= a->n_pages ? -1 : page * a->page + (key - index * a->page);
    }
    int64_t row = a->kv_heads * a->width, at0 = kv_head * a->width + p * 8;
    MMA_FOR(i, EACH) {
        bool there = slot[i] >= 0 && p * 8 < a->width;
        int64_t at = there ? slot[i] * row + at0 : 0;
        mma_copy(mma_piece<WIDTH>(k_tile, r + i * STEP, p), k + at, there);
        mma_copy(mma_piece<WIDTH>(v_tile, r + i * STEP, p), v + at, there);
    }
}

/* Stores 16 packed rows of a warp from C registers, times by[0] (rows g) and by[1] (rows g + 8);
 * tile: 16 rows of shared memory that only this warp still uses. Zeros get a plus sign: a product
 * with a zero in it may have lost it, and must not show. */
template <int WIDTH>
static __device__ __forceinline__ void
attn_store_rows(bf16 *dst, bf16 *tile, float (*o)[4], const float by[2], const struct attn *a,
                const struct attn_rows *x, int32_t r0, int64_t kv_head) {
    const int PIECES = WIDTH / 8;
    int lane = (int)threadIdx.x % CUDA_WARP, g = lane / 4, t = lane % 4;
    MMA_FOR(n, PIECES)
        MMA_FOR(i, 2)
            mma_put(mma_piece<WIDTH>(tile, g + 8 * i, n) + 2 * t,
                    mma_pack(__fadd_rn(__fmul_rn(o[n][2 * i], by[i]), 0.0f),
                             __fadd_rn(__fmul_rn(o[n][2 * i + 1], by[i]), 0.0f)));
    __syncwarp();
    for (int i = lane; i < 16 * PIECES; i += CUDA_WARP) {
        int r = i / PIECES, p = i % PIECES;
        if (r0 + r < x->n && p * 8 < a->width)
            mma_move(dst + attn_row_at(a, x, r0 + r, kv_head) * a->width + p * 8,
                     mma_piece<WIDTH>(tile, r, p));
    }
}

#endif
