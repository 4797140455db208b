/* adv.c - see adv.h.
 *
 * Two passes (mean, then squared deviations) instead of a running sum of squares: rewards of a
 * group often agree to the last bit, and then the deviations must be exactly zero, so that a group
 * without signal gives a gradient of exactly zero and can be left out of the backward pass. */
#include "trainer/learn/adv.h"

#include "base/mem.h"

#include <math.h>

static const double adv_eps = 1e-6, adv_whiten_eps = 1e-8;

/* Sums over the group of score - first, plain and weighted; squares: of the deviations. */
struct group_stats {
    size_t n;
    double first, sum, weighted, weights, squares;
};

/* The mean is taken relative to the group's first score: equal scores give deviation 0 exactly,
 * which a plain sum / n does not for values like 0.1. */
static void add_scores(struct group_stats *g, const double *score, const int32_t *group,
                       const double *weight, size_t n, size_t n_groups) {
    for (size_t i = 0; i < n; i++) {
        ASSERT(group[i] >= 0 && (size_t)group[i] < n_groups);
        struct group_stats *s = &g[group[i]];
        if (s->n++ == 0) s->first = score[i];
        s->sum += score[i] - s->first;
        if (!weight) continue;
        s->weighted += weight[i] * (score[i] - s->first);
        s->weights += weight[i];
    }
}

static double from_mean(const struct group_stats *s, double score) {
    return (score - s->first) - s->sum / (double)s->n;
}

static double from_baseline(const struct group_stats *s, double score) {
    if (s->weights == 0) return from_mean(s, score);
    return (score - s->first) - s->weighted / s->weights;
}

/* Three passes over the trajectories: sums of each group, deviations, advantages. */
void adv_group(double *advantage, const double *score, const int32_t *group, const double *weight,
               size_t n, size_t n_groups, enum recipe_advantage kind) {
    struct group_stats *stats = mem_array(n_groups, sizeof *stats);
    add_scores(stats, score, group, weight, n, n_groups);
    for (size_t i = 0; i < n; i++) {
        struct group_stats *s = &stats[group[i]];
        double x = from_mean(s, score[i]);
        s->squares += x * x;
    }
    for (size_t i = 0; i < n; i++) {
        const struct group_stats *s = &stats[group[i]];
        double x = from_baseline(s, score[i]), size = (double)s->n;
        if (s->n < 2)
            x = 0;
        else if (kind == RECIPE_ADV_GRPO)
            x /= sqrt(s->squares / (size - 1)) + adv_eps;
        else if (kind == RECIPE_ADV_RLOO)
            x *= size / (size - 1);
        advantage[i] = x;
    }
    mem_free(stats);
}

void adv_returns(double *out, const double *reward, size_t n, double gamma) {
    double next = 0;
    for (size_t t = n; t-- > 0;) {
        next = reward[t] + gamma * next;
        out[t] = next;
    }
}

void adv_gae(double *advantage, float *goal, const double *reward, const float *value, size_t n,
             double gamma, double lambda) {
    double next = 0, next_value = 0;
    for (size_t t = n; t-- > 0;) {
        double v = (double)value[t], delta = reward[t] + gamma * next_value - v;
        next = delta + gamma * lambda * next;
        next_value = v;
        advantage[t] = next;
        goal[t] = (float)(next + v);
    }
}

void adv_whiten(double *x, size_t n) {
    double first = n ? x[0] : 0, mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        mean += (x[i] - first) / (double)n;
    for (size_t i = 0; i < n; i++) {
        x[i] = (x[i] - first) - mean;
        squares += x[i] * x[i];
    }
    double scale = 1 / sqrt((n > 1 ? squares / (double)(n - 1) : 0) + adv_whiten_eps);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}
