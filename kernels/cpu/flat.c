/* flat.c - elementwise ops of the cpu backend: activations, addition, optimizer, casts, and the
 * scalar product, whose partial sums are cut by the element count alone so that the result does not
 * depend on the number of threads. */
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>

enum { GRAIN = 1 << 13, GRAIN_EXP = 1 << 12, LANES = 16 };

int cpu_swiglu(ops_s s, kern_arg out, kern_arg gate, kern_arg up) {
    struct flat_args a = {.out = out->data, .a = gate->data, .b = up->data};
    return cpu_for("swiglu", cpu_isa_of(out)->swiglu, &a, kern_elements(out), GRAIN_EXP, s, 0);
}

int cpu_swiglu_bwd(ops_s s, kern_arg ggate, kern_arg gup, kern_arg gout, kern_arg gate,
                   kern_arg up) {
    struct flat_args a = {
        .out = ggate->data, .out2 = gup->data, .a = gate->data, .b = up->data, .c = gout->data};
    return cpu_for("swiglu_bwd", cpu_isa_of(gout)->swiglu_bwd, &a, kern_elements(gout), GRAIN_EXP,
                   s, 0);
}

int cpu_add(ops_s s, kern_arg out, kern_arg x, kern_arg y) {
    struct flat_args f = {.out = out->data, .a = x->data, .b = y->data};
    return cpu_for("add", cpu_isa_of(out)->add, &f, kern_elements(out), GRAIN, s, 0);
}

int cpu_axpby(ops_s s, kern_arg y, float alpha, kern_arg x, float beta) {
    struct flat_args f = {.out = host_f32(y), .a = host_f32(x), .alpha = alpha, .beta = beta};
    return cpu_for("axpby", cpu_isa()->axpby, &f, kern_elements(y), GRAIN, s, 0);
}

int cpu_adamw(ops_s s, kern_arg w, kern_arg m, kern_arg v, kern_arg g, const struct kern_adamw *p) {
    const double b1 = (double)p->beta1, b2 = (double)p->beta2;
    const double c1 = 1 - pow(b1, (double)p->step), c2 = 1 - pow(b2, (double)p->step);
    struct adam_args a = {.w = host_f32(w),
                          .m = host_f32(m),
                          .v = host_f32(v),
                          .g = host_f32(g),
                          .beta1 = p->beta1,
                          .beta2 = p->beta2,
                          .rest1 = (float)(1 - b1),
                          .rest2 = (float)(1 - b2),
                          .step = (float)((double)p->lr / c1),
                          .root = (float)(1 / sqrt(c2)),
                          .eps = p->eps,
                          .decay = p->lr * p->weight_decay,
                          .grad_scale = p->grad_scale};
    const struct kern_tensor *along = &p->along;
    if (along->data && along->dtype == KERN_F32) a.along = along->data;
    if (along->data && along->dtype == KERN_BF16) a.along16 = along->data;
    a.along_scale = p->along_scale;
    a.keep = p->keep.data;
    a.rounded = p->rounded.data;
    if (p->changed.data) a.changed = (uint16_t *)p->changed.data + p->changed_at / LANES;
    a.changed_or = p->changed_or;
    return cpu_for("adamw", cpu_isa()->adamw, &a, kern_elements(w), GRAIN, s, 0);
}

int cpu_dot(ops_s s, double out[3], kern_arg x, kern_arg y) {
    double partial[3 * DOT_SEGMENTS];
    struct flat_args f = {.a = host_f32(x), .partial = partial, .n = kern_elements(x)};
    if (y && y->dtype == KERN_F32) f.b = y->data;
    if (y && y->dtype == KERN_BF16) f.b16 = y->data;
    f.segment = (f.n / DOT_SEGMENTS / LANES + 1) * LANES;
    const int64_t segments = (f.n + f.segment - 1) / f.segment;
    TRY(cpu_for("dot", cpu_isa()->dot, &f, segments, f.segment < GRAIN ? GRAIN / f.segment : 1, s,
                0));
    double sum[3] = {0};
    for (int64_t i = 0; i < 3 * segments; i++)
        sum[i % 3] += partial[i];
    for (int i = 0; i < 3; i++)
        out[i] = sum[i];
    return 0;
}

int cpu_count_bits(ops_s s, int64_t *out, kern_arg words) {
    return ref_count_bits(s, out, words);
}

int cpu_cast(ops_s s, kern_arg dst, kern_arg src) {
    if (dst->dtype == src->dtype) return ref_cast(s, dst, src);
    struct cast_args a = {.src = src->data, .dst = dst->data, .to_bf16 = dst->dtype == KERN_BF16};
    return cpu_for("cast", cpu_isa()->cast, &a, kern_elements(src), GRAIN, s, 0);
}
