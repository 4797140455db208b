/* k_attention_bwd.h - the reverse of attention (template; see real.h).
 *
 * With p = exp(scale q.k - lse) and t = gout.out per row: gz = scale p (gout.v - t); gq = sum gz k,
 * gk += gz q, gv += p gout. An item is a key head: its keys' gradients are summed by one thread in
 * the order sequences, row tiles, keys, also where sequences share pages. */
#ifndef KERNELS_CPU_K_ATTENTION_BWD_H
#define KERNELS_CPU_K_ATTENTION_BWD_H

#include "kernels/cpu/k_attention.h"
#include "kernels/cpu/k_attn_lanes_bwd.h"

struct attn_reverse {
    float gout[ATTN_ROWS][ATTN_WIDTH], gq[ATTN_ROWS][ATTN_WIDTH];
    float p[ATTN_ROWS][ATTN_KEYS], gz[ATTN_ROWS][ATTN_KEYS];
    float lse[ATTN_ROWS], t[ATTN_ROWS]; /* of missing rows: zero */
};

/* Products in p and gz to probabilities and score gradients; zero outside the row's range. */
static void attn_reverse_row(struct attn_reverse *v, int64_t r, int64_t from, int64_t to,
                             float scale) {
    const vf sv = vf_set(scale), lse = vf_set(v->lse[r]), t = vf_set(v->t[r]);
    for (int64_t i = 0; i < ATTN_KEYS; i += VEC) {
        vf p = vf_exp(vf_sub(vf_mul(vf_load(&v->p[r][i]), sv), lse));
        p = vf_first(p, to > i ? to - i : 0, vf_zero());
        if (from > i) p = vf_first(vf_zero(), from - i, p);
        vf gz = vf_mul(vf_mul(p, sv), vf_sub(vf_load(&v->gz[r][i]), t));
        vf_store(&v->p[r][i], p);
        vf_store(&v->gz[r][i], gz);
    }
}

/* grad[key j] += sum over rows of c[r][j] x[r] */
static void attn_spread(float *grad, float c[ATTN_ROWS][ATTN_KEYS], float x[ATTN_ROWS][ATTN_WIDTH],
                        const struct attn_block *b, int64_t width) {
    for (int64_t j = b->begin; j < b->end; j++) {
        float *g = grad + b->offset[j];
        const vf c0 = vf_set(c[0][j]), c1 = vf_set(c[1][j]);
        const vf c2 = vf_set(c[2][j]), c3 = vf_set(c[3][j]);
        for (int64_t d = 0; d < width; d += VEC) {
            vf s = vf_fma(c0, vf_load(&x[0][d]), vf_load_n(g + d, width - d));
            s = vf_fma(c1, vf_load(&x[1][d]), s);
            s = vf_fma(c2, vf_load(&x[2][d]), s);
            s = vf_fma(c3, vf_load(&x[3][d]), s);
            vf_store_n(g + d, s, width - d);
        }
    }
}

static void attn_reverse_tile(struct attn_tile *t) {
    const struct attn_args *a = t->a;
    struct attn_reverse v;
    struct attn_block b;
    memset(&v, 0, sizeof v);
    attn_load(t->q, t, a->q);
    attn_load(v.gout, t, a->gout);
    for (int64_t r = 0; r < t->rows; r++) {
        v.lse[r] = a->lse[t->index[r]];
        const int64_t at = t->index[r] * a->width;
        v.t[r] = real_dot((const real *)a->gout + at, (const real *)a->out + at, a->width);
    }
    for (int64_t key0 = t->first[0] / ATTN_KEYS * ATTN_KEYS; key0 <= t->last[t->rows - 1];
         key0 += ATTN_KEYS) {
        attn_block_at(&b, t, key0);
        attn_products(v.p, t->q, a->k, &b, a->width, t->rows);
        attn_products(v.gz, v.gout, a->v, &b, a->width, t->rows);
        for (int64_t r = 0; r < ATTN_ROWS; r++) { /* missing rows get zeros */
            const bool there = r < t->rows;
            attn_reverse_row(&v, r, there ? b.from[r] : 0, there ? b.to[r] : 0, a->scale);
        }
        attn_gather(v.gq, v.gz, a->k, &b, t);
        attn_spread(a->gk, v.gz, t->q, &b, a->width);
        attn_spread(a->gv, v.p, v.gout, &b, a->width);
    }
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t d = 0; d < a->width; d += VEC)
            real_store_n((real *)a->gq + t->index[r] * a->width + d, vf_load(&v.gq[r][d]),
                         a->width - d);
}

static void k_attention_bwd(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct attn_args *a = args;
    struct attn_tile t;
    (void)scratch;
    for (int64_t h = begin; h < end; h++)
        for (int64_t s = 0; s < a->n_seqs; s++)
            for (int64_t at = 0; attn_tile_at(&t, a, s, at, a->tile, h); at += a->tile)
                if (a->width <= ATTN_NARROW)
                    attn_lanes_bwd_run(&t);
                else
                    attn_reverse_tile(&t);
}

#endif
