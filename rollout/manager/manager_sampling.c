/* manager_sampling.c - sampling policies in the manager: counts groups without a signal, rejects
 * them where the recipe says dapo, learns from batches where it says vade. What is learned or
 * rejected is in the records of the groups, written with the event that caused it, so a manager
 * that starts anew goes on from the same state (docs/sampling.md).
 *
 * The limit of dapo counts what was rejected between two batches, not what was rejected in a row: a
 * row of groups depends on who finished first, but how many groups without a signal a batch needs
 * does not when staleness.max is 0. So whether a run ends with this error is reproducible too. */
#include "rollout/manager/manager_sampling.h"

#include "base/log.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_prompts.h"
#include "rollout/manager/manager_setup.h"

#include <inttypes.h>
#include <math.h>

int manager_sampling_open(struct manager *m) {
    const struct recipe *r = m->recipe;
    bool vade = r->rollout.sampling.policy == RECIPE_SAMPLING_VADE;
    TRY(manager_setup_candidates(r, dataset_rows(m->data)));
    struct sampling_config cfg = {.seed = r->seed,
                                  .shuffle = r->data.train.shuffle,
                                  .vade = vade,
                                  .candidates = r->rollout.sampling.candidates,
                                  .visited = r->rollout.sampling.decay_in,
                                  .unvisited = r->rollout.sampling.decay_out};
    sampling_open(&m->sampling, m->data, &cfg);
    return 0;
}

static int refuse(struct manager *m, uint64_t group) {
    float reward = groups_traj(m->groups, manager_trajectory(m, group, 0))->reward;
    int64_t next = groups_counts(m->groups).formed;
    TRY(manager_prompts_leave(m, group, GROUPS_REJECTED, GROUPS_ZERO, -1));
    int64_t n = groups_counts(m->groups).zero_rejected;
    if (n < m->recipe->rollout.sampling.max_rejected) return 0;
    return FAIL(ERR_CONFIG,
                "rollout.sampling.policy dapo: %" PRId64
                " groups were rejected before batch %" PRId64
                " because the rewards of a group were all equal (limit: "
                "rollout.sampling.max_rejected); in the last one, group %" PRIu64
                ", all are %g: the data is too hard or too easy for this model, or the reward "
                "does not tell its responses apart",
                n, next, group, (double)reward);
}

int manager_sampling_finished(struct manager *m, uint64_t group) {
    return groups_refused(m->groups, group) ? refuse(m, group) : 0;
}

void manager_sampling_trained(struct manager *m, uint64_t group, uint64_t row, int64_t step) {
    const struct recipe *r = m->recipe;
    int64_t sampled = r->rollout.group_size, right = 0;
    double hits = 0, misses = 0;
    if (!sampling_learns(m->sampling)) return;
    struct sampling_beta b = sampling_posterior(m->sampling, row, step);
    for (int64_t i = 0; i < sampled; i++) {
        const struct groups_traj *t = groups_traj(m->groups, manager_trajectory(m, group, i));
        bool hit = (double)t->reward >= r->rollout.sampling.hit;
        double weight = exp(-r->rollout.sampling.decay_age * (double)(step - t->oldest));
        hits += hit ? weight : 0;
        misses += hit ? 0 : weight;
        right += hit;
    }
    manager_counts_judged(m, b.alpha / (b.alpha + b.beta) * (double)sampled, (double)right,
                          (double)sampled);
    sampling_learn(m->sampling, row, step, hits, misses);
}

int manager_sampling_restore(struct manager *m, const struct runlog_group *g) {
    if (g->state == GROUPS_REJECTED && g->reason == GROUPS_ZERO)
        groups_restore_zero(m->groups, g->before);
    if (g->state != GROUPS_TRAINED || !sampling_learns(m->sampling)) return 0;
    return sampling_restore(m->sampling, g->row, g->step,
                            (struct sampling_beta){g->alpha, g->beta});
}

/* The log has a rejection together with the score that caused it; one that lacks it was not written
 * by this program, and is put right. */
int manager_sampling_restored(struct manager *m) {
    const struct groups_group *g;
    for (int64_t i = 0; (g = groups_at(m->groups, i)); i++) {
        if (!groups_refused(m->groups, g->id)) continue;
        TRY(refuse(m, g->id));
        i--; /* the next one has its place */
    }
    return runlog_commit(m->log, false);
}
