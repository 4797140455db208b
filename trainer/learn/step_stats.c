/* step_stats.c - see step_stats.h. Sums are in double over the batch's own order: the same numbers
 * come out when the step is replayed, whatever the packing was, so a report can be compared as
 * text. */
#include "trainer/learn/step_stats.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>

void step_stats_rewards(struct step_report *out, const struct batch *b) {
    double sum = 0, squares = 0, n = (double)b->n;
    for (uint32_t i = 0; i < b->n; i++)
        sum += (double)b->traj[i].reward;
    out->reward_mean = sum / n;
    for (uint32_t i = 0; i < b->n; i++) {
        double x = (double)b->traj[i].reward - out->reward_mean;
        squares += x * x;
    }
    out->reward_std = b->n > 1 ? sqrt(squares / (n - 1)) : 0;
}

void step_stats_lengths(struct step_report *out, const struct batch *b, int64_t version) {
    double trained = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        int64_t oldest = batch_oldest(t);
        out->tokens += t->n_prompt + t->n_response;
        out->response_length_mean += (double)t->n_response / (double)b->n;
        out->response_length_max = fmax(out->response_length_max, t->n_response);
        if (oldest == INT64_MAX) continue;
        trained++;
        out->staleness_mean += (double)(version - oldest);
        out->staleness_max = fmax(out->staleness_max, (double)(version - oldest));
    }
    out->staleness_mean /= trained;
    out->sequences = b->n;
}

int64_t step_stats_zero_groups(const struct batch *b) {
    int64_t zero = 0;
    bool *signal = mem_zalloc(b->n_groups * sizeof *signal);
    const struct batch_traj **first = mem_zalloc(b->n_groups * sizeof *first);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        if (!first[t->group]) first[t->group] = t;
        signal[t->group] |= t->reward != first[t->group]->reward;
    }
    mem_free(first);
    for (uint32_t g = 0; g < b->n_groups; g++)
        zero += !signal[g];
    mem_free(signal);
    return zero;
}

/* Sums over tokens. */
struct diff {
    int64_t n, unequal;
    double sum, max;
};

/* A NaN is a difference without a bound. */
static void diff_add(struct diff *d, double x) {
    double size = isnan(x) ? INFINITY : fabs(x);
    d->n++;
    d->unequal += size != 0;
    d->sum += size;
    d->max = fmax(d->max, size);
}

static struct step_diff diff_of(struct diff d) {
    if (d.n == 0) return (struct step_diff){(double)NAN, (double)NAN};
    return (struct step_diff){d.sum / (double)d.n, d.max};
}

/* At most one line a second: a rollout that is wrong is so in every batch. */
static void warn_mismatch(const struct step_report *r, int64_t version, const struct diff *engine,
                          const struct batch_traj *first) {
    LOG_LIMITED(WARN, TRAINER,
                "version=%" PRId64 " rollout and trainer disagree at equal weights: "
                "logprob_diff_max=%.3g mismatch_kl=%.3g tokens=%" PRId64 " unequal=%" PRId64
                "; the first is of rollout=%s trajectory=%" PRIu64,
                version, engine->max, r->mismatch_kl, engine->n, engine->unequal,
                first->rollout && *first->rollout ? first->rollout : "unknown", first->id);
}

/* A token counts for the engine where it is of the version that is trained: then the same weights
 * gave both log-probs. */
void step_stats_mismatch(struct step_report *out, const struct batch *b, int64_t version,
                         const float *logprob, uint32_t n, bool exact) {
    struct diff engine = {0}, lag = {0};
    const struct batch_traj *first = NULL;
    int64_t e = 0, checked = 0;
    double kl = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct batch_traj *t = &b->traj[i];
        int64_t before = engine.n;
        for (int32_t k = 0; k < t->n_response; k++) {
            if (!t->mask[k]) continue;
            double x = (double)logprob[e++] - (double)t->logprob[k];
            bool current = t->version[k] == version && !b->foreign;
            diff_add(current ? &engine : &lag, x);
            if (current) kl += exp(fmin(x, 20)) - 1 - x;
        }
        checked += engine.n > before;
        if (engine.unequal > 0 && !first) first = t;
    }
    out->checked_tokens = engine.n;
    out->checked_trajectories = checked;
    out->unequal_tokens = engine.unequal;
    out->mismatch_kl = engine.n ? kl / (double)engine.n : (double)NAN;
    out->logprob_engine = diff_of(engine);
    out->logprob_lag = diff_of(lag);
    out->logprob_diff = diff_of((struct diff){
        .n = engine.n + lag.n, .sum = engine.sum + lag.sum, .max = fmax(engine.max, lag.max)});
    if (first && exact) warn_mismatch(out, version, &engine, first);
}
