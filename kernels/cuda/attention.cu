/* attention.cu - causal attention over paged keys and values, and its reverse; formulas in
 * kernels/ref/attention.c. The entries, and the kernels without tensor cores: f32, and bf16 of odd
 * head widths (see is_fast).
 *
 * Forward: one block a (row, query head). Keys are walked in tiles of ATTN_TILE from key 0 on,
 * whatever the row's position, with the running maximum and sum of online softmax: the bits depend
 * on the row's own keys alone (I6). Reverse: gq by a block a (row, head) in the same walk; gK and
 * gV by one warp a (pool slot, key head) that adds up over the sequences that hold the slot's page,
 * in order, and their rows, in order: no atomics, shared pages included. */
#include "kernels/cuda/attention.h"

static const int ATTN_TILE = 64, ATTN_BLOCK = 128, ATTN_WARPS = ATTN_BLOCK / CUDA_WARP;
static const int ATTN_WIDTH = 256;                    /* widest head */
static const int ATTN_EACH = ATTN_WIDTH / ATTN_BLOCK; /* elements of a head a thread holds */
static const int ATTN_LANE = ATTN_WIDTH / CUDA_WARP;  /* and a lane, where a warp holds it */

struct span { /* the keys that a row sees */
    int64_t seq, first, last;
};

/* Which sequence a row is of: the last whose rows start at or before it and that has rows. */
static __device__ struct span span_of(const struct attn *a, int64_t row) {
    int32_t lo = 0, hi = a->n_seqs - 1;
    while (lo < hi) {
        int32_t mid = (lo + hi + 1) / 2;
        if (a->q_start[mid] <= row)
            lo = mid;
        else
            hi = mid - 1;
    }
    struct span s = {lo, 0, a->kv_len[lo] - a->q_start[lo + 1] + row};
    if (a->window && s.last - a->window + 1 > 0) s.first = s.last - a->window + 1;
    return s;
}

/* Offset of a key in its pool, -1 for a page that is not there. */
static __device__ __forceinline__ int64_t key_at(const struct attn *a, int64_t seq, int64_t key,
                                                 int64_t kv_head) {
    int64_t page = a->pages[seq * a->pages_max + key / a->page];
    if (page < 0 || page >= a->n_pages) return -1;
    return ((page * a->page + key % a->page) * a->kv_heads + kv_head) * a->width;
}

template <typename T>
static __device__ __forceinline__ float warp_product(const T *x, const T *y, int64_t width) {
    float sum = 0;
    for (int64_t d = threadIdx.x % CUDA_WARP; d < width; d += CUDA_WARP)
        sum = fmaf(cuda_get(x + d), cuda_get(y + d), sum);
    return cuda_warp_reduce<cuda_sum>(sum);
}

/* x . y of one row, by the whole block. */
template <typename T> static __device__ float block_product(const T *x, const T *y, int64_t width) {
    __shared__ float result;
    if (threadIdx.x < CUDA_WARP) {
        float sum = warp_product(x, y, width);
        if (threadIdx.x == 0) result = sum;
    }
    __syncthreads();
    float sum = result;
    __syncthreads();
    return sum;
}

/* A block a (row, head): the keys in tiles, with a running maximum and sum. */
template <typename T>
static __global__ void __launch_bounds__(ATTN_BLOCK)
    attention_block_per_row(T *__restrict__ out, float *__restrict__ lse, const T *__restrict__ q,
                            const T *__restrict__ k, const T *__restrict__ v, struct attn a) {
    __shared__ float z[ATTN_TILE];
    __shared__ int64_t at[ATTN_TILE];
    int64_t row = blockIdx.x, head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    const T *query = q + (row * a.heads + head) * a.width;
    struct span s = span_of(&a, row);
    int warp = (int)threadIdx.x / CUDA_WARP;
    float max = -INFINITY, total = 0, sum[ATTN_EACH] = {0};
    for (int64_t k0 = s.first / ATTN_TILE * ATTN_TILE; k0 <= s.last; k0 += ATTN_TILE) {
        for (int j = warp; j < ATTN_TILE; j += ATTN_WARPS) {
            bool in = k0 + j >= s.first && k0 + j <= s.last;
            int64_t o = in ? key_at(&a, s.seq, k0 + j, kv_head) : -1;
            float x = o < 0 ? -INFINITY : a.scale * warp_product(query, k + o, a.width);
            if (threadIdx.x % CUDA_WARP == 0) {
                z[j] = x;
                at[j] = o;
            }
        }
        __syncthreads();
        float top = max;
        for (int j = 0; j < ATTN_TILE; j++)
            top = fmaxf(top, z[j]);
        float keep = max == -INFINITY ? 0 : expf(max - top);
        total *= keep;
        for (int c = 0; c < ATTN_EACH; c++)
            sum[c] *= keep;
        for (int j = 0; j < ATTN_TILE; j++) {
            if (at[j] < 0) continue;
            float p = expf(z[j] - top);
            total += p;
            for (int c = 0; c < ATTN_EACH; c++) {
                int64_t d = threadIdx.x + c * ATTN_BLOCK;
                if (d < a.width) sum[c] = fmaf(p, cuda_get(v + at[j] + d), sum[c]);
            }
        }
        max = top;
        __syncthreads();
    }
    for (int c = 0; c < ATTN_EACH; c++) {
        int64_t d = threadIdx.x + c * ATTN_BLOCK;
        if (d < a.width) cuda_set(out + (row * a.heads + head) * a.width + d, sum[c] / total);
    }
    if (lse && threadIdx.x == 0) lse[row * a.heads + head] = max + logf(total);
}

/* gq of a (row, head), and t = gout . out for the second kernel. */
template <typename T>
static __global__ void __launch_bounds__(ATTN_BLOCK)
    attention_bwd_query(T *__restrict__ gq, float *__restrict__ t, const T *__restrict__ gout,
                        const T *__restrict__ out, const float *__restrict__ lse,
                        const T *__restrict__ q, const T *__restrict__ k, const T *__restrict__ v,
                        struct attn a) {
    __shared__ float gz[ATTN_TILE];
    __shared__ int64_t at[ATTN_TILE];
    int64_t row = blockIdx.x, head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    int64_t me = (row * a.heads + head) * a.width;
    struct span s = span_of(&a, row);
    int warp = (int)threadIdx.x / CUDA_WARP;
    float dot = block_product(gout + me, out + me, a.width), sum[ATTN_EACH] = {0};
    for (int64_t k0 = s.first / ATTN_TILE * ATTN_TILE; k0 <= s.last; k0 += ATTN_TILE) {
        for (int j = warp; j < ATTN_TILE; j += ATTN_WARPS) {
            bool in = k0 + j >= s.first && k0 + j <= s.last;
            int64_t o = in ? key_at(&a, s.seq, k0 + j, kv_head) : -1;
            float x = 0;
            if (o >= 0) {
                float p = expf(a.scale * warp_product(q + me, k + o, a.width) -
                               lse[row * a.heads + head]);
                x = a.scale * p * (warp_product(gout + me, v + o, a.width) - dot);
            }
            if (threadIdx.x % CUDA_WARP == 0) {
                gz[j] = x;
                at[j] = o;
            }
        }
        __syncthreads();
        for (int j = 0; j < ATTN_TILE; j++)
            for (int c = 0; at[j] >= 0 && c < ATTN_EACH; c++) {
                int64_t d = threadIdx.x + c * ATTN_BLOCK;
                if (d < a.width) sum[c] = fmaf(gz[j], cuda_get(k + at[j] + d), sum[c]);
            }
        __syncthreads();
    }
    for (int c = 0; c < ATTN_EACH; c++) {
        int64_t d = threadIdx.x + c * ATTN_BLOCK;
        if (d < a.width) cuda_set(gq + me + d, sum[c]);
    }
    if (threadIdx.x == 0) t[row * a.heads + head] = dot;
}

template <typename T> struct reverse { /* inputs of the second kernel */
    const T *gout, *q, *k, *v;
    const float *lse, *t;
};

/* Adds what row `row` and query head `head` give to the key at o into the lane's sums. */
template <typename T>
static __device__ __forceinline__ void add_query(float *gk, float *gv, const struct reverse<T> *r,
                                                 const struct attn *a, int64_t row, int64_t head,
                                                 int64_t o) {
    int64_t me = (row * a->heads + head) * a->width;
    float p = expf(a->scale * warp_product(r->q + me, r->k + o, a->width) -
                   r->lse[row * a->heads + head]);
    float gz = a->scale * p *
               (warp_product(r->gout + me, r->v + o, a->width) - r->t[row * a->heads + head]);
    for (int c = 0; c < ATTN_LANE; c++) {
        int64_t d = threadIdx.x % CUDA_WARP + c * CUDA_WARP;
        if (d >= a->width) break;
        gk[c] = fmaf(gz, cuda_get(r->q + me + d), gk[c]);
        gv[c] = fmaf(p, cuda_get(r->gout + me + d), gv[c]);
    }
}

/* grid: pages of the pool x key heads; a warp takes every ATTN_WARPS-th key of the page. */
template <typename T>
static __global__ void __launch_bounds__(ATTN_BLOCK)
    attention_bwd_keys(float *__restrict__ gpool_k, float *__restrict__ gpool_v,
                       struct reverse<T> r, struct attn a) {
    int64_t page = blockIdx.x, kv_head = blockIdx.y, share = a.heads / a.kv_heads;
    for (int64_t slot = threadIdx.x / CUDA_WARP; slot < a.page; slot += ATTN_WARPS) {
        int64_t o = ((page * a.page + slot) * a.kv_heads + kv_head) * a.width;
        float gk[ATTN_LANE] = {0}, gv[ATTN_LANE] = {0};
        bool used = false;
        for (int32_t s = 0; s < a.n_seqs; s++) {
            int64_t from = a.q_start[s], to = a.q_start[s + 1], len = a.kv_len[s];
            for (int64_t i = 0; from < to && i * a.page + slot < len; i++) {
                if (a.pages[s * a.pages_max + i] != page) continue;
                int64_t key = i * a.page + slot, first = key - (len - to), last = to - 1;
                if (first < from) first = from;
                if (a.window) last = min(last, key + a.window - 1 - (len - to));
                for (int64_t row = first; row <= last; row++)
                    for (int64_t h = 0; h < share; h++)
                        add_query(gk, gv, &r, &a, row, kv_head * share + h, o);
                used |= first <= last;
            }
        }
        for (int c = 0; used && c < ATTN_LANE; c++) {
            int64_t d = threadIdx.x % CUDA_WARP + c * CUDA_WARP;
            if (d >= a.width) break;
            gpool_k[o + d] += gk[c];
            gpool_v[o + d] += gv[c];
        }
    }
}

/* --- launchers ------------------------------------------------------------------------------ */

/* Sizes and tables of a call, by value, with divisions as products. */
static int open_call(struct attn *out, const char *op, kern_arg q, kern_arg pool_k,
                     const struct kern_attn *a) {
    if (q->dim[2] > ATTN_WIDTH)
        return FAIL(ERR_UNSUP, "%s: heads of width %lld, cuda has up to %d", op,
                    (long long)q->dim[2], ATTN_WIDTH);
    *out = attn{.q_start = cuda_data<int32_t>(&a->q_start),
                .kv_len = cuda_data<int32_t>(&a->kv_len),
                .pages = cuda_data<int32_t>(&a->pages),
                .n_seqs = a->n_seqs,
                .page = a->page,
                .window = a->window,
                .by_page = attn_divisor_of((uint32_t)a->page),
                .by_share = attn_divisor_of((uint32_t)(q->dim[1] / pool_k->dim[2])),
                .pages_max = a->pages.dim[1],
                .n_pages = pool_k->dim[0],
                .heads = q->dim[1],
                .kv_heads = pool_k->dim[2],
                .width = q->dim[2],
                .scale = a->scale};
    return 0;
}

/* What the tensor core kernels can read: whole pieces of 16 bytes. */
static bool is_fast(const struct attn *a, kern_arg const *x, int n) {
    uintptr_t all = 0;
    for (int i = 0; i < n; i++) {
        if (x[i]->dtype != KERN_BF16) return false;
        all |= reinterpret_cast<uintptr_t>(x[i]->data);
    }
    return all % 16 == 0 && a->width % 8 == 0 && a->width <= 128;
}

template <typename T>
static int attention_forward(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k,
                             kern_arg pool_v, const struct attn *a) {
    CUDA_LAUNCH(attention_block_per_row<T>, dim3((unsigned)q->dim[0], (unsigned)a->heads),
                ATTN_BLOCK, 0, s, cuda_data<T>(out), cuda_data<float>(lse), cuda_data<T>(q),
                cuda_data<T>(pool_k), cuda_data<T>(pool_v), *a);
    return 0;
}

int cuda_attention(ops_s s, kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k,
                   kern_arg pool_v, const struct kern_attn *a) {
    struct attn c;
    kern_arg all[] = {out, q, pool_k, pool_v};
    TRY(open_call(&c, "attention", q, pool_k, a));
    if (is_fast(&c, all, 4))
        return attention_fwd(s, out, lse, q, pool_k, pool_v, &c, a->q_max, a->kv_max);
    return q->dtype == KERN_BF16 ? attention_forward<bf16>(s, out, lse, q, pool_k, pool_v, &c)
                                 : attention_forward<float>(s, out, lse, q, pool_k, pool_v, &c);
}

template <typename T>
static int reverse_of(ops_s s, const struct attn_reverse *x, const struct attn *a) {
    void *memory = nullptr;
    int64_t rows = x->q->dim[0];
    TRY(cuda_scratch(&memory, s, "attention_bwd", (size_t)(rows * a->heads) * sizeof(float)));
    float *t = static_cast<float *>(memory);
    struct reverse<T> r = {
        cuda_data<T>(x->gout), cuda_data<T>(x->q), cuda_data<T>(x->pool_k), cuda_data<T>(x->pool_v),
            cuda_data<float>(x->lse), t
    };
    CUDA_LAUNCH(attention_bwd_query<T>, dim3((unsigned)rows, (unsigned)a->heads), ATTN_BLOCK, 0, s,
                cuda_data<T>(x->gq), t, cuda_data<T>(x->gout), cuda_data<T>(x->out),
                cuda_data<float>(x->lse), cuda_data<T>(x->q), cuda_data<T>(x->pool_k),
                cuda_data<T>(x->pool_v), *a);
    CUDA_LAUNCH(attention_bwd_keys<T>, dim3((unsigned)a->n_pages, (unsigned)a->kv_heads),
                ATTN_BLOCK, 0, s, cuda_data<float>(x->gpool_k), cuda_data<float>(x->gpool_v), r,
                *a);
    return 0;
}

int cuda_attention_bwd(ops_s s, kern_arg gq, kern_arg gpool_k, kern_arg gpool_v, kern_arg gout,
                       kern_arg out, kern_arg lse, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                       const struct kern_attn *a) {
    struct attn c;
    struct attn_reverse x = {gq, gpool_k, gpool_v, gout, out, lse, q, pool_k, pool_v};
    TRY(open_call(&c, "attention_bwd", q, pool_k, a));
    kern_arg all[] = {gq, gout, out, q, pool_k, pool_v};
    if (is_fast(&c, all, 6)) return attention_bwd(s, &x, &c);
    return q->dtype == KERN_BF16 ? reverse_of<bf16>(s, &x, &c) : reverse_of<float>(s, &x, &c);
}
