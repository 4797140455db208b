/* loss.c - see loss.h for the formulas.
 *
 * Everything is computed in double from the float log-probs: ratios near 1 are differences of
 * nearly equal numbers, and the cost is nothing beside the head's matrix product. Gradient and
 * report are separate passes, because the gradient is needed chunk by chunk while the head's logits
 * are in the cache, and the report in the order of the batch, so that it does not depend on how the
 * batch was packed. */
#include "trainer/loss.h"

#include <math.h>

static const double loss_exp_limit = 20;

struct point { /* value and derivative by lp */
    double value, slope;
};

static struct point limited_exp(double x, double sign) {
    if (x > loss_exp_limit) return (struct point){exp(loss_exp_limit), 0};
    if (x < -loss_exp_limit) return (struct point){exp(-loss_exp_limit), 0};
    double e = exp(x);
    return (struct point){e, sign * e};
}

static bool clip_acts(const struct loss_config *cfg, double ratio, double advantage) {
    if (advantage > 0) return ratio > 1 + cfg->clip_high;
    return advantage < 0 && ratio < 1 - cfg->clip_low;
}

static struct point policy(const struct loss_config *cfg, const struct loss_token *t,
                           struct point ratio) {
    if (clip_acts(cfg, ratio.value, t->advantage)) {
        double bound = t->advantage > 0 ? 1 + cfg->clip_high : 1 - cfg->clip_low;
        return (struct point){-bound * t->advantage, 0};
    }
    return (struct point){-ratio.value * t->advantage, -ratio.slope * t->advantage};
}

static struct point divergence(const struct loss_config *cfg, const struct loss_token *t,
                               double logprob) {
    double x = logprob - (double)t->reference;
    if (cfg->kl == RECIPE_KL_K1) return (struct point){x, 1};
    if (cfg->kl == RECIPE_KL_K2) return (struct point){0.5 * x * x, x};
    struct point e = limited_exp(-x, -1);
    return (struct point){e.value - 1 + x, e.slope + 1};
}

void loss_gradient(const struct loss_config *cfg, const struct loss_token *token,
                   const int64_t *element, const float *logprob, size_t n, float *g_logprob,
                   float *g_entropy) {
    for (size_t i = 0; i < n; i++) {
        const struct loss_token *t = &token[element ? element[i] : (int64_t)i];
        if (cfg->supervised) {
            g_logprob[i] = (float)-t->weight;
            g_entropy[i] = 0;
            continue;
        }
        double lp = (double)logprob[i];
        double slope = policy(cfg, t, limited_exp(lp - (double)t->behaviour, 1)).slope;
        if (cfg->kl_coef != 0) slope += cfg->kl_coef * divergence(cfg, t, lp).slope;
        g_logprob[i] = (float)(t->weight * slope);
        g_entropy[i] = (float)(-t->weight * cfg->entropy_coef);
    }
}

bool loss_is_flat(const struct loss_config *cfg, const struct loss_token *token) {
    if (token->weight == 0) return true;
    if (cfg->supervised) return false;
    return token->advantage == 0 && cfg->kl_coef == 0 && cfg->entropy_coef == 0;
}

static void sum_supervised(const struct loss_token *token, const float *logprob,
                           const float *entropy, size_t n, struct loss_sums *out) {
    for (size_t i = 0; i < n; i++) {
        out->pg_loss -= token[i].weight * (double)logprob[i];
        out->entropy += (double)entropy[i] / (double)n;
    }
    out->loss = out->pg_loss;
    out->ratio_mean = out->ratio_max = out->ess = 1;
}

void loss_sum(const struct loss_config *cfg, const struct loss_token *token, const float *logprob,
              const float *entropy, size_t n, struct loss_sums *out) {
    double ratios = 0, squares = 0, bonus = 0, clipped = 0;
    *out = (struct loss_sums){0};
    if (n == 0) return;
    if (cfg->supervised) {
        sum_supervised(token, logprob, entropy, n, out);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const struct loss_token *t = &token[i];
        double lp = (double)logprob[i];
        struct point ratio = limited_exp(lp - (double)t->behaviour, 1);
        out->pg_loss += t->weight * policy(cfg, t, ratio).value;
        clipped += clip_acts(cfg, ratio.value, t->advantage);
        ratios += ratio.value;
        squares += ratio.value * ratio.value;
        if (ratio.value > out->ratio_max) out->ratio_max = ratio.value;
        out->entropy += (double)entropy[i];
        bonus += t->weight * (double)entropy[i];
        if (cfg->kl_coef == 0) continue;
        double kl = divergence(cfg, t, lp).value;
        out->kl += kl;
        out->kl_loss += t->weight * kl;
    }
    out->loss = out->pg_loss + cfg->kl_coef * out->kl_loss - cfg->entropy_coef * bonus;
    out->kl /= (double)n;
    out->entropy /= (double)n;
    out->clip_fraction = clipped / (double)n;
    out->ratio_mean = ratios / (double)n;
    out->ess = ratios * ratios / ((double)n * squares);
}
