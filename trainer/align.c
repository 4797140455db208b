/* align.c - see align.h. The decision is a pure function of three scalars, so it is the same on
 * every rank and in every replay, and can be tested without a gradient. The cosine is computed and
 * reported when control is off too: it is the earliest sign that staleness hurts. */
#include "trainer/align.h"

#include <math.h>

static double clamp(double x, double lo, double hi) {
    return x < lo ? lo : x > hi ? hi : x;
}

/* What the parallel part is multiplied by. */
static double keep_of(const struct align_config *cfg, double c) {
    return cfg->c_low * sqrt(1 - c * c) / (c * sqrt(1 - cfg->c_low * cfg->c_low));
}

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
        return r;
    }
    double s = r.cosine > cfg->c_high ? 0 : keep_of(cfg, r.cosine);
    r.action = ALIGN_SCALE;
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
    case ALIGN_INVALID: break;
    }
    return "invalid";
}
