/* optim.c - ops over whole parameter slabs: AdamW, scalar products, scaled sums, dtype casts. Each
 * element in double from float inputs, rounded once: what another backend's float arithmetic is
 * judged against. The decay is decoupled (it sees the weight before the step, not the moments);
 * which weights decay is the caller's business, by calling once for each run of them. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

int ref_adamw(ops_s s, kern_arg w, kern_arg m, kern_arg v, kern_arg g, const struct kern_adamw *p) {
    (void)s;
    double b1 = (double)p->beta1, b2 = (double)p->beta2;
    double c1 = 1 - pow(b1, (double)p->step), c2 = 1 - pow(b2, (double)p->step);
    for (int64_t i = 0, n = kern_elements(w); i < n; i++) {
        double gi = host_f32(g)[i], wi = host_f32(w)[i];
        if (p->along.data) gi += (double)p->along_scale * host_load(&p->along, i);
        if (p->keep.data) host_store(&p->keep, i, (double)host_f32(g)[i]);
        gi *= (double)p->grad_scale;
        double mi = b1 * (double)host_f32(m)[i] + (1 - b1) * gi;
        double vi = b2 * (double)host_f32(v)[i] + (1 - b2) * gi * gi;
        double step = mi / c1 / (sqrt(vi / c2) + (double)p->eps);
        host_f32(m)[i] = (float)mi;
        host_f32(v)[i] = (float)vi;
        host_f32(w)[i] = (float)(wi - (double)p->lr * (step + (double)p->weight_decay * wi));
    }
    return 0;
}

int ref_dot(ops_s s, double out[3], kern_arg a, kern_arg b) {
    (void)s;
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0, n = kern_elements(a); i < n; i++) {
        double x = host_f32(a)[i], y = b ? host_load(b, i) : 0;
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    out[0] = ab;
    out[1] = aa;
    out[2] = bb;
    return 0;
}

int ref_axpby(ops_s s, kern_arg y, float alpha, kern_arg x, float beta) {
    (void)s;
    for (int64_t i = 0, n = kern_elements(y); i < n; i++)
        host_f32(y)[i] =
            (float)((double)alpha * (double)host_f32(x)[i] + (double)beta * (double)host_f32(y)[i]);
    return 0;
}

int ref_cast(ops_s s, kern_arg dst, kern_arg src) {
    (void)s;
    const int64_t n = kern_elements(src);
    if (dst->dtype == src->dtype) {
        memmove(dst->data, src->data, (size_t)n * kern_dtype_bytes(src->dtype));
        return 0;
    }
    for (int64_t i = 0; i < n; i++)
        host_store(dst, i, host_load(src, i));
    return 0;
}
