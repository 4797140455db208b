/* k_attention.h - causal attention over paged keys with an online softmax (template; see real.h).
 *
 * Canonical order (invariant I6): keys are taken in blocks of 64 by their position in the sequence,
 * wherever their pages lie. Per block: scores (a dot product is 16 chains over the head width and
 * one tree), maximum, exponentials, rescaling of the sum and of the output, then one chain of
 * p v over the visible keys in order. For heads of up to 16 numbers the dot product is one chain,
 * and many rows of them go the way of k_attn_lanes.h. A row does this with its own visible range
 * only; that up to 4 rows share the loads of a key changes nothing in it. */
#ifndef KERNELS_CPU_K_ATTENTION_H
#define KERNELS_CPU_K_ATTENTION_H

#include "kernels/cpu/k_attn_lanes.h"
#include "kernels/cpu/k_attn_tile.h"

#include <math.h>

/* Scores of one row's block to probabilities relative to the running maximum; rescales the row.
 * Vectors without a visible key are left out: they would add zeros. */
static void attn_softmax(float p[ATTN_KEYS], float *acc, float *max, float *sum, int64_t from,
                         int64_t to, float scale, int64_t width) {
    const vf low = vf_set(-INFINITY), sv = vf_set(scale);
    vf z[ATTN_KEYS / VEC], best = vf_set(*max), total = vf_zero();
    const int first = (int)(from / VEC), end_vec = (int)((to + VEC - 1) / VEC);
    for (int i = first; i < end_vec; i++) {
        int64_t begin = from - i * VEC, end = to - i * VEC;
        z[i] = vf_first(vf_mul(vf_load(p + i * VEC), sv), end, low);
        if (begin > 0) z[i] = vf_first(low, begin, z[i]);
        best = vf_max(z[i], best);
    }
    const float top = vf_hmax(best);
    const vf shrink = vf_exp(vf_set(*max - top)), tv = vf_set(top);
    for (int i = first; i < end_vec; i++) {
        vf e = vf_exp(vf_sub(z[i], tv));
        vf_store(p + i * VEC, e);
        total = vf_add(total, e);
    }
    float factor[VEC];
    vf_store(factor, shrink);
    *sum = *sum * factor[0] + vf_sum(total);
    *max = top;
    for (int64_t d = 0; d < width; d += VEC)
        vf_store(acc + d, vf_mul(vf_load(acc + d), shrink));
}

/* A tile's rows over the key blocks that any of them sees, with a running maximum and sum for each
 * row. Blocks begin at multiples of ATTN_KEYS whatever the rows see: their order is a row's own. */
static void attn_tile_run(struct attn_tile *t) {
    const struct attn_args *a = t->a;
    float acc[ATTN_ROWS][ATTN_WIDTH], p[ATTN_ROWS][ATTN_KEYS];
    float max[ATTN_ROWS], sum[ATTN_ROWS] = {0};
    struct attn_block b;
    attn_load(t->q, t, a->q);
    for (int64_t r = 0; r < t->rows; r++) {
        max[r] = -INFINITY;
        memset(p[r], 0, sizeof p[r]);
        for (int64_t d = 0; d < a->width; d += VEC)
            vf_store(&acc[r][d], vf_zero());
    }
    for (int64_t key0 = t->first[0] / ATTN_KEYS * ATTN_KEYS; key0 <= t->last[t->rows - 1];
         key0 += ATTN_KEYS) {
        attn_block_at(&b, t, key0);
        attn_products(p, t->q, a->k, &b, a->width, t->rows);
        for (int64_t r = 0; r < t->rows; r++)
            if (b.from[r] < b.to[r])
                attn_softmax(p[r], acc[r], &max[r], &sum[r], b.from[r], b.to[r], a->scale,
                             a->width);
        attn_gather(acc, p, a->v, &b, t);
    }
    for (int64_t r = 0; r < t->rows; r++) {
        real *out = (real *)a->out + t->index[r] * a->width;
        const vf inv = vf_set(1 / sum[r]);
        for (int64_t d = 0; d < a->width; d += VEC)
            real_store_n(out + d, vf_mul(vf_load(&acc[r][d]), inv), a->width - d);
        if (a->lse) a->lse[t->index[r]] = (float)((double)max[r] + log((double)sum[r]));
    }
}

static void k_attention(const void *args, int64_t begin, int64_t end, void *scratch) {
    enum { LANES_FEW = 6 }; /* rows of a narrow tile that are faster with keys in the lanes */
    const struct attn_args *a = args;
    struct attn_tile t;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = i / a->kv_heads, s = at / a->tiles_per_seq;
        const int64_t first = at % a->tiles_per_seq * a->tile;
        if (!attn_tile_at(&t, a, s, first, a->tile, i % a->kv_heads)) continue;
        if (t.rows > LANES_FEW) {
            attn_lanes_run(&t);
            continue;
        }
        for (int64_t r = 0, n = t.rows; r < n; r += ATTN_ROWS)
            if (attn_tile_at(&t, a, s, first + r, ATTN_ROWS, i % a->kv_heads)) attn_tile_run(&t);
    }
}

#endif
