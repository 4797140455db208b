/* k_pack.h - copies of matrix blocks in the order the matrix kernel reads them (template; see
 * vec.h): panels of B as [k][32] with missing columns zero, tiles of A as [k][rows of the tile]. */
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
#define GEMM_ROWS 14
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

/* Panels p0..p1-1 of B, depth k0..k1-1, one after another. Rows of [K,N] are read along. */
static void pack_panels(float *out, const struct gemm_args *g, int64_t p0, int64_t p1, int64_t k0,
                        int64_t k1) {
    const int64_t size = GEMM_PANEL * (k1 - k0);
    for (int64_t p = p0; g->layout == GEMM_NK && p < p1; p++)
        pack_transposed(out + (p - p0) * size, g->b + p * GEMM_PANEL * g->ldb, g->ldb,
                        g->n - p * GEMM_PANEL, k0, k1);
    for (int64_t k = k0; g->layout == GEMM_KN && k < k1; k++)
        for (int64_t p = p0; p < p1; p++) {
            const float *row = g->b + k * g->ldb + p * GEMM_PANEL;
            float *to = out + (p - p0) * size + (k - k0) * GEMM_PANEL;
            const int64_t cols = g->n - p * GEMM_PANEL;
            vf_store(to, vf_load_n(row, cols));
            vf_store(to + VEC, cols > VEC ? vf_load_n(row + VEC, cols - VEC) : vf_zero());
        }
}

/* 16 steps of k of a tile of A whose rows are contiguous in k. */
static void pack_rows_16(float *out, const float *a, int64_t ld, int64_t have, int64_t rows) {
    float in[VEC * VEC], turned[VEC * VEC];
    for (int64_t r = 0; r < VEC; r++)
        vf_store(in + r * VEC, r < have ? vf_load(a + r * ld) : vf_zero());
    transpose16(turned, VEC, in, VEC);
    for (int64_t k = 0; k < VEC; k++)
        vf_store_n(out + k * rows, vf_load(turned + k * VEC), rows);
}

/* Rows m0..m1-1 of A in tiles of `rows`; the last tile may be short and is padded with zeros. */
static void pack_rows(float *out, const struct gemm_args *g, int64_t m0, int64_t m1, int64_t rows,
                      int64_t k0, int64_t k1) {
    const int64_t size = rows * (k1 - k0);
    int64_t k = k0;
    for (; g->cs == 1 && k + VEC <= k1; k += VEC)
        for (int64_t m = m0, t = 0; m < m1; m += rows, t++)
            pack_rows_16(out + t * size + (k - k0) * rows, g->a + m * g->rs + k, g->rs,
                         m1 - m < rows ? m1 - m : rows, rows);
    for (; k < k1; k++)
        for (int64_t m = m0, t = 0; m < m1; m += rows, t++) {
            const int64_t have = m1 - m < rows ? m1 - m : rows;
            const float *a = g->a + m * g->rs + k * g->cs;
            float *to = out + t * size + (k - k0) * rows;
            if (g->rs == 1)
                vf_store_n(to, vf_load_n(a, have), rows);
            else
                for (int64_t r = 0; r < rows; r++)
                    to[r] = r < have ? a[r * g->rs] : 0;
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
