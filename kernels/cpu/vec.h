/* vec.h - a vector of 16 floats, whatever the instruction set: one AVX-512 register, two AVX2
 * registers, or an array. The kernel templates (k_*.h) are written over it once and compiled once
 * per instruction set (isa_*.c).
 *
 * Every operation is exact IEEE arithmetic per lane and every reduction has one order, so all three
 * forms give the same bits. A tail of n < 16 elements goes through the same operations with the
 * idle lanes zero: an element's bits do not depend on where in a row it stands.
 *
 * Tails: vf_load_n and vf_store_n touch n elements only. */
#ifndef KERNELS_CPU_VEC_H
#define KERNELS_CPU_VEC_H

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "kernels/cpu/vec_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "kernels/cpu/vec_avx2.h"
#else
#include "kernels/cpu/vec_scalar.h"
#endif

enum { VEC = 16 };

/* exp(x), error below 2 units in the last place: x = n ln2 + r, |r| <= ln2/2, a polynomial of
 * degree 6 in r (fitted for least relative error, 3.1e-9 before rounding), times 2^n. Exactly 1 at
 * 0; 0 below -87.3 (results that would be subnormal); held at exp(88) above; NaN stays NaN. */
static inline vf vf_exp(vf x) {
    const vf low = vf_set(-87.3f);
    vf y = vf_min(vf_set(88.0f), vf_max(low, x));
    vf n = vf_round(vf_mul(y, vf_set(1.44269504f)));
    vf r = vf_fma(n, vf_set(-0x1.62e400p-1f), y);
    r = vf_fma(n, vf_set(-1.42860677e-6f), r);
    vf p = vf_set(0.00138145406f);
    p = vf_fma(p, r, vf_set(0.00836874545f));
    p = vf_fma(p, r, vf_set(0.041668389f));
    p = vf_fma(p, r, vf_set(0.166665211f));
    p = vf_fma(p, r, vf_set(0.49999994f));
    p = vf_add(vf_fma(p, vf_mul(r, r), r), vf_set(1));
    return vf_keep_unless_less(vf_mul(p, vf_pow2(n)), x, low);
}

/* 1 / (1 + exp(-x)) */
static inline vf vf_sigmoid(vf x) {
    return vf_div(vf_set(1), vf_add(vf_set(1), vf_exp(vf_sub(vf_zero(), x))));
}

#endif
