/* loss.c - see loss.h for the letters. A new policy loss is one function and one row of the table
 * here, and one row of RECIPE_LOSSES (docs/howto/a-loss.md).
 *
 * Everything is computed in double from the float log-probs: ratios near 1 are differences of
 * nearly equal numbers, and the cost is nothing beside the head's matrix product. Gradient and
 * report are separate passes, because the gradient is needed chunk by chunk while the head's logits
 * are in the cache, and the report in the order of the batch, so that it does not depend on how the
 * batch was packed. */
#include "trainer/learn/loss.h"

#include "base/err.h"

#include <math.h>

static const double loss_exp_limit = 20;

/* Value and derivative by lp. */
struct point {
    double value, slope;
};

/* Policy loss of one token. */
struct policy {
    struct point pg;
    double ratio;
    bool clipped, dual;
};

static struct point limited_exp(double x, double sign) {
    if (x > loss_exp_limit) return (struct point){exp(loss_exp_limit), 0};
    if (x < -loss_exp_limit) return (struct point){exp(-loss_exp_limit), 0};
    double e = exp(x);
    return (struct point){e, sign * e};
}

/* --- policy losses ------------------------------------------------------------------------- */

static struct policy clipped_surrogate(const struct loss_config *cfg, double a, struct point r) {
    double high = 1 + cfg->clip_high, low = 1 - cfg->clip_low;
    struct policy p = {.ratio = r.value, .pg = {-r.value * a, -r.slope * a}};
    p.clipped = (a > 0 && r.value > high) || (a < 0 && r.value < low);
    p.dual = cfg->dual_clip > 0 && a < 0 && r.value > cfg->dual_clip;
    if (p.clipped) p.pg = (struct point){-(a > 0 ? high : low) * a, 0};
    if (p.dual) p.pg = (struct point){-cfg->dual_clip * a, 0};
    return p;
}

/* pg = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A); with dual_clip > 0 and A < 0 not above
 * -dual_clip A. */
static struct policy ppo_clip(const struct loss_config *cfg, const struct loss_token *t,
                              double lp) {
    return clipped_surrogate(cfg, t->advantage, limited_exp(lp - (double)t->old, 1));
}

/* As ppo-clip, with r = exp([mean over the sequence of lp - o] + lp - [lp]). */
static struct policy gspo(const struct loss_config *cfg, const struct loss_token *t, double lp) {
    double x = t->sequence + (lp - (double)t->current);
    return clipped_surrogate(cfg, t->advantage, limited_exp(x, 1));
}

static struct policy reinforce(double weight, double a, double lp) {
    return (struct policy){.pg = {-weight * a * lp, -weight * a}};
}

/* pg = -[clip(r, 1 - clip_low, 1 + clip_high)] A lp */
static struct policy cispo(const struct loss_config *cfg, const struct loss_token *t, double lp) {
    double r = limited_exp(lp - (double)t->old, 1).value;
    double kept = fmin(fmax(r, 1 - cfg->clip_low), 1 + cfg->clip_high);
    struct policy p = reinforce(kept, t->advantage, lp);
    p.ratio = r;
    p.clipped = kept != r;
    return p;
}

/* pg = -A lp where A > 0, else -[min(r, 1)] A lp */
static struct policy topr(const struct loss_config *cfg, const struct loss_token *t, double lp) {
    double r = limited_exp(lp - (double)t->old, 1).value;
    (void)cfg;
    struct policy p = reinforce(t->advantage > 0 ? 1 : fmin(r, 1), t->advantage, lp);
    p.ratio = r;
    p.clipped = t->advantage < 0 && r > 1;
    return p;
}

/* pg = -r A; 0 where A > 0 and exp(lp) - exp(b) > dppo_high, or A < 0 and exp(lp) - exp(b) <
 * -dppo_low. policy_of adds dppo_kl (lp - b)^2 in any case. */
static struct policy dppo(const struct loss_config *cfg, const struct loss_token *t, double lp) {
    double a = t->advantage, rise = exp(lp) - exp((double)t->behaviour);
    struct point r = limited_exp(lp - (double)t->old, 1);
    struct policy p = {.ratio = r.value, .pg = {-r.value * a, -r.slope * a}};
    p.clipped = (a > 0 && rise > cfg->dppo_high) || (a < 0 && rise < -cfg->dppo_low);
    if (p.clipped) p.pg = (struct point){0, 0};
    return p;
}

/* As ppo-clip, where o is the proximal policy and c = [exp(o - b)]. Interpolated: o = [b + alpha
 * (lp - b)], and c = min([exp(o - b)], cap) is computed here. */
static struct policy decoupled(const struct loss_config *cfg, const struct loss_token *t,
                               double lp) {
    if (!cfg->interpolate) return ppo_clip(cfg, t, lp);
    double x = lp - (double)t->behaviour, alpha = (double)t->alpha;
    double weight = limited_exp(alpha * x, 1).value;
    struct policy p = clipped_surrogate(cfg, t->advantage, limited_exp((1 - alpha) * x, 1));
    if (cfg->cap > 0) weight = fmin(weight, cfg->cap);
    p.pg.value *= weight;
    p.pg.slope *= weight;
    return p;
}

static struct policy (*const losses[])(const struct loss_config *, const struct loss_token *,
                                       double) = {
    [RECIPE_LOSS_PPO_CLIP] = ppo_clip,   [RECIPE_LOSS_GSPO] = gspo, [RECIPE_LOSS_CISPO] = cispo,
    [RECIPE_LOSS_DECOUPLED] = decoupled, [RECIPE_LOSS_DPPO] = dppo, [RECIPE_LOSS_TOPR] = topr,
};

_Static_assert(sizeof losses / sizeof losses[0] == RECIPE_LOSSES_N, "a function for each loss");

/* With the correction; dppo's term against drift stands outside it. */
static struct policy policy_of(const struct loss_config *cfg, const struct loss_token *t,
                               double lp) {
    struct policy p = losses[cfg->loss](cfg, t, lp);
    p.pg.value *= t->correction;
    p.pg.slope *= t->correction;
    if (cfg->loss != RECIPE_LOSS_DPPO) return p;
    double x = lp - (double)t->behaviour;
    p.pg.value += cfg->dppo_kl * x * x;
    p.pg.slope += cfg->dppo_kl * 2 * x;
    return p;
}

/* --- the other terms ----------------------------------------------------------------------- */

static struct point kl_estimate(const struct loss_config *cfg, const struct loss_token *t,
                                double logprob) {
    double x = logprob - (double)t->reference;
    if (cfg->kl == RECIPE_KL_K1) return (struct point){x, 1};
    if (cfg->kl == RECIPE_KL_K2) return (struct point){0.5 * x * x, x};
    struct point e = limited_exp(-x, -1);
    return (struct point){e.value - 1 + x, e.slope + 1};
}

double loss_divergence(const struct loss_config *cfg, const struct loss_token *token, double lp) {
    return kl_estimate(cfg, token, lp).value;
}

static struct point value_error(const struct loss_config *cfg, const struct loss_token *t,
                                double value, bool *clipped) {
    double old = (double)t->value, off = value - (double)t->goal;
    double near = fmin(fmax(value, old - cfg->value_clip), old + cfg->value_clip);
    double off_near = near - (double)t->goal;
    *clipped = cfg->value_clip > 0 && off_near * off_near > off * off;
    if (*clipped) return (struct point){0.5 * off_near * off_near, 0};
    return (struct point){0.5 * off * off, off};
}

/* --- gradient ------------------------------------------------------------------------------ */

struct loss_token loss_token_at(const struct loss_table *t, int64_t e) {
    return (struct loss_token){.weight = t->weight[e],
                               .share = t->share[e],
                               .advantage = t->advantage[e],
                               .correction = t->correction[e],
                               .sequence = t->sequence[e],
                               .behaviour = t->behaviour[e],
                               .old = t->old[e],
                               .current = t->current[e],
                               .reference = t->reference[e],
                               .alpha = t->alpha[e],
                               .value = t->value[e],
                               .goal = t->goal[e]};
}

/* Rejected tokens (weight 0) get a zero from the policy and the KL, but still teach the critic. */
void loss_gradient(const struct loss_config *cfg, const struct loss_table *table, int64_t first,
                   const int64_t *element, const struct loss_rows *rows) {
    ASSERT(!rows->value == !rows->g_value);
    for (int64_t i = 0; i < rows->n; i++) {
        struct loss_token t = loss_token_at(table, first + (element ? element[i] : i));
        if (cfg->supervised) {
            rows->g_logprob[i] = (float)-t.weight;
            rows->g_entropy[i] = 0;
            if (rows->g_value) rows->g_value[i] = 0;
            continue;
        }
        double lp = (double)rows->logprob[i];
        double slope = policy_of(cfg, &t, lp).pg.slope;
        if (cfg->kl_coef != 0) slope += cfg->kl_coef * kl_estimate(cfg, &t, lp).slope;
        rows->g_logprob[i] = (float)(t.weight * slope);
        rows->g_entropy[i] = (float)(-t.weight * cfg->entropy_coef);
        if (!rows->g_value) continue;
        bool clipped;
        double off = value_error(cfg, &t, (double)rows->value[i], &clipped).slope;
        rows->g_value[i] = (float)(t.share * cfg->value_coef * off);
    }
}

bool loss_is_flat(const struct loss_config *cfg, const struct loss_token *token) {
    if (cfg->supervised) return token->weight == 0;
    if (cfg->value_coef != 0 && token->share != 0) return false;
    if (token->weight == 0) return true;
    if (cfg->loss == RECIPE_LOSS_DPPO && cfg->dppo_kl != 0) return false;
    return token->advantage == 0 && cfg->kl_coef == 0 && cfg->entropy_coef == 0;
}

/* --- report -------------------------------------------------------------------------------- */

static void add_supervised(struct loss_sums *out, const struct loss_token *t, double lp) {
    out->pg_loss -= t->weight * lp;
    out->loss -= t->weight * lp;
    out->ratio_mean++;
    out->ratio_max = 1;
    out->weights++;
    out->squares++;
    out->kept++;
}

static void add_value_loss(struct loss_sums *out, const struct loss_config *cfg,
                           const struct loss_token *t, double value) {
    bool clipped;
    double error = value_error(cfg, t, value, &clipped).value;
    out->value_loss += t->share * error;
    out->loss += t->share * cfg->value_coef * error;
    out->value_clip_fraction += clipped;
}

static void add_policy(struct loss_sums *out, const struct loss_config *cfg,
                       const struct loss_token *t, double lp, double entropy) {
    struct policy p = policy_of(cfg, t, lp);
    double w = limited_exp(lp - (double)t->behaviour, 1).value;
    double kl = cfg->reference ? kl_estimate(cfg, t, lp).value : 0;
    out->weights += w;
    out->squares += w * w;
    out->kl += kl;
    if (t->weight == 0) return;
    out->kept++;
    out->pg_loss += t->weight * p.pg.value;
    out->kl_loss += t->weight * kl;
    out->loss += t->weight * (p.pg.value + cfg->kl_coef * kl - cfg->entropy_coef * entropy);
    out->clip_fraction += p.clipped;
    out->dual_clip_fraction += p.dual;
    out->ratio_mean += p.ratio;
    out->ratio_max = fmax(out->ratio_max, p.ratio);
}

void loss_add(struct loss_sums *out, const struct loss_config *cfg, const struct loss_table *table,
              int64_t first, const struct loss_rows *rows) {
    for (int64_t i = 0; i < rows->n; i++) {
        struct loss_token t = loss_token_at(table, first + i);
        double lp = (double)rows->logprob[i], entropy = (double)rows->entropy[i];
        out->entropy += entropy;
        if (cfg->supervised) {
            add_supervised(out, &t, lp);
            continue;
        }
        add_policy(out, cfg, &t, lp, entropy);
        if (rows->value) add_value_loss(out, cfg, &t, (double)rows->value[i]);
    }
    out->tokens += (double)rows->n;
    out->parts++;
}

void loss_finish(struct loss_sums *s) {
    double tokens = fmax(s->tokens, 1), kept = fmax(s->kept, 1), parts = fmax(s->parts, 1);
    s->loss /= parts;
    s->pg_loss /= parts;
    s->kl_loss /= parts;
    s->value_loss /= parts;
    s->kl /= tokens;
    s->entropy /= tokens;
    s->value_clip_fraction /= tokens;
    s->clip_fraction /= kept;
    s->dual_clip_fraction /= kept;
    s->ratio_mean /= kept;
    s->ess = s->squares > 0 ? s->weights * s->weights / (tokens * s->squares) : 0;
}
