/* attention_bwd.cu - attention's reverse in bf16 on tensor cores; formulas in
 * kernels/ref/attention.c. Two kernels that each compute the weights anew from q, k and lse, so
 * that every gradient is summed by one block in one order: no atomics, the same bits every time,
 * for two products more than a kernel that adds gq up from all sides.
 *
 * gq: grid tiles x key heads as in attention_fwd.cu, 8 warps of 16 rows, keys in blocks from the
 * first that the tile sees. Scores and gout v^T stand in registers as two tiles of 16 x 64; what
 * they become is, rounded, the left side of the product with k.
 *
 * gk and gv: a block owns SLOTS neighbouring slots of the pool (pages of any size) and a key head,
 * 4 warps of 16 slots, and walks the sequences that hold them in order, and of each the packed
 * rows that see them in tiles of ROWS: so pages that many sequences share (a common prompt) need
 * nothing special. Everything is computed transposed, slots down and rows across: the weights and
 * their gradients are then left sides of the products with gout and q without leaving the
 * registers, and the sums, 16 x WIDTH twice, never leave them until they are added to the pools.
 * A block reads its keys and values once. It is as long as all the rows that see its slots: a
 * prefix of few pages under many sequences makes few and long blocks.
 *
 * A sequence holds a page at most once. As in the forward kernel 16 rows a warp make shared memory
 * the bound: a product a read. Seven products in all where gq added up from all sides would need
 * five. sm_90a, WIDTH 128: gq 246 registers and 128 KiB, one block of 8 warps a multiprocessor; gk
 * and gv 252 registers and 65 KiB, two blocks of 4 warps (registers; on an A100 shared memory too).
 * WIDTH 64: 171 and 64 KiB, 166 and 33 KiB, one and three blocks. Nothing is spilled. */
#include "kernels/cuda/attention.h"

static const int TILE = 128, TILE_THREADS = TILE / 16 * CUDA_WARP; /* gq */
static const int SLOTS = 64, ROWS = 32, KEYS_THREADS = SLOTS / 16 * CUDA_WARP;

struct reverse_call { /* typed; t = gout . out of each row and head */
    bf16 *gq;
    float *gpool_k, *gpool_v;
    const bf16 *gout, *out, *q, *k, *v;
    const float *lse;
    float *t;
};

static __device__ __forceinline__ float unit_of(const struct attn *a) {
    return a->scale * ATTN_LOG2E;
}

template <int N> static __device__ __forceinline__ void clear(float (&x)[N][4]) {
    MMA_FOR(n, N)
        MMA_FOR(i, 4)
            x[n][i] = 0;
}

/* x = a b^T: 16 rows of a from row `row` on, the first N * 8 rows of b. */
template <int WIDTH, int N>
static __device__ __forceinline__ void tile_product(float (&x)[N][4], bf16 *a, int row, bf16 *b) {
    clear(x);
    MMA_FOR(d, WIDTH / 16) {
        uint32_t left[4], right[4];
        mma_rows<WIDTH, false>(left, a, row, 2 * d);
        MMA_UNROLL
        for (int n = 0; n < N; n += 2) {
            mma_columns<WIDTH>(right, b, n * 8, 2 * d);
            mma_m16n8k16(x[n], left, right[0], right[1]);
            mma_m16n8k16(x[n + 1], left, right[2], right[3]);
        }
    }
}

/* sum += x b: x rounded, b [N * 8, WIDTH] */
template <int WIDTH, int N>
static __device__ __forceinline__ void add_product(float (&sum)[WIDTH / 8][4],
                                                   const float (&x)[N][4], bf16 *b) {
    MMA_UNROLL
    for (int n = 0; n < N; n += 2) {
        uint32_t left[4] = {mma_pack(x[n][0], x[n][1]), mma_pack(x[n][2], x[n][3]),
                            mma_pack(x[n + 1][0], x[n + 1][1]), mma_pack(x[n + 1][2], x[n + 1][3])};
        MMA_UNROLL
        for (int d = 0; d < WIDTH / 8; d += 2) {
            uint32_t right[4];
            mma_rows<WIDTH, true>(right, b, n * 8, d);
            mma_m16n8k16(sum[d], left, right[0], right[1]);
            mma_m16n8k16(sum[d + 1], left, right[2], right[3]);
        }
    }
}

/* t[row, head] = gout . out; a warp each. */
static __global__ void __launch_bounds__(CUDA_BLOCK)
    attention_bwd_dot(struct reverse_call c, int64_t n, int64_t width) {
    int64_t i = (int64_t)blockIdx.x * CUDA_WARPS + threadIdx.x / CUDA_WARP;
    if (i >= n) return;
    float sum = 0;
    for (int64_t d = threadIdx.x % CUDA_WARP; d < width; d += CUDA_WARP)
        sum = fmaf(cuda_get(c.gout + i * width + d), cuda_get(c.out + i * width + d), sum);
    sum = cuda_warp_reduce<cuda_sum>(sum);
    if (threadIdx.x % CUDA_WARP == 0) c.t[i] = sum;
}

/* --- gq ------------------------------------------------------------------------------------- */

struct lane_rows { /* rows g and g + 8 of a lane */
    int32_t first[2], last[2];
    float lse2[2], t[2]; /* lse * log2(e); gout . out */
};

static __device__ __forceinline__ struct lane_rows lane_rows_of(const struct reverse_call *c,
                                                                const struct attn *a,
                                                                const struct attn_rows *x,
                                                                int32_t r0, int64_t kv_head) {
    struct lane_rows l;
    MMA_FOR(i, 2) {
        int32_t r = r0 + (int)threadIdx.x % CUDA_WARP / 4 + 8 * i;
        int64_t at = attn_row_at(a, x, min(r, x->n - 1), kv_head);
        l.last[i] = attn_position(a, x, r);
        l.first[i] = attn_first(a, l.last[i]);
        l.lse2[i] = c->lse[at] * ATTN_LOG2E;
        l.t[i] = c->t[at];
    }
    return l;
}

/* Scores s and gout v^T (gp) of a block of keys become its weights' gradients, in s. */
static __device__ __forceinline__ void score_gradient(float (&s)[ATTN_KEYS / 8][4],
                                                      const float (&gp)[ATTN_KEYS / 8][4],
                                                      const struct lane_rows *l, int32_t key0,
                                                      bool whole, float unit) {
    int32_t mine = key0 + (int32_t)threadIdx.x % 4 * 2;
    MMA_FOR(n, ATTN_KEYS / 8)
        MMA_FOR(i, 4) {
            int32_t key = mine + n * 8 + i % 2;
            float p = mma_exp2(fmaf(s[n][i], unit, -l->lse2[i / 2]));
            bool seen = whole || (key >= l->first[i / 2] && key <= l->last[i / 2]);
            s[n][i] = seen ? p * (gp[n][i] - l->t[i / 2]) : 0;
        }
}

template <int WIDTH>
static __global__ void __launch_bounds__(TILE_THREADS)
    attention_bwd_tile(struct reverse_call c, struct attn a) {
    CUDA_SHARED(bf16, shared);
    bf16 *q_tile = shared, *g_tile = shared + TILE * WIDTH, *stages = g_tile + TILE * WIDTH;
    const int STAGE = 2 * ATTN_KEYS * WIDTH;
    struct attn_rows x = attn_tile_of<TILE>(&a, gridDim.x - 1 - blockIdx.x); /* longest first */
    if (x.r0 >= x.n) return;
    int64_t kv_head = blockIdx.y;
    int row = (int)threadIdx.x / CUDA_WARP * 16;
    float unit = unit_of(&a);
    int32_t end = attn_position(&a, &x, x.r0 + TILE - 1) + 1;
    int32_t first = attn_first(&a, attn_position(&a, &x, x.r0)) / ATTN_KEYS;
    int32_t last = (end - 1) / ATTN_KEYS, seen_by_one = attn_position(&a, &x, x.r0 + row + 15);
    int32_t seen_by_all = attn_position(&a, &x, x.r0 + row);
    int32_t from_all = attn_first(&a, seen_by_one);
    struct lane_rows l = lane_rows_of(&c, &a, &x, x.r0 + row, kv_head);
    float sum[WIDTH / 8][4];
    clear(sum);
    attn_load_rows<WIDTH, TILE>(q_tile, c.q, g_tile, c.gout, &a, &x, x.r0, kv_head);
    attn_load_keys<WIDTH, TILE_THREADS>(stages, stages + STAGE / 2, c.k, c.v, &a, x.seq,
                                        first * ATTN_KEYS, end, kv_head);
    mma_commit();
    for (int32_t b = first; b <= last; b++) {
        bf16 *at = stages + (b - first) % 2 * STAGE, *next = stages + (b - first + 1) % 2 * STAGE;
        int32_t key0 = b * ATTN_KEYS;
        mma_wait<0>();
        __syncthreads(); /* this block is there, and nobody is at the one before */
        if (b < last)
            attn_load_keys<WIDTH, TILE_THREADS>(next, next + STAGE / 2, c.k, c.v, &a, x.seq,
                                                key0 + ATTN_KEYS, end, kv_head);
        mma_commit();
        if (key0 > seen_by_one) continue;
        float s[ATTN_KEYS / 8][4], gp[ATTN_KEYS / 8][4];
        tile_product<WIDTH>(s, q_tile, row, at);
        tile_product<WIDTH>(gp, g_tile, row, at + STAGE / 2);
        if (key0 >= from_all && key0 + ATTN_KEYS - 1 <= seen_by_all)
            score_gradient(s, gp, &l, key0, true, unit);
        else
            score_gradient(s, gp, &l, key0, false, unit);
        add_product<WIDTH>(sum, s, at);
    }
    float by[2] = {a.scale, a.scale};
    attn_store_rows<WIDTH>(c.gq, q_tile + row * WIDTH, sum, by, &a, &x, x.r0 + row, kv_head);
}

/* --- gk and gv ------------------------------------------------------------------------------ */

template <int WIDTH> struct owner { /* the shared memory of a block */
    bf16 k[SLOTS * WIDTH], v[SLOTS * WIDTH];
    bf16 rows[2][2][ROWS * WIDTH]; /* q, gout */
    float lse[2][ROWS], t[2][ROWS];
    int32_t position[2][ROWS]; /* -1: no row */
    int32_t key[SLOTS];        /* of the slots in the sequence; -1: not in it */
};

/* Begins to load the block's slots; zeros beyond the pool. */
template <int WIDTH>
static __device__ __forceinline__ void
load_slots(struct owner<WIDTH> *m, const struct reverse_call *c, const struct attn *a,
           int64_t slot0, int64_t kv_head) {
    const int PIECES = WIDTH / 8;
    for (int i = (int)threadIdx.x; i < SLOTS * PIECES; i += KEYS_THREADS) {
        int r = i / PIECES, p = i % PIECES;
        bool there = slot0 + r < a->n_pages * a->page && p * 8 < a->width;
        int64_t at = there ? ((slot0 + r) * a->kv_heads + kv_head) * a->width + p * 8 : 0;
        mma_copy(mma_piece<WIDTH>(m->k, r, p), c->k + at, there);
        mma_copy(mma_piece<WIDTH>(m->v, r, p), c->v + at, there);
    }
}

/* Whether the sequence holds one of the pages; every warp finds out for itself. */
static __device__ __forceinline__ bool tile_holds(const struct attn *a, const struct attn_rows *x,
                                                  int64_t page0, int64_t page1) {
    int64_t n = x->n > 0 ? (attn_position(a, x, x->n - 1) + 1 + a->page - 1) / a->page : 0;
    for (int64_t i = threadIdx.x % CUDA_WARP; i - threadIdx.x % CUDA_WARP < n; i += CUDA_WARP) {
        int64_t page = i < n ? a->pages[x->seq * a->pages_max + i] : -1;
        if (__any_sync(0xffffffffu, page >= page0 && page <= page1)) return true;
    }
    return false;
}

/* Which key of the sequence each slot is. */
template <int WIDTH>
static __device__ __forceinline__ void find_keys(struct owner<WIDTH> *m, const struct attn *a,
                                                 const struct attn_rows *x, int64_t slot0) {
    int32_t len = attn_position(a, x, x->n - 1) + 1;
    for (int i = (int)threadIdx.x; i < SLOTS; i += KEYS_THREADS)
        m->key[i] = -1;
    __syncthreads();
    for (int64_t i = threadIdx.x; i * a->page < len; i += KEYS_THREADS) {
        int64_t at = a->pages[x->seq * a->pages_max + i] * (int64_t)a->page - slot0;
        int64_t to = min(at + min((int64_t)a->page, len - i * a->page), (int64_t)SLOTS);
        for (int64_t j = at < 0 ? 0 : at; j < to; j++)
            m->key[j] = (int32_t)(i * a->page + j - at);
    }
    __syncthreads();
}

/* Packed rows [from, to) that see one of the keys. */
struct range {
    int32_t from, to;
};
template <int WIDTH>
static __device__ __forceinline__ struct range
rows_that_see(const struct owner<WIDTH> *m, const struct attn *a, const struct attn_rows *x) {
    int32_t low = INT32_MAX, high = -1;
    for (int i = 0; i < SLOTS; i++) {
        if (m->key[i] < 0) continue;
        low = min(low, m->key[i]);
        high = max(high, m->key[i]);
    }
    int32_t first = max(low - x->position, 0), last = attn_div(&a->by_share, x->n);
    if (a->window) last = (int32_t)min((int64_t)last, (int64_t)high + a->window - x->position);
    struct range r = {high < 0 ? 0 : first * x->share, high < 0 ? 0 : last * x->share};
    return r;
}

/* Begins to load ROWS packed rows from r0 on, those before `to`. */
template <int WIDTH>
static __device__ __forceinline__ void
load_rows(struct owner<WIDTH> *m, int stage, const struct reverse_call *c, const struct attn *a,
          const struct attn_rows *x, int32_t r0, int64_t kv_head) {
    attn_load_rows<WIDTH, ROWS>(m->rows[stage][0], c->q, m->rows[stage][1], c->gout, a, x, r0,
                                kv_head);
    for (int i = (int)threadIdx.x; i < ROWS; i += KEYS_THREADS) {
        bool there = r0 + i < x->n;
        int64_t at = there ? attn_row_at(a, x, r0 + i, kv_head) : 0;
        m->position[stage][i] = there ? attn_position(a, x, r0 + i) : -1;
        mma_copy_float(&m->lse[stage][i], c->lse + at, there);
        mma_copy_float(&m->t[stage][i], c->t + at, there);
    }
}

struct lane_slots { /* positions of the rows that see slots g and g + 8 of a lane */
    int32_t first[2], last[2];
};

/* Scores s and v gout^T (gp), slots down and rows across, become weights (s) and their gradients
 * (gp). */
template <int WIDTH>
static __device__ __forceinline__ void
weights_and_gradient(float (&s)[ROWS / 8][4], float (&gp)[ROWS / 8][4],
                     const struct owner<WIDTH> *m, int stage, const struct lane_slots *l,
                     float unit) {
    MMA_FOR(n, ROWS / 8)
        MMA_FOR(j, 2) {
            int r = n * 8 + (int)threadIdx.x % 4 * 2 + j;
            float lse2 = m->lse[stage][r] * ATTN_LOG2E, t = m->t[stage][r];
            int32_t position = m->position[stage][r];
            MMA_FOR(i, 2) {
                float p = mma_exp2(fmaf(s[n][2 * i + j], unit, -lse2));
                p = position >= l->first[i] && position <= l->last[i] ? p : 0;
                s[n][2 * i + j] = p;
                gp[n][2 * i + j] = p * (gp[n][2 * i + j] - t);
            }
        }
}

/* Adds up what a sequence's rows give to the block's slots. The next sequence's find_keys has the
 * barriers that keep its rows from being loaded early; its keys overwrite these only where no row
 * sees any, or after the loop's first barrier. */
template <int WIDTH>
static __device__ __forceinline__ void
add_sequence(float (&gk)[WIDTH / 8][4], float (&gv)[WIDTH / 8][4], struct owner<WIDTH> *m,
             const struct reverse_call *c, const struct attn *a, const struct attn_rows *x,
             int64_t kv_head) {
    struct range see = rows_that_see(m, a, x);
    int row = (int)threadIdx.x / CUDA_WARP * 16, g = (int)threadIdx.x % CUDA_WARP / 4;
    struct lane_slots l;
    for (int i = 0; i < 2; i++) {
        int32_t key = m->key[row + g + 8 * i];
        l.first[i] = key < 0 ? INT32_MAX : key;
        l.last[i] = a->window ? min(key, INT32_MAX - a->window) + a->window - 1 : INT32_MAX;
    }

    float unit = unit_of(a);
    if (see.from < see.to) load_rows(m, 0, c, a, x, see.from, kv_head);
    mma_commit();
    for (int32_t r = see.from, stage = 0; r < see.to; r += ROWS, stage = 1 - stage) {
        mma_wait<0>();
        __syncthreads(); /* these rows are there, and nobody is at the ones before */
        if (r + ROWS < see.to) load_rows(m, 1 - stage, c, a, x, r + ROWS, kv_head);
        mma_commit();
        float s[ROWS / 8][4], gp[ROWS / 8][4];
        tile_product<WIDTH>(s, m->k, row, m->rows[stage][0]);
        tile_product<WIDTH>(gp, m->v, row, m->rows[stage][1]);
        weights_and_gradient(s, gp, m, stage, &l, unit);
        add_product<WIDTH>(gv, s, m->rows[stage][1]);
        add_product<WIDTH>(gk, gp, m->rows[stage][0]);
    }
}

template <int WIDTH>
static __device__ __forceinline__ void add_to_pool(float *pool, const float (&g)[WIDTH / 8][4],
                                                   float by, const struct attn *a, int64_t slot0,
                                                   int64_t kv_head) {
    int lane = (int)threadIdx.x % CUDA_WARP;
    MMA_FOR(i, 2) {
        int64_t slot = slot0 + (int)threadIdx.x / CUDA_WARP * 16 + lane / 4 + 8 * i;
        float *at = pool + (slot * a->kv_heads + kv_head) * a->width;
        MMA_FOR(n, WIDTH / 8) {
            int d = n * 8 + lane % 4 * 2;
            if (d >= a->width || slot >= a->n_pages * a->page) continue;
            float2 *sum = reinterpret_cast<float2 *>(at + d);
            sum->x = fmaf(g[n][2 * i], by, sum->x);
            sum->y = fmaf(g[n][2 * i + 1], by, sum->y);
        }
    }
}

/* Gradients of SLOTS keys and values of one key head: of all sequences that hold them, in order. */
template <int WIDTH>
static __global__ void __launch_bounds__(KEYS_THREADS)
    attention_bwd_slots(struct reverse_call c, struct attn a) {
    CUDA_SHARED(struct owner<WIDTH>, m);
    int64_t slot0 = (int64_t)blockIdx.x * SLOTS, kv_head = blockIdx.y;
    int64_t page0 = slot0 / a.page, page1 = (slot0 + SLOTS - 1) / a.page;
    float gk[WIDTH / 8][4], gv[WIDTH / 8][4];
    bool used = false;
    clear(gk);
    clear(gv);
    for (int32_t s = 0; s < a.n_seqs; s++) {
        struct attn_rows x = attn_rows_of(&a, s);
        if (!tile_holds(&a, &x, page0, page1)) continue;
        if (!used) load_slots(m, &c, &a, slot0, kv_head);
        used = true;
        find_keys(m, &a, &x, slot0);
        add_sequence(gk, gv, m, &c, &a, &x, kv_head);
    }
    if (!used) return;
    mma_wait<0>();
    add_to_pool<WIDTH>(c.gpool_k, gk, a.scale, &a, slot0, kv_head);
    add_to_pool<WIDTH>(c.gpool_v, gv, 1, &a, slot0, kv_head);
}

/* --- launchers ------------------------------------------------------------------------------ */

template <int WIDTH>
static int launch(ops_s s, const struct reverse_call *c, const struct attn *a, int64_t rows) {
    const size_t TILE_BYTES = (size_t)(2 * TILE + 4 * ATTN_KEYS) * WIDTH * sizeof(bf16);
    const size_t KEYS_BYTES = sizeof(struct owner<WIDTH>);
    auto *tile = attention_bwd_tile<WIDTH>;
    auto *slots = attention_bwd_slots<WIDTH>;
    CUDA_TRY(cudaFuncSetAttribute(tile, cudaFuncAttributeMaxDynamicSharedMemorySize, TILE_BYTES));
    CUDA_TRY(cudaFuncSetAttribute(slots, cudaFuncAttributeMaxDynamicSharedMemorySize, KEYS_BYTES));
    int64_t n = rows * a->heads, blocks = (n + CUDA_WARPS - 1) / CUDA_WARPS;
    CUDA_LAUNCH(attention_bwd_dot, (unsigned)blocks, CUDA_BLOCK, 0, s, *c, n, a->width);
    dim3 tiles((unsigned)attn_tiles(a, rows, TILE), (unsigned)a->kv_heads);
    CUDA_LAUNCH(tile, tiles, TILE_THREADS, TILE_BYTES, s, *c, *a);
    dim3 owners((unsigned)((a->n_pages * a->page + SLOTS - 1) / SLOTS), (unsigned)a->kv_heads);
    CUDA_LAUNCH(slots, owners, KEYS_THREADS, KEYS_BYTES, s, *c, *a);
    return 0;
}

int attention_bwd(ops_s s, const struct attn_reverse *x, const struct attn *a) {
    void *memory = nullptr;
    int64_t rows = x->q->dim[0];
    TRY(cuda_scratch(&memory, s, "attention_bwd", (size_t)(rows * a->heads) * sizeof(float)));
    struct reverse_call c = {cuda_data<bf16>(x->gq),       cuda_data<float>(x->gpool_k),
                             cuda_data<float>(x->gpool_v), cuda_data<bf16>(x->gout),
                             cuda_data<bf16>(x->out),      cuda_data<bf16>(x->q),
                             cuda_data<bf16>(x->pool_k),   cuda_data<bf16>(x->pool_v),
                             cuda_data<float>(x->lse),     static_cast<float *>(memory)};
    return a->width <= 64 ? launch<64>(s, &c, a, rows) : launch<128>(s, &c, a, rows);
}
