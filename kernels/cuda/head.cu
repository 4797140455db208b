/* head.cu - the policy's distribution over the vocabulary: log-probability, entropy, their
 * gradient, and sampling. Formulas in kernels/ref/head.c. One block a row.
 *
 * Log-probability and entropy come from one reading of the row, online: with e = exp(z - max) and
 * s = sum e, lse = max + log s and the entropy is log s - sum e (z - max) / s; when a thread meets
 * a higher maximum it scales what it has. Bound by that reading (a row of 152k words is 600 KB, so
 * rows under way do not stay in L2 for a second one). The gradient reads and writes the row once.
 *
 * Sampling needs no sort. top_k finds the k-th largest value by radix selection over the values'
 * order-preserving bits, 8 bits a round with counts in shared memory; top_p does the same with
 * masses instead of counts. Masses are fixed-point integers (2^-40 of the largest word's), so they
 * add up the same in any order and atomics on them are deterministic. Of equal values at the cut
 * the lower ids stay. The draw then walks the kept ids in id order: each thread owns a contiguous
 * part of the vocabulary, a scan over the threads finds the one whose part holds the drawn mass. */
#include "kernels/cuda/cuda.h"

static const int RADIX = 256, MASS_BITS = 40;

struct softmax { /* of one row at one temperature */
    float max, lse, entropy;
};

/* The one rounding of a logit at a temperature that every kernel of this file uses. */
static __device__ __forceinline__ float at_temperature(float logit, float inv) {
    return __fmul_rn(logit, inv);
}

/* What a thread has seen: the maximum, and of e = exp(z - max) the sums of e and of e (z - max). */
struct seen {
    float max, sum, dot;
};

static __device__ __forceinline__ void see_higher(struct seen *x, float max) {
    float d = x->max - max, keep = expf(d);
    x->dot = x->max == -INFINITY ? 0 : __fmul_rn(keep, __fmaf_rn(x->sum, d, x->dot));
    x->sum = __fmul_rn(keep, x->sum);
    x->max = max;
}

static __device__ __forceinline__ void see(struct seen *x, const float z[4]) {
    float high = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
    if (high > x->max) see_higher(x, high);
    float base = x->max == -INFINITY ? 0 : x->max;
    for (int i = 0; i < 4; i++) {
        float d = z[i] - base, e = expf(d);
        x->sum += e;
        if (e > 0) x->dot = __fmaf_rn(e, d, x->dot);
    }
}

/* Reads the row once: thread t takes words 4t..4t+3 of each 4 * CUDA_BLOCK, in one load where the
 * row allows it, which does not change the order. */
static __device__ struct softmax softmax_of(const float *row, int64_t v, float inv) {
    struct seen x = {-INFINITY, 0, 0};
    bool whole = reinterpret_cast<uintptr_t>(row) % sizeof(float4) == 0;
    for (int64_t j = 4 * (int64_t)threadIdx.x; j < v; j += 4 * CUDA_BLOCK) {
        float z[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        if (whole && j + 4 <= v) {
            float4 four = *reinterpret_cast<const float4 *>(row + j);
            z[0] = four.x, z[1] = four.y, z[2] = four.z, z[3] = four.w;
        } else {
            for (int i = 0; i < 4 && j + i < v; i++)
                z[i] = row[j + i];
        }
        for (int i = 0; i < 4 && j + i < v; i++)
            z[i] = at_temperature(z[i], inv);
        see(&x, z);
    }
    float top = cuda_block_reduce<cuda_max>(x.max);
    see_higher(&x, top);
    float sum = cuda_block_reduce<cuda_sum>(x.sum), dot = cuda_block_reduce<cuda_sum>(x.dot);
    float log_sum = logf(sum);
    struct softmax s = {top, top + log_sum, log_sum - dot / sum};
    return s;
}

static __global__ void logprob_block_per_row(float *__restrict__ logprob,
                                             float *__restrict__ entropy, float *__restrict__ lse,
                                             const float *__restrict__ logits,
                                             const int32_t *__restrict__ target,
                                             const float *__restrict__ inv_temp, int64_t v) {
    int64_t i = blockIdx.x, id = target[i];
    const float *row = logits + i * v;
    float inv = inv_temp[i];
    struct softmax s = softmax_of(row, v, inv);
    if (threadIdx.x > 0) return;
    lse[i] = s.lse;
    logprob[i] = id >= 0 && id < v ? at_temperature(row[id], inv) - s.lse : NAN;
    if (entropy) entropy[i] = s.entropy;
}

static __global__ void
logprob_bwd_block_per_row(float *__restrict__ logits, const float *__restrict__ g_logprob,
                          const float *__restrict__ g_entropy, const float *__restrict__ entropy,
                          const float *__restrict__ lse, const int32_t *__restrict__ target,
                          const float *__restrict__ inv_temp, int64_t v) {
    int64_t i = blockIdx.x;
    float *row = logits + i * v;
    float inv = inv_temp[i], glp = g_logprob[i], gh = g_entropy ? g_entropy[i] : 0;
    float h = entropy ? entropy[i] : 0;
    for (int64_t j = threadIdx.x; j < v; j += CUDA_BLOCK) {
        float x = row[j] * inv - lse[i], p = expf(x);
        float spread = gh != 0 && p > 0 ? gh * p * (x + h) : 0;
        row[j] = inv * ((j == target[i] ? glp : 0) - glp * p - spread);
    }
}

/* --- sampling ------------------------------------------------------------------------------- */

/* Unsigned integers in the order of the floats. */
static __device__ __forceinline__ unsigned key_of(float x) {
    unsigned u = __float_as_uint(x + 0.0f); /* -0 is 0 */
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

struct cut { /* what is kept: keys above `key`, and of those equal to it the first `ties` by id */
    unsigned key;
    unsigned long long ties;
};

struct row { /* a row being cut */
    const float *logits;
    int64_t v;
    float inv, max;
};

static __device__ __forceinline__ unsigned long long mass_of(const struct row *r, int64_t j) {
    return (unsigned long long)(expf(r->logits[j] * r->inv - r->max) * (float)(1ull << MASS_BITS));
}

static __device__ __forceinline__ bool within(const struct cut *c, unsigned key) {
    return key > c->key || (key == c->key && c->ties > 0);
}

/* Words (mass false) or masses of what `outer` keeps, summed by the next 8 bits of the key among
 * the keys that share `prefix` above them. */
static __device__ void count_round(unsigned long long *bins, const struct row *r, unsigned prefix,
                                   int shift, bool mass, const struct cut *outer) {
    for (int b = (int)threadIdx.x; b < RADIX; b += CUDA_BLOCK)
        bins[b] = 0;
    __syncthreads();
    for (int64_t j = threadIdx.x; j < r->v; j += CUDA_BLOCK) {
        unsigned key = key_of(r->logits[j]);
        bool same = shift == 24 || key >> (shift + 8) == prefix >> (shift + 8);
        if (same && within(outer, key))
            atomicAdd(&bins[key >> shift & 255], mass ? mass_of(r, j) : 1ull);
    }
    __syncthreads();
}

/* The least cut whose count or mass reaches `want` >= 1. Values equal to the cut's all have one
 * mass, so their number follows from it. ties_max: how many of them `outer` lets in. */
static __device__ struct cut select(const struct row *r, unsigned long long want, bool mass,
                                    const struct cut *outer, unsigned long long *bins) {
    unsigned prefix = 0;
    unsigned long long left = want;
    for (int shift = 24; shift >= 0; shift -= 8) {
        count_round(bins, r, prefix, shift, mass, outer);
        int b = RADIX - 1;
        for (; b > 0 && bins[b] < left; b--)
            left -= bins[b];
        prefix |= (unsigned)b << shift;
        __syncthreads();
    }
    struct cut c = {prefix, left};
    if (!mass) return c;
    /* masses of one value: how many words of it make up what is left */
    unsigned u = prefix & 0x80000000u ? prefix & 0x7fffffffu : ~prefix;
    unsigned long long each = (unsigned long long)(expf(__uint_as_float(u) * r->inv - r->max) *
                                                   (float)(1ull << MASS_BITS));
    c.ties = each ? (left + each - 1) / each : 1;
    if (prefix == outer->key && c.ties > outer->ties) c.ties = outer->ties;
    return c;
}

/* Sum over the threads before this one; *total: over all. Deterministic: one thread adds. */
template <typename T> static __device__ T scan_before(T x, T *total) {
    __shared__ T part[CUDA_BLOCK + 1];
    part[threadIdx.x] = x;
    __syncthreads();
    if (threadIdx.x == 0) {
        T sum = 0;
        for (int t = 0; t < CUDA_BLOCK; t++) {
            T own = part[t];
            part[t] = sum;
            sum += own;
        }
        part[CUDA_BLOCK] = sum;
    }
    __syncthreads();
    T before = part[threadIdx.x];
    *total = part[CUDA_BLOCK];
    __syncthreads();
    return before;
}

/* This thread's part of the vocabulary, and how many words equal to the cut's key come before. */
struct part {
    int64_t first, last;
    unsigned long long equal;
};

static __device__ struct part part_of(const struct row *r, const struct cut *c) {
    int64_t each = (r->v + CUDA_BLOCK - 1) / CUDA_BLOCK;
    struct part p = {threadIdx.x * each, 0, 0};
    p.last = min(p.first + each, r->v);
    unsigned long long equal = 0, all;
    for (int64_t j = p.first; j < p.last; j++)
        equal += key_of(r->logits[j]) == c->key;
    p.equal = scan_before(equal, &all);
    return p;
}

static __device__ __forceinline__ bool keeps(const struct cut *c, unsigned key,
                                             unsigned long long *equal) {
    if (key != c->key) return key > c->key;
    return (*equal)++ < c->ties;
}

/* The id at which the kept words' cumulative sum, in id order, passes u of their total. */
static __device__ int draw(const struct row *r, const struct cut *c, float lse, double u,
                           double *total) {
    __shared__ int drawn, last_kept[CUDA_BLOCK];
    struct part p = part_of(r, c);
    unsigned long long equal = p.equal;
    double sum = 0;
    int last = -1;
    for (int64_t j = p.first; j < p.last; j++)
        if (keeps(c, key_of(r->logits[j]), &equal)) {
            float q = expf(r->logits[j] * r->inv - lse);
            sum += q;
            if (q > 0) last = (int)j;
        }
    last_kept[threadIdx.x] = last;
    if (threadIdx.x == 0) drawn = -1;
    double before = scan_before(sum, total), at = u * *total;
    equal = p.equal;
    if (before <= at && before + sum > at) {
        for (int64_t j = p.first; j < p.last; j++)
            if (keeps(c, key_of(r->logits[j]), &equal)) {
                before += expf(r->logits[j] * r->inv - lse);
                if (before > at) {
                    drawn = (int)j;
                    break;
                }
            }
    }
    __syncthreads();
    int id = drawn;
    for (int t = CUDA_BLOCK - 1; id < 0 && t >= 0; t--) /* rounding at the very end */
        id = last_kept[t];
    __syncthreads();
    return id;
}

static __device__ int first_largest(const float *row, int64_t v) {
    float top = -INFINITY;
    for (int64_t j = threadIdx.x; j < v; j += CUDA_BLOCK)
        top = fmaxf(top, row[j]);
    top = cuda_block_reduce<cuda_max>(top);
    int first = INT32_MAX;
    for (int64_t j = threadIdx.x; j < v && first == INT32_MAX; j += CUDA_BLOCK)
        if (row[j] == top) first = (int)j;
    return -cuda_block_reduce<cuda_max>(-first);
}

struct sample_out {
    int32_t *token;
    float *logprob, *kept;
};
struct sample_in {
    const float *logits, *temperature, *top_p, *uniform;
    const int32_t *top_k;
};

static __global__ void sample_block_per_row(struct sample_out out, struct sample_in in, int64_t v) {
    __shared__ unsigned long long bins[RADIX];
    int64_t i = blockIdx.x;
    float t = in.temperature[i], top_p = in.top_p[i], inv = t > 0 ? 1.0f / t : 1.0f;
    struct row r = {in.logits + i * v, v, inv, 0};
    struct softmax s = softmax_of(r.logits, v, inv);
    struct cut all = {0, (unsigned long long)v}, c = all;
    double total = 1, u = (double)in.uniform[2 * i] + (double)in.uniform[2 * i + 1];
    bool cuts = false;
    int id;
    r.max = s.max;
    if (t > 0) {
        if (in.top_k[i] > 0 && in.top_k[i] < v) {
            c = select(&r, (unsigned long long)in.top_k[i], false, &all, bins);
            cuts = true;
        }
        if (top_p < 1) {
            struct part p = part_of(&r, &c);
            unsigned long long mass = 0, sum;
            for (int64_t j = p.first; j < p.last; j++)
                if (keeps(&c, key_of(r.logits[j]), &p.equal)) mass += mass_of(&r, j);
            scan_before(mass, &sum);
            unsigned long long want = (unsigned long long)((double)top_p * (double)sum);
            c = select(&r, want > 0 ? want : 1, true, &c, bins);
            cuts = true;
        }
        id = draw(&r, &c, s.lse, u, &total);
    } else {
        id = first_largest(r.logits, v);
    }
    if (threadIdx.x > 0) return;
    if (id < 0 || id >= v) id = 0; /* no logit is a number: nor is the log-prob */
    out.token[i] = id;
    out.logprob[i] = at_temperature(r.logits[id], inv) - s.lse;
    out.kept[i] = cuts && t > 0 ? (float)total : 1;
}

/* --- launchers ------------------------------------------------------------------------------ */

int cuda_logprob(ops_s s, kern_arg logprob, kern_arg entropy, kern_arg lse, kern_arg logits,
                 kern_arg target, kern_arg inv_temp) {
    CUDA_LAUNCH(logprob_block_per_row, (unsigned)logits->dim[0], CUDA_BLOCK, 0, s,
                cuda_data<float>(logprob), cuda_data<float>(entropy), cuda_data<float>(lse),
                cuda_data<float>(logits), cuda_data<int32_t>(target), cuda_data<float>(inv_temp),
                logits->dim[1]);
    return 0;
}

int cuda_logprob_bwd(ops_s s, kern_arg logits, kern_arg g_logprob, kern_arg g_entropy,
                     kern_arg entropy, kern_arg lse, kern_arg target, kern_arg inv_temp) {
    CUDA_LAUNCH(logprob_bwd_block_per_row, (unsigned)logits->dim[0], CUDA_BLOCK, 0, s,
                cuda_data<float>(logits), cuda_data<float>(g_logprob), cuda_data<float>(g_entropy),
                cuda_data<float>(entropy), cuda_data<float>(lse), cuda_data<int32_t>(target),
                cuda_data<float>(inv_temp), logits->dim[1]);
    return 0;
}

int cuda_sample(ops_s s, kern_arg token, kern_arg logprob, kern_arg kept, kern_arg logits,
                kern_arg temperature, kern_arg top_p, kern_arg top_k, kern_arg uniform) {
    struct sample_out out = {cuda_data<int32_t>(token), cuda_data<float>(logprob),
                             cuda_data<float>(kept)};
    struct sample_in in = {cuda_data<float>(logits), cuda_data<float>(temperature),
                           cuda_data<float>(top_p), cuda_data<float>(uniform),
                           cuda_data<int32_t>(top_k)};
    CUDA_LAUNCH(sample_block_per_row, (unsigned)logits->dim[0], CUDA_BLOCK, 0, s, out, in,
                logits->dim[1]);
    return 0;
}
