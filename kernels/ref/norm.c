/* norm.c - RMSNorm (Zhang & Sennrich 2019) and its reverse.
 *
 * With r = 1/sqrt(mean(x^2) + eps) and y = x r w, the reverse is
 *   gx = r (gout w) - x r^3 / d * sum_j(gout_j w_j x_j),   gw += sum over rows of gout x r. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>

static double inverse_rms(const float *x, int64_t d, float eps) {
    double sum = 0;
    for (int64_t j = 0; j < d; j++)
        sum += (double)x[j] * (double)x[j];
    return 1 / sqrt(sum / (double)d + (double)eps);
}

int ref_rmsnorm(ops_s s, kern_arg out, kern_arg x, kern_arg w, float eps) {
    (void)s;
    const int64_t d = x->dim[1];
    for (int64_t i = 0; i < x->dim[0]; i++) {
        const float *row = host_f32(x) + i * d;
        double r = inverse_rms(row, d, eps);
        for (int64_t j = 0; j < d; j++)
            host_f32(out)[i * d + j] = (float)((double)row[j] * r * (double)host_f32(w)[j]);
    }
    return 0;
}

int ref_rmsnorm_bwd(ops_s s, kern_arg gx, kern_arg gw, kern_arg gout, kern_arg x, kern_arg w,
                    float eps, bool accumulate) {
    const int64_t n = x->dim[0], d = x->dim[1];
    double *sum = NULL;
    TRY(host_scratch(&sum, s, "rmsnorm_bwd", (size_t)d * sizeof *sum));
    for (int64_t j = 0; j < d; j++)
        sum[j] = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *xi = host_f32(x) + i * d, *gi = host_f32(gout) + i * d, *wi = host_f32(w);
        float *out = host_f32(gx) + i * d;
        double r = inverse_rms(xi, d, eps), c = 0;
        for (int64_t j = 0; j < d; j++)
            c += (double)gi[j] * (double)wi[j] * (double)xi[j];
        for (int64_t j = 0; j < d; j++) {
            double xj = xi[j], gj = gi[j];
            double g = r * gj * (double)wi[j] - xj * r * r * r * c / (double)d;
            sum[j] += gj * xj * r;
            out[j] = (float)(accumulate ? (double)out[j] + g : g);
        }
    }
    for (int64_t j = 0; j < d; j++)
        host_f32(gw)[j] = (float)((double)host_f32(gw)[j] + sum[j]);
    return 0;
}
