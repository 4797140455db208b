/* norm.cu - RMSNorm (Zhang & Sennrich 2019), alone and behind the addition of a residual, and its
 * reverse; formulas in kernels/ref/norm.c.
 *
 * Forward: one block a row, so its sum has the same tree in any batch (rows.h). Reverse: one block
 * a row for gx, one warp where rows are narrow (those of a head), with the same bits; gw is a sum
 * over rows: a block adds the columns of CUDA_NORM_SLICE rows up in row order, then as many slices
 * at a time in their order, until one is left. */
#include "kernels/cuda/rows.h"

static __device__ __forceinline__ row4 normed(row4 x, float r, row4 w) {
    for (int i = 0; i < ROW_PACK; i++)
        x.v[i] = x.v[i] * r * w.v[i];
    return x;
}

template <typename T>
static __global__ void rmsnorm_block_per_row(T *__restrict__ out, const T *__restrict__ x,
                                             const T *__restrict__ w, int64_t d, float eps,
                                             bool packed) {
    const T *row = x + blockIdx.x * d;
    float r = row_scale<false>(row, d, eps, packed);
    ROW_EACH(j, threadIdx.x, d) {
        row4 y = normed(row_load(row + j, d - j, packed), r, row_load(w + j, d - j, packed));
        row_store(out + blockIdx.x * d + j, y, d - j, packed);
    }
}

/* sum may be x or add: a thread reads its elements of both before it writes them, and reads back
 * only what it wrote itself. */
template <typename T>
static __global__ void add_rmsnorm_block_per_row(T *__restrict__ out, T *sum, const T *x,
                                                 const T *add, const T *__restrict__ w, int64_t d,
                                                 float eps, bool packed) {
    const int64_t at = blockIdx.x * d;
    float squares = 0;
    ROW_EACH(j, threadIdx.x, d) {
        row4 y = row_load(x + at + j, d - j, packed), b = row_load(add + at + j, d - j, packed);
        for (int i = 0; i < ROW_PACK; i++)
            y.v[i] = row_rounded<T>(y.v[i] + b.v[i]);
        row_store(sum + at + j, y, d - j, packed);
        squares = row_add_squares(squares, y);
    }
    float r = row_inverse_rms(cuda_block_reduce<cuda_sum>(squares), d, eps);
    ROW_EACH(j, threadIdx.x, d) {
        row4 y = normed(row_load(sum + at + j, d - j, packed), r, row_load(w + j, d - j, packed));
        row_store(out + at + j, y, d - j, packed);
    }
}

/* A row by a block, or by a warp: rows of a head's width have work for one only. */
template <bool WARP, typename T>
static __device__ __forceinline__ void rmsnorm_bwd_row(T *gx, float *scale, const T *g,
                                                       const T *row, const T *w, int64_t d,
                                                       float eps, bool accumulate, bool packed) {
    float r = row_scale<WARP>(row, d, eps, packed);
    auto products = [&](float sum, int64_t j) {
        row4 xs = row_load(row + j, d - j, packed), gs = row_load(g + j, d - j, packed);
        row4 ws = row_load(w + j, d - j, packed);
        for (int i = 0; i < ROW_PACK; i++)
            sum += gs.v[i] * ws.v[i] * xs.v[i];
        return sum;
    };
    float c = WARP ? row_sum_by_warp(d, products) : row_sum(d, products);
    c = c * r * r * r / (float)d;
    int64_t first = WARP ? threadIdx.x % CUDA_WARP : threadIdx.x;
    int64_t threads = WARP ? CUDA_WARP : CUDA_BLOCK;
    for (int64_t j = first * ROW_PACK; j < d; j += threads * ROW_PACK) {
        row4 xs = row_load(row + j, d - j, packed), gs = row_load(g + j, d - j, packed);
        row4 ws = row_load(w + j, d - j, packed), y = {};
        if (accumulate) y = row_load(gx + j, d - j, packed);
        for (int i = 0; i < ROW_PACK; i++)
            y.v[i] += r * gs.v[i] * ws.v[i] - xs.v[i] * c;
        row_store(gx + j, y, d - j, packed);
    }
    if (first == 0) *scale = r;
}

template <typename T>
static __global__ void
rmsnorm_bwd_block_per_row(T *__restrict__ gx, float *__restrict__ scale, const T *__restrict__ gout,
                          const T *__restrict__ x, const T *__restrict__ w, int64_t d, float eps,
                          bool accumulate, bool packed) {
    const int64_t at = blockIdx.x * d;
    rmsnorm_bwd_row<false>(gx + at, scale + blockIdx.x, gout + at, x + at, w, d, eps, accumulate,
                           packed);
}

template <typename T>
static __global__ void rmsnorm_bwd_warp_per_row(T *__restrict__ gx, float *__restrict__ scale,
                                                const T *__restrict__ gout, const T *__restrict__ x,
                                                const T *__restrict__ w, int64_t n, int64_t d,
                                                float eps, bool accumulate, bool packed) {
    const int64_t row = (int64_t)blockIdx.x * CUDA_WARPS + threadIdx.x / CUDA_WARP, at = row * d;
    if (row >= n) return;
    rmsnorm_bwd_row<true>(gx + at, scale + row, gout + at, x + at, w, d, eps, accumulate, packed);
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

/* out[y, j] (= or, if accumulate, +=) the sum of rows y * CUDA_NORM_SLICE .. of part, in order */
static __global__ void rmsnorm_bwd_weight_sum(float *__restrict__ out,
                                              const float *__restrict__ part, int64_t slices,
                                              int64_t d, bool accumulate) {
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x,
            first = blockIdx.y * CUDA_NORM_SLICE;
    if (j >= d) return;
    float sum = 0;
    for (int64_t k = first; k < slices && k < first + CUDA_NORM_SLICE; k++)
        sum += part[k * d + j];
    out[blockIdx.y * d + j] = accumulate ? out[blockIdx.y * d + j] + sum : sum;
}

/* --- launchers ------------------------------------------------------------------------------ */

template <typename T> static int rmsnorm(ops_s s, kern_arg out, kern_arg x, kern_arg w, float eps) {
    T *to = cuda_data<T>(out), *from = cuda_data<T>(x), *by = cuda_data<T>(w);
    CUDA_LAUNCH(rmsnorm_block_per_row<T>, (unsigned)x->dim[0], CUDA_BLOCK, 0, s, to, from, by,
                x->dim[1], eps, row_packs(x->dim[1], to, from, by));
    return 0;
}

int cuda_rmsnorm(ops_s s, kern_arg out, kern_arg x, kern_arg w, float eps) {
    return x->dtype == KERN_BF16 ? rmsnorm<bf16>(s, out, x, w, eps)
                                 : rmsnorm<float>(s, out, x, w, eps);
}

template <typename T>
static int add_rmsnorm(ops_s s, kern_arg out, kern_arg sum, kern_arg x, kern_arg r, kern_arg w,
                       float eps) {
    T *to = cuda_data<T>(out), *keep = cuda_data<T>(sum), *by = cuda_data<T>(w);
    T *a = cuda_data<T>(x), *b = cuda_data<T>(r);
    int64_t d = x->dim[1];
    CUDA_LAUNCH(add_rmsnorm_block_per_row<T>, (unsigned)x->dim[0], CUDA_BLOCK, 0, s, to, keep, a, b,
                by, d, eps, row_packs(d, to, keep, a, b, by));
    return 0;
}

int cuda_add_rmsnorm(ops_s s, kern_arg out, kern_arg sum, kern_arg x, kern_arg r, kern_arg w,
                     float eps) {
    return x->dtype == KERN_BF16 ? add_rmsnorm<bf16>(s, out, sum, x, r, w, eps)
                                 : add_rmsnorm<float>(s, out, sum, x, r, w, eps);
}

static int64_t slices_of(int64_t rows) {
    return (rows + CUDA_NORM_SLICE - 1) / CUDA_NORM_SLICE;
}

int64_t cuda_norm_floats(int64_t n, int64_t d) {
    return n + (slices_of(n) + slices_of(slices_of(n)) + 1) * d;
}

/* gw += the sum of part's slices, by rounds of one launch; two areas in turn. */
static int add_weight(ops_s s, float *gw, float *part, int64_t slices, int64_t d) {
    unsigned columns = (unsigned)((d + CUDA_BLOCK - 1) / CUDA_BLOCK);
    float *other = part + slices * d, *was;
    for (int64_t left; slices > 0; slices = left) {
        left = slices > CUDA_NORM_SLICE ? slices_of(slices) : 0;
        CUDA_LAUNCH(rmsnorm_bwd_weight_sum, dim3(columns, left ? (unsigned)left : 1), CUDA_BLOCK, 0,
                    s, left ? other : gw, part, slices, d, left == 0);
        was = part;
        part = other;
        other = was;
    }
    return 0;
}

/* gx by row, which leaves each row's scale behind; gw from that in slices of rows, then their sum.
 */
template <typename T>
static int rmsnorm_bwd(ops_s s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,
                       float eps, bool accumulate) {
    int64_t n = x->dim[0], d = x->dim[1], slices = slices_of(n);
    void *memory = nullptr;
    TRY(cuda_scratch(&memory, s, "rmsnorm_bwd", (size_t)cuda_norm_floats(n, d) * sizeof(float)));
    float *scale = static_cast<float *>(memory), *part = scale + n;
    unsigned columns = (unsigned)((d + CUDA_BLOCK - 1) / CUDA_BLOCK);
    T *to = cuda_data<T>(gx), *from = cuda_data<T>(gout), *at = cuda_data<T>(x);
    T *by = cuda_data<T>(w);
    bool packed = row_packs(d, to, from, at, by);
    if (d <= CUDA_NORM_NARROW)
        CUDA_LAUNCH(rmsnorm_bwd_warp_per_row<T>, (unsigned)((n + CUDA_WARPS - 1) / CUDA_WARPS),
                    CUDA_BLOCK, 0, s, to, scale, from, at, by, n, d, eps, accumulate, packed);
    else
        CUDA_LAUNCH(rmsnorm_bwd_block_per_row<T>, (unsigned)n, CUDA_BLOCK, 0, s, to, scale, from,
                    at, by, d, eps, accumulate, packed);
    CUDA_LAUNCH(rmsnorm_bwd_weight_slices<T>, dim3(columns, (unsigned)slices), CUDA_BLOCK, 0, s,
                part, scale, cuda_data<T>(gout), cuda_data<T>(x), n, d);
    return add_weight(s, cuda_data<float>(gw), part, slices, d);
}

int cuda_rmsnorm_bwd(ops_s s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,
                     float eps, bool accumulate) {
    return x->dtype == KERN_BF16 ? rmsnorm_bwd<bf16>(s, gx, gw, gout, x, w, eps, accumulate)
                                 : rmsnorm_bwd<float>(s, gx, gw, gout, x, w, eps, accumulate);
}
