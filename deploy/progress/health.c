/* health.c - see health.h. Each finding is a condition that has held for a window of steps, so that
 * one odd batch says nothing; the condition of a step is in one function, the window in another.
 *
 * Whether something is a warning or a note depends on whether the reward has risen: a policy that
 * solves every prompt has equal rewards, no gradient and little entropy too. */
#include "deploy/progress/health.h"

#include "base/mem.h"
#include "proto/metrics/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Thresholds; docs/health.md lists them. */
static const double EQUAL_SHARE = 0.95;    /* of the groups */
static const double GRADIENT_LEAST = 1e-9; /* norm */
static const double TRUNCATED_SHARE = 0.9; /* of the responses */
static const double REJECTED_SHARE = 0.5;  /* of the groups that ended */
static const double ENTROPY_SHARE = 0.05;  /* of what it was in the first steps */
static const double FALLEN_SHARE = 0.3;    /* of the best reward, and */
static const double FALLEN_STD = 0.5;      /* of the rewards' deviation; or */
static const double FALLEN_STD_ALONE = 1;  /* of the rewards' deviation */
static const double RISEN_STD = 0.2;       /* of the rewards' deviation, and */
static const double RISEN_ERRORS = 3;      /* standard errors */
static const double FLAT_ERRORS = 2;       /* standard errors */

struct window { /* means over neighbouring steps */
    double reward, std, entropy, sequences;
};

struct health {
    struct health_config cfg;
    int64_t window;
    struct health_step ring[HEALTH_WINDOW]; /* newest ones, by taken % HEALTH_WINDOW */
    int64_t taken, last;                    /* steps; newest one's number, -1 */
    int64_t streak[HEALTH_KINDS];           /* steps in a row of which the condition is true */
    struct window first, best;
    int64_t best_step;
};

struct health *health_open(const struct health_config *cfg) {
    struct health *h = mem_zalloc(sizeof *h);
    h->cfg = *cfg;
    h->window = cfg->steps < HEALTH_WINDOW ? cfg->steps : HEALTH_WINDOW;
    if (h->window < HEALTH_LEAST) h->window = HEALTH_LEAST;
    h->last = h->best_step = -1;
    return h;
}

void health_close(struct health **h) {
    mem_free(*h);
    *h = NULL;
}

/* --- reading ------------------------------------------------------------------------------- */

static const struct reason {
    enum metric id;
    const char *text;
} reasons[] = {
    {METRIC_REWARD_ERRORS, "their reward failed"},
    {METRIC_REJECTED_PROMPT, "their prompt could not be made"},
    {METRIC_REJECTED_ABORTED, "they were aborted"},
    {METRIC_OFF_POLICY_DROPPED, "they were too stale"},
    {METRIC_SAMPLING_REJECTED_GROUPS, "their rewards are all equal"},
};
_Static_assert(sizeof reasons / sizeof reasons[0] ==
                   sizeof((struct health_step *)0)->rejected / sizeof(double),
               "a place for each reason");

void health_step_read(struct health_step *out, const struct json *line) {
    const char *action = json_str(metrics_get(line, METRIC_GAC_ACTION));
    const struct json *loss = metrics_get(line, METRIC_ACTOR_LOSS),
                      *norm = metrics_get(line, METRIC_ACTOR_GRAD_NORM);
    struct health_step s = {.step = -1};
    bool known = json_int(metrics_get(line, METRIC_STEP), &s.step);
    s.reward = metrics_get_num(line, METRIC_REWARD_MEAN, NAN);
    s.reward_std = metrics_get_num(line, METRIC_REWARD_STD, NAN);
    s.sequences = metrics_get_num(line, METRIC_BATCH_SEQUENCES, NAN);
    s.entropy = metrics_get_num(line, METRIC_ACTOR_ENTROPY, NAN);
    s.grad_norm = json_num(norm, NAN);
    s.truncated = metrics_get_num(line, METRIC_RESPONSE_LENGTH_CLIP_RATIO, NAN);
    s.equal_groups = metrics_get_num(line, METRIC_BATCH_ZERO_GROUPS, NAN);
    s.groups = NAN; /* the line has trajectories only */
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        s.rejected[i] = metrics_get_num(line, reasons[i].id, 0);
    s.skipped = action && (strcmp(action, "skip") == 0 || strcmp(action, "empty") == 0);
    /* A number that is there but not finite is null in JSON. */
    s.finite = (!loss || json_is(loss, JSON_NUMBER)) && (!norm || json_is(norm, JSON_NUMBER));
    if (s.skipped) s.finite = true; /* an empty step has no loss */
    if (!known) s.step = -1;
    *out = s;
}

/* --- the series ---------------------------------------------------------------------------- */

static const struct health_step *newest(const struct health *h, int64_t back) {
    return &h->ring[(h->taken - 1 - back) % HEALTH_WINDOW];
}

/* Means over the newest steps, as many as a window has. */
static struct window mean_of(const struct health *h) {
    struct window w = {0};
    double n = (double)h->window;
    for (int64_t i = 0; i < h->window; i++) {
        const struct health_step *s = newest(h, i);
        w.reward += s->reward / n;
        w.std += s->reward_std / n;
        w.entropy += s->entropy / n;
        w.sequences += s->sequences / n;
    }
    return w;
}

static double rejected_of(const struct health_step *s) {
    double n = 0;
    for (size_t i = 0; i < sizeof s->rejected / sizeof s->rejected[0]; i++)
        n += s->rejected[i];
    return n;
}

/* Of the groups of the newest steps together. A lucky group now and then is no signal to learn
 * from, so one batch with a few of them does not end what its neighbours say. */
static bool nearly_all_equal(const struct health *h) {
    double equal = 0, groups = 0;
    int64_t n = h->taken < h->window ? h->taken : h->window;
    for (int64_t i = 0; i < n; i++) {
        equal += newest(h, i)->equal_groups;
        groups += newest(h, i)->groups;
    }
    return equal >= EQUAL_SHARE * groups;
}

/* Comparisons with NAN are false: what is not there says nothing. */
static bool is_true(const struct health *h, enum health_kind kind, const struct health_step *s) {
    switch (kind) {
    case HEALTH_NOT_FINITE: return !s->finite;
    case HEALTH_EQUAL:
        return h->cfg.relative && (s->equal_groups >= EQUAL_SHARE * s->groups ||
                                   (h->streak[kind] > 0 && nearly_all_equal(h)));
    case HEALTH_NO_GRADIENT: return s->grad_norm < GRADIENT_LEAST;
    case HEALTH_SKIPPED: return s->skipped;
    case HEALTH_TRUNCATED: return s->truncated >= TRUNCATED_SHARE;
    case HEALTH_REJECTED: return rejected_of(s) > 0;
    default: return false; /* of windows, not of steps */
    }
}

void health_take(struct health *h, const struct health_step *s) {
    struct health_step *at = &h->ring[h->taken % HEALTH_WINDOW];
    if (s->step <= h->last) return;
    *at = *s;
    if (isnan(at->groups) && h->cfg.group_size > 0)
        at->groups = at->sequences / (double)h->cfg.group_size;
    h->last = s->step;
    h->taken++;
    for (int k = 0; k < HEALTH_KINDS; k++)
        h->streak[k] = is_true(h, (enum health_kind)k, at) ? h->streak[k] + 1 : 0;
    if (h->taken < h->window) return;
    struct window w = mean_of(h);
    if (h->taken == h->window) h->first = w;
    if (isnan(w.reward) || (h->best_step >= 0 && w.reward <= h->best.reward)) return;
    h->best = w;
    h->best_step = s->step;
}

/* --- findings ------------------------------------------------------------------------------ */

/* Standard error of the difference of two windows' mean rewards. */
static double error_of(const struct health *h, const struct window *now) {
    double n = now->sequences * (double)h->window;
    return n > 0 ? h->first.std * sqrt(2 / n) : 0;
}

/* More than what chance does, and enough to explain what is seen besides. */
static bool has_risen(const struct health *h, const struct window *now) {
    double rise = now->reward - h->first.reward;
    return rise > 0 && rise >= RISEN_STD * h->first.std && rise >= RISEN_ERRORS * error_of(h, now);
}

static bool is_flat(const struct health *h, const struct window *now) {
    return !(now->reward - h->first.reward > FLAT_ERRORS * error_of(h, now));
}

static bool has_fallen(const struct health *h, const struct window *now) {
    double fall = h->best.reward - now->reward, std = h->best.std;
    if (h->best_step < 0 || !(fall > 0)) return false;
    return (fall > FALLEN_SHARE * fabs(h->best.reward) && fall > FALLEN_STD * std) ||
           (std > 0 && fall > FALLEN_STD_ALONE * std);
}

/* Rejected groups of all that ended within the window; *why: the commonest reason. */
static double rejected_share(const struct health *h, const char **why) {
    double sum[sizeof reasons / sizeof reasons[0]] = {0}, rejected = 0, trained = 0, most = 0;
    *why = "";
    for (int64_t i = 0; i < h->window; i++) {
        const struct health_step *s = newest(h, i);
        for (size_t k = 0; k < sizeof sum / sizeof sum[0]; k++)
            sum[k] += s->rejected[k];
        if (s->groups > 0) trained += s->groups;
    }
    for (size_t k = 0; k < sizeof sum / sizeof sum[0]; k++) {
        rejected += sum[k];
        if (sum[k] <= most) continue;
        most = sum[k];
        *why = reasons[k].text;
    }
    return rejected > 0 ? rejected / (rejected + trained) : 0;
}

static const struct health_finding kinds[HEALTH_KINDS] = {
    [HEALTH_NOT_FINITE] = {.name = "not-finite",
                           .mark = "loss is not finite",
                           .verdict = "the loss is not a number",
                           .advice = "trainer.optimizer.lr, clip_norm, extreme rewards"},
    [HEALTH_EQUAL] = {.name = "equal",
                      .mark = "no gradient",
                      .verdict = "nothing was learnt",
                      .advice = "the reward's answer format, rollout.group_size, "
                                "rollout.temperature"},
    [HEALTH_NO_GRADIENT] = {.name = "no-gradient",
                            .mark = "no gradient",
                            .verdict = "nothing was learnt",
                            .advice = "the rewards, masks (trainer.algorithm.correction, "
                                      "overlong)"},
    [HEALTH_SKIPPED] = {.name = "skipped",
                        .mark = "steps skipped",
                        .verdict = "the weights hardly changed",
                        .advice = "trainer.alignment.c_high, trainer.staleness.max"},
    [HEALTH_REJECTED] = {.name = "rejected",
                         .mark = "groups rejected",
                         .verdict = "half of the groups or more were rejected",
                         .advice = "`stats` for the reasons, weir.log"},
    [HEALTH_FALLEN] = {.name = "fallen",
                       .mark = "reward fallen",
                       .verdict = "the reward has fallen",
                       .advice = "trainer.optimizer.lr, trainer.staleness.max, "
                                 "trainer.algorithm.kl.coef; checkpoints before the fall"},
    [HEALTH_TRUNCATED] = {.name = "truncated",
                          .mark = "responses cut",
                          .verdict = "nearly every response is cut off",
                          .advice = "rollout.max_new_tokens, the token that ends a response "
                                    "(model.chat)"},
    [HEALTH_ENTROPY] = {.name = "entropy",
                        .mark = "entropy collapsed",
                        .verdict = "the policy hardly varies any more",
                        .advice = "trainer.optimizer.lr, trainer.algorithm.clip_high, entropy, "
                                  "kl.coef"},
    [HEALTH_FLAT] = {.name = "flat",
                     .mark = "reward is flat",
                     .verdict = "the reward did not rise",
                     .advice = "trainer.optimizer.lr, more steps, the reward"},
};

static void tell(const struct health *h, enum health_kind kind, const struct window *now,
                 struct health_finding *f) {
    int64_t n = h->streak[kind];
    const char *why;
    switch (kind) {
    case HEALTH_NOT_FINITE:
        snprintf(f->text, sizeof f->text,
                 "loss or gradient is not a finite number for %" PRId64 " steps", n);
        return;
    case HEALTH_EQUAL: {
        bool all = true; /* in every step of the window */
        for (int64_t i = 0; i < h->window; i++)
            all = all && newest(h, i)->equal_groups >= newest(h, i)->groups;
        snprintf(f->text, sizeof f->text, "%s scored equal (reward %.3g) for %" PRId64 " steps: %s",
                 all ? "all groups" : "nearly all groups", now->reward, n,
                 f->warning ? all ? "no gradient" : "hardly any gradient"
                            : "nothing is left to learn from them");
        return;
    }
    case HEALTH_NO_GRADIENT:
        snprintf(f->text, sizeof f->text, "the gradient is 0 for %" PRId64 " steps", n);
        return;
    case HEALTH_SKIPPED:
        snprintf(f->text, sizeof f->text, "the last %" PRId64 " steps changed no weight", n);
        return;
    case HEALTH_REJECTED: {
        double share = rejected_share(h, &why);
        snprintf(f->text, sizeof f->text,
                 "%.0f %% of the groups of the last %" PRId64 " steps were rejected: %s",
                 100 * share, h->window, why);
        return;
    }
    case HEALTH_FALLEN:
        snprintf(f->text, sizeof f->text,
                 "the reward has fallen from %.3g (around step %" PRId64 ") to %.3g",
                 h->best.reward, h->best_step, now->reward);
        return;
    case HEALTH_TRUNCATED:
        snprintf(f->text, sizeof f->text,
                 "%.0f %% of the responses are cut at rollout.max_new_tokens, for %" PRId64
                 " steps",
                 100 * newest(h, 0)->truncated, n);
        return;
    case HEALTH_ENTROPY:
        snprintf(f->text, sizeof f->text,
                 "entropy collapsed from %.3g to %.3g: responses to a "
                 "prompt are nearly all the same",
                 h->first.entropy, now->entropy);
        return;
    case HEALTH_FLAT:
        snprintf(f->text, sizeof f->text,
                 "the reward did not rise: %.3g in the first %" PRId64 " steps, %.3g in the last",
                 h->first.reward, h->window, now->reward);
        return;
    case HEALTH_KINDS: return;
    }
}

static bool holds(const struct health *h, enum health_kind kind, const struct window *now) {
    const char *why;
    switch (kind) {
    case HEALTH_NO_GRADIENT: /* equal rewards explain it */
        return h->streak[kind] >= h->window && h->streak[HEALTH_EQUAL] < h->window;
    case HEALTH_NOT_FINITE: return h->streak[kind] >= HEALTH_LEAST;
    case HEALTH_REJECTED: return rejected_share(h, &why) >= REJECTED_SHARE;
    case HEALTH_FALLEN: return has_fallen(h, now);
    case HEALTH_ENTROPY: return now->entropy < ENTROPY_SHARE * h->first.entropy;
    case HEALTH_FLAT: return h->taken >= HEALTH_FLAT_STEPS && is_flat(h, now);
    default: return h->streak[kind] >= h->window;
    }
}

size_t health_find(const struct health *h, struct health_finding out[HEALTH_KINDS]) {
    size_t n = 0;
    if (h->taken < h->window) return 0;
    struct window now = mean_of(h);
    bool risen = has_risen(h, &now) && !has_fallen(h, &now);
    for (int k = 0; k < HEALTH_KINDS; k++) {
        enum health_kind kind = (enum health_kind)k;
        if (!holds(h, kind, &now) || (kind == HEALTH_FLAT && n > 0)) continue;
        struct health_finding f = kinds[kind];
        bool innocent = kind == HEALTH_EQUAL || kind == HEALTH_NO_GRADIENT ||
                        kind == HEALTH_TRUNCATED || kind == HEALTH_ENTROPY;
        f.kind = kind;
        f.warning = kind != HEALTH_FLAT && !(innocent && risen);
        f.step = h->last;
        f.since = h->last + 1 - (h->streak[kind] > 0 ? h->streak[kind] : h->window);
        tell(h, kind, &now, &f);
        out[n++] = f;
    }
    return n;
}
