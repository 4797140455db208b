/* k_turn.h - blocks of 8 x 8 numbers turned around (template; see real.h). That is bound by
 * shuffles, so a block is built from halves of rows: the loads then do a third of the work. */
#ifndef KERNELS_CPU_K_TURN_H
#define KERNELS_CPU_K_TURN_H

#include "kernels/cpu/real.h"

enum { TURN = 8 }; /* edge of the blocks that are turned around */

#if !defined(__AVX2__) || !defined(__FMA__)
/* out[c, r] = x[r][c] for 8 x 8 elements, c rising */
static inline void turn8(float *out, int64_t ldo, const float *const x[TURN]) {
    for (int c = 0; c < TURN; c++)
        for (int r = 0; r < TURN; r++)
            out[c * ldo + r] = x[r][c];
}
#else
static inline void turn8(float *out, int64_t ldo, const float *const x[TURN]) {
#pragma GCC unroll 2
    for (int h = 0; h < TURN; h += 4) {
        __m256 r[4], t[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) /* 4 elements of rows i and i + 4 */
            r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x[i] + h)),
                                        _mm_loadu_ps(x[i + 4] + h), 1);
        t[0] = _mm256_unpacklo_ps(r[0], r[1]);
        t[1] = _mm256_unpackhi_ps(r[0], r[1]);
        t[2] = _mm256_unpacklo_ps(r[2], r[3]);
        t[3] = _mm256_unpackhi_ps(r[2], r[3]);
        _mm256_storeu_ps(out + h * ldo, _mm256_shuffle_ps(t[0], t[2], 0x44));
        _mm256_storeu_ps(out + (h + 1) * ldo, _mm256_shuffle_ps(t[0], t[2], 0xee));
        _mm256_storeu_ps(out + (h + 2) * ldo, _mm256_shuffle_ps(t[1], t[3], 0x44));
        _mm256_storeu_ps(out + (h + 3) * ldo, _mm256_shuffle_ps(t[1], t[3], 0xee));
    }
}
#endif

/* Turns 8 rows of STRIP numbers: out[c, r] = x[r][c], and moves on. */
enum { STRIP = sizeof(real) == sizeof(float) ? TURN : VEC };
static inline void turn_strip(float *out, int64_t ldo, const real *x[TURN]) {
    float wide[TURN][VEC];
    const float *at[TURN];
    for (int r = 0; r < TURN; r++) {
        at[r] = real_wide(wide[r], x[r], STRIP);
        x[r] += STRIP;
    }
    turn8(out, ldo, at);
    if (sizeof(real) == sizeof(float)) return;
    for (int r = 0; r < TURN; r++)
        at[r] += TURN;
    turn8(out + TURN * ldo, ldo, at);
}

#endif
