/* k_act.h - the activation between feed-forward products, its reverse, and addition (template; see
 * real.h). Bound by memory, so each is one pass. */
#ifndef KERNELS_CPU_K_ACT_H
#define KERNELS_CPU_K_ACT_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/real.h"

static void k_swiglu(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct flat_args *f = args;
    const real *gate = f->a, *up = f->b;
    real *out = f->out;
    (void)scratch;
    for (int64_t i = begin; i < end; i += VEC) {
        vf g = real_load_n(gate + i, end - i), u = real_load_n(up + i, end - i);
        real_store_n(out + i, vf_mul(vf_mul(g, vf_sigmoid(g)), u), end - i);
    }
}

/* a gate, b up, c gout; out ggate, out2 gup */
static void k_swiglu_bwd(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct flat_args *f = args;
    const real *gate = f->a, *up = f->b, *gout = f->c;
    real *ggate = f->out, *gup = f->out2;
    (void)scratch;
    for (int64_t i = begin; i < end; i += VEC) {
        const int64_t n = end - i;
        vf g = real_load_n(gate + i, n), u = real_load_n(up + i, n), go = real_load_n(gout + i, n);
        vf s = vf_sigmoid(g), gs = vf_mul(g, s);
        vf slope = vf_fma(gs, vf_sub(vf_set(1), s), s); /* s + g s (1 - s) */
        real_store_n(ggate + i, vf_mul(vf_mul(go, u), slope), n);
        real_store_n(gup + i, vf_mul(go, gs), n);
    }
}

static void k_add(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct flat_args *f = args;
    const real *a = f->a, *b = f->b;
    real *out = f->out;
    (void)scratch;
    for (int64_t i = begin; i < end; i += VEC)
        real_store_n(out + i, vf_add(real_load_n(a + i, end - i), real_load_n(b + i, end - i)),
                     end - i);
}

#endif
