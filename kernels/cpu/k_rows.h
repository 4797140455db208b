/* k_rows.h - kernels over rows: RMSNorm and its reverse, rotary embedding, adding into rows
 * (template; see real.h). Gradients of shared vectors are summed by columns, rows in order. */
#ifndef KERNELS_CPU_K_ROWS_H
#define KERNELS_CPU_K_ROWS_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/real.h"

#include <math.h>

static float inverse_rms(const real *x, int64_t d, float eps) {
    return 1 / sqrtf(real_dot(x, x, d) / (float)d + eps);
}

/* out may be x */
static void norm_row(real *out, const real *x, const real *w, int64_t d, float eps) {
    const vf r = vf_set(inverse_rms(x, d, eps));
    for (int64_t j = 0; j < d; j += VEC) {
        const int64_t n = d - j;
        vf y = vf_mul(vf_mul(real_load_n(x + j, n), r), real_load_n(w + j, n));
        real_store_n(out + j, y, n);
    }
}

static void k_rmsnorm(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct norm_args *a = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i++)
        norm_row((real *)a->out + i * a->d, (const real *)a->x + i * a->d, a->w, a->d, a->eps);
}

/* The norm finds the sum of its row in the first cache. */
static void k_add_rmsnorm(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct norm_args *a = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        const real *x = (const real *)a->x + i * a->d, *add = (const real *)a->add + i * a->d;
        real *sum = (real *)a->sum + i * a->d;
        for (int64_t j = 0; j < a->d; j += VEC) {
            const int64_t n = a->d - j;
            real_store_n(sum + j, vf_add(real_load_n(x + j, n), real_load_n(add + j, n)), n);
        }
        norm_row((real *)a->out + i * a->d, sum, a->w, a->d, a->eps);
    }
}

/* gx = r (gout w - x r^2 c / d), c = sum gout w x; keeps r for the weight's gradient. */
static void k_rmsnorm_bwd(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct norm_args *a = args;
    const int64_t d = a->d;
    const real *w = a->w;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        const real *x = (const real *)a->x + i * d, *g = (const real *)a->gout + i * d;
        real *gx = (real *)a->gx + i * d;
        float r = inverse_rms(x, d, a->eps);
        vf sum = vf_zero();
        for (int64_t j = 0; j < d; j += VEC) {
            vf gw = vf_mul(real_load_n(g + j, d - j), real_load_n(w + j, d - j));
            sum = vf_fma(gw, real_load_n(x + j, d - j), sum);
        }
        const vf c = vf_set(-(vf_sum(sum) / (float)d * r * r)), rv = vf_set(r);
        a->r[i] = r;
        for (int64_t j = 0; j < d; j += VEC) {
            const int64_t n = d - j;
            vf gw = vf_mul(real_load_n(g + j, n), real_load_n(w + j, n));
            vf y = vf_mul(vf_fma(real_load_n(x + j, n), c, gw), rv);
            if (a->accumulate) y = vf_add(real_load_n(gx + j, n), y);
            real_store_n(gx + j, y, n);
        }
    }
}

static void k_rmsnorm_gw(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct norm_args *a = args;
    const real *x = a->x, *gout = a->gout;
    (void)scratch;
    for (int64_t j = begin * VEC; j < end * VEC && j < a->d; j += VEC) {
        const int64_t n = a->d - j;
        vf sum = vf_zero();
        for (int64_t first = 0, last; first < a->rows; first = last) {
            vf part = vf_zero();
            last = a->rows - first < ROWS_SUM ? a->rows : first + ROWS_SUM;
            for (int64_t i = first; i < last; i++) {
                vf xr = vf_mul(real_load_n(x + i * a->d + j, n), vf_set(a->r[i]));
                part = vf_fma(real_load_n(gout + i * a->d + j, n), xr, part);
            }
            sum = vf_add(sum, part);
        }
        vf_store_n(a->gw + j, vf_add(vf_load_n(a->gw + j, n), sum), n);
    }
}

/* v may be x */
static void rope_head(real *v, const real *x, const float *cos, const float *sin, int64_t half,
                      bool inverse) {
    for (int64_t j = 0; j < half; j += VEC) {
        const int64_t n = half - j;
        vf a = real_load_n(x + j, n), b = real_load_n(x + half + j, n);
        vf c = vf_load_n(cos + j, n), s = vf_load_n(sin + j, n);
        if (inverse) s = vf_sub(vf_zero(), s);
        real_store_n(v + j, vf_sub(vf_mul(a, c), vf_mul(b, s)), n);
        real_store_n(v + half + j, vf_fma(a, s, vf_mul(b, c)), n);
    }
}

static void k_rope(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct rope_args *a = args;
    const int64_t half = a->width / 2;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t h = 0; h < a->heads; h++) {
            real *v = (real *)a->x + (i * a->heads + h) * a->width;
            rope_head(v, v, a->cos + a->pos[i] * half, a->sin + a->pos[i] * half, half, a->inverse);
        }
    }
}

static void k_norm_rope(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct rope_args *a = args;
    const int64_t half = a->width / 2;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t h = 0; h < a->heads; h++) {
            const int64_t at = (i * a->heads + h) * a->width;
            real *v = (real *)a->x + at;
            const real *from = (const real *)a->from + at;
            if (a->w) norm_row(v, from, a->w, a->width, a->eps);
            rope_head(v, a->w ? v : from, a->cos + a->pos[i] * half, a->sin + a->pos[i] * half,
                      half, false);
        }
    }
}

/* Distinct rows: items are rows. */
static void k_add_rows(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct rows_args *a = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        real *to = (real *)a->table + a->ids[i] * a->d;
        const real *x = (const real *)a->x + i * a->d;
        for (int64_t j = 0, n = a->d; n > 0; j += VEC, n -= VEC)
            real_store_n(to + j, vf_add(real_load_n(to + j, n), real_load_n(x + j, n)), n);
    }
}

/* Rows of an f32 table, which may repeat: items are 16 columns, each adding all rows in order. */
static void k_add_cols(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct rows_args *a = args;
    const int64_t j0 = begin * VEC, j1 = end * VEC < a->d ? end * VEC : a->d;
    (void)scratch;
    for (int64_t i = 0; i < a->rows; i++) {
        float *to = (float *)a->table + a->ids[i] * a->d;
        const real *x = (const real *)a->x + i * a->d;
        for (int64_t j = j0, n = j1 - j0; n > 0; j += VEC, n -= VEC)
            vf_store_n(to + j, vf_add(vf_load_n(to + j, n), real_load_n(x + j, n)), n);
    }
}

/* Gradient of a bias: items are 16 columns, which sum the rows in order, some at a time. */
static void k_colsum(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct colsum_args *a = args;
    const real *g = a->g;
    (void)scratch;
    for (int64_t c = begin * VEC; c < end * VEC && c < a->n; c += VEC) {
        vf sum = vf_load_n(a->out + c, a->n - c);
        for (int64_t r = 0, stop; r < a->rows; r = stop) {
            vf part = vf_zero();
            stop = a->rows - r < ROWS_SUM ? a->rows : r + ROWS_SUM;
            for (int64_t i = r; i < stop; i++)
                part = vf_add(part, real_load_n(g + i * a->n + c, a->n - c));
            sum = vf_add(sum, part);
        }
        vf_store_n(a->out + c, sum, a->n - c);
    }
}

#endif
