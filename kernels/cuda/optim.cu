/* optim.cu - ops over whole parameter slabs: AdamW, scalar products, scaled sums, dtype casts. All
 * bandwidth bound.
 *
 * The three sums of dot are taken in double in two passes: each block of a fixed grid sums its
 * strided elements, one block sums the blocks. The grid depends on the element count alone, so the
 * bits do not depend on the device's size. */
#include "kernels/cuda/cuda.h"

#include <math.h>

static const int DOT_GRID = 1024, COUNT_GRID = 512;

struct adamw_numbers { /* of one step; the bias corrections are formed in double on the host */
    float lr, beta1, beta2, eps, decay, scale, c1, c2, along_scale;
    const float *along; /* or along16, or neither */
    const bf16 *along16;
    bf16 *keep, *rounded;
    uint16_t *changed; /* null, or 16 elements a piece */
    bool changed_or;
};

static __device__ __forceinline__ uint32_t bits_of(float x, bool rounded) {
    if (!rounded) return __float_as_uint(x);
    return __float_as_uint(__bfloat162float(__float2bfloat16_rn(x)));
}

/* Element i; whether its bits changed. m may be along, keep along16: an element is read before it
 * is written. */
static __device__ __forceinline__ bool adamw_one(float *w, float *m, float *v, const float *g,
                                                 const struct adamw_numbers &p, int64_t i) {
    float gi = g[i], was = w[i];
    if (p.along) gi += p.along_scale * p.along[i];
    if (p.along16) gi += p.along_scale * __bfloat162float(p.along16[i]);
    if (p.keep) p.keep[i] = __float2bfloat16_rn(g[i]);
    gi *= p.scale;
    float mi = p.beta1 * m[i] + (1 - p.beta1) * gi;
    float vi = p.beta2 * v[i] + (1 - p.beta2) * gi * gi;
    float now = was - p.lr * (mi / p.c1 / (sqrtf(vi / p.c2) + p.eps) + p.decay * was);
    m[i] = mi;
    v[i] = vi;
    w[i] = now;
    if (p.rounded) p.rounded[i] = __float2bfloat16_rn(now);
    return bits_of(was, p.rounded) != bits_of(now, p.rounded);
}

/* A warp's elements are 32 neighbours, so its vote is a piece of the bitmap: each half of it, whose
 * elements belong to this call alone, is stored by a lane. */
static __global__ void adamw_flat(float *__restrict__ w, float *m, float *__restrict__ v,
                                  const float *__restrict__ g, struct adamw_numbers p, int64_t n) {
    int lane = (int)threadIdx.x % CUDA_WARP;
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i - lane < n; i += step) {
        bool differs = i < n && adamw_one(w, m, v, g, p, i);
        if (!p.changed) continue;
        uint32_t bits = __ballot_sync(0xffffffffu, differs) >> lane % 32 / 16 * 16;
        if (lane % 16 > 0 || i >= n) continue;
        uint16_t *to = p.changed + i / 16;
        *to = (uint16_t)(bits | (p.changed_or ? *to : 0));
    }
}

/* part[block] = the bits set in the block's words */
static __global__ void count_blocks(long long *__restrict__ part,
                                    const uint32_t *__restrict__ words, int64_t n) {
    long long sum = 0;
    CUDA_EACH(i, n) {
        sum += __popc(words[i]);
    }
    sum = cuda_block_reduce<cuda_sum>(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

static __global__ void axpby_flat(float *__restrict__ y, float alpha, const float *__restrict__ x,
                                  float beta, int64_t n) {
    CUDA_EACH(i, n) {
        y[i] = alpha * x[i] + beta * y[i];
    }
}

/* part[block] = {sum a b, sum a a, sum b b} of the block's elements */
template <typename T>
static __global__ void dot_blocks(double *__restrict__ part, const float *__restrict__ a,
                                  const T *__restrict__ b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    CUDA_EACH(i, n) {
        double x = a[i], y = b ? (double)cuda_get(b + i) : 0;
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab = cuda_block_reduce<cuda_sum>(ab);
    aa = cuda_block_reduce<cuda_sum>(aa);
    bb = cuda_block_reduce<cuda_sum>(bb);
    if (threadIdx.x > 0) return;
    part[blockIdx.x * 3] = ab;
    part[blockIdx.x * 3 + 1] = aa;
    part[blockIdx.x * 3 + 2] = bb;
}

static __global__ void dot_finish(double *__restrict__ out, const double *__restrict__ part,
                                  int blocks) {
    for (int k = 0; k < 3; k++) {
        double sum = 0;
        for (int i = (int)threadIdx.x; i < blocks; i += CUDA_BLOCK)
            sum += part[i * 3 + k];
        sum = cuda_block_reduce<cuda_sum>(sum);
        if (threadIdx.x == 0) out[k] = sum;
    }
}

static __global__ void cast_to_bf16(bf16 *__restrict__ to, const float *__restrict__ from,
                                    int64_t n) {
    CUDA_EACH(i, n) {
        to[i] = __float2bfloat16_rn(from[i]);
    }
}

static __global__ void cast_to_f32(float *__restrict__ to, const bf16 *__restrict__ from,
                                   int64_t n) {
    CUDA_EACH(i, n) {
        to[i] = __bfloat162float(from[i]);
    }
}

/* --- launchers ------------------------------------------------------------------------------ */

int cuda_adamw(ops_s s, kern_arg w, kern_arg m, kern_arg v, kern_arg g,
               const struct kern_adamw *p) {
    int64_t n = kern_elements(w);
    struct adamw_numbers a = {
        .lr = p->lr,
        .beta1 = p->beta1,
        .beta2 = p->beta2,
        .eps = p->eps,
        .decay = p->weight_decay,
        .scale = p->grad_scale,
        .c1 = (float)(1 - pow((double)p->beta1, (double)p->step)),
        .c2 = (float)(1 - pow((double)p->beta2, (double)p->step)),
        .along_scale = p->along_scale,
        .along = p->along.dtype == KERN_F32 ? cuda_data<float>(&p->along) : nullptr,
        .along16 = p->along.dtype == KERN_BF16 ? cuda_data<bf16>(&p->along) : nullptr,
        .keep = cuda_data<bf16>(&p->keep),
        .rounded = cuda_data<bf16>(&p->rounded),
        .changed =
            p->changed.data ? cuda_data<uint16_t>(&p->changed) + p->changed_at / 16 : nullptr,
        .changed_or = p->changed_or,
    };
    CUDA_LAUNCH(adamw_flat, cuda_blocks(n), CUDA_BLOCK, 0, s, cuda_data<float>(w),
                cuda_data<float>(m), cuda_data<float>(v), cuda_data<float>(g), a, n);
    return 0;
}

int cuda_axpby(ops_s s, kern_arg y, float alpha, kern_arg x, float beta) {
    int64_t n = kern_elements(y);
    CUDA_LAUNCH(axpby_flat, cuda_blocks(n), CUDA_BLOCK, 0, s, cuda_data<float>(y), alpha,
                cuda_data<float>(x), beta, n);
    return 0;
}

int cuda_dot(ops_s s, double out[3], kern_arg x, kern_arg y) {
    int64_t n = kern_elements(x);
    unsigned blocks = cuda_blocks(n);
    void *memory = nullptr;
    if (blocks > DOT_GRID) blocks = DOT_GRID;
    TRY(cuda_scratch(&memory, s, "dot", (size_t)(3 * blocks + 3) * sizeof(double)));
    double *sums = static_cast<double *>(memory), *part = sums + 3;
    if (y && y->dtype == KERN_BF16)
        CUDA_LAUNCH(dot_blocks<bf16>, blocks, CUDA_BLOCK, 0, s, part, cuda_data<float>(x),
                    cuda_data<bf16>(y), n);
    else
        CUDA_LAUNCH(dot_blocks<float>, blocks, CUDA_BLOCK, 0, s, part, cuda_data<float>(x),
                    cuda_data<float>(y), n);
    CUDA_LAUNCH(dot_finish, 1, CUDA_BLOCK, 0, s, sums, part, (int)blocks);
    CUDA_TRY(cudaMemcpyAsync(out, sums, 3 * sizeof *out, cudaMemcpyDeviceToHost, s->on));
    CUDA_TRY(cudaStreamSynchronize(s->on));
    return 0;
}

int cuda_count_bits(ops_s s, int64_t *out, kern_arg words) {
    long long part[COUNT_GRID];
    int64_t n = kern_elements(words);
    unsigned blocks = cuda_blocks(n);
    void *memory = nullptr;
    if (blocks > COUNT_GRID) blocks = COUNT_GRID;
    TRY(cuda_scratch(&memory, s, "count_bits", (size_t)blocks * sizeof *part));
    CUDA_LAUNCH(count_blocks, blocks, CUDA_BLOCK, 0, s, static_cast<long long *>(memory),
                cuda_data<uint32_t>(words), n);
    CUDA_TRY(cudaMemcpyAsync(part, memory, blocks * sizeof *part, cudaMemcpyDeviceToHost, s->on));
    CUDA_TRY(cudaStreamSynchronize(s->on));
    *out = 0;
    for (unsigned i = 0; i < blocks; i++)
        *out += part[i];
    return 0;
}

int cuda_cast(ops_s s, kern_arg dst, kern_arg src) {
    int64_t n = kern_elements(src);
    if (dst->dtype == src->dtype) {
        size_t bytes = (size_t)n * kern_dtype_bytes(src->dtype);
        CUDA_TRY(cudaMemcpyAsync(dst->data, src->data, bytes, cudaMemcpyDeviceToDevice, s->on));
        return 0;
    }
    if (dst->dtype == KERN_BF16)
        CUDA_LAUNCH(cast_to_bf16, cuda_blocks(n), CUDA_BLOCK, 0, s, cuda_data<bf16>(dst),
                    cuda_data<float>(src), n);
    else
        CUDA_LAUNCH(cast_to_f32, cuda_blocks(n), CUDA_BLOCK, 0, s, cuda_data<float>(dst),
                    cuda_data<bf16>(src), n);
    return 0;
}
