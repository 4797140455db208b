/* gemm.cu - matrix products: forward, gradient by input, gradient by weight.
 *
 * One tiled kernel serves the three through strides: C[m,n] (= or +=) sum_k A(m,k) B(k,n). An
 * element is one chain of fused multiply-adds over k in order, so its bits depend neither on M nor
 * on its place in the tile (I6). On devices where cuBLASLt can be had (cublaslt.cu) it computes the
 * same products with one fixed algorithm for each (op, N, K, dtype); this kernel is then what is
 * left for odd shapes, and what the op suite runs on the host. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gemm.h"

static const int TILE_M = 64, TILE_N = 64, TILE_K = 16, EACH_M = 4, EACH_N = 4, THREADS = 256;

struct operand { /* element (r, k) at data[r * row + k * col] */
    const void *data;
    int64_t row, col;
};

/* tile[k][r] = operand(first + r, k0 + k), zeros outside. Neighbouring threads read along the
 * operand's dense direction. */
template <typename T>
static __device__ void load_tile(float (*tile)[TILE_M + 1], struct operand x, int64_t first,
                                 int64_t rows, int64_t k0, int64_t depth) {
    const T *data = static_cast<const T *>(x.data);
    for (int i = (int)threadIdx.x; i < TILE_M * TILE_K; i += THREADS) {
        int k = x.col == 1 ? i % TILE_K : i / TILE_M, r = x.col == 1 ? i / TILE_K : i % TILE_M;
        bool in = first + r < rows && k0 + k < depth;
        tile[k][r] = in ? cuda_get(data + (first + r) * x.row + (k0 + k) * x.col) : 0;
    }
}

/* Ta, Tb, Tc: element types; bias [N] or null; accumulate: start from C. */
template <typename Ta, typename Tb, typename Tc>
static __global__ void __launch_bounds__(THREADS)
    gemm_tiled(Tc *__restrict__ c, struct operand a, struct operand b, const Tb *__restrict__ bias,
               int64_t m, int64_t n, int64_t depth, bool accumulate) {
    __shared__ float at[TILE_K][TILE_M + 1], bt[TILE_K][TILE_N + 1];
    int64_t m0 = (int64_t)blockIdx.y * TILE_M, n0 = (int64_t)blockIdx.x * TILE_N;
    int tm = (int)threadIdx.x / 16 * EACH_M, tn = (int)threadIdx.x % 16 * EACH_N;
    float sum[EACH_M][EACH_N];
    for (int i = 0; i < EACH_M; i++)
        for (int j = 0; j < EACH_N; j++) {
            int64_t r = m0 + tm + i, q = n0 + tn + j;
            bool in = r < m && q < n;
            sum[i][j] = in && accumulate ? cuda_get(c + r * n + q)
                        : in && bias     ? cuda_get(bias + q)
                                         : 0;
        }
    for (int64_t k0 = 0; k0 < depth; k0 += TILE_K) {
        load_tile<Ta>(at, a, m0, m, k0, depth);
        load_tile<Tb>(bt, b, n0, n, k0, depth);
        __syncthreads();
        for (int k = 0; k < TILE_K && k0 + k < depth; k++)
            for (int i = 0; i < EACH_M; i++)
                for (int j = 0; j < EACH_N; j++)
                    sum[i][j] = fmaf(at[k][tm + i], bt[k][tn + j], sum[i][j]);
        __syncthreads();
    }
    for (int i = 0; i < EACH_M; i++)
        for (int j = 0; j < EACH_N; j++)
            if (m0 + tm + i < m && n0 + tn + j < n)
                cuda_set(c + (m0 + tm + i) * n + n0 + tn + j, sum[i][j]);
}

/* gbias[o] += sum over rows of gy, in row order */
template <typename T>
static __global__ void bias_bwd_thread_per_column(float *__restrict__ gbias,
                                                  const T *__restrict__ gy, int64_t n, int64_t o) {
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (j >= o) return;
    float sum = gbias[j];
    for (int64_t i = 0; i < n; i++)
        sum += cuda_get(gy + i * o + j);
    gbias[j] = sum;
}

/* --- launchers ------------------------------------------------------------------------------ */

struct product { /* C[m,n] of depth k */
    struct operand a, b;
    const void *bias;
    int64_t m, n, k;
    bool accumulate;
};

template <typename Ta, typename Tb, typename Tc>
static int tiled(ops_s s, Tc *c, const struct product *p) {
    auto *kernel = gemm_tiled<Ta, Tb, Tc>;
    dim3 grid((unsigned)((p->n + TILE_N - 1) / TILE_N), (unsigned)((p->m + TILE_M - 1) / TILE_M));
    CUDA_LAUNCH(kernel, grid, THREADS, 0, s, c, p->a, p->b, static_cast<const Tb *>(p->bias), p->m,
                p->n, p->k, p->accumulate);
    return 0;
}

/* Activations and weights have one type; a product of activations by weights may be stored in f32
 * (logits), a gradient of weights always is. */
static int product(ops_s s, kern_arg c, const struct product *p, enum kern_dtype in) {
    if (in == KERN_F32) return tiled<float, float, float>(s, cuda_data<float>(c), p);
    if (c->dtype == KERN_F32) return tiled<bf16, bf16, float>(s, cuda_data<float>(c), p);
    return tiled<bf16, bf16, bf16>(s, cuda_data<bf16>(c), p);
}

int cuda_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias) {
    (void)packed; /* pack_bytes is 0 */
    int rc = cublaslt_matmul(s, y, x, w, bias);
    if (rc != ERR_UNSUP) return rc;
    struct product p = {.a = {x->data, x->dim[1], 1},
                        .b = {w->data, x->dim[1], 1},
                        .bias = bias ? bias->data : nullptr,
                        .m = y->dim[0],
                        .n = y->dim[1],
                        .k = x->dim[1],
                        .accumulate = false};
    return product(s, y, &p, x->dtype);
}

int cuda_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate) {
    int rc = cublaslt_matmul_dx(s, gx, gy, w, accumulate);
    if (rc != ERR_UNSUP) return rc;
    struct product p = {.a = {gy->data, gy->dim[1], 1},
                        .b = {w->data, 1, gx->dim[1]},
                        .bias = nullptr,
                        .m = gx->dim[0],
                        .n = gx->dim[1],
                        .k = gy->dim[1],
                        .accumulate = accumulate};
    return product(s, gx, &p, gy->dtype);
}

template <typename T> static int bias_bwd(ops_s s, kern_arg gbias, kern_arg gy) {
    const int COLUMNS = 64;
    CUDA_LAUNCH(bias_bwd_thread_per_column<T>, (unsigned)((gy->dim[1] + COLUMNS - 1) / COLUMNS),
                COLUMNS, 0, s, cuda_data<float>(gbias), cuda_data<T>(gy), gy->dim[0], gy->dim[1]);
    return 0;
}

int cuda_matmul_dw(ops_s s, kern_arg gw, kern_arg gbias, kern_arg gy, kern_arg x) {
    if (gbias)
        TRY(gy->dtype == KERN_BF16 ? bias_bwd<bf16>(s, gbias, gy) : bias_bwd<float>(s, gbias, gy));
    int rc = cublaslt_matmul_dw(s, gw, gy, x);
    if (rc != ERR_UNSUP) return rc;
    struct product p = {.a = {gy->data, 1, gy->dim[1]},
                        .b = {x->data, 1, x->dim[1]},
                        .bias = nullptr,
                        .m = gw->dim[0],
                        .n = gw->dim[1],
                        .k = gy->dim[0],
                        .accumulate = true};
    return product(s, gw, &p, gy->dtype);
}

size_t cuda_pack_bytes(enum kern_dtype t, int64_t out, int64_t in) {
    (void)t;
    (void)out;
    (void)in;
    return 0;
}

int cuda_pack_weight(ops_s s, kern_arg packed, kern_arg w) {
    (void)s;
    (void)packed;
    (void)w;
    return FAIL(ERR_UNSUP, "cuda does not pack weights");
}
