/* k_gemm.h - the matrix product kernel (template; see vec.h).
 *
 * Canonical order (invariant I6): an element of C is one chain of fused multiply-adds over k = 0,
 * 1, ..., started from 0 (or from C when accumulating), then the bias. Blocking over k stores the
 * partial sum and loads it again, which continues the same chain. So the bits do not depend on the
 * number of rows, the tile an element falls into, the instruction set, packing or threads.
 *
 * B comes in panels of 32 columns, [k][32], so that a tile of rows reads it in one forward stream:
 * 14 x 32 elements in 28 AVX-512 registers, 6 x 16 in 12 AVX2 registers. While a panel is used,
 * the next one is fetched, a line per step of k: the loop is otherwise bound by that stream. */
#ifndef KERNELS_CPU_K_GEMM_H
#define KERNELS_CPU_K_GEMM_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/k_pack.h"
#include "kernels/cpu/vec.h"

struct gemm_tile {
    const float *a; /* row r, depth k at a + r*rs + k*cs */
    int64_t rs, cs;
    const float *b;    /* first column of the tile in its panel */
    const float *next; /* what to fetch into the cache meanwhile, per step of k */
    int64_t next_step;
    int64_t kc;
    float *c;
    int64_t ldc, cols; /* cols of C that exist, from the tile's first */
    bool load;         /* continue from C */
    const float *bias; /* after the last block, else NULL */
};

static inline __attribute__((always_inline)) void gemm_tile_rows(const struct gemm_tile *t,
                                                                 const int rows) {
    vf acc[GEMM_ROWS][GEMM_VECS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_VECS; j++)
            acc[r][j] = t->load ? vf_load_n(t->c + r * t->ldc + j * VEC,
                                            t->cols - j * VEC > 0 ? t->cols - j * VEC : 0)
                                : vf_zero();
    const float *a = t->a, *b = t->b;
    const int64_t rs = t->rs, cs = t->cs, next_step = t->next_step;
    const float *next = t->next;
    for (int64_t k = 0; k < t->kc; k++, a += cs, b += GEMM_PANEL, next += next_step) {
        vf bv[GEMM_VECS];
        __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_VECS; j++)
            bv[j] = vf_load(b + j * VEC);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            vf av = vf_set(a[r * rs]);
#pragma GCC unroll 2
            for (int j = 0; j < GEMM_VECS; j++)
                acc[r][j] = vf_fma(av, bv[j], acc[r][j]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_VECS; j++) {
            int64_t n = t->cols - j * VEC;
            if (n <= 0) continue;
            vf x = acc[r][j];
            if (t->bias) x = vf_add(x, vf_load_n(t->bias + j * VEC, n));
            vf_store_n(t->c + r * t->ldc + j * VEC, x, n);
        }
}

#define GEMM_CASE(n)                                                                               \
    case n: gemm_tile_rows(t, n < GEMM_ROWS ? n : GEMM_ROWS); break

static void gemm_tile(const struct gemm_tile *t, int64_t rows) {
    switch (rows) {
        GEMM_CASE(1);
        GEMM_CASE(2);
        GEMM_CASE(3);
        GEMM_CASE(4);
#if GEMM_ROWS > 4
        GEMM_CASE(5);
        GEMM_CASE(6);
#endif
#if GEMM_ROWS > 6
        GEMM_CASE(7);
        GEMM_CASE(8);
        GEMM_CASE(9);
        GEMM_CASE(10);
        GEMM_CASE(11);
        GEMM_CASE(12);
        GEMM_CASE(13);
        GEMM_CASE(14);
#endif
    default: break;
    }
}

/* Rows of a tile: as many as fit, but evenly. */
static int64_t gemm_rows(int64_t m) {
    const int64_t tiles = (m + GEMM_ROWS - 1) / GEMM_ROWS;
    return (m + tiles - 1) / tiles;
}

/* One panel of B against rows m0..m1-1 of C, one block of k. */
static void gemm_panel(const struct gemm_args *g, const float *panel, const float *next, int64_t p,
                       int64_t m0, int64_t m1, int64_t k0, int64_t k1, const float *packed_a) {
    const int64_t rows = gemm_rows(m1 - m0);
    /* the tiles of this panel fetch the next one, a share each */
    const int64_t share = (GEMM_PANEL * rows + m1 - m0 - 1) / (m1 - m0);
    for (int64_t m = m0; m < m1; m += rows, next += share * (k1 - k0))
        for (int64_t j = 0; j < GEMM_PANEL; j += GEMM_VECS * VEC) {
            const int64_t n0 = p * GEMM_PANEL + j;
            if (n0 >= g->n) break;
            struct gemm_tile t = {.a = g->a + m * g->rs + k0 * g->cs,
                                  .rs = g->rs,
                                  .cs = g->cs,
                                  .b = panel + j,
                                  .next = next,
                                  .next_step = share,
                                  .kc = k1 - k0,
                                  .c = g->c + m * g->ldc + n0,
                                  .ldc = g->ldc,
                                  .cols = g->n - n0,
                                  .load = k0 > 0 || g->accumulate,
                                  .bias = g->bias && k1 == g->k ? g->bias + n0 : NULL};
            if (packed_a) {
                t.a = packed_a + (m - m0) * (k1 - k0);
                t.rs = 1;
                t.cs = rows;
            }
            for (int64_t r = m + rows; r < m + 2 * rows && r < m1; r++) { /* the next tile's C */
                __builtin_prefetch(g->c + r * g->ldc + n0, 1, 3);
                __builtin_prefetch(g->c + r * g->ldc + n0 + VEC, 1, 3);
            }
            gemm_tile(&t, m1 - m < rows ? m1 - m : rows);
        }
}

/* Panels p0..p1-1 (at most GEMM_NC if they need packing) against rows m0..m1-1. */
static void gemm_block(const struct gemm_args *g, int64_t p0, int64_t p1, int64_t m0, int64_t m1,
                       float *scratch) {
    float *packed_a = g->pack_a ? scratch + GEMM_NC * GEMM_PANEL * GEMM_KC : NULL;
    const int64_t mc = g->pack_a ? GEMM_MC : m1 - m0;
    const int64_t blocks = (g->k + GEMM_KC - 1) / GEMM_KC;
    const bool once = m1 - m0 <= GEMM_ROWS && g->layout == GEMM_PACKED; /* nothing to reuse */
    const int64_t step = once || blocks < 2 ? g->k : (g->k + blocks - 1) / blocks;
    int64_t k0 = 0;
    do { /* once when k is 0: the empty sum */
        const int64_t k1 = k0 + step < g->k ? k0 + step : g->k;
        if (g->layout != GEMM_PACKED) pack_panels(scratch, g, p0, p1, k0, k1);
        for (int64_t m = m0; m < m1; m += mc) {
            const int64_t end = m + mc < m1 ? m + mc : m1;
            if (packed_a) pack_rows(packed_a, g, m, end, gemm_rows(end - m), k0, k1);
            for (int64_t p = p0; p < p1; p++) {
                const float *panel = g->layout == GEMM_PACKED
                                         ? g->b + (p * g->k + k0) * GEMM_PANEL
                                         : scratch + (p - p0) * GEMM_PANEL * (k1 - k0);
                const float *next =
                    p + 1 < p1 ? panel + (g->layout == GEMM_PACKED ? g->k : k1 - k0) * GEMM_PANEL
                               : panel;
                gemm_panel(g, panel, next, p, m, end, k0, k1, packed_a);
            }
        }
        k0 += step;
    } while (k0 < g->k);
}

static void k_gemm(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct gemm_args *g = args;
    const int64_t panels = (g->n + GEMM_PANEL - 1) / GEMM_PANEL;
    for (int64_t i = begin; i < end; i++) {
        int64_t m0 = i / g->n_blocks * g->m_block, p0 = i % g->n_blocks * g->n_block;
        int64_t m1 = m0 + g->m_block < g->m ? m0 + g->m_block : g->m;
        int64_t p1 = p0 + g->n_block < panels ? p0 + g->n_block : panels;
        const int64_t nc = g->layout == GEMM_PACKED ? p1 - p0 : GEMM_NC;
        for (int64_t p = p0; p < p1; p += nc)
            gemm_block(g, p, p + nc < p1 ? p + nc : p1, m0, m1, scratch);
    }
}

static void k_colsum(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct colsum_args *a = args;
    (void)scratch;
    for (int64_t c = begin * VEC; c < end * VEC && c < a->n; c += VEC) {
        vf sum = vf_load_n(a->out + c, a->n - c);
        for (int64_t r = 0; r < a->rows; r++)
            sum = vf_add(sum, vf_load_n(a->g + r * a->n + c, a->n - c));
        vf_store_n(a->out + c, sum, a->n - c);
    }
}

#endif
