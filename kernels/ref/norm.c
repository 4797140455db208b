/* norm.c - RMSNorm (Zhang & Sennrich 2019) and its reverse.
 *
 * With r = 1/sqrt(mean(x^2) + eps) and y = x r w, the reverse is
 *   gx = r (gout w) - x r^3 / d * sum_j(gout_j w_j x_j),   gw += sum over rows of gout x r. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>

/* Of the row whose first element is number i. */
static double inverse_rms(kern_arg x, int64_t i, int64_t d, float eps) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++)
        sum += host_load(x, i + j) * host_load(x, i + j);
    return 1 / sqrt(sum / (double)d + (double)eps);
}

int ref_rmsnorm(ops_s s, kern_arg out, kern_arg x, kern_arg w, float eps) {
    (void)s;
    const int64_t d = x->dim[1];
    for (int64_t i = 0; i < x->dim[0]; i++) {
        double r = inverse_rms(x, i * d, d, eps);
        for (int64_t j = 0; j < d; j++)
            host_store(out, i * d + j, host_load(x, i * d + j) * r * host_load(w, j));
    }
    return 0;
}

/* Each half stores through the views, so the norm reads what add would have left. */
int ref_add_rmsnorm(ops_s s, kern_arg out, kern_arg sum, kern_arg x, kern_arg r, kern_arg w,
                    float eps) {
    TRY(ref_add(s, sum, x, r));
    return ref_rmsnorm(s, out, sum, w, eps);
}

int ref_norm_rope(ops_s s, kern_arg q, kern_arg q0, kern_arg w, float eps, kern_arg pos,
                  kern_arg cos, kern_arg sin) {
    const int64_t rows = q->dim[0] * q->dim[1];
    struct kern_tensor to = kern_view2(q->data, q->dtype, rows, q->dim[2]);
    struct kern_tensor from = kern_view2(q0->data, q0->dtype, rows, q->dim[2]);
    if (w)
        TRY(ref_rmsnorm(s, &to, &from, w, eps));
    else if (q->data != q0->data)
        TRY(host_copy(s, q->data, q0->data, to.bytes));
    return ref_rope(s, q, pos, cos, sin, false);
}

int ref_rmsnorm_bwd(ops_s s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,
                    float eps, bool accumulate) {
    const int64_t n = x->dim[0], d = x->dim[1];
    double *sum = NULL;
    TRY(host_scratch(&sum, s, "rmsnorm_bwd", (size_t)d * sizeof *sum));
    for (int64_t j = 0; j < d; j++)
        sum[j] = 0;
    for (int64_t i = 0; i < n; i++) {
        double r = inverse_rms(x, i * d, d, eps), c = 0;
        for (int64_t j = 0; j < d; j++)
            c += host_load(gout, i * d + j) * host_load(w, j) * host_load(x, i * d + j);
        for (int64_t j = 0; j < d; j++) {
            const int64_t at = i * d + j;
            double xj = host_load(x, at), gj = host_load(gout, at);
            double g = r * gj * host_load(w, j) - xj * r * r * r * c / (double)d;
            sum[j] += gj * xj * r;
            host_store(gx, at, accumulate ? host_load(gx, at) + g : g);
        }
    }
    for (int64_t j = 0; j < d; j++)
        host_f32(gw)[j] = (float)((double)host_f32(gw)[j] + sum[j]);
    return 0;
}
