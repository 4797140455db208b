/* rope.cu - rotary position embedding (Su et al. 2021) in the half-split pairing of Hugging Face's
 * Llama: element j of a head pairs with j + D/2. Alone one block a row; behind the norm of each
 * head one warp a head, which reads the head twice (from the first cache the second time). The
 * rotation is spelled out in single roundings, so that no compiler fuses it in one kernel and not
 * in the other. */
#include "kernels/cuda/rows.h"

template <typename T>
static __device__ __forceinline__ void rotate(T *lo, T *hi, float a, float b, float c, float s) {
    cuda_set(lo, __fadd_rn(__fmul_rn(a, c), -__fmul_rn(b, s)));
    cuda_set(hi, __fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)));
}

template <typename T>
static __global__ void rope_block_per_row(T *__restrict__ x, const int32_t *__restrict__ pos,
                                          const float *__restrict__ cos,
                                          const float *__restrict__ sin, int64_t positions,
                                          int64_t heads, int64_t width, float sign) {
    int64_t half = width / 2, p = pos[blockIdx.x];
    if (p < 0 || p >= positions) return;
    for (int64_t k = threadIdx.x; k < heads * half; k += blockDim.x) {
        int64_t h = k / half, j = k % half;
        T *v = x + (blockIdx.x * heads + h) * width + j;
        rotate(v, v + half, cuda_get(v), cuda_get(v + half), cos[p * half + j],
               sign * sin[p * half + j]);
    }
}

/* q may be q0; units are heads of rows. */
template <typename T>
static __global__ void
norm_rope_warp_per_head(T *q, const T *q0, const T *__restrict__ w, float eps,
                        const int32_t *__restrict__ pos, const float *__restrict__ cos,
                        const float *__restrict__ sin, int64_t positions, int64_t heads,
                        int64_t width, int64_t units, bool packed) {
    int64_t u = (int64_t)blockIdx.x * CUDA_WARPS + threadIdx.x / CUDA_WARP, half = width / 2;
    if (u >= units) return;
    int64_t p = pos[u / heads];
    if (p < 0 || p >= positions) return;
    const T *x = q0 + u * width;
    float r = w ? row_scale<true>(x, width, eps, packed) : 0;
    __syncwarp();
    for (int64_t j = threadIdx.x % CUDA_WARP; j < half; j += CUDA_WARP) {
        float a = cuda_get(x + j), b = cuda_get(x + half + j);
        if (w) a = row_rounded<T>(a * r * cuda_get(w + j));
        if (w) b = row_rounded<T>(b * r * cuda_get(w + half + j));
        T *to = q + u * width + j;
        rotate(to, to + half, a, b, cos[p * half + j], sin[p * half + j]);
    }
}

/* --- launchers ------------------------------------------------------------------------------ */

template <typename T>
static int rope(ops_s s, kern_arg x, kern_arg pos, kern_arg cos, kern_arg sin, bool inverse) {
    CUDA_LAUNCH(rope_block_per_row<T>, (unsigned)x->dim[0], CUDA_BLOCK, 0, s, cuda_data<T>(x),
                cuda_data<int32_t>(pos), cuda_data<float>(cos), cuda_data<float>(sin), cos->dim[0],
                x->dim[1], x->dim[2], inverse ? -1.0f : 1.0f);
    return 0;
}

int cuda_rope(ops_s s, kern_arg x, kern_arg pos, kern_arg cos, kern_arg sin, bool inverse) {
    return x->dtype == KERN_BF16 ? rope<bf16>(s, x, pos, cos, sin, inverse)
                                 : rope<float>(s, x, pos, cos, sin, inverse);
}

template <typename T>
static int norm_rope(ops_s s, kern_arg q, kern_arg q0, kern_arg w, float eps, kern_arg pos,
                     kern_arg cos, kern_arg sin) {
    T *to = cuda_data<T>(q), *from = cuda_data<T>(q0);
    int64_t width = q->dim[2], units = q->dim[0] * q->dim[1];
    CUDA_LAUNCH(norm_rope_warp_per_head<T>, (unsigned)((units + CUDA_WARPS - 1) / CUDA_WARPS),
                CUDA_BLOCK, 0, s, to, from, cuda_data<T>(w), eps, cuda_data<int32_t>(pos),
                cuda_data<float>(cos), cuda_data<float>(sin), cos->dim[0], q->dim[1], width, units,
                row_packs(width, from));
    return 0;
}

int cuda_norm_rope(ops_s s, kern_arg q, kern_arg q0, kern_arg w, float eps, kern_arg pos,
                   kern_arg cos, kern_arg sin) {
    return q->dtype == KERN_BF16 ? norm_rope<bf16>(s, q, q0, w, eps, pos, cos, sin)
                                 : norm_rope<float>(s, q, q0, w, eps, pos, cos, sin);
}
