/* align.h - gradient alignment control (GAC, arXiv 2603.01501): what to do with a gradient that
 * points where the last one already went. Under asynchrony stale data keeps pushing in one
 * direction, a momentum nobody configured; fresh data gives nearly orthogonal gradients.
 *
 * g: gradient of this step, p: raw gradient of the step before (or what trainer.alignment.previous
 * puts in its place), both summed over ranks, before norm clipping. From d = <g,p>, G = |g|^2, P =
 * |p|^2 alone: c = d / sqrt(G P), and
 *
 *   c <= c_low             pass:  g unchanged
 *   c_low < c <= c_high    scale: the part of g parallel to p times s,
 *                                 s = c_low sqrt(1 - c^2) / (c sqrt(1 - c_low^2)),
 *                                 i.e. g - (1 - s)(d / P) p, whose cosine with p is exactly c_low
 *   c > c_high             skip:  the step does not happen; the third in a row is scaled with s = 0
 *                                 instead (only the orthogonal part is used)
 *
 * The norm afterwards needs no second pass: |g'|^2 = G (1 - (1 - s^2) c^2).
 *
 * Calibration: what a run's own cosines are, c_low = their 95th percentile, c_high = max(3 c_low,
 * 0.3), at most 1. */
#ifndef TRAINER_OPTIM_ALIGN_H
#define TRAINER_OPTIM_ALIGN_H

#include <stdbool.h>
#include <stdint.h>

enum align_action {
    ALIGN_OFF,
    ALIGN_PASS,
    ALIGN_SCALE,
    ALIGN_SKIP,
    ALIGN_INVALID,
    ALIGN_CALIBRATE /* as off: measured only */
};
enum { ALIGN_SKIPS_MAX = 2 };

struct align_config {
    bool on;
    double c_low, c_high;
};

struct align_decision {
    enum align_action action;
    double cosine; /* in [-1, 1]; NAN when invalid: no previous gradient, or a norm that is zero or
                      not finite */
    double parallel; /* multiple of p to add to g: -(1 - s) d / P; 0 unless action is scale */
    double removed;  /* 1 - s: share of the parallel part that is taken out; 1 in a skip */
    double square;   /* |g'|^2 */
};

/* skips: how many steps in a row were skipped before this one. have_previous: p and P mean
 * something. */
struct align_decision align_decide(const struct align_config *cfg, double d, double g_square,
                                   double p_square, bool have_previous, int64_t skips);
const char *align_name(enum align_action a);

/* What the learning rate is multiplied by when it follows the cosine: 1 / (1 + staleness * max(mean
 * cosine, 0)). Why: between generating data and training on it the weights move `staleness` steps
 * without anybody seeing where to; of these the share `cosine` is one and the same step again. The
 * distance gone blindly is then that of one step. 1 with fresh data, whatever the cosine. */
double align_lr_factor(double staleness, double mean_cosine);

/* The cosine's mean over about the last ten steps, from sums that fade; NAN before the first. */
struct align_mean {
    double sum, weight;
};
void align_mean_add(struct align_mean *m, double cosine);
double align_mean(const struct align_mean *m);

/* Thresholds from n >= 1 cosines; sorts them. A negative percentile gives c_low 0: everything that
 * is parallel and positive is taken out. */
void align_thresholds(double *c_low, double *c_high, double *cosine, int64_t n);

#endif
