/* align.c - see align.h. The decision is a pure function of three scalars, so it is the same on
 * every rank and in every replay, and can be tested without a gradient. The cosine is computed and
 * reported when control is off too: it is the earliest sign that staleness hurts. */
#include "trainer/optim/align.h"

#include <math.h>
#include <stdlib.h>

enum { ALIGN_PERCENTILE = 95 };
static const double align_high_least = 0.3, align_low_most = 0.999, align_fade = 0.9;

static double clamp(double x, double lo, double hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

/* What the parallel part is multiplied by. */
static double keep_of(const struct align_config *cfg, double c) {
    return cfg->c_low * sqrt(1 - c * c) / (c * sqrt(1 - cfg->c_low * cfg->c_low));
}

/* Without a cosine (no previous gradient, a zero, an overflow) the gradient passes as it is. After
 * ALIGN_SKIPS_MAX skips in a row one is projected instead. */
struct align_decision align_decide(const struct align_config *cfg, double d, double g_square,
                                   double p_square, bool have_previous, int64_t skips) {
    struct align_decision r = {.action = ALIGN_INVALID, .cosine = NAN, .square = g_square};
    double scale = sqrt(g_square) * sqrt(p_square);
    if (!have_previous || !isfinite(d) || !isfinite(scale) || scale == 0) return r;
    r.cosine = clamp(d / scale, -1, 1);
    r.action = cfg->on ? ALIGN_PASS : ALIGN_OFF;
    if (!cfg->on || r.cosine <= cfg->c_low) return r;
    if (r.cosine > cfg->c_high && skips < ALIGN_SKIPS_MAX) {
        r.action = ALIGN_SKIP;
        r.removed = 1;
        return r;
    }
    double s = r.cosine > cfg->c_high ? 0 : keep_of(cfg, r.cosine);
    r.action = ALIGN_SCALE;
    r.removed = 1 - s;
    r.parallel = -(1 - s) * d / p_square;
    r.square = g_square * clamp(1 - (1 - s * s) * r.cosine * r.cosine, 0, 1);
    return r;
}

const char *align_name(enum align_action a) {
    switch (a) {
    case ALIGN_OFF: return "off";
    case ALIGN_PASS: return "pass";
    case ALIGN_SCALE: return "scale";
    case ALIGN_SKIP: return "skip";
    case ALIGN_CALIBRATE: return "calibrate";
    case ALIGN_INVALID: break;
    }
    return "invalid";
}

double align_lr_factor(double staleness, double mean_cosine) {
    if (!(mean_cosine > 0) || !(staleness > 0)) return 1;
    return 1 / (1 + staleness * mean_cosine);
}

void align_mean_add(struct align_mean *m, double cosine) {
    if (!isfinite(cosine)) return;
    m->sum = align_fade * m->sum + (1 - align_fade) * cosine;
    m->weight = align_fade * m->weight + (1 - align_fade);
}

double align_mean(const struct align_mean *m) {
    return m->weight > 0 ? m->sum / m->weight : (double)NAN;
}

static int by_cosine(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Between two order statistics the percentile is interpolated linearly. */
void align_thresholds(double *c_low, double *c_high, double *cosine, int64_t n) {
    qsort(cosine, (size_t)n, sizeof *cosine, by_cosine);
    double at = (double)(n - 1) * ALIGN_PERCENTILE / 100;
    int64_t below = (int64_t)at, above = below + 1 < n ? below + 1 : below;
    double c = cosine[below] + (at - (double)below) * (cosine[above] - cosine[below]);
    *c_low = clamp(c, 0, align_low_most);
    *c_high = clamp(3 * *c_low, align_high_least, 1);
}
