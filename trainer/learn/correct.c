/* correct.c - see correct.h. Weights and rejections are fixed before the first gradient, from the
 * bits that the forward pass of the training step will see again: so a rejected trajectory can be
 * left out of the backward pass altogether. */
#include "trainer/learn/correct.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

static const double correct_exp_limit = 20;

static double ratio_of(double x) {
    return exp(fmin(fmax(x, -correct_exp_limit), correct_exp_limit));
}

static double sum_of(const double *x, int64_t from, int64_t to) {
    double sum = 0;
    for (int64_t e = from; e < to; e++)
        sum += x[e];
    return sum;
}

/* --- m2po ---------------------------------------------------------------------------------- */

struct square {
    double value;
    int64_t element;
};

/* Smallest first; equal ones in the order of the batch, so that the set is one function of it. */
static int by_square(const void *a, const void *b) {
    const struct square *p = a, *q = b;
    if (p->value != q->value) return p->value < q->value ? -1 : 1;
    return p->element < q->element ? -1 : p->element > q->element;
}

/* Keeps the longest run of smallest squares whose mean is below the bound. */
static void keep_m2(const double *x, int64_t n, double bound, bool *keep) {
    struct square *s = mem_array((size_t)n, sizeof *s);
    double sum = 0;
    int64_t kept = 0;
    for (int64_t e = 0; e < n; e++)
        s[e] = (struct square){x[e] * x[e], e};
    if (n) qsort(s, (size_t)n, sizeof *s, by_square);
    for (int64_t k = 0; k < n; k++) {
        sum += s[k].value;
        if (sum / (double)(k + 1) < bound) kept = k + 1;
    }
    for (int64_t k = 0; k < n; k++)
        keep[s[k].element] = k < kept;
    mem_free(s);
}

/* --- all ----------------------------------------------------------------------------------- */

static bool in_band(const struct correct_config *cfg, double ratio) {
    return ratio >= cfg->low && ratio <= cfg->high;
}

static void set_keep(const struct correct_config *cfg, const double *x, const int64_t *first,
                     size_t n, bool *keep) {
    if (cfg->mask == RECIPE_MASK_M2PO) {
        keep_m2(x, first[n], cfg->m2, keep);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t from = first[i], to = first[i + 1];
        double whole = sum_of(x, from, to), own = (double)(to - from);
        for (int64_t e = from; e < to; e++)
            switch (cfg->mask) {
            case RECIPE_MASK_TOKEN: keep[e] = in_band(cfg, ratio_of(x[e])); break;
            case RECIPE_MASK_SEQUENCE: keep[e] = in_band(cfg, ratio_of(whole)); break;
            case RECIPE_MASK_GEOMETRIC: keep[e] = in_band(cfg, ratio_of(whole / own)); break;
            case RECIPE_MASK_OFF:
            case RECIPE_MASK_M2PO: keep[e] = true; break;
            }
    }
}

static void set_weight(const struct correct_config *cfg, const double *x, const int64_t *first,
                       size_t n, double *weight, struct correct_sums *out) {
    bool on = cfg->tis != RECIPE_TIS_OFF;
    for (size_t i = 0; i < n; i++) {
        double whole = sum_of(x, first[i], first[i + 1]);
        for (int64_t e = first[i]; e < first[i + 1]; e++) {
            double w = on || cfg->always ? ratio_of(x[e]) : 1;
            if (cfg->tis == RECIPE_TIS_SEQUENCE) w = ratio_of(whole);
            if (on && w > cfg->cap) {
                w = cfg->cap;
                out->capped++;
            }
            weight[e] = w;
            out->weight_mean += w;
            out->weight_max = fmax(out->weight_max, w);
        }
    }
}

void correct_tokens(const struct correct_config *cfg, const double *x, const int64_t *first,
                    size_t n, double *weight, bool *keep, struct correct_sums *out) {
    double tokens = fmax((double)first[n], 1);
    ASSERT(first[0] == 0);
    *out = (struct correct_sums){0};
    set_weight(cfg, x, first, n, weight, out);
    set_keep(cfg, x, first, n, keep);
    for (int64_t e = 0; e < first[n]; e++)
        out->rejected += !keep[e];
    out->weight_mean /= tokens;
    out->capped /= tokens;
    out->rejected /= tokens;
}

void correct_sequences(double *weight, const double *x, const int64_t *first, size_t n) {
    for (size_t i = 0; i < n; i++)
        weight[i] = ratio_of(sum_of(x, first[i], first[i + 1]));
}

double correct_ess(const double *weight, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += weight[i];
        squares += weight[i] * weight[i];
    }
    return n ? sum * sum / ((double)n * squares) : 1;
}
