/* real.h - the stored numbers that a file of kernels is compiled for: f32, or with REAL_BF16 bf16.
 *
 * The templates (k_*.h) compute in f32 on vectors of vec.h whatever is stored: a load widens, which
 * is exact, a store rounds once, to nearest even. So one template serves both types, and a row's
 * bits in bf16 do not depend on other rows, threads or the instruction set for the same reason as
 * in f32. What a template reads back it reads as it was stored: rounded. */
#ifndef KERNELS_CPU_REAL_H
#define KERNELS_CPU_REAL_H

#include "kernels/cpu/vec_bf16.h"

#ifdef REAL_BF16

typedef uint16_t real;

static inline vf real_load(const real *p) {
    return vf_load16(p);
}
static inline vf real_load_n(const real *p, int64_t n) {
    return vf_load16_n(p, n);
}
static inline void real_store_n(real *p, vf x, int64_t n) {
    vf_store16_n(p, x, n);
}
static inline float real_get(real x) {
    uint32_t u = (uint32_t)x << 16;
    float f = 0;
    memcpy(&f, &u, sizeof f);
    return f;
}
/* n <= VEC numbers as floats: in buf, or where they are. */
static inline const float *real_wide(float buf[VEC], const real *p, int64_t n) {
    vf_store(buf, real_load_n(p, n));
    return buf;
}

#else

typedef float real;

static inline vf real_load(const real *p) {
    return vf_load(p);
}
static inline vf real_load_n(const real *p, int64_t n) {
    return vf_load_n(p, n);
}
static inline void real_store_n(real *p, vf x, int64_t n) {
    vf_store_n(p, x, n);
}
static inline float real_get(real x) {
    return x;
}
static inline const float *real_wide(float buf[VEC], const real *p, int64_t n) {
    (void)buf, (void)n;
    return p;
}

#endif

/* sum of a[i] b[i]: 4 x 16 chains, one tree. */
static inline float real_dot(const real *a, const real *b, int64_t n) {
    vf acc[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + 4 * VEC <= n; i += 4 * VEC)
        for (int j = 0; j < 4; j++)
            acc[j] = vf_fma(real_load(a + i + j * VEC), real_load(b + i + j * VEC), acc[j]);
    for (int j = 0; i < n; i += VEC, j++)
        acc[j] = vf_fma(real_load_n(a + i, n - i), real_load_n(b + i, n - i), acc[j]);
    return vf_sum(vf_add(vf_add(acc[0], acc[1]), vf_add(acc[2], acc[3])));
}

#endif
