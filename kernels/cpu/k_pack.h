/* k_pack.h - copies of matrix blocks in the order the matrix kernel reads them (template; see
 * vec.h): panels of B as [k][32] with missing columns zero, tiles of A as [k][GEMM_ROWS]. */
#ifndef KERNELS_CPU_K_PACK_H
#define KERNELS_CPU_K_PACK_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

#include <string.h>

#if !defined(__AVX2__) || !defined(__FMA__)
#define GEMM_ROWS 4
#define GEMM_VECS 1
static inline void transpose16(float *out, int64_t ldo, const float *x, int64_t ldx) {
    for (int r = 0; r < VEC; r++)
        for (int c = 0; c < VEC; c++)
            out[c * ldo + r] = x[r * ldx + c];
}
#else
static inline void transpose8(__m256 r[8]) {
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        __m256 *s = t + 4 * i, *d = u + 4 * i;
        d[0] = _mm256_shuffle_ps(s[0], s[2], 0x44);
        d[1] = _mm256_shuffle_ps(s[0], s[2], 0xee);
        d[2] = _mm256_shuffle_ps(s[1], s[3], 0x44);
        d[3] = _mm256_shuffle_ps(s[1], s[3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}
/* out[c, r] = x[r, c] for a 16 x 16 block */
static inline void transpose16(float *out, int64_t ldo, const float *x, int64_t ldx) {
    for (int r = 0; r < VEC; r += 8)
        for (int c = 0; c < VEC; c += 8) {
            __m256 v[8];
            for (int i = 0; i < 8; i++)
                v[i] = _mm256_loadu_ps(x + (r + i) * ldx + c);
            transpose8(v);
            for (int i = 0; i < 8; i++)
                _mm256_storeu_ps(out + (c + i) * ldo + r, v[i]);
        }
}
#if defined(__AVX512F__)
#define GEMM_ROWS 8
#define GEMM_VECS 2
#else
#define GEMM_ROWS 6
#define GEMM_VECS 1
#endif
#endif

/* Rows n0.. of w[n, k] (cols of them exist) as columns of a panel, depth k0..k1-1. */
static void pack_transposed(float *out, const float *w, int64_t ldw, int64_t cols, int64_t k0,
                            int64_t k1) {
    for (int64_t j = 0; j < GEMM_PANEL; j += VEC) {
        int64_t k = k0;
        for (; j + VEC <= cols && k + VEC <= k1; k += VEC)
            transpose16(out + (k - k0) * GEMM_PANEL + j, GEMM_PANEL, w + j * ldw + k, ldw);
        for (; k < k1; k++)
            for (int64_t i = j; i < j + VEC; i++)
                out[(k - k0) * GEMM_PANEL + i] = i < cols ? w[i * ldw + k] : 0;
    }
}

static void pack_panel(float *out, const struct gemm_args *g, int64_t p, int64_t k0, int64_t k1) {
    const int64_t n0 = p * GEMM_PANEL, cols = g->n - n0;
    if (g->layout == GEMM_NK) {
        pack_transposed(out, g->b + n0 * g->ldb, g->ldb, cols, k0, k1);
        return;
    }
    for (int64_t k = k0; k < k1; k++, out += GEMM_PANEL) {
        const float *row = g->b + k * g->ldb + n0;
        vf_store(out, vf_load_n(row, cols));
        vf_store(out + VEC, cols > VEC ? vf_load_n(row + VEC, cols - VEC) : vf_zero());
    }
}

/* Rows m0..m1-1 of A in tiles; the last tile may be short and is padded with zeros. */
static void pack_rows(float *out, const struct gemm_args *g, int64_t m0, int64_t m1, int64_t k0,
                      int64_t k1) {
    for (int64_t m = m0; m < m1; m += GEMM_ROWS) {
        const int64_t rows = m1 - m < GEMM_ROWS ? m1 - m : GEMM_ROWS;
        const float *a = g->a + m * g->rs;
        for (int64_t k = k0; k < k1; k++, out += GEMM_ROWS) {
            if (g->rs == 1) {
                vf_store_n(out, vf_load_n(a + k * g->cs, rows), GEMM_ROWS);
                continue;
            }
            for (int64_t r = 0; r < GEMM_ROWS; r++)
                out[r] = r < rows ? a[r * g->rs + k * g->cs] : 0;
        }
    }
}

static void k_pack(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct pack_args *a = args;
    (void)scratch;
    for (int64_t p = begin; p < end; p++)
        pack_transposed(a->out + p * GEMM_PANEL * a->k, a->w + p * GEMM_PANEL * a->k, a->k,
                        a->n - p * GEMM_PANEL, 0, a->k);
}

#endif
