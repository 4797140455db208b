/* vec_avx512.h - the 16-lane vector of vec.h in one AVX-512 register. */
#ifndef KERNELS_CPU_VEC_AVX512_H
#define KERNELS_CPU_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef __m512 vf;
struct vd { /* 16 doubles */
    __m512d a, b;
};

static inline __mmask16 vf_mask(int64_t n) {
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1);
}
static inline vf vf_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf vf_set(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(vf_mask(n), p);
}
static inline void vf_store(float *p, vf a) {
    _mm512_storeu_ps(p, a);
}
static inline void vf_store_n(float *p, vf a, int64_t n) {
    _mm512_mask_storeu_ps(p, vf_mask(n), a);
}
static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
static inline vf vf_sqrt(vf a) {
    return _mm512_sqrt_ps(a);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_max(vf a, vf b) { /* b where a or b is NaN */
    return _mm512_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* Bit i: lanes i have other bits. */
static inline uint32_t vf_differ(vf x, vf y) {
    return _mm512_cmpneq_epi32_mask(_mm512_castps_si512(x), _mm512_castps_si512(y));
}
/* Lanes rounded to bf16, to nearest even; a NaN stays one. */
static inline vf vf_bf16(vf x) {
    __m512i u = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), u,
                             _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_ps(_mm512_and_si512(r, _mm512_set1_epi32((int)0xffff0000)));
}
/* x where a >= b, else 0; a NaN in a gives x */
static inline vf vf_keep_unless_less(vf x, vf a, vf b) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x);
}
/* The first n lanes of x, other in the rest. */
static inline vf vf_first(vf x, int64_t n, vf other) {
    return _mm512_mask_blend_ps(vf_mask(n), other, x);
}
/* 2^n for integral n in [-126, 127] */
static inline vf vf_pow2(vf n) {
    __m512i i = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(i, 23));
}
/* lo: a0 b0 a1 b1 ..., hi: from lane 8 on */
static inline void vf_zip(vf *lo, vf *hi, vf a, vf b) {
    const __m512i at = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *lo = _mm512_permutex2var_ps(a, at, b);
    *hi = _mm512_permutex2var_ps(a, _mm512_add_epi32(at, _mm512_set1_epi32(8)), b);
}
/* p[0] in even lanes, p[1] in odd ones */
static inline vf vf_set2(const float *p) {
    double both;
    memcpy(&both, p, sizeof both);
    return _mm512_castpd_ps(_mm512_set1_pd(both));
}
static inline float vf_tree8(__m256 s, int max) { /* lanes i+4, then i+2, then i+1 */
    __m128 lo = _mm256_castps256_ps128(s), hi = _mm256_extractf128_ps(s, 1);
    __m128 a = max ? _mm_max_ps(lo, hi) : _mm_add_ps(lo, hi);
    __m128 b = _mm_movehl_ps(a, a);
    a = max ? _mm_max_ps(a, b) : _mm_add_ps(a, b);
    b = _mm_shuffle_ps(a, a, 1);
    return _mm_cvtss_f32(max ? _mm_max_ss(a, b) : _mm_add_ss(a, b));
}
static inline __m256 vf_high(vf a) {
    return _mm512_extractf32x8_ps(a, 1);
}
static inline float vf_sum(vf a) {
    return vf_tree8(_mm256_add_ps(_mm512_castps512_ps256(a), vf_high(a)), 0);
}
static inline float vf_hmax(vf a) {
    return vf_tree8(_mm256_max_ps(_mm512_castps512_ps256(a), vf_high(a)), 1);
}
/* Lane i: vf_sum(x[i]), the same bits. Four rounds of "add the other half", each on two vectors at
 * once; the index 4i + j below undoes the order in which the rounds interleave. */
static inline vf vf_sum16(const vf x[16]) {
    vf a[8], b[4], c[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        int p = 2 * i, q = 2 * i + 1;
        vf u = x[p % 4 * 4 + p / 4], v = x[q % 4 * 4 + q / 4];
        a[i] = _mm512_add_ps(_mm512_shuffle_f32x4(u, v, 0x44), _mm512_shuffle_f32x4(u, v, 0xee));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        b[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(a[2 * i], a[2 * i + 1], 0xdd));
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_add_ps(_mm512_shuffle_ps(b[2 * i], b[2 * i + 1], 0x44),
                             _mm512_shuffle_ps(b[2 * i], b[2 * i + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_ps(c[0], c[1], 0x88), _mm512_shuffle_ps(c[0], c[1], 0xdd));
}

static inline struct vd vd_zero(void) {
    return (struct vd){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
/* acc + a b, exact products */
static inline struct vd vd_fma(struct vd acc, vf a, vf b) {
    __m512d al = _mm512_cvtps_pd(_mm512_castps512_ps256(a)), ah = _mm512_cvtps_pd(vf_high(a));
    __m512d bl = _mm512_cvtps_pd(_mm512_castps512_ps256(b)), bh = _mm512_cvtps_pd(vf_high(b));
    return (struct vd){_mm512_fmadd_pd(al, bl, acc.a), _mm512_fmadd_pd(ah, bh, acc.b)};
}
static inline void vd_store(double out[16], struct vd a) {
    _mm512_storeu_pd(out, a.a);
    _mm512_storeu_pd(out + 8, a.b);
}

#endif
