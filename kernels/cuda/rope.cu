/* rope.cu - rotary position embedding (Su et al. 2021) in the half-split pairing of Hugging Face's
 * Llama: element j of a head pairs with j + D/2. One block a row. */
#include "kernels/cuda/cuda.h"

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
        float a = cuda_get(v), b = cuda_get(v + half);
        float c = cos[p * half + j], n = sign * sin[p * half + j];
        cuda_set(v, a * c - b * n);
        cuda_set(v + half, b * c + a * n);
    }
}

/* --- launcher ----------------------------------------------------------------------------------
 */

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
