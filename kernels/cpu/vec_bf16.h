/* vec_bf16.h - bf16 numbers in vectors of floats (vec.h): loads that widen, which is exact, and
 * stores that round to nearest even. Words hold two numbers each, the low one in the low half:
 * panels of bf16 matrices, where a shift and a mask make both (k_pack.h). */
#ifndef KERNELS_CPU_VEC_BF16_H
#define KERNELS_CPU_VEC_BF16_H

#include "kernels/cpu/vec.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

/* 16 bf16 numbers as floats */
static inline vf vf_load16(const uint16_t *p) {
    __m512i u = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}
static inline vf vf_load16_n(const uint16_t *p, int64_t n) {
    __m512i u = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vf_mask(n), p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(u, 16));
}
/* The first n lanes, rounded to bf16 */
static inline void vf_store16_n(uint16_t *p, vf x, int64_t n) {
    __m512i u = _mm512_srli_epi32(_mm512_castps_si512(vf_bf16(x)), 16);
    _mm256_mask_storeu_epi16(p, vf_mask(n), _mm512_cvtepi32_epi16(u));
}
/* 16 words of two bf16 numbers each: their low ones, or their high ones, as floats */
static inline vf vf_load_low(const void *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
static inline vf vf_load_high(const void *p) {
    __m512i high = _mm512_set1_epi32((int)0xffff0000);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), high));
}
/* The other way, for numbers that are bf16 already */
static inline void vf_store_both(void *p, vf low, vf high) {
    __m512i u = _mm512_srli_epi32(_mm512_castps_si512(low), 16);
    _mm512_storeu_si512(p, _mm512_or_si512(u, _mm512_castps_si512(high)));
}

#elif defined(__AVX2__) && defined(__FMA__)

static inline __m256 vf_widen8(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
/* 16 bf16 numbers as floats */
static inline vf vf_load16(const uint16_t *p) {
    return (vf){vf_widen8(_mm_loadu_si128((const __m128i *)p)),
                vf_widen8(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
static inline vf vf_load16_n(const uint16_t *p, int64_t n) {
    uint16_t all[16] = {0};
    if (n >= 16) return vf_load16(p);
    if (n > 0) memcpy(all, p, (size_t)n * sizeof *p);
    return vf_load16(all);
}
/* The first n lanes, rounded to bf16 */
static inline void vf_store16_n(uint16_t *p, vf x, int64_t n) {
    __m256i a = _mm256_srli_epi32(_mm256_castps_si256(vf_bf16_8(x.a)), 16);
    __m256i b = _mm256_srli_epi32(_mm256_castps_si256(vf_bf16_8(x.b)), 16);
    __m256i u = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
    uint16_t all[16];
    if (n >= 16) {
        _mm256_storeu_si256((__m256i *)p, u);
        return;
    }
    _mm256_storeu_si256((__m256i *)all, u);
    if (n > 0) memcpy(p, all, (size_t)n * sizeof *p);
}
/* 16 words of two bf16 numbers each: their low ones, or their high ones, as floats */
static inline vf vf_load_low(const void *p) {
    __m256i a = _mm256_loadu_si256(p), b = _mm256_loadu_si256((const __m256i *)p + 1);
    return (vf){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
static inline vf vf_load_high(const void *p) {
    const __m256i high = _mm256_set1_epi32((int)0xffff0000);
    __m256i a = _mm256_loadu_si256(p), b = _mm256_loadu_si256((const __m256i *)p + 1);
    return (vf){_mm256_castsi256_ps(_mm256_and_si256(a, high)),
                _mm256_castsi256_ps(_mm256_and_si256(b, high))};
}
/* The other way, for numbers that are bf16 already */
static inline void vf_store_both(void *p, vf low, vf high) {
    __m256i a = _mm256_srli_epi32(_mm256_castps_si256(low.a), 16);
    __m256i b = _mm256_srli_epi32(_mm256_castps_si256(low.b), 16);
    _mm256_storeu_si256(p, _mm256_or_si256(a, _mm256_castps_si256(high.a)));
    _mm256_storeu_si256((__m256i *)p + 1, _mm256_or_si256(b, _mm256_castps_si256(high.b)));
}

#else

static inline float vf_widen1(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float x = 0;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline uint16_t vf_bits1(float x) { /* of a number that is bf16 */
    uint32_t u = 0;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)(u >> 16);
}
/* 16 bf16 numbers as floats */
static inline vf vf_load16(const uint16_t *p) {
    VF_LANES(vf_widen1(p[i]));
}
static inline vf vf_load16_n(const uint16_t *p, int64_t n) {
    VF_LANES(i < n ? vf_widen1(p[i]) : 0);
}
/* The first n lanes, rounded to bf16 */
static inline void vf_store16_n(uint16_t *p, vf x, int64_t n) {
    for (int i = 0; i < 16 && i < n; i++)
        p[i] = vf_bits1(vf_bf16_one(x.v[i]));
}
/* 16 words of two bf16 numbers each: their low ones, or their high ones, as floats */
static inline vf vf_load_low(const void *p) {
    uint32_t u[16];
    memcpy(u, p, sizeof u);
    VF_LANES(vf_widen1((uint16_t)u[i]));
}
static inline vf vf_load_high(const void *p) {
    uint32_t u[16];
    memcpy(u, p, sizeof u);
    VF_LANES(vf_widen1((uint16_t)(u[i] >> 16)));
}
/* The other way, for numbers that are bf16 already */
static inline void vf_store_both(void *p, vf low, vf high) {
    uint32_t u[16];
    for (int i = 0; i < 16; i++)
        u[i] = (uint32_t)vf_bits1(high.v[i]) << 16 | vf_bits1(low.v[i]);
    memcpy(p, u, sizeof u);
}

#endif

#endif
