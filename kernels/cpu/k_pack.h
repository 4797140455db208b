/* k_pack.h - copies of matrix blocks in the order the matrix kernel reads them (template; see
 * vec.h): panels of B as [k][32] with missing columns zero, tiles of A as [k][rows of the tile].
 *
 * Turning a block around is bound by shuffles, so 8 x 8 blocks are built from halves of rows: the
 * loads then do a third of that work. Rows are fetched ahead, because a matrix whose rows are pages
 * apart defeats the processor's own guess. */
#ifndef KERNELS_CPU_K_PACK_H
#define KERNELS_CPU_K_PACK_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

#include <string.h>

enum { TURN = 8 }; /* edge of the blocks that are turned around */

#if !defined(__AVX2__) || !defined(__FMA__)
#define GEMM_ROWS 4
#define GEMM_VECS 1
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
#if defined(__AVX512F__)
#define GEMM_ROWS 14
#define GEMM_VECS 2
#else
#define GEMM_ROWS 6
#define GEMM_VECS 1
#endif
#endif

/* Rows of a tile: as many as fit, but evenly. */
static int64_t pack_tile_rows(int64_t m) {
    const int64_t tiles = (m + GEMM_ROWS - 1) / GEMM_ROWS;
    return (m + tiles - 1) / tiles;
}

/* A panel from `cols` rows of w [n, k], depth k0..k1-1: its columns are those rows. */
static void pack_panel_turned(float *out, const float *w, int64_t ldw, int64_t cols, int64_t k0,
                              int64_t k1) {
    enum { AHEAD = 64 };
    for (int64_t j = 0; j < GEMM_PANEL; j += TURN) {
        const float *x[TURN];
        int64_t k = k0;
        for (int64_t r = 0; r < TURN; r++)
            x[r] = w + (j + r < cols ? j + r : 0) * ldw + k0;
        for (; j + TURN <= cols && k + TURN <= k1; k += TURN) {
            turn8(out + (k - k0) * GEMM_PANEL + j, GEMM_PANEL, x);
            for (int r = 0; r < TURN; r++) {
                __builtin_prefetch(x[r] + AHEAD, 0, 3);
                x[r] += TURN;
            }
        }
        for (; k < k1; k++)
            for (int64_t i = j; i < j + TURN; i++)
                out[(k - k0) * GEMM_PANEL + i] = i < cols ? w[i * ldw + k] : 0;
    }
}

/* n panels, `size` apart, from rows k0..k1-1 of b [k, n]: row by row, so that they are read along.
 * cols: how many columns exist. */
static void pack_panels_along(float *out, int64_t size, int64_t n, const float *b, int64_t ldb,
                              int64_t cols, int64_t k0, int64_t k1) {
    enum { AHEAD = 4 };
    for (int64_t k = k0; k < k1; k++)
        for (int64_t p = 0; p < n; p++) {
            const float *row = b + k * ldb + p * GEMM_PANEL;
            float *to = out + p * size + (k - k0) * GEMM_PANEL;
            const int64_t have = cols - p * GEMM_PANEL;
            __builtin_prefetch(row + AHEAD * ldb, 0, 3);
            __builtin_prefetch(row + AHEAD * ldb + VEC, 0, 3);
            if (have >= GEMM_PANEL) {
                vf_store(to, vf_load(row));
                vf_store(to + VEC, vf_load(row + VEC));
            } else {
                vf_store(to, vf_load_n(row, have));
                vf_store(to + VEC, have > VEC ? vf_load_n(row + VEC, have - VEC) : vf_zero());
            }
        }
}

/* Items: panels of the arguments' block of B. */
static void k_pack(const void *args, int64_t begin, int64_t end, void *scratch) {
    enum { SOME = 4 }; /* panels that are filled side by side */
    const struct gemm_args *g = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i += g->layout == GEMM_NK ? 1 : SOME) {
        const int64_t col = (g->panel0 + i) * GEMM_PANEL;
        float *to = g->panels + i * g->panel_size;
        if (g->layout == GEMM_NK)
            pack_panel_turned(to, g->b + col * g->ldb, g->ldb, g->n - col, g->k0, g->k1);
        else
            pack_panels_along(to, g->panel_size, end - i < SOME ? end - i : SOME, g->b + col,
                              g->ldb, g->n - col, g->k0, g->k1);
    }
}

/* A tile of `rows` rows that are contiguous in k. Stores of 8 run over into what the next ones
 * write, so the high rows go first and the last steps of k one element at a time. */
static void pack_tile_turned(float *out, const float *a, int64_t ld, int64_t rows, int64_t depth) {
    const float *x[2][TURN];
    const int halves = rows > TURN ? 2 : 1;
    int64_t k = 0;
    for (int64_t r = 0; r < 2 * TURN; r++)
        x[r / TURN][r % TURN] = a + (r < rows ? r : rows - 1) * ld;
    for (; k + TURN < depth; k += TURN)
        for (int h = halves; h-- > 0;) {
            turn8(out + k * rows + h * TURN, rows, x[h]);
            for (int r = 0; r < TURN; r++)
                x[h][r] += TURN;
        }
    for (; k < depth; k++)
        for (int64_t r = 0; r < rows; r++)
            out[k * rows + r] = a[r * ld + k];
}

/* Tiles t0..t1-1 of rows m0..m1-1 of A, depth k0..k1-1. Columns of a transposed A are read along
 * all tiles. */
static void pack_tiles(float *out, const struct gemm_args *g, int64_t m0, int64_t m1, int64_t t0,
                       int64_t t1, int64_t k0, int64_t k1) {
    const int64_t rows = pack_tile_rows(m1 - m0), depth = k1 - k0, size = rows * depth;
    const int64_t end = m0 + t1 * rows < m1 ? m0 + t1 * rows : m1;
    if (g->cs == 1) {
        for (int64_t t = t0, m = m0 + t0 * rows; m < end; m += rows, t++)
            pack_tile_turned(out + t * size, g->a + m * g->rs + k0, g->rs,
                             m1 - m < rows ? m1 - m : rows, depth);
        return;
    }
    for (int64_t k = k0; k < k1; k++)
        for (int64_t t = t0, m = m0 + t0 * rows; m < end; m += rows, t++) {
            const int64_t have = m1 - m < rows ? m1 - m : rows;
            const float *a = g->a + m + k * g->cs;
            __builtin_prefetch(a + 8 * g->cs, 0, 3);
            vf_store_n(out + t * size + (k - k0) * have, vf_load_n(a, have), have);
        }
}

/* All of A, block of depth after block. Items: tiles. */
static void k_pack_tiles(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct gemm_args *g = args;
    (void)scratch;
    for (int64_t k0 = g->k0; k0 < g->k1; k0 += g->depth) {
        const int64_t k1 = k0 + g->depth < g->k1 ? k0 + g->depth : g->k1;
        pack_tiles(g->tiles + g->m * (k0 - g->k0), g, 0, g->m, begin, end, k0, k1);
    }
}

#endif
