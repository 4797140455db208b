/* k_attn_lanes.h - attention for narrow heads, 16 query rows at a time, a row in a lane (template;
 * see real.h).
 *
 * Heads of up to 16 numbers do not fill a vector along their width, so here a vector holds one
 * number of 16 rows: a key's numbers are broadcast, nothing is summed across lanes, and an
 * exponential serves 16 rows. The order of operations of a row is that of attn_tile_run, to the
 * bit: the score of a narrow head is one chain over its width, and the sum of a block's
 * exponentials runs over keys 16 apart and then through the tree of vf_sum. A key that a lane does
 * not see leaves the lane as it was. */
#ifndef KERNELS_CPU_K_ATTN_LANES_H
#define KERNELS_CPU_K_ATTN_LANES_H

#include "kernels/cpu/k_attn_products.h"
#include "kernels/cpu/k_attn_tile.h"

#include <math.h>

struct attn_view { /* of a block of keys, by lanes */
    const struct attn_tile *t;
    const struct attn_block *b;
    int64_t key0, all_from, all_to; /* keys that every lane sees */
};

static struct attn_view attn_view_of(const struct attn_tile *t, const struct attn_block *b,
                                     int64_t key0) {
    struct attn_view v = {.t = t, .b = b, .key0 = key0};
    v.all_from = t->first[VEC - 1] - key0;
    v.all_to = t->last[0] + 1 - key0;
    return v;
}

/* The lanes lo..hi-1 see keys from..to of the block: those of x, the others of old. Ranges begin
 * and end later from lane to lane. */
static vf attn_seen(const struct attn_view *v, vf x, vf old, int64_t from, int64_t to) {
    int64_t lo = 0, hi = VEC;
    while (lo < VEC && v->t->last[lo] < v->key0 + from)
        lo++;
    while (hi > 0 && v->t->first[hi - 1] > v->key0 + to)
        hi--;
    x = vf_first(x, hi, old);
    return vf_first(old, lo, x);
}

static inline bool attn_all_see(const struct attn_view *v, int64_t j) {
    return j >= v->all_from && j < v->all_to;
}

/* Rows of `from` [index][width], turned; lanes without a row repeat the last. */
static void attn_load_lanes(float out[][VEC], const struct attn_tile *t, const real *from) {
    const real *row[VEC];
    for (int r = 0; r < VEC; r++)
        row[r] = from + t->index[r] * t->a->width;
    attn_turn(out, row, t->a->width);
}

static void attn_store_lanes(real *to, const struct attn_tile *t, float x[][VEC]) {
    const int64_t width = t->a->width;
    for (int64_t r = 0; r < t->rows; r++) {
        float row[VEC];
        for (int64_t d = 0; d < width; d++)
            row[d] = x[d][r];
        real_store_n(to + t->index[r] * width, vf_load_n(row, width), width);
    }
}

/* Gives every lane a row. */
static void attn_fill_lanes(struct attn_tile *t) {
    for (int64_t r = t->rows; r < VEC; r++) {
        t->index[r] = t->index[t->rows - 1];
        t->first[r] = t->first[t->rows - 1];
        t->last[r] = t->last[t->rows - 1];
    }
}

static inline __attribute__((always_inline)) vf attn_chain(const real *key, float q[][VEC],
                                                           const int64_t width) {
    vf s = vf_zero();
#pragma GCC unroll 16
    for (int64_t d = 0; d < width; d++)
        s = vf_fma(vf_load(q[d]), vf_set(real_get(key[d])), s);
    return s;
}

/* acc[d] += p[j] times number d of key j, over the block's keys; n numbers */
static inline __attribute__((always_inline)) void attn_mix_some(float acc[][VEC], float p[][VEC],
                                                                const real *pool,
                                                                const struct attn_view *v,
                                                                const int n) {
    vf sum[TURN];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        sum[i] = vf_load(acc[i]);
    for (int64_t j = v->b->begin; j < v->b->end; j++) {
        const real *x = pool + v->b->offset[j];
        const bool all = attn_all_see(v, j);
        const vf pv = vf_load(p[j]);
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            const vf y = vf_fma(pv, vf_set(real_get(x[i])), sum[i]);
            sum[i] = all ? y : attn_seen(v, y, sum[i], j, j);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        vf_store(acc[i], sum[i]);
}

static void attn_mix(float acc[][VEC], float p[][VEC], const real *pool, const struct attn_view *v,
                     int64_t width) {
    for (int64_t d = 0, left = width; left > 0; left = width - d)
        if (left >= TURN) {
            attn_mix_some(acc + d, p, pool + d, v, TURN);
            d += TURN;
        } else {
            attn_mix_some(acc + d, p, pool + d, v, 1);
            d++;
        }
}

/* --- forward -------------------------------------------------------------------------------- */

struct attn_lanes {
    float q[ATTN_NARROW][VEC], acc[ATTN_NARROW][VEC], p[ATTN_KEYS][VEC];
    vf max, sum;
};

/* Sum of a block's exponentials, in the order of attn_softmax. */
static vf attn_sum_lanes(float p[][VEC]) {
    vf s[VEC];
    for (int i = 0; i < VEC; i++) {
        s[i] = vf_load(p[i]);
        for (int j = i + VEC; j < ATTN_KEYS; j += VEC)
            s[i] = vf_add(s[i], vf_load(p[j]));
    }
    for (int n = VEC / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            s[i] = vf_add(s[i], s[i + n]);
    return s[0];
}

/* One block of keys for 16 rows, a row a lane. Lanes that see none of it keep max, sum and acc:
 * what is computed for them is thrown away. */
static inline __attribute__((always_inline)) void
attn_lanes_block(struct attn_lanes *l, const struct attn_view *v, const int64_t width) {
    const struct attn_args *a = v->t->a;
    const struct attn_block *b = v->b;
    const vf scale = vf_set(a->scale), low = vf_set(-INFINITY);
    vf best = l->max;
    for (int64_t j = b->begin; j < b->end; j++) {
        vf z = vf_mul(attn_chain((const real *)a->k + b->offset[j], l->q, width), scale);
        if (!attn_all_see(v, j)) z = attn_seen(v, z, low, j, j);
        best = vf_max(z, best);
        vf_store(l->p[j], z);
    }
    const vf shrink = vf_exp(vf_sub(l->max, best));
    for (int64_t j = 0; j < ATTN_KEYS; j++)
        vf_store(l->p[j],
                 j >= b->begin && j < b->end ? vf_exp(vf_sub(vf_load(l->p[j]), best)) : vf_zero());
    const vf sum = vf_add(vf_mul(l->sum, shrink), attn_sum_lanes(l->p));
    l->sum = attn_seen(v, sum, l->sum, 0, ATTN_KEYS - 1);
    for (int64_t d = 0; d < width; d++) {
        const vf acc = vf_load(l->acc[d]);
        vf_store(l->acc[d], attn_seen(v, vf_mul(acc, shrink), acc, 0, ATTN_KEYS - 1));
    }
    l->max = best;
    attn_mix(l->acc, l->p, a->v, v, width);
}

/* As attn_tile_run, with rows in lanes; the usual widths are constants for the compiler. */
static void attn_lanes_run(struct attn_tile *t) {
    const struct attn_args *a = t->a;
    struct attn_lanes l = {.max = vf_set(-INFINITY), .sum = vf_zero()};
    struct attn_block b;
    attn_fill_lanes(t);
    attn_load_lanes(l.q, t, a->q);
    for (int64_t d = 0; d < a->width; d++)
        vf_store(l.acc[d], vf_zero());
    for (int64_t key0 = t->first[0] / ATTN_KEYS * ATTN_KEYS; key0 <= t->last[t->rows - 1];
         key0 += ATTN_KEYS) {
        attn_block_at(&b, t, key0);
        const struct attn_view v = attn_view_of(t, &b, key0);
        if (a->width == 8)
            attn_lanes_block(&l, &v, 8);
        else if (a->width == 16)
            attn_lanes_block(&l, &v, 16);
        else
            attn_lanes_block(&l, &v, a->width);
    }
    float max[VEC], sum[VEC];
    const vf inv = vf_div(vf_set(1), l.sum);
    for (int64_t d = 0; d < a->width; d++)
        vf_store(l.acc[d], vf_mul(vf_load(l.acc[d]), inv));
    attn_store_lanes(a->out, t, l.acc);
    vf_store(max, l.max);
    vf_store(sum, l.sum);
    for (int64_t r = 0; a->lse && r < t->rows; r++)
        a->lse[t->index[r]] = (float)((double)max[r] + log((double)sum[r]));
}

#endif
