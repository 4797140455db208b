/* k_gemm.h - the matrix product kernel (template; see real.h).
 *
 * Canonical order (invariant I6): an element of C is one chain of fused multiply-adds over k = 0,
 * 1, ..., started from 0 (or from C when accumulating), then the bias. Blocking over k stores the
 * partial sum and loads it again, which continues the same chain. So the bits do not depend on the
 * number of rows, the tile an element falls into, the instruction set, packing or threads. In bf16
 * the operands are widened on their way into the same chain; C is f32 here, and whoever wants it in
 * bf16 rounds what the whole chain has left.
 *
 * Gradients of weights sum thousands of rows, and one float chain over them loses digits. They go
 * by parts: each block of k, at most GEMM_KC, starts from 0 and is added to C.
 *
 * Both operands come packed: B in panels of 32 columns, [k][32], A in tiles, [k][rows of the tile],
 * so that every address in the loop is a pointer plus a constant: strides in registers cost more
 * than the copy, and the loop then runs at the rate of the multipliers. A tile is 14 x 32 elements
 * in 28 AVX-512 registers or 6 x 16 in 12 AVX2 registers. While a panel is used, the next one is
 * fetched, a share per tile. */
#ifndef KERNELS_CPU_K_GEMM_H
#define KERNELS_CPU_K_GEMM_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/k_pack.h"

struct gemm_tile {
    const float *a;   /* [k][rows] */
    const real *b;    /* its panel */
    const real *next; /* what to fetch into the cache meanwhile, per step of k */
    int64_t next_step;
    int64_t depth;
    float *c;
    int64_t ldc, cols; /* cols of C that exist, from the tile's first */
    bool load;         /* continue from C */
    bool add;          /* the sum from 0 is added to C */
    const float *bias; /* after the last block, else NULL */
};

/* One step of k: a column of A times a row of B, from column j0 of the panel on. */
static inline __attribute__((always_inline)) void gemm_step(vf acc[GEMM_ROWS][GEMM_VECS],
                                                            const float *a, const real *b,
                                                            const int rows, const int j0) {
    vf bv[GEMM_VECS];
#pragma GCC unroll 2
    for (int j = 0; j < GEMM_VECS; j++)
        bv[j] = panel_load(b, j0 + j * VEC);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        vf av = vf_set(a[r]);
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_VECS; j++)
            acc[r][j] = vf_fma(av, bv[j], acc[r][j]);
    }
}

static inline __attribute__((always_inline)) void gemm_tile_rows(const struct gemm_tile *t,
                                                                 const int rows, const int j0) {
    vf acc[GEMM_ROWS][GEMM_VECS];
    const int64_t ldc = t->ldc, cols = t->cols, step = t->next_step;
    const bool whole = cols >= GEMM_VECS * VEC;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_VECS; j++) {
            const int64_t n = cols - j * VEC > 0 ? cols - j * VEC : 0;
            acc[r][j] = !t->load ? vf_zero()
                        : whole  ? vf_load(t->c + r * ldc + j * VEC)
                                 : vf_load_n(t->c + r * ldc + j * VEC, n);
        }
    const float *a = t->a;
    const real *b = t->b, *next = t->next;
    int64_t k = t->depth;
    for (; k >= 2; k -= 2, a += 2 * rows, b += 2 * GEMM_PANEL) {
        __builtin_prefetch(next, 0, 2);
        gemm_step(acc, a, b, rows, j0);
        next += step;
        __builtin_prefetch(next, 0, 2);
        gemm_step(acc, a + rows, b + GEMM_PANEL, rows, j0);
        next += step;
    }
    if (k > 0) gemm_step(acc, a, b, rows, j0);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int j = 0; j < GEMM_VECS; j++) {
            const int64_t n = cols - j * VEC;
            if (n <= 0) continue;
            vf x = acc[r][j];
            if (t->add) x = vf_add(vf_load_n(t->c + r * ldc + j * VEC, n), x);
            if (t->bias) x = vf_add(x, vf_load_n(t->bias + j * VEC, n));
            if (whole)
                vf_store(t->c + r * ldc + j * VEC, x);
            else
                vf_store_n(t->c + r * ldc + j * VEC, x, n);
        }
}

#define GEMM_CASE(n)                                                                               \
    case n: gemm_tile_rows(t, n < GEMM_ROWS ? n : GEMM_ROWS, j0); break

static inline __attribute__((always_inline)) void gemm_tile_at(const struct gemm_tile *t,
                                                               int64_t rows, const int j0) {
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

static void gemm_tile(const struct gemm_tile *t, int64_t rows, int64_t j0) {
    if (j0 == 0)
        gemm_tile_at(t, rows, 0);
    else
        gemm_tile_at(t, rows, VEC);
}

/* One panel of B against rows m0..m1-1 of C, depth k0..k1-1; tiles: those rows of A. */
static void gemm_panel(const struct gemm_args *g, const real *panel, const real *next, int64_t p,
                       int64_t m0, int64_t m1, int64_t k0, int64_t k1, const float *tiles) {
    const int64_t rows = pack_tile_rows(m1 - m0);
    /* the tiles of this panel fetch the next one, a share each */
    const int64_t share = (GEMM_PANEL * rows + m1 - m0 - 1) / (m1 - m0);
    for (int64_t m = m0; m < m1; m += rows, next += share * (k1 - k0))
        for (int64_t j = 0; j < GEMM_PANEL; j += GEMM_VECS * VEC) {
            const int64_t n0 = p * GEMM_PANEL + j;
            if (n0 >= g->n) break;
            const struct gemm_tile t = {.a = tiles + (m - m0) * (k1 - k0),
                                        .b = panel,
                                        .next = next,
                                        .next_step = share,
                                        .depth = k1 - k0,
                                        .c = g->c + m * g->ldc + n0,
                                        .ldc = g->ldc,
                                        .cols = g->n - n0,
                                        .load = !g->by_parts && (k0 > 0 || g->accumulate),
                                        .add = g->by_parts,
                                        .bias = g->bias && k1 == g->k ? g->bias + n0 : NULL};
            for (int64_t r = m + rows; r < m + 2 * rows && r < m1; r++) { /* the next tile's C */
                __builtin_prefetch(g->c + r * g->ldc + n0, 1, 3);
                __builtin_prefetch(g->c + r * g->ldc + n0 + VEC, 1, 3);
            }
            gemm_tile(&t, m1 - m < rows ? m1 - m : rows, j);
        }
}

/* Rows m0..m1-1 against panels p0..p1-1, the whole depth of the arguments. */
static void gemm_item(const struct gemm_args *g, int64_t m0, int64_t m1, int64_t p0, int64_t p1,
                      float *scratch) {
    int64_t k0 = g->k0;
    do { /* once when k is 0: the empty sum */
        const int64_t k1 = k0 + g->depth < g->k1 ? k0 + g->depth : g->k1;
        const float *tiles = g->tiles ? g->tiles + g->m * (k0 - g->k0) : scratch;
        if (!g->tiles)
            pack_tiles(scratch, g, m0, m1, 0, (m1 - m0 + GEMM_ROWS - 1) / GEMM_ROWS, k0, k1);
        for (int64_t p = p0; p < p1; p++) {
            const real *panel = (const real *)g->panels + (p - g->panel0) * g->panel_size +
                                (k0 - g->k0) * GEMM_PANEL;
            gemm_panel(g, panel, p + 1 < p1 ? panel + g->panel_size : panel, p, m0, m1, k0, k1,
                       tiles);
        }
        k0 = k1;
    } while (k0 < g->k1);
}

static void k_gemm(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct gemm_args *g = args;
    for (int64_t i = begin; i < end; i++) {
        int64_t m0 = i / g->n_blocks * g->m_block;
        int64_t p0 = g->panel0 + i % g->n_blocks * g->n_block;
        int64_t m1 = m0 + g->m_block < g->m ? m0 + g->m_block : g->m;
        int64_t p1 = p0 + g->n_block < g->panel1 ? p0 + g->n_block : g->panel1;
        gemm_item(g, m0, m1, p0, p1, scratch);
    }
}

#endif
