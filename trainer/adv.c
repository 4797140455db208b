/* adv.c - see adv.h.
 *
 * Two passes (mean, then squared deviations) instead of a running sum of squares: rewards of a
 * group often agree to the last bit, and then the deviations must be exactly zero, so that a group
 * without signal gives a gradient of exactly zero and can be left out of the reverse pass. */
#include "trainer/adv.h"

#include "base/mem.h"

#include <math.h>

static const double adv_eps = 1e-6;

struct group_stats {
    size_t n;
    double first, sum, squares; /* sum: of r - first; then the mean; squares: of r - mean */
};

/* The mean is taken relative to the group's first reward: equal rewards give deviation 0 exactly,
 * which a plain sum / n does not for values like 0.1. */
static void add_rewards(struct group_stats *g, const double *reward, const int32_t *group,
                        size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct group_stats *s = &g[group[i]];
        if (s->n++ == 0) s->first = reward[i];
        s->sum += reward[i] - s->first;
    }
}

static double deviation(const struct group_stats *s, double reward) {
    return (reward - s->first) - s->sum / (double)s->n;
}

void adv_grpo(double *advantage, const double *reward, const int32_t *group, size_t n,
              size_t n_groups, bool divide_by_std) {
    struct group_stats *stats = mem_array(n_groups, sizeof *stats);
    add_rewards(stats, reward, group, n);
    for (size_t i = 0; i < n; i++) {
        struct group_stats *s = &stats[group[i]];
        double x = deviation(s, reward[i]);
        s->squares += x * x;
    }
    for (size_t i = 0; i < n; i++) {
        const struct group_stats *s = &stats[group[i]];
        double x = deviation(s, reward[i]);
        if (s->n < 2)
            advantage[i] = 0;
        else if (divide_by_std)
            advantage[i] = x / (sqrt(s->squares / (double)(s->n - 1)) + adv_eps);
        else
            advantage[i] = x;
    }
    mem_free(stats);
}
