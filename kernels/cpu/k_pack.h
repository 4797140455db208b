/* k_pack.h - copies of matrix blocks in the order the matrix kernel reads them (template; see
 * real.h): panels of B as [k][32] with missing columns zero, tiles of A, widened to f32, as
 * [k][rows of the tile]. Panels keep the stored type, since weights are read for every token; those
 * of bf16 have columns j and j + 16 in one 32-bit word, which a shift and a mask widen. Rows are
 * fetched ahead, because a matrix whose rows are pages apart defeats the processor's own guess. */
#ifndef KERNELS_CPU_K_PACK_H
#define KERNELS_CPU_K_PACK_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/k_turn.h"

#include <string.h>

/* A tile of C: rows, and vectors of 16 columns. */
#if defined(__AVX512F__)
#define GEMM_ROWS 14
#define GEMM_VECS 2
#elif defined(__AVX2__) && defined(__FMA__)
#define GEMM_ROWS 6
#define GEMM_VECS 1
#else
#define GEMM_ROWS 4
#define GEMM_VECS 1
#endif

/* Rows of a tile: as many as fit, but evenly. */
static int64_t pack_tile_rows(int64_t m) {
    const int64_t tiles = (m + GEMM_ROWS - 1) / GEMM_ROWS;
    return (m + tiles - 1) / tiles;
}

/* [k][32] from `cols` rows of w [n, k], depth k0..k1-1: its columns are those rows. */
static void turn_panel(float *out, const real *w, int64_t ldw, int64_t cols, int64_t k0,
                       int64_t k1) {
    enum { AHEAD = 256 / sizeof(real) };
    for (int64_t j = 0; j < GEMM_PANEL; j += TURN) {
        const real *x[TURN];
        int64_t k = k0;
        for (int64_t r = 0; r < TURN; r++)
            x[r] = w + (j + r < cols ? j + r : 0) * ldw + k0;
        for (; j + TURN <= cols && k + STRIP <= k1; k += STRIP) {
            turn_strip(out + (k - k0) * GEMM_PANEL + j, GEMM_PANEL, x);
            for (int r = 0; r < TURN; r++)
                __builtin_prefetch(x[r] + AHEAD - STRIP, 0, 3);
        }
        for (; k < k1; k++)
            for (int64_t i = j; i < j + TURN; i++)
                out[(k - k0) * GEMM_PANEL + i] = i < cols ? real_get(w[i * ldw + k]) : 0;
    }
}

/* A row of a panel: columns 0..15 and 16..31. */
static inline void panel_store(real *row, vf low, vf high) {
#ifdef REAL_BF16
    vf_store_both(row, low, high);
#else
    vf_store(row, low);
    vf_store(row + VEC, high);
#endif
}

/* Columns j..j+15 of it, j 0 or 16. */
static inline vf panel_load(const real *row, const int j) {
#ifdef REAL_BF16
    return j ? vf_load_high(row) : vf_load_low(row);
#else
    return vf_load(row + j);
#endif
}

/* A panel from rows of w, as turn_panel. */
static void pack_panel_turned(real *out, const real *w, int64_t ldw, int64_t cols, int64_t k0,
                              int64_t k1) {
#ifdef REAL_BF16
    enum { SOME = 64 };
    float rows[SOME * GEMM_PANEL];
    for (int64_t k = k0; k < k1; k += SOME) {
        const int64_t n = k1 - k < SOME ? k1 - k : SOME;
        turn_panel(rows, w, ldw, cols, k, k + n);
        for (int64_t i = 0; i < n; i++, out += GEMM_PANEL)
            panel_store(out, vf_load(rows + i * GEMM_PANEL), vf_load(rows + i * GEMM_PANEL + VEC));
    }
#else
    turn_panel(out, w, ldw, cols, k0, k1);
#endif
}

/* n panels, `size` apart, from rows k0..k1-1 of b [k, n]: row by row, so that they are read along.
 * cols: how many columns exist. */
static void pack_panels_along(real *out, int64_t size, int64_t n, const real *b, int64_t ldb,
                              int64_t cols, int64_t k0, int64_t k1) {
    enum { AHEAD = 4 };
    for (int64_t k = k0; k < k1; k++)
        for (int64_t p = 0; p < n; p++) {
            const real *row = b + k * ldb + p * GEMM_PANEL;
            real *to = out + p * size + (k - k0) * GEMM_PANEL;
            const int64_t have = cols - p * GEMM_PANEL;
            __builtin_prefetch(row + AHEAD * ldb, 0, 3);
            __builtin_prefetch(row + AHEAD * ldb + VEC, 0, 3);
            if (have >= GEMM_PANEL)
                panel_store(to, real_load(row), real_load(row + VEC));
            else
                panel_store(to, real_load_n(row, have),
                            have > VEC ? real_load_n(row + VEC, have - VEC) : vf_zero());
        }
}

/* Items: panels of the arguments' block of B. */
static void k_pack(const void *args, int64_t begin, int64_t end, void *scratch) {
    enum { SOME = 4 }; /* panels that are filled side by side */
    const struct gemm_args *g = args;
    const real *b = g->b;
    (void)scratch;
    for (int64_t i = begin; i < end; i += g->layout == GEMM_NK ? 1 : SOME) {
        const int64_t col = (g->panel0 + i) * GEMM_PANEL;
        real *to = (real *)g->panels + i * g->panel_size;
        if (g->layout == GEMM_NK)
            pack_panel_turned(to, b + col * g->ldb, g->ldb, g->n - col, g->k0, g->k1);
        else
            pack_panels_along(to, g->panel_size, end - i < SOME ? end - i : SOME, b + col, g->ldb,
                              g->n - col, g->k0, g->k1);
    }
}

/* A tile of `rows` rows that are contiguous in k. Stores of 8 run over into what the next ones
 * write, so the high rows go first, and the last steps of k one element at a time: those whose
 * stores would leave the tile. */
static void pack_tile_turned(float *out, const real *a, int64_t ld, int64_t rows, int64_t depth) {
    const real *x[2][TURN];
    const int halves = rows > TURN ? 2 : 1;
    int64_t k = 0;
    for (int64_t r = 0; r < 2 * TURN; r++)
        x[r / TURN][r % TURN] = a + (r < rows ? r : rows - 1) * ld;
    for (; (depth - k - STRIP + 1) * rows >= halves * TURN; k += STRIP)
        for (int h = halves; h-- > 0;)
            turn_strip(out + k * rows + h * TURN, rows, x[h]);
    for (; k < depth; k++)
        for (int64_t r = 0; r < rows; r++)
            out[k * rows + r] = real_get(a[r * ld + k]);
}

/* One row. */
static void pack_row(float *out, const real *a, int64_t depth) {
    for (int64_t k = 0; k < depth; k += VEC)
        vf_store_n(out + k, real_load_n(a + k, depth - k), depth - k);
}

/* Tiles t0..t1-1 of rows m0..m1-1 of A, depth k0..k1-1. Columns of a transposed A are read along
 * all tiles. */
static void pack_tiles(float *out, const struct gemm_args *g, int64_t m0, int64_t m1, int64_t t0,
                       int64_t t1, int64_t k0, int64_t k1) {
    const int64_t rows = pack_tile_rows(m1 - m0), depth = k1 - k0, size = rows * depth;
    const int64_t end = m0 + t1 * rows < m1 ? m0 + t1 * rows : m1;
    const real *all = g->a;
    if (g->cs == 1) {
        for (int64_t t = t0, m = m0 + t0 * rows; m < end; m += rows, t++)
            if (m1 - m == 1)
                pack_row(out + t * size, all + m * g->rs + k0, depth);
            else
                pack_tile_turned(out + t * size, all + m * g->rs + k0, g->rs,
                                 m1 - m < rows ? m1 - m : rows, depth);
        return;
    }
    for (int64_t k = k0; k < k1; k++)
        for (int64_t t = t0, m = m0 + t0 * rows; m < end; m += rows, t++) {
            const int64_t have = m1 - m < rows ? m1 - m : rows;
            const real *a = all + m + k * g->cs;
            __builtin_prefetch(a + 8 * g->cs, 0, 3);
            vf_store_n(out + t * size + (k - k0) * have, real_load_n(a, have), have);
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
