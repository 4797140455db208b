/* act.cu - element by element: SwiGLU and its reverse, addition. Bandwidth bound: a thread moves
 * neighbouring elements of a grid-wide stride. */
#include "kernels/cuda/cuda.h"

/* out[i] = silu(gate[i]) * up[i] */
template <typename T>
static __global__ void swiglu_flat(T *__restrict__ out, const T *gate, const T *up, int64_t n) {
    CUDA_EACH(i, n) {
        float g = cuda_get(gate + i);
        cuda_set(out + i, g / (1 + expf(-g)) * cuda_get(up + i));
    }
}

/* Outputs may be the inputs' memory: a thread reads its elements before it writes them. */
template <typename T>
static __global__ void swiglu_bwd_flat(T *ggate, T *gup, const T *gout, const T *gate, const T *up,
                                       int64_t n) {
    CUDA_EACH(i, n) {
        float g = cuda_get(gate + i), u = cuda_get(up + i), go = cuda_get(gout + i);
        float sigmoid = 1 / (1 + expf(-g)), silu = g * sigmoid;
        cuda_set(ggate + i, go * u * (sigmoid + silu * (1 - sigmoid)));
        cuda_set(gup + i, go * silu);
    }
}

template <typename T> static __global__ void add_flat(T *out, const T *a, const T *b, int64_t n) {
    CUDA_EACH(i, n) {
        cuda_set(out + i, cuda_get(a + i) + cuda_get(b + i));
    }
}

/* --- launchers ------------------------------------------------------------------------------ */

template <typename T> static int swiglu(ops_s s, kern_arg out, kern_arg gate, kern_arg up) {
    int64_t n = kern_elements(out);
    CUDA_LAUNCH(swiglu_flat<T>, cuda_blocks(n), CUDA_BLOCK, 0, s, cuda_data<T>(out),
                cuda_data<T>(gate), cuda_data<T>(up), n);
    return 0;
}

int cuda_swiglu(ops_s s, kern_arg out, kern_arg gate, kern_arg up) {
    return out->dtype == KERN_BF16 ? swiglu<bf16>(s, out, gate, up)
                                   : swiglu<float>(s, out, gate, up);
}

template <typename T>
static int swiglu_bwd(ops_s s, kern_arg ggate, kern_arg gup, kern_arg gout, kern_arg gate,
                      kern_arg up) {
    int64_t n = kern_elements(gout);
    CUDA_LAUNCH(swiglu_bwd_flat<T>, cuda_blocks(n), CUDA_BLOCK, 0, s, cuda_data<T>(ggate),
                cuda_data<T>(gup), cuda_data<T>(gout), cuda_data<T>(gate), cuda_data<T>(up), n);
    return 0;
}

int cuda_swiglu_bwd(ops_s s, kern_arg ggate, kern_arg gup, kern_arg gout, kern_arg gate,
                    kern_arg up) {
    return gout->dtype == KERN_BF16 ? swiglu_bwd<bf16>(s, ggate, gup, gout, gate, up)
                                    : swiglu_bwd<float>(s, ggate, gup, gout, gate, up);
}

template <typename T> static int add_rows(ops_s s, kern_arg out, kern_arg x, kern_arg y) {
    int64_t n = kern_elements(out);
    CUDA_LAUNCH(add_flat<T>, cuda_blocks(n), CUDA_BLOCK, 0, s, cuda_data<T>(out), cuda_data<T>(x),
                cuda_data<T>(y), n);
    return 0;
}

int cuda_add(ops_s s, kern_arg out, kern_arg x, kern_arg y) {
    return out->dtype == KERN_BF16 ? add_rows<bf16>(s, out, x, y) : add_rows<float>(s, out, x, y);
}
