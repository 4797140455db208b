/* k_attn_products.h - products of query rows with the keys of a block (template; see real.h). Wide
 * heads lie along the lanes and are summed by a tree; narrow ones, up to 16 numbers, would leave
 * lanes idle, so 16 keys are turned around and lie in the lanes. */
#ifndef KERNELS_CPU_K_ATTN_PRODUCTS_H
#define KERNELS_CPU_K_ATTN_PRODUCTS_H

#include "kernels/cpu/k_attn_tile.h"
#include "kernels/cpu/k_turn.h"

/* out[d] = number d of 16 rows */
static void attn_turn(float out[][VEC], const real *const row[VEC], int64_t width) {
    float wide[VEC][VEC];
    const float *at[VEC];
    for (int i = 0; i < VEC; i++)
        at[i] = real_wide(wide[i], row[i], width);
    for (int h = 0; h < VEC; h += TURN) {
        int64_t d = 0;
        for (; d + TURN <= width; d += TURN) {
            const float *x[TURN];
            for (int i = 0; i < TURN; i++)
                x[i] = at[h + i] + d;
            turn8(&out[d][h], VEC, x);
        }
        for (; d < width; d++)
            for (int i = 0; i < TURN; i++)
                out[d][h + i] = at[h + i][d];
    }
}

/* out[r][j] = x[r] . pool[key j], 16 products at a time: 4 rows x 4 keys, 2 x 8 or 1 x 16. */
static inline __attribute__((always_inline)) void
attn_products_of(float out[ATTN_ROWS][ATTN_KEYS], float x[ATTN_ROWS][ATTN_WIDTH], const real *pool,
                 const struct attn_block *b, int64_t width, const int rows) {
    const int keys = 16 / rows;
    for (int64_t j = b->begin; j < b->end; j += keys) {
        vf acc[16];
        const real *key[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            acc[i] = vf_zero();
#pragma GCC unroll 16
        for (int i = 0; i < keys; i++)
            key[i] = pool + b->offset[j + i < b->end ? j + i : b->end - 1];
        for (int64_t d = 0; d < width; d += VEC) {
            vf xv[4];
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                xv[r] = vf_load(&x[r][d]);
#pragma GCC unroll 16
            for (int i = 0; i < keys; i++) {
                vf kv = real_load_n(key[i] + d, width - d);
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++)
                    acc[r * keys + i] = vf_fma(xv[r], kv, acc[r * keys + i]);
            }
        }
        float sums[16];
        vf_store(sums, vf_sum16(acc));
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < keys && j + i < b->end; i++)
                out[r][j + i] = sums[r * keys + i];
    }
}

/* The same for narrow heads, 16 keys at a time: each product one chain over the width. */
static void attn_products_narrow(float out[ATTN_ROWS][ATTN_KEYS], float x[ATTN_ROWS][ATTN_WIDTH],
                                 const real *pool, const struct attn_block *b, int64_t width,
                                 int64_t rows) {
    float keys[ATTN_NARROW][VEC];
    for (int64_t j = b->begin / VEC * VEC; j < b->end; j += VEC) {
        const real *key[VEC];
        for (int64_t i = 0; i < VEC; i++) {
            const int64_t at = j + i < b->begin ? b->begin : j + i < b->end ? j + i : b->end - 1;
            key[i] = pool + b->offset[at];
        }
        attn_turn(keys, key, width);
        for (int64_t r = 0; r < rows; r++) {
            vf s = vf_zero();
            for (int64_t d = 0; d < width; d++)
                s = vf_fma(vf_set(x[r][d]), vf_load(keys[d]), s);
            vf_store(&out[r][j], s);
        }
    }
}

static void attn_products(float out[ATTN_ROWS][ATTN_KEYS], float x[ATTN_ROWS][ATTN_WIDTH],
                          const real *pool, const struct attn_block *b, int64_t width,
                          int64_t rows) {
    if (width <= ATTN_NARROW)
        attn_products_narrow(out, x, pool, b, width, rows);
    else if (rows == 1)
        attn_products_of(out, x, pool, b, width, 1);
    else if (rows == 2) /* decoding with two query heads to a key head */
        attn_products_of(out, x, pool, b, width, 2);
    else
        attn_products_of(out, x, pool, b, width, 4);
}

#endif
