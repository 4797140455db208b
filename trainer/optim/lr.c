/* lr.c - see lr.h. A pure function of the step, so nothing of the schedule needs to be saved and a
 * replayed step sees the rate that the original saw. After the planned number of steps the cosine
 * stays at min_lr instead of rising again. */
#include "trainer/optim/lr.h"

#include <math.h>

static const double lr_pi = 3.14159265358979323846;

double lr_at(const struct lr_config *cfg, int64_t step) {
    if (step < cfg->warmup) return cfg->lr * (double)(step + 1) / (double)cfg->warmup;
    if (!cfg->cosine) return cfg->lr;
    int64_t span = cfg->steps - cfg->warmup;
    double p = span > 0 ? (double)(step - cfg->warmup) / (double)span : 1;
    if (p > 1) p = 1;
    return cfg->min_lr + (cfg->lr - cfg->min_lr) * 0.5 * (1 + cos(lr_pi * p));
}
