/* vec_scalar.h - the 16-lane vector of vec.h in plain C, for machines without AVX2 and FMA.
 *
 * The fused multiply-add is emulated exactly, so that this code gives the same bits as the others:
 * the product of two floats is exact in double; the sum is rounded to odd (Boldo & Melquiond,
 * "Emulation of FMA and correctly rounded sums", 2008), after which rounding to float is correct.
 */
#ifndef KERNELS_CPU_VEC_SCALAR_H
#define KERNELS_CPU_VEC_SCALAR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct vf {
    float v[16];
} vf;
struct vd { /* 16 doubles */
    double v[16];
};

static inline float vf_fma1(float a, float b, float c) {
    double p = (double)a * (double)b, x = (double)c, s = p + x;
    double back = s - p, error = (p - (s - back)) + (x - back);
    int64_t bits = 0;
    memcpy(&bits, &s, sizeof bits);
    if (error != 0 && isfinite(error) && !(bits & 1)) {
        bits += (error > 0) == (s > 0) ? 1 : -1;
        memcpy(&s, &bits, sizeof s);
    }
    return (float)s;
}

/* A vector whose lane i is expr. */
#define VF_LANES(expr)                                                                             \
    vf r_;                                                                                         \
    for (int i = 0; i < 16; i++)                                                                   \
        r_.v[i] = (expr);                                                                          \
    return r_

static inline vf vf_set(float x) {
    VF_LANES(x);
}
static inline vf vf_zero(void) {
    return vf_set(0);
}
static inline vf vf_load(const float *p) {
    VF_LANES(p[i]);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    VF_LANES(i < n ? p[i] : 0);
}
static inline void vf_store(float *p, vf x) {
    memcpy(p, x.v, sizeof x.v);
}
static inline void vf_store_n(float *p, vf x, int64_t n) {
    memcpy(p, x.v, (size_t)(n > 16 ? 16 : n) * sizeof *p);
}
static inline vf vf_add(vf x, vf y) {
    VF_LANES(x.v[i] + y.v[i]);
}
static inline vf vf_sub(vf x, vf y) {
    VF_LANES(x.v[i] - y.v[i]);
}
static inline vf vf_mul(vf x, vf y) {
    VF_LANES(x.v[i] * y.v[i]);
}
static inline vf vf_div(vf x, vf y) {
    VF_LANES(x.v[i] / y.v[i]);
}
static inline vf vf_sqrt(vf x) {
    VF_LANES(sqrtf(x.v[i]));
}
static inline vf vf_fma(vf x, vf y, vf z) {
    VF_LANES(vf_fma1(x.v[i], y.v[i], z.v[i]));
}
static inline vf vf_max(vf x, vf y) { /* y where x or y is NaN */
    VF_LANES(x.v[i] > y.v[i] ? x.v[i] : y.v[i]);
}
static inline vf vf_min(vf x, vf y) {
    VF_LANES(x.v[i] < y.v[i] ? x.v[i] : y.v[i]);
}
static inline vf vf_round(vf x) {
    VF_LANES(rintf(x.v[i]));
}
/* Bit i: lanes i have other bits. */
static inline uint32_t vf_differ(vf x, vf y) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; i++)
        bits |= (uint32_t)(memcmp(&x.v[i], &y.v[i], sizeof x.v[i]) != 0) << i;
    return bits;
}
static inline float vf_bf16_one(float x) {
    uint32_t u = 0;
    memcpy(&u, &x, sizeof u);
    u = (isnan(x) ? u | 0x400000 : u + 0x7fff + (u >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &u, sizeof x);
    return x;
}
/* Lanes rounded to bf16, to nearest even; a NaN stays one. */
static inline vf vf_bf16(vf x) {
    VF_LANES(vf_bf16_one(x.v[i]));
}
/* x where a >= b, else 0; a NaN in a gives x */
static inline vf vf_keep_unless_less(vf x, vf a, vf b) {
    VF_LANES(a.v[i] < b.v[i] ? 0 : x.v[i]);
}
/* The first n lanes of x, other in the rest. */
static inline vf vf_first(vf x, int64_t n, vf other) {
    VF_LANES(i < n ? x.v[i] : other.v[i]);
}
/* 2^n for integral n in [-126, 127]; a NaN gives something finite */
static inline vf vf_pow2(vf n) {
    VF_LANES(ldexpf(1, n.v[i] >= -126 && n.v[i] <= 127 ? (int)n.v[i] : 0));
}
/* lo: a0 b0 a1 b1 ..., hi: from lane 8 on */
static inline void vf_zip(vf *lo, vf *hi, vf a, vf b) {
    for (int i = 0; i < 8; i++) {
        lo->v[2 * i] = a.v[i];
        lo->v[2 * i + 1] = b.v[i];
        hi->v[2 * i] = a.v[i + 8];
        hi->v[2 * i + 1] = b.v[i + 8];
    }
}
/* p[0] in even lanes, p[1] in odd ones */
static inline vf vf_set2(const float *p) {
    VF_LANES(p[i % 2]);
}
static inline float vf_sum(vf x) { /* lanes i+8, then i+4, i+2, i+1 */
    for (int k = 8; k; k /= 2)
        for (int i = 0; i < k; i++)
            x.v[i] += x.v[i + k];
    return x.v[0];
}
static inline float vf_hmax(vf x) {
    for (int k = 8; k; k /= 2)
        for (int i = 0; i < k; i++)
            x.v[i] = x.v[i] > x.v[i + k] ? x.v[i] : x.v[i + k];
    return x.v[0];
}
/* Lane i: vf_sum(x[i]). */
static inline vf vf_sum16(const vf x[16]) {
    VF_LANES(vf_sum(x[i]));
}

static inline struct vd vd_zero(void) {
    return (struct vd){{0}};
}
/* acc + a b, exact products */
static inline struct vd vd_fma(struct vd acc, vf a, vf b) {
    for (int i = 0; i < 16; i++)
        acc.v[i] += (double)a.v[i] * (double)b.v[i];
    return acc;
}
static inline void vd_store(double out[16], struct vd a) {
    memcpy(out, a.v, sizeof a.v);
}

#endif
