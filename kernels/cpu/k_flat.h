/* k_flat.h - elementwise kernels and the scalar product (template; see vec.h). All are bound by
 * memory, so each is one pass. Of f32, or of both types at once; k_act.h has those of either. */
#ifndef KERNELS_CPU_K_FLAT_H
#define KERNELS_CPU_K_FLAT_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

#include <string.h>

static void k_axpby(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct flat_args *a = args;
    const vf alpha = vf_set(a->alpha), beta = vf_set(a->beta);
    const float *x = a->a;
    float *out = a->out;
    (void)scratch;
    for (int64_t i = begin; i < end; i += VEC) {
        vf y = vf_mul(beta, vf_load_n(out + i, end - i));
        vf_store_n(out + i, vf_fma(alpha, vf_load_n(x + i, end - i), y), end - i);
    }
}

static double vd_total(struct vd a) {
    double lane[VEC], sum = 0;
    vd_store(lane, a);
    for (int i = 0; i < VEC; i++)
        sum += lane[i];
    return sum;
}

/* The bits of floats where they lie: a plain uint32_t may not be used to read or write them, and a
 * compiler that relies on that may move the loads of floats before the stores of their bits. */
typedef uint32_t __attribute__((__may_alias__)) float_bits;

/* Round to nearest even; a NaN stays one. Plain integer code: the compiler vectorises it. */
static void to_bf16(uint16_t *out, const float_bits *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = x[i], rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
        out[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? (u >> 16 | 0x40) : rounded);
    }
}

static void from_bf16(float_bits *out, const uint16_t *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint32_t)x[i] << 16;
}

enum { FLAT_BLOCK = 32 * VEC }; /* elements of bf16 that are widened at a time */

/* Elements [i, i + n) as f32, n <= FLAT_BLOCK: where they lie, or widened into buf. */
static const float *widened(const float *x, const uint16_t *b16, int64_t i, int64_t n, float *buf) {
    if (!b16) return x ? x + i : NULL;
    from_bf16((float_bits *)buf, b16 + i, n);
    return buf;
}

struct dot_sums {
    struct vd xy, xx, yy;
};

static struct dot_sums dot_block(struct dot_sums s, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i += VEC) {
        vf x = vf_load_n(a + i, n - i);
        s.xx = vd_fma(s.xx, x, x);
        if (!b) continue;
        vf y = vf_load_n(b + i, n - i);
        s.xy = vd_fma(s.xy, x, y);
        s.yy = vd_fma(s.yy, y, y);
    }
    return s;
}

/* Segment i sums elements i*segment .. of a b, a a, b b. */
static void k_dot(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct flat_args *a = args;
    float buf[FLAT_BLOCK];
    (void)scratch;
    for (int64_t s = begin; s < end; s++) {
        const int64_t from = s * a->segment;
        const int64_t to = from + a->segment < a->n ? from + a->segment : a->n;
        struct dot_sums sum = {vd_zero(), vd_zero(), vd_zero()};
        for (int64_t i = from; i < to; i += FLAT_BLOCK) {
            const int64_t n = to - i < FLAT_BLOCK ? to - i : FLAT_BLOCK;
            sum = dot_block(sum, (const float *)a->a + i, widened(a->b, a->b16, i, n, buf), n);
        }
        a->partial[3 * s] = vd_total(sum.xy);
        a->partial[3 * s + 1] = vd_total(sum.xx);
        a->partial[3 * s + 2] = vd_total(sum.yy);
    }
}

/* along NULL: the gradient is used as it is. m may be along. */
static void adamw_block(const struct adam_args *a, int64_t at, const float *along, int64_t n) {
    const vf b1 = vf_set(a->beta1), b2 = vf_set(a->beta2), r1 = vf_set(a->rest1);
    const vf r2 = vf_set(a->rest2), step = vf_set(a->step), root = vf_set(a->root);
    const vf eps = vf_set(a->eps), decay = vf_set(-a->decay), scale = vf_set(a->grad_scale);
    const vf much = vf_set(a->along_scale);
    float *pw = a->w + at, *pm = a->m + at, *pv = a->v + at;
    for (int64_t i = 0; i < n; i += VEC) {
        vf g = vf_load_n(a->g + at + i, n - i), w = vf_load_n(pw + i, n - i);
        if (along) g = vf_fma(much, vf_load_n(along + i, n - i), g);
        g = vf_mul(g, scale);
        vf m = vf_fma(b1, vf_load_n(pm + i, n - i), vf_mul(r1, g));
        vf v = vf_fma(b2, vf_load_n(pv + i, n - i), vf_mul(r2, vf_mul(g, g)));
        vf delta = vf_div(vf_mul(step, m), vf_fma(vf_sqrt(v), root, eps));
        vf_store_n(pm + i, m, n - i);
        vf_store_n(pv + i, v, n - i);
        vf_store_n(pw + i, vf_sub(vf_fma(decay, w, w), delta), n - i);
    }
}

/* Which of the n elements from `at` on, that were `was`, have other bits now; rounded: once
 * rounded.
 */
static void note_changed(const struct adam_args *a, int64_t at, const float *was, int64_t n) {
    uint16_t *to = a->changed + at / VEC;
    for (int64_t i = 0; i < n; i += VEC) {
        vf old = vf_load_n(was + i, n - i), now = vf_load_n(a->w + at + i, n - i);
        uint32_t bits = a->rounded ? vf_differ(vf_bf16(old), vf_bf16(now)) : vf_differ(old, now);
        to[i / VEC] = (uint16_t)(bits | (a->changed_or ? to[i / VEC] : 0));
    }
}

static void k_adamw(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct adam_args *a = args;
    float buf[FLAT_BLOCK], was[FLAT_BLOCK];
    (void)scratch;
    for (int64_t i = begin; i < end; i += FLAT_BLOCK) {
        const int64_t n = end - i < FLAT_BLOCK ? end - i : FLAT_BLOCK;
        if (a->changed) memcpy(was, a->w + i, (size_t)n * sizeof *was);
        adamw_block(a, i, widened(a->along, a->along16, i, n, buf), n);
        if (a->keep) to_bf16(a->keep + i, (const float_bits *)a->g + i, n);
        if (a->rounded) to_bf16(a->rounded + i, (const float_bits *)a->w + i, n);
        if (a->changed) note_changed(a, i, was, n);
    }
}

static void k_cast(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct cast_args *a = args;
    (void)scratch;
    if (a->to_bf16)
        to_bf16((uint16_t *)a->dst + begin, (const float_bits *)a->src + begin, end - begin);
    else
        from_bf16((float_bits *)a->dst + begin, (const uint16_t *)a->src + begin, end - begin);
}

#endif
