/* k_attn_lanes_bwd.h - the reverse of attention for narrow heads, a query row in a lane (template;
 * see real.h and k_attn_lanes.h).
 *
 * Probabilities, score gradients and gq need no sums across lanes. The keys' gradients do: there
 * the lanes change sides and hold a row's numbers, q and gout of a head of up to 8 interleaved in
 * one vector, so that one multiply-add per row and key serves gk and gv. */
#ifndef KERNELS_CPU_K_ATTN_LANES_BWD_H
#define KERNELS_CPU_K_ATTN_LANES_BWD_H

#include "kernels/cpu/k_attn_lanes.h"

#include <string.h>

enum { ATTN_SOME = 4 }; /* keys at a time in spread8: chains in flight */

struct attn_lanes_bwd {
    float q[ATTN_NARROW][VEC], gout[ATTN_NARROW][VEC], gq[ATTN_NARROW][VEC];
    float p[ATTN_KEYS][VEC], gz[ATTN_KEYS][VEC];
    float zip[ATTN_KEYS + ATTN_SOME - 1][2 * VEC]; /* gz, p of row 0, gz, p of row 1, ... */
    vf both[VEC][2]; /* rows: q, gout interleaved, or one after the other */
    vf lse, t;       /* t = gout . out */
};

/* Weights p and the gradients gz of the scores of one block, for 16 rows, and gq += gz k. */
static inline __attribute__((always_inline)) void
attn_lanes_grads(struct attn_lanes_bwd *l, const struct attn_view *v, const int64_t width) {
    const struct attn_args *a = v->t->a;
    const struct attn_block *b = v->b;
    const vf scale = vf_set(a->scale);
    for (int64_t j = b->begin; j < b->end; j++) {
        const vf s = attn_chain((const real *)a->k + b->offset[j], l->q, width);
        const vf g = attn_chain((const real *)a->v + b->offset[j], l->gout, width);
        vf p = vf_exp(vf_sub(vf_mul(s, scale), l->lse));
        if (!attn_all_see(v, j)) p = attn_seen(v, p, vf_zero(), j, j);
        const vf gz = vf_mul(vf_mul(p, scale), vf_sub(g, l->t));
        vf lo, hi;
        vf_zip(&lo, &hi, gz, p);
        vf_store(l->gz[j], gz);
        vf_store(l->p[j], p);
        vf_store(l->zip[j], lo);
        vf_store(l->zip[j] + VEC, hi);
    }
    attn_mix(l->gq, l->gz, a->k, v, width);
}

/* gk, gv of every key += over rows, rows in order: heads of up to 8 do both in one vector. */
static void attn_lanes_spread8(struct attn_lanes_bwd *l, const struct attn_view *v) {
    const struct attn_args *a = v->t->a;
    const struct attn_block *b = v->b;
    for (int64_t j = b->begin; j < b->end; j += ATTN_SOME) {
        vf acc[ATTN_SOME];
        float sums[VEC];
#pragma GCC unroll 4
        for (int i = 0; i < ATTN_SOME; i++)
            acc[i] = vf_zero();
#pragma GCC unroll 16
        for (int r = 0; r < VEC; r++)
#pragma GCC unroll 4
            for (int i = 0; i < ATTN_SOME; i++) /* past the end: zeros or old, unused */
                acc[i] = vf_fma(vf_set2(l->zip[j + i] + 2 * r), l->both[r][0], acc[i]);
        for (int i = 0; i < ATTN_SOME && j + i < b->end; i++) {
            float *gk = a->gk + b->offset[j + i], *gv = a->gv + b->offset[j + i];
            vf_store(sums, acc[i]);
            for (int64_t d = 0; d < a->width; d++) {
                gk[d] += sums[2 * d];
                gv[d] += sums[2 * d + 1];
            }
        }
    }
}

static void attn_lanes_spread16(struct attn_lanes_bwd *l, const struct attn_view *v) {
    const struct attn_args *a = v->t->a;
    const struct attn_block *b = v->b;
    for (int64_t j = b->begin; j < b->end; j++) {
        float *gk = a->gk + b->offset[j], *gv = a->gv + b->offset[j];
        vf k = vf_load_n(gk, a->width), x = vf_load_n(gv, a->width);
#pragma GCC unroll 16
        for (int r = 0; r < VEC; r++) {
            k = vf_fma(vf_set(l->gz[j][r]), l->both[r][0], k);
            x = vf_fma(vf_set(l->p[j][r]), l->both[r][1], x);
        }
        vf_store_n(gk, k, a->width);
        vf_store_n(gv, x, a->width);
    }
}

static void attn_lanes_bwd_begin(struct attn_lanes_bwd *l, struct attn_tile *t) {
    const struct attn_args *a = t->a;
    float out[ATTN_NARROW][VEC], lse[VEC];
    memset(l, 0, sizeof *l);
    attn_fill_lanes(t);
    attn_load_lanes(l->q, t, a->q);
    attn_load_lanes(l->gout, t, a->gout);
    attn_load_lanes(out, t, a->out);
    for (int64_t d = 0; d < a->width; d++)
        l->t = vf_fma(vf_load(l->gout[d]), vf_load(out[d]), l->t);
    for (int64_t r = 0; r < VEC; r++)
        lse[r] = a->lse[t->index[r]];
    l->lse = vf_load(lse);
    for (int64_t r = 0; r < t->rows; r++) { /* lanes without a row add nothing */
        const int64_t at = t->index[r] * a->width;
        const vf q = real_load_n((const real *)a->q + at, a->width);
        const vf gout = real_load_n((const real *)a->gout + at, a->width);
        l->both[r][0] = q;
        l->both[r][1] = gout;
        if (a->width <= TURN) vf_zip(&l->both[r][0], &l->both[r][1], q, gout);
    }
}

/* A tile's rows over their key blocks; gk and gv of a block are added to before the next is read.
 */
static void attn_lanes_bwd_run(struct attn_tile *t) {
    const struct attn_args *a = t->a;
    struct attn_lanes_bwd l;
    struct attn_block b;
    attn_lanes_bwd_begin(&l, t);
    for (int64_t key0 = t->first[0] / ATTN_KEYS * ATTN_KEYS; key0 <= t->last[t->rows - 1];
         key0 += ATTN_KEYS) {
        attn_block_at(&b, t, key0);
        const struct attn_view v = attn_view_of(t, &b, key0);
        if (a->width == 8)
            attn_lanes_grads(&l, &v, 8);
        else if (a->width == 16)
            attn_lanes_grads(&l, &v, 16);
        else
            attn_lanes_grads(&l, &v, a->width);
        if (a->width <= TURN)
            attn_lanes_spread8(&l, &v);
        else
            attn_lanes_spread16(&l, &v);
    }
    attn_store_lanes(a->gq, t, l.gq);
}

#endif
