/* norm.cu - RMSNorm (Zhang & Sennrich 2019) and its reverse; formulas in kernels/ref/norm.c.
 *
 * Forward: one block a row, so its sum has the same tree in any batch. Reverse: one block a row for
 * gx; gw is a sum over rows, made in two passes: a block adds the columns of CUDA_NORM_SLICE rows
 * up in row order, then one thread a column adds the slices up in their order. */
#include "kernels/cuda/cuda.h"

template <typename T> static __device__ float inverse_rms(const T *row, int64_t d, float eps) {
    float sum = 0;
    for (int64_t j = threadIdx.x; j < d; j += CUDA_BLOCK) {
        float x = cuda_get(row + j);
        sum += x * x;
    }
    return rsqrtf(cuda_block_reduce<cuda_sum>(sum) / (float)d + eps);
}

template <typename T>
static __global__ void rmsnorm_block_per_row(T *__restrict__ out, const T *__restrict__ x,
                                             const T *__restrict__ w, int64_t d, float eps) {
    const T *row = x + blockIdx.x * d;
    float r = inverse_rms(row, d, eps);
    for (int64_t j = threadIdx.x; j < d; j += CUDA_BLOCK)
        cuda_set(out + blockIdx.x * d + j, cuda_get(row + j) * r * cuda_get(w + j));
}

template <typename T>
static __global__ void rmsnorm_bwd_block_per_row(T *__restrict__ gx, float *__restrict__ scale,
                                                 const T *__restrict__ gout,
                                                 const T *__restrict__ x, const T *__restrict__ w,
                                                 int64_t d, float eps, bool accumulate) {
    const T *row = x + blockIdx.x * d, *g = gout + blockIdx.x * d;
    float r = inverse_rms(row, d, eps), sum = 0;
    for (int64_t j = threadIdx.x; j < d; j += CUDA_BLOCK)
        sum += cuda_get(g + j) * cuda_get(w + j) * cuda_get(row + j);
    float c = cuda_block_reduce<cuda_sum>(sum) * r * r * r / (float)d;
    for (int64_t j = threadIdx.x; j < d; j += CUDA_BLOCK) {
        T *to = gx + blockIdx.x * d + j;
        float v = r * cuda_get(g + j) * cuda_get(w + j) - cuda_get(row + j) * c;
        cuda_set(to, accumulate ? cuda_get(to) + v : v);
    }
    if (threadIdx.x == 0) scale[blockIdx.x] = r;
}

/* part[slice, j] = sum over the slice's rows of gout * x * r */
template <typename T>
static __global__ void rmsnorm_bwd_weight_slices(float *__restrict__ part,
                                                 const float *__restrict__ scale,
                                                 const T *__restrict__ gout,
                                                 const T *__restrict__ x, int64_t n, int64_t d) {
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x,
            first = blockIdx.y * CUDA_NORM_SLICE;
    if (j >= d) return;
    float sum = 0;
    for (int64_t i = first; i < n && i < first + CUDA_NORM_SLICE; i++)
        sum += cuda_get(gout + i * d + j) * cuda_get(x + i * d + j) * scale[i];
    part[blockIdx.y * d + j] = sum;
}

static __global__ void rmsnorm_bwd_weight(float *__restrict__ gw, const float *__restrict__ part,
                                          int64_t slices, int64_t d) {
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= d) return;
    float sum = 0;
    for (int64_t k = 0; k < slices; k++)
        sum += part[k * d + j];
    gw[j] += sum;
}

/* --- launchers ---------------------------------------------------------------------------------
 */

template <typename T> static int rmsnorm(ops_s s, kern_arg out, kern_arg x, kern_arg w, float eps) {
    CUDA_LAUNCH(rmsnorm_block_per_row<T>, (unsigned)x->dim[0], CUDA_BLOCK, 0, s, cuda_data<T>(out),
                cuda_data<T>(x), cuda_data<T>(w), x->dim[1], eps);
    return 0;
}

int cuda_rmsnorm(ops_s s, kern_arg out, kern_arg x, kern_arg w, float eps) {
    return x->dtype == KERN_BF16 ? rmsnorm<bf16>(s, out, x, w, eps)
                                 : rmsnorm<float>(s, out, x, w, eps);
}

template <typename T>
static int rmsnorm_bwd(ops_s s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,
                       float eps, bool accumulate) {
    int64_t n = x->dim[0], d = x->dim[1], slices = (n + CUDA_NORM_SLICE - 1) / CUDA_NORM_SLICE;
    void *memory = nullptr;
    TRY(cuda_scratch(&memory, s, "rmsnorm_bwd", (size_t)(n + slices * d) * sizeof(float)));
    float *scale = static_cast<float *>(memory), *part = scale + n;
    unsigned columns = (unsigned)((d + CUDA_BLOCK - 1) / CUDA_BLOCK);
    CUDA_LAUNCH(rmsnorm_bwd_block_per_row<T>, (unsigned)n, CUDA_BLOCK, 0, s, cuda_data<T>(gx),
                scale, cuda_data<T>(gout), cuda_data<T>(x), cuda_data<T>(w), d, eps, accumulate);
    CUDA_LAUNCH(rmsnorm_bwd_weight_slices<T>, dim3(columns, (unsigned)slices), CUDA_BLOCK, 0, s,
                part, scale, cuda_data<T>(gout), cuda_data<T>(x), n, d);
    CUDA_LAUNCH(rmsnorm_bwd_weight, columns, CUDA_BLOCK, 0, s, cuda_data<float>(gw), part, slices,
                d);
    return 0;
}

int cuda_rmsnorm_bwd(ops_s s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,
                     float eps, bool accumulate) {
    return x->dtype == KERN_BF16 ? rmsnorm_bwd<bf16>(s, gx, gw, gout, x, w, eps, accumulate)
                                 : rmsnorm_bwd<float>(s, gx, gw, gout, x, w, eps, accumulate);
}
