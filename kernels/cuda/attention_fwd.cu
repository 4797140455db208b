/* attention_fwd.cu - attention forward in bf16 on tensor cores: a tile kernel for prefill and
 * training, a kernel split over the keys for decode, and one arithmetic for both (I6).
 *
 * The canonical order. Keys are walked in blocks of ATTN_KEYS from key 0 of the sequence on, and
 * blocks in chunks of CHUNK. Within a chunk a row's scores are products of 16 elements of the head
 * after another, its maximum m rises block by block, what was summed (o, and l, the sum of the
 * rounded weights, as one more column of ones) is scaled when m rises, and weights times values are
 * added 16 keys after another. Chunks are merged in order, scaled to the higher maximum. Every step
 * is an elementwise operation or a row of m16n8k16, whose bits do not depend on the other rows; a
 * block or chunk that a row does not see adds zeros scaled by one. So it does not matter which rows
 * share a tile, whether a warp skipped the block, or whether the chunks were computed one after
 * another (tiles) or at once by different blocks (decode). l sums what was multiplied by v, so the
 * weights of a row sum to one; lse is within 2^-8 of the exact one for it.
 *
 * Non-finite values of a key that one row of a 16-row tile sees reach the others too (0 * inf).
 *
 * Tile kernel: grid tiles x key heads, 8 warps of 16 rows, keys and values by cp.async into two
 * stages, one barrier a block. Two sums of 16 x WIDTH stand in registers, the chunk's and the
 * total, which is why a warp has 16 rows and not 32: each piece of keys read from shared memory
 * feeds one product. At 128 bytes a clock that is a product in two clocks a multiprocessor, 2048
 * FLOP a clock: the whole rate of an A100's tensor cores, half of an H100's (which mma.sync cannot
 * reach fully either; the rest needs wgmma). sm_90a, WIDTH 128: 254 registers (16 bytes spilled),
 * 96 KiB: one block of 8 warps a multiprocessor, by registers. WIDTH 64: 168 registers, 48 KiB, one
 * block. Of the loop's 974 instructions at WIDTH 128 132 are products and 72 ldmatrix; some 340
 * are left out in most blocks (masks, merging, scaling). Registers and shared memory of this essay
 * are what `cuobjdump --dump-resource-usage weir-cuda.so` printed, instructions what `--dump-sass`.
 *
 * Decode kernel: grid sequences x key heads x chunks, 4 warps for 16 rows (heads that share a key
 * head, padded). Warps divide the block's keys for the scores and the head's columns for the sums;
 * weights cross through shared memory. Bound by reading keys and values: 96 registers and 70 KiB at
 * WIDTH 128, so three blocks in an H100's multiprocessor, two in an A100's, by shared memory, each
 * with 32 KiB under way (WIDTH 64: 78 registers, 36 KiB, six and four). Partial sums of chunks are
 * 1/256 of the bytes of the keys and values for each query head of a group, written and read once,
 * mostly in L2; they are held to PARTS_MAX by launching sequences in groups.
 *
 * A stream that is not exact (kern_exact): the tile kernel sums all keys into one total (ONE_SUM),
 * without the second set of registers and without merging; decode's chunks are as long as fills the
 * device, so a large batch has one a sequence and nothing to merge, a small one more of fewer keys.
 * Both are functions of the call and the device: repetition gives the same bits. */
#include "kernels/cuda/attention.h"

static const int CHUNK = 4;            /* blocks of keys that are summed from zero */
static const int TILE_ROWS = 128;      /* packed rows of the tile kernel's block */
static const int DECODE_ROWS = 16;     /* of the decode kernel's */
static const int DECODE_ROWS_MAX = 32; /* a sequence of up to so many packed rows is decode's */
static const int DECODE_THREADS = 128, TILE_THREADS = TILE_ROWS / 16 * CUDA_WARP;
static const size_t PARTS_MAX = 16 << 20;

/* --- the arithmetic: N tiles of 8 columns, rows g and g + 8 of a lane ----------------------- */

template <int N> struct sums {
    float o[N][4], l[4]; /* l: all columns are the same */
    float m[2];          /* maximum, times scale * log2(e) */
};

template <int N> static __device__ __forceinline__ void clear_sums(struct sums<N> &x) {
    MMA_FOR(n, N)
        MMA_FOR(i, 4)
            x.o[n][i] = 0;
    MMA_FOR(i, 4)
        x.l[i] = 0;
    x.m[0] = x.m[1] = -INFINITY;
}

/* The maximum as scores subtract it: a row that has seen no key yet has none. */
static __device__ __forceinline__ float finite_max(float m) {
    return m == -INFINITY ? 0 : m;
}

/* s = q k^T of 16 rows and N * 8 keys */
template <int WIDTH, int N>
static __device__ __forceinline__ void scores(float (&s)[N][4], bf16 *q, int row, bf16 *k,
                                              int key) {
    MMA_FOR(n, N)
        MMA_FOR(i, 4)
            s[n][i] = 0;
    MMA_FOR(d, WIDTH / 16) {
        uint32_t a[4], b[4];
        mma_rows<WIDTH, false>(a, q, row, 2 * d);
        MMA_UNROLL
        for (int n = 0; n < N; n += 2) {
            mma_columns<WIDTH>(b, k, key + n * 8, 2 * d);
            mma_m16n8k16(s[n], a, b[0], b[1]);
            mma_m16n8k16(s[n + 1], a, b[2], b[3]);
        }
    }
}

struct bounds { /* keys that rows g and g + 8 of a lane see */
    int32_t first[2], last[2];
};

template <int N>
static __device__ __forceinline__ void mask(float (&s)[N][4], int32_t key0,
                                            const struct bounds *x) {
    int32_t mine = key0 + (int32_t)threadIdx.x % 4 * 2;
    MMA_FOR(n, N)
        MMA_FOR(i, 4) {
            int32_t key = mine + n * 8 + i % 2;
            if (key < x->first[i / 2] || key > x->last[i / 2]) s[n][i] = -INFINITY;
        }
}

template <int N>
static __device__ __forceinline__ void row_max(float top[2], const float (&s)[N][4]) {
    top[0] = top[1] = -INFINITY;
    MMA_FOR(n, N)
        MMA_FOR(i, 4)
            top[i / 2] = fmaxf(top[i / 2], s[n][i]);
    MMA_FOR(i, 2)
        for (int other = 1; other < 4; other *= 2)
            top[i] = fmaxf(top[i], __shfl_xor_sync(0xffffffffu, top[i], other));
}

/* A block whose highest scores are top: where that raises the maximum the sums are scaled to it. */
template <int N>
static __device__ __forceinline__ void rescale(struct sums<N> &x, const float top[2], float unit) {
    float keep[2];
    MMA_FOR(i, 2) {
        float m = fmaxf(x.m[i], __fmul_rn(top[i], unit));
        keep[i] = mma_exp2(x.m[i] - finite_max(m));
        x.m[i] = m;
    }
    if (__all_sync(0xffffffffu, keep[0] == 1 && keep[1] == 1)) return; /* as most often */
    MMA_FOR(n, N)
        MMA_FOR(i, 4)
            x.o[n][i] = __fmul_rn(x.o[n][i], keep[i / 2]);
    MMA_FOR(i, 4)
        x.l[i] = __fmul_rn(x.l[i], keep[i / 2]);
}

/* Weights of 8 keys, rounded: w[0] row g, w[1] row g + 8. */
static __device__ __forceinline__ void softmax_weights(uint32_t w[2], const float s[4],
                                                       const float m[2], float unit) {
    MMA_FOR(i, 2) {
        float base = finite_max(m[i]);
        w[i] = mma_pack(mma_exp2(__fmaf_rn(s[2 * i], unit, -base)),
                        mma_exp2(__fmaf_rn(s[2 * i + 1], unit, -base)));
    }
}

/* P V: adds 16 keys' weights (from row `key` of v on) times N * 8 columns of v from piece `piece`
 * on. */
template <int WIDTH, int N>
static __device__ __forceinline__ void add_values(struct sums<N> &x, const uint32_t w[4], bf16 *v,
                                                  int key, int piece) {
    MMA_UNROLL
    for (int n = 0; n < N; n += 2) {
        uint32_t b[4];
        mma_rows<WIDTH, true>(b, v, key, piece + n);
        mma_m16n8k16(x.o[n], w, b[0], b[1]);
        mma_m16n8k16(x.o[n + 1], w, b[2], b[3]);
    }
    mma_m16n8k16(x.l, w, MMA_ONES, MMA_ONES);
}

/* Factors of a total and of the next chunk, whose maxima are m and part; m rises. */
static __device__ __forceinline__ void merge_factors(float by[2], float &m, float part) {
    float top = fmaxf(m, part), base = finite_max(top);
    by[0] = mma_exp2(m - base);
    by[1] = mma_exp2(part - base);
    m = top;
}
static __device__ __forceinline__ float merged(float total, float part, const float by[2]) {
    return __fmaf_rn(total, by[0], __fmul_rn(part, by[1]));
}

template <int N>
static __device__ __forceinline__ void merge_sums(struct sums<N> &total,
                                                  const struct sums<N> &part) {
    MMA_FOR(i, 2) {
        float by[2];
        merge_factors(by, total.m[i], part.m[i]);
        MMA_UNROLL
        for (int j = 2 * i; j < 2 * i + 2; j++) {
            total.l[j] = merged(total.l[j], part.l[j], by);
            MMA_FOR(n, N)
                total.o[n][j] = merged(total.o[n][j], part.o[n][j], by);
        }
    }
}

/* scale * log2(e); not 0, so that -inf stays it. */
static __device__ __forceinline__ float softmax_unit(const struct attn *a) {
    return fmaxf(a->scale * ATTN_LOG2E, 1e-36f);
}
static __device__ __forceinline__ float lse_of(float m, float l) {
    return __fmaf_rn(m, ATTN_LN2, logf(l));
}

static __device__ __forceinline__ struct bounds bounds_of(const struct attn *a,
                                                          const struct attn_rows *x, int32_t r) {
    struct bounds b;
    MMA_FOR(i, 2) {
        b.last[i] = attn_position(a, x, r + (int)threadIdx.x % CUDA_WARP / 4 + 8 * i);
        b.first[i] = attn_first(a, b.last[i]);
    }
    return b;
}

/* --- tiles ---------------------------------------------------------------------------------- */

/* One block of keys into a warp's sums. */
template <int WIDTH>
static __device__ __forceinline__ void
add_block_tile(struct sums<WIDTH / 8> &part, bf16 *q, int row, bf16 *k, bf16 *v, int32_t key0,
               bool whole, const struct bounds *see, float unit) {
    float s[ATTN_KEYS / 8][4], top[2];
    scores<WIDTH>(s, q, row, k, 0);
    if (!whole) mask(s, key0, see);
    row_max(top, s);
    rescale(part, top, unit);
    MMA_UNROLL
    for (int n = 0; n < ATTN_KEYS / 8; n += 2) {
        uint32_t w[4];
        softmax_weights(w, s[n], part.m, unit);
        softmax_weights(w + 2, s[n + 1], part.m, unit);
        add_values<WIDTH>(part, w, v, n * 8, 0);
    }
}

template <int WIDTH, bool ONE_SUM>
static __global__ void __launch_bounds__(TILE_THREADS)
    attention_tile(bf16 *__restrict__ out, float *__restrict__ lse, const bf16 *__restrict__ q,
                   const bf16 *__restrict__ k, const bf16 *__restrict__ v, struct attn a,
                   bool decode_elsewhere) {
    CUDA_SHARED(bf16, shared);
    bf16 *q_tile = shared, *stages = shared + TILE_ROWS * WIDTH;
    const int STAGE = 2 * ATTN_KEYS * WIDTH;
    struct attn_rows x =
        attn_tile_of<TILE_ROWS>(&a, gridDim.x - 1 - blockIdx.x); /* longest first */
    if (x.r0 >= x.n || (decode_elsewhere && x.n <= DECODE_ROWS_MAX)) return;
    int64_t kv_head = blockIdx.y;
    int row = (int)threadIdx.x / CUDA_WARP * 16;
    float unit = softmax_unit(&a);
    int32_t end = attn_position(&a, &x, x.r0 + TILE_ROWS - 1) + 1;
    int32_t first = attn_first(&a, attn_position(&a, &x, x.r0)) / ATTN_KEYS;
    int32_t last = (end - 1) / ATTN_KEYS;
    struct bounds see = bounds_of(&a, &x, x.r0 + row);
    int32_t seen_by_all = attn_position(&a, &x, x.r0 + row); /* by the warp's rows */
    int32_t seen_by_one = attn_position(&a, &x, x.r0 + row + 15);
    int32_t from_all = attn_first(&a, seen_by_one);
    struct sums<WIDTH / 8> total, part;
    clear_sums(total);
    clear_sums(part);
    attn_load_rows<WIDTH, TILE_ROWS>(q_tile, q, nullptr, nullptr, &a, &x, x.r0, kv_head);
    attn_load_keys<WIDTH, TILE_THREADS>(stages, stages + STAGE / 2, k, v, &a, x.seq,
                                        first * ATTN_KEYS, end, kv_head);
    mma_commit();
    for (int32_t b = first; b <= last; b++) {
        bf16 *at = stages + (b - first) % 2 * STAGE, *next = stages + (b - first + 1) % 2 * STAGE;
        int32_t key0 = b * ATTN_KEYS;
        mma_wait<0>();
        __syncthreads(); /* this block is there, and nobody is at the one before */
        if (b < last)
            attn_load_keys<WIDTH, TILE_THREADS>(next, next + STAGE / 2, k, v, &a, x.seq,
                                                key0 + ATTN_KEYS, end, kv_head);
        mma_commit();
        if (key0 <= seen_by_one)
            add_block_tile<WIDTH>(ONE_SUM ? total : part, q_tile, row, at, at + STAGE / 2, key0,
                                  key0 >= from_all && key0 + ATTN_KEYS - 1 <= seen_by_all, &see,
                                  unit);
        if (!ONE_SUM && (b % CHUNK == CHUNK - 1 || b == last)) {
            merge_sums(total, part);
            clear_sums(part);
        }
    }
    float by[2] = {1 / total.l[0], 1 / total.l[2]};
    attn_store_rows<WIDTH>(out, q_tile + row * WIDTH, total.o, by, &a, &x, x.r0 + row, kv_head);
    int lane = (int)threadIdx.x % CUDA_WARP;
    MMA_FOR(i, 2) {
        int32_t r = x.r0 + row + lane / 4 + 8 * i;
        if (lse && lane % 4 == 0 && r < x.n)
            lse[attn_row_at(&a, &x, r, kv_head)] = lse_of(total.m[i], total.l[2 * i]);
    }
}

/* --- decode --------------------------------------------------------------------------------- */

struct parts { /* of chunks: [sequence of the launch][head][query][chunk] */
    float *o;  /* [..][WIDTH] */
    float *ml; /* [..][2] */
    int32_t seq0, queries, chunks;
    int32_t blocks; /* of keys of a chunk: CHUNK, on an exact stream */
};

static __device__ __forceinline__ int64_t part_at(const struct attn *a, const struct parts *p,
                                                  int64_t seq, int64_t head, int64_t query,
                                                  int64_t chunk) {
    return (((seq - p->seq0) * a->heads + head) * p->queries + query) * p->chunks + chunk;
}

struct chunks { /* that a sequence's queries see */
    int32_t first, last;
};
static __device__ __forceinline__ struct chunks
chunks_of(const struct attn *a, const struct attn_rows *x, const struct parts *p) {
    const int32_t keys = p->blocks * ATTN_KEYS;
    struct chunks c = {attn_first(a, x->position) / keys, attn_position(a, x, x->n - 1) / keys};
    return c;
}

/* The decode kernel's shared memory. */
template <int WIDTH> struct decode_shared {
    bf16 q[DECODE_ROWS * WIDTH];
    bf16 stage[2][2][ATTN_KEYS * WIDTH]; /* keys, values */
    bf16 w[DECODE_ROWS * ATTN_KEYS];
    float top[DECODE_THREADS / CUDA_WARP][DECODE_ROWS];
};

/* One block of keys: each warp the scores of 16 keys, then its columns of the sums. */
template <int WIDTH>
static __device__ __forceinline__ void
add_block_split(struct sums<WIDTH / 32> &part, struct decode_shared<WIDTH> *m, int stage,
                int32_t key0, const struct bounds *see, float unit) {
    const int WARPS = DECODE_THREADS / CUDA_WARP;
    int warp = (int)threadIdx.x / CUDA_WARP, lane = (int)threadIdx.x % CUDA_WARP, g = lane / 4;
    float s[2][4], top[2];
    scores<WIDTH>(s, m->q, 0, m->stage[stage][0], warp * 16);
    mask(s, key0 + warp * 16, see);
    row_max(top, s);
    if (lane % 4 == 0)
        for (int i = 0; i < 2; i++)
            m->top[warp][g + 8 * i] = top[i];
    __syncthreads();
    for (int i = 0; i < 2; i++)
        for (int w = 0; w < WARPS; w++)
            top[i] = fmaxf(top[i], m->top[w][g + 8 * i]);
    rescale(part, top, unit);
    MMA_FOR(n, 2) {
        uint32_t w[2];
        softmax_weights(w, s[n], part.m, unit);
        MMA_FOR(i, 2)
            mma_put(mma_piece<ATTN_KEYS>(m->w, g + 8 * i, warp * 2 + n) + lane % 4 * 2, w[i]);
    }
    __syncthreads();
    MMA_UNROLL
    for (int n = 0; n < ATTN_KEYS / 8; n += 2) {
        uint32_t w[4];
        mma_rows<ATTN_KEYS, false>(w, m->w, 0, n);
        add_values<WIDTH>(part, w, m->stage[stage][1], n * 8, warp * (WIDTH / 32));
    }
}

/* What a block of the decode kernel has: the chunk's sums, or the row's if it is the only one. */
template <int WIDTH>
static __device__ __forceinline__ void
store_part(const struct sums<WIDTH / 32> &part, bf16 *out, float *lse, const struct parts *p,
           const struct attn *a, const struct attn_rows *x, int64_t kv_head) {
    int warp = (int)threadIdx.x / CUDA_WARP, lane = (int)threadIdx.x % CUDA_WARP;
    MMA_FOR(i, 2) {
        int32_t r = x->r0 + lane / 4 + 8 * i;
        if (r >= x->n) continue;
        int64_t at = p->chunks == 1 ? attn_row_at(a, x, r, kv_head)
                                    : part_at(a, p, x->seq, kv_head * x->share + r % x->share,
                                              r / x->share, blockIdx.z);
        float by = 1 / part.l[2 * i];
        MMA_FOR(n, WIDTH / 32) {
            int d = (warp * (WIDTH / 32) + n) * 8 + lane % 4 * 2;
            float low = part.o[n][2 * i], high = part.o[n][2 * i + 1];
            if (p->chunks > 1)
                *reinterpret_cast<float2 *>(p->o + at * WIDTH + d) = float2{low, high};
            else if (d < a->width)
                mma_put(out + at * a->width + d, mma_pack(__fadd_rn(__fmul_rn(low, by), 0.0f),
                                                          __fadd_rn(__fmul_rn(high, by), 0.0f)));
        }
        if (warp > 0 || lane % 4 > 0) continue;
        if (p->chunks > 1)
            *reinterpret_cast<float2 *>(p->ml + at * 2) = float2{part.m[i], part.l[2 * i]};
        else if (lse)
            lse[at] = lse_of(part.m[i], part.l[2 * i]);
    }
}

template <int WIDTH>
static __global__ void __launch_bounds__(DECODE_THREADS)
    attention_decode(bf16 *__restrict__ out, float *__restrict__ lse, const bf16 *__restrict__ q,
                     const bf16 *__restrict__ k, const bf16 *__restrict__ v, struct attn a,
                     struct parts p) {
    CUDA_SHARED(struct decode_shared<WIDTH>, m);
    struct attn_rows x = attn_rows_of(&a, p.seq0 + (int32_t)blockIdx.x);
    int64_t kv_head = blockIdx.y % a.kv_heads;
    x.r0 = (int32_t)(blockIdx.y / a.kv_heads) * DECODE_ROWS;
    if (x.n > DECODE_ROWS_MAX || x.r0 >= x.n) return;
    struct chunks c = chunks_of(&a, &x, &p);
    int32_t chunk = c.first + (int32_t)blockIdx.z, end = attn_position(&a, &x, x.n - 1) + 1;
    if (chunk > c.last) return;
    int32_t first = attn_first(&a, x.position) / ATTN_KEYS, last = (end - 1) / ATTN_KEYS;
    first = max(first, chunk * p.blocks);
    last = min(last, chunk * p.blocks + p.blocks - 1);
    float unit = softmax_unit(&a);
    struct bounds see = bounds_of(&a, &x, x.r0);
    struct sums<WIDTH / 32> part;
    clear_sums(part);
    attn_load_rows<WIDTH, DECODE_ROWS>(m->q, q, nullptr, nullptr, &a, &x, x.r0, kv_head);
    attn_load_keys<WIDTH, DECODE_THREADS>(m->stage[0][0], m->stage[0][1], k, v, &a, x.seq,
                                          first * ATTN_KEYS, end, kv_head);
    mma_commit();
    for (int32_t b = first; b <= last; b++) {
        int stage = (b - first) % 2;
        mma_wait<0>();
        __syncthreads(); /* this block is there, and nobody is at the one before */
        if (b < last)
            attn_load_keys<WIDTH, DECODE_THREADS>(m->stage[1 - stage][0], m->stage[1 - stage][1], k,
                                                  v, &a, x.seq, (b + 1) * ATTN_KEYS, end, kv_head);
        mma_commit();
        add_block_split<WIDTH>(part, m, stage, b * ATTN_KEYS, &see, unit);
    }
    if (p.chunks == 1) {
        struct sums<WIDTH / 32> total;
        clear_sums(total);
        merge_sums(total, part);
        part = total;
    }
    store_part<WIDTH>(part, out, lse, &p, &a, &x, kv_head);
}

/* grid sequences x heads x queries, a thread a column: the chunks in order. */
template <int WIDTH>
static __global__ void __launch_bounds__(WIDTH)
    attention_merge(bf16 *__restrict__ out, float *__restrict__ lse, struct attn a,
                    struct parts p) {
    struct attn_rows x = attn_rows_of(&a, p.seq0 + (int32_t)blockIdx.x);
    int64_t head = blockIdx.y, query = blockIdx.z, d = threadIdx.x;
    if (x.n > DECODE_ROWS_MAX || query * x.share >= x.n) return;
    struct chunks c = chunks_of(&a, &x, &p);
    int64_t at = part_at(&a, &p, x.seq, head, query, 0);
    float o = 0, l = 0, m = -INFINITY;
    for (int32_t i = 0; i <= c.last - c.first && i < p.chunks; i++) {
        float by[2];
        merge_factors(by, m, p.ml[(at + i) * 2]);
        l = merged(l, p.ml[(at + i) * 2 + 1], by);
        o = merged(o, p.o[(at + i) * WIDTH + d], by);
    }
    int64_t row = (x.from + query) * a.heads + head;
    if (d < a.width) cuda_set(out + row * a.width + d, __fadd_rn(__fmul_rn(o, 1 / l), 0.0f));
    if (lse && d == 0) lse[row] = lse_of(m, l);
}

/* --- launchers ------------------------------------------------------------------------------ */

struct forward { /* a call, typed */
    bf16 *out;
    float *lse;
    const bf16 *q, *k, *v;
    int64_t rows;
    int32_t q_max, kv_max;
};

static int64_t div_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t part_floats(int64_t width) {
    return width + 2;
}

size_t attention_scratch(const struct kern_limits *l) {
    int64_t chunks = div_up(l->kv_max, CHUNK * ATTN_KEYS);
    int64_t one = l->heads * chunks * part_floats(128) * (int64_t)sizeof(float);
    int64_t all = one * l->rows;
    return (size_t)(one > (int64_t)PARTS_MAX ? one : min(all, (int64_t)PARTS_MAX));
}

template <int WIDTH>
static int launch_tiles(ops_s s, const struct forward *f, const struct attn *a,
                        bool decode_elsewhere) {
    const size_t BYTES = (size_t)(TILE_ROWS + 4 * ATTN_KEYS) * WIDTH * sizeof(bf16);
    auto *kernel = s->inexact ? attention_tile<WIDTH, true> : attention_tile<WIDTH, false>;
    CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES));
    dim3 grid((unsigned)attn_tiles(a, f->rows, TILE_ROWS), (unsigned)a->kv_heads);
    CUDA_LAUNCH(kernel, grid, TILE_THREADS, BYTES, s, f->out, f->lse, f->q, f->k, f->v, *a,
                decode_elsewhere);
    return 0;
}

/* Sequences seq0.. of the call, as many as p->queries and p->chunks were sized for. */
template <int WIDTH>
static int launch_decode(ops_s s, const struct forward *f, const struct attn *a,
                         const struct parts *p, int64_t seqs) {
    int64_t share = a->heads / a->kv_heads, groups = div_up(p->queries * share, DECODE_ROWS);
    auto *kernel = attention_decode<WIDTH>;
    auto *merge_kernel = attention_merge<WIDTH>;
    const size_t BYTES = sizeof(struct decode_shared<WIDTH>);
    CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES));
    dim3 grid((unsigned)seqs, (unsigned)(a->kv_heads * groups), (unsigned)p->chunks);
    CUDA_LAUNCH(kernel, grid, DECODE_THREADS, BYTES, s, f->out, f->lse, f->q, f->k, f->v, *a, *p);
    dim3 rows((unsigned)seqs, (unsigned)a->heads, (unsigned)p->queries);
    if (p->chunks > 1) CUDA_LAUNCH(merge_kernel, rows, WIDTH, 0, s, f->out, f->lse, *a, *p);
    return 0;
}

/* Keys that decode may see from some key on; the parts of a sequence. */
template <int WIDTH>
static size_t size_parts(struct parts *p, const struct forward *f, const struct attn *a) {
    int64_t keys = f->kv_max, chunk = (int64_t)p->blocks * ATTN_KEYS;
    if (a->window && keys > a->window + p->queries + chunk) /* from any key on */
        keys = a->window + p->queries + chunk;
    p->chunks = (int32_t)div_up(keys, chunk);
    return p->chunks > 1
               ? (size_t)(a->heads * p->queries * p->chunks * part_floats(WIDTH)) * sizeof(float)
               : 0;
}

/* Blocks of keys of a chunk, so that the launch is about as many thread blocks as run at once. */
template <int WIDTH>
static int fill_device(struct parts *p, ops_s s, const struct forward *f, const struct attn *a) {
    int device = 0, processors = 0, each = 0;
    auto *kernel = attention_decode<WIDTH>;
    const size_t BYTES = sizeof(struct decode_shared<WIDTH>);
    CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES));
    CUDA_TRY(cudaGetDevice(&device));
    CUDA_TRY(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    CUDA_TRY(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, DECODE_THREADS, BYTES));
    int64_t share = a->heads / a->kv_heads, blocks = div_up(f->kv_max, ATTN_KEYS);
    int64_t whole = a->n_seqs * a->kv_heads * div_up(p->queries * share, DECODE_ROWS);
    int64_t wanted = (int64_t)processors * (each > 0 ? each : 1) / (whole > 0 ? whole : 1);
    p->blocks = (int32_t)div_up(blocks, wanted < 1 ? 1 : min(wanted, blocks));
    while (size_parts<WIDTH>(p, f, a) > s->bytes)
        p->blocks *= 2;
    return 0;
}

/* Decode where all sequences are short and their parts fit, tiles where none is; else both, each
 * kernel leaving the other's sequences alone. */
template <int WIDTH>
static int launch_forward(ops_s s, const struct forward *f, const struct attn *a) {
    int64_t share = a->heads / a->kv_heads;
    bool all_decode = f->q_max * share <= DECODE_ROWS_MAX,
         equal = f->rows == (int64_t)a->n_seqs * f->q_max;
    struct parts p = {};
    p.queries = (int32_t)min((int64_t)f->q_max, DECODE_ROWS_MAX / share);
    p.blocks = CHUNK;
    if (p.queries == 0 || (equal && !all_decode)) return launch_tiles<WIDTH>(s, f, a, false);
    if (s->inexact && f->kv_max > 0) TRY(fill_device<WIDTH>(&p, s, f, a));
    size_t each = size_parts<WIDTH>(&p, f, a);
    int64_t group = each ? (int64_t)(s->bytes / each) : a->n_seqs;
    if (group > a->n_seqs) group = a->n_seqs;
    if (group == 0) return launch_tiles<WIDTH>(s, f, a, false);
    p.o = reinterpret_cast<float *>(s->scratch);
    p.ml = p.o + (size_t)(a->heads * p.queries * p.chunks) * (size_t)(group * WIDTH);
    for (; p.seq0 < a->n_seqs; p.seq0 += (int32_t)group)
        TRY(launch_decode<WIDTH>(s, f, a, &p, min(group, (int64_t)a->n_seqs - p.seq0)));
    return all_decode ? 0 : launch_tiles<WIDTH>(s, f, a, true);
}

int attention_fwd(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                  const struct attn *a, int32_t q_max, int32_t kv_max) {
    struct forward f = {cuda_data<bf16>(out),
                        cuda_data<float>(lse),
                        cuda_data<bf16>(q),
                        cuda_data<bf16>(pool_k),
                        cuda_data<bf16>(pool_v),
                        q->dim[0],
                        q_max,
                        kv_max};
    return a->width <= 64 ? launch_forward<64>(s, &f, a) : launch_forward<128>(s, &f, a);
}
