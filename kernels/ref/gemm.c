/* gemm.c - matrix products: forward, gradient by input, gradient by weight. Each output element is
 * one double sum in index order. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

int ref_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias) {
    (void)s;
    (void)packed;
    const int64_t n = y->dim[0], o = y->dim[1], in = x->dim[1];
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < o; c++) {
            double sum = bias ? host_load(bias, c) : 0;
            for (int64_t k = 0; k < in; k++)
                sum += host_load(x, r * in + k) * host_load(w, c * in + k);
            host_store(y, r * o + c, sum);
        }
    return 0;
}

int ref_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate) {
    (void)s;
    const int64_t n = gy->dim[0], o = gy->dim[1], in = gx->dim[1];
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < in; i++) {
            double sum = accumulate ? host_load(gx, r * in + i) : 0;
            for (int64_t k = 0; k < o; k++)
                sum += host_load(gy, r * o + k) * host_load(w, k * in + i);
            host_store(gx, r * in + i, sum);
        }
    return 0;
}

int ref_matmul_dw(ops_s s, kern_arg gw, kern_arg gbias, kern_arg gy, kern_arg x) {
    (void)s;
    const int64_t n = gy->dim[0], o = gy->dim[1], in = x->dim[1];
    for (int64_t c = 0; c < o; c++) {
        for (int64_t i = 0; i < in; i++) {
            double sum = (double)host_f32(gw)[c * in + i];
            for (int64_t r = 0; r < n; r++)
                sum += host_load(gy, r * o + c) * host_load(x, r * in + i);
            host_f32(gw)[c * in + i] = (float)sum;
        }
        if (!gbias) continue;
        double sum = (double)host_f32(gbias)[c];
        for (int64_t r = 0; r < n; r++)
            sum += host_load(gy, r * o + c);
        host_f32(gbias)[c] = (float)sum;
    }
    return 0;
}
