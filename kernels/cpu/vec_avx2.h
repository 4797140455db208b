/* vec_avx2.h - the 16-lane vector of vec.h in two AVX2 registers (with FMA). */
#ifndef KERNELS_CPU_VEC_AVX2_H
#define KERNELS_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct vf {
    __m256 a, b;
} vf;
struct vd { /* 16 doubles */
    __m256d v[4];
};

static inline __m256i vf_mask(int64_t n) { /* first n of 8 lanes; n may be outside 0..8 */
    int k = n > 8 ? 8 : n < 0 ? 0 : (int)n;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(k), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf vf_zero(void) {
    return (vf){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
static inline vf vf_set(float x) {
    return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static inline vf vf_load(const float *p) {
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline vf vf_load_n(const float *p, int64_t n) {
    vf r = {_mm256_maskload_ps(p, vf_mask(n)), _mm256_setzero_ps()};
    if (n > 8) r.b = _mm256_maskload_ps(p + 8, vf_mask(n - 8));
    return r;
}
static inline void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline void vf_store_n(float *p, vf x, int64_t n) {
    _mm256_maskstore_ps(p, vf_mask(n), x.a);
    if (n > 8) _mm256_maskstore_ps(p + 8, vf_mask(n - 8), x.b);
}
#define VF_LANES2(name, intrinsic)                                                                 \
    static inline vf name(vf x, vf y) {                                                            \
        return (vf){intrinsic(x.a, y.a), intrinsic(x.b, y.b)};                                     \
    }
VF_LANES2(vf_add, _mm256_add_ps)
VF_LANES2(vf_sub, _mm256_sub_ps)
VF_LANES2(vf_mul, _mm256_mul_ps)
VF_LANES2(vf_div, _mm256_div_ps)
VF_LANES2(vf_max, _mm256_max_ps) /* y where x or y is NaN */
VF_LANES2(vf_min, _mm256_min_ps)
static inline vf vf_sqrt(vf x) {
    return (vf){_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)};
}
static inline vf vf_fma(vf x, vf y, vf z) {
    return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline vf vf_round(vf x) {
    return (vf){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/* Bit i: lanes i have other bits. */
static inline uint32_t vf_differ8(__m256 x, __m256 y) {
    __m256i same = _mm256_cmpeq_epi32(_mm256_castps_si256(x), _mm256_castps_si256(y));
    return ~(uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(same)) & 0xff;
}
static inline uint32_t vf_differ(vf x, vf y) {
    return vf_differ8(x.a, y.a) | vf_differ8(x.b, y.b) << 8;
}
static inline __m256 vf_bf16_8(__m256 x) {
    __m256i u = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), nan);
    return _mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32((int)0xffff0000)));
}
/* Lanes rounded to bf16, to nearest even; a NaN stays one. */
static inline vf vf_bf16(vf x) {
    return (vf){vf_bf16_8(x.a), vf_bf16_8(x.b)};
}
/* x where a >= b, else 0; a NaN in a gives x */
static inline vf vf_keep_unless_less(vf x, vf a, vf b) {
    return (vf){_mm256_and_ps(_mm256_cmp_ps(a.a, b.a, _CMP_NLT_UQ), x.a),
                _mm256_and_ps(_mm256_cmp_ps(a.b, b.b, _CMP_NLT_UQ), x.b)};
}
/* The first n lanes of x, other in the rest. */
static inline vf vf_first(vf x, int64_t n, vf other) {
    return (vf){_mm256_blendv_ps(other.a, x.a, _mm256_castsi256_ps(vf_mask(n))),
                _mm256_blendv_ps(other.b, x.b, _mm256_castsi256_ps(vf_mask(n - 8)))};
}
static inline __m256 vf_pow2_8(__m256 n) {
    __m256i i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(i, 23));
}
/* 2^n for integral n in [-126, 127] */
static inline vf vf_pow2(vf n) {
    return (vf){vf_pow2_8(n.a), vf_pow2_8(n.b)};
}
static inline vf vf_zip8(__m256 a, __m256 b) {
    __m256 lo = _mm256_unpacklo_ps(a, b), hi = _mm256_unpackhi_ps(a, b);
    return (vf){_mm256_permute2f128_ps(lo, hi, 0x20), _mm256_permute2f128_ps(lo, hi, 0x31)};
}
/* lo: a0 b0 a1 b1 ..., hi: from lane 8 on */
static inline void vf_zip(vf *lo, vf *hi, vf a, vf b) {
    *lo = vf_zip8(a.a, b.a);
    *hi = vf_zip8(a.b, b.b);
}
/* p[0] in even lanes, p[1] in odd ones */
static inline vf vf_set2(const float *p) {
    double both;
    memcpy(&both, p, sizeof both);
    __m256 x = _mm256_castpd_ps(_mm256_set1_pd(both));
    return (vf){x, x};
}
static inline float vf_tree8(__m256 s, int max) { /* lanes i+4, then i+2, then i+1 */
    __m128 lo = _mm256_castps256_ps128(s), hi = _mm256_extractf128_ps(s, 1);
    __m128 a = max ? _mm_max_ps(lo, hi) : _mm_add_ps(lo, hi);
    __m128 b = _mm_movehl_ps(a, a);
    a = max ? _mm_max_ps(a, b) : _mm_add_ps(a, b);
    b = _mm_shuffle_ps(a, a, 1);
    return _mm_cvtss_f32(max ? _mm_max_ss(a, b) : _mm_add_ss(a, b));
}
static inline float vf_sum(vf x) {
    return vf_tree8(_mm256_add_ps(x.a, x.b), 0);
}
static inline float vf_hmax(vf x) {
    return vf_tree8(_mm256_max_ps(x.a, x.b), 1);
}
/* Sums of 8 vectors; lane 4b + i is that of x[i * 2 + b] before the reordering index. */
static inline __m256 vf_sum8(const vf *x) {
    __m256 a[8], b[4], c[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const vf *v = &x[i % 2 * 4 + i / 2];
        a[i] = _mm256_add_ps(v->a, v->b);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        b[i] = _mm256_add_ps(_mm256_permute2f128_ps(a[2 * i], a[2 * i + 1], 0x20),
                             _mm256_permute2f128_ps(a[2 * i], a[2 * i + 1], 0x31));
    for (int i = 0; i < 2; i++)
        c[i] = _mm256_add_ps(_mm256_shuffle_ps(b[2 * i], b[2 * i + 1], 0x44),
                             _mm256_shuffle_ps(b[2 * i], b[2 * i + 1], 0xee));
    return _mm256_add_ps(_mm256_shuffle_ps(c[0], c[1], 0x88), _mm256_shuffle_ps(c[0], c[1], 0xdd));
}
/* Lane i: vf_sum(x[i]), the same bits. */
static inline vf vf_sum16(const vf x[16]) {
    return (vf){vf_sum8(x), vf_sum8(x + 8)};
}

static inline struct vd vd_zero(void) {
    __m256d z = _mm256_setzero_pd();
    return (struct vd){{z, z, z, z}};
}
static inline __m256d vd_part(vf x, int i) {
    __m256 half = i < 2 ? x.a : x.b;
    return _mm256_cvtps_pd(i % 2 ? _mm256_extractf128_ps(half, 1) : _mm256_castps256_ps128(half));
}
/* acc + a b, exact products */
static inline struct vd vd_fma(struct vd acc, vf a, vf b) {
    for (int i = 0; i < 4; i++)
        acc.v[i] = _mm256_fmadd_pd(vd_part(a, i), vd_part(b, i), acc.v[i]);
    return acc;
}
static inline void vd_store(double out[16], struct vd a) {
    for (int i = 0; i < 4; i++)
        _mm256_storeu_pd(out + 4 * i, a.v[i]);
}

#endif
