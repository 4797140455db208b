/* manager_level.c - what the manager sees of trainer and rollouts, for level.c: how many groups lay
 * finished when the trainer asked, how long it waited for its batch (not for the log), and which
 * share of the places that rollouts asked to fill admission kept empty. The level is in the batch's
 * record, so that a manager that starts anew goes on with it. */
#include "rollout/manager/manager_level.h"

#include "base/log.h"
#include "base/mem.h"
#include "proto/metrics/metrics.h"
#include "rollout/manager/manager_clients.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_predict.h"

#include <inttypes.h>
#include <math.h>

struct manager_level {
    struct level now;
    uint64_t formed_us; /* the newest batch */
    double held_us;     /* manager_predict_held_us then */
    double held;        /* between it and the one before: level_batch */
    uint64_t asked_us;  /* for the next one */
    int64_t finished;   /* groups, then */
};

void manager_level_open(struct manager *m) {
    int64_t batch = m->recipe->trainer.batch.groups;
    int64_t bound = m->recipe->trainer.staleness.max * batch;
    m->level = mem_zalloc(sizeof *m->level);
    m->level->now = level_start(batch, bound);
    if (m->recipe->trainer.staleness.hold == RECIPE_HOLD_MAX) m->level->now.groups = bound;
    groups_set_level(m->groups, m->level->now.groups);
}

void manager_level_close(struct manager *m) {
    mem_free(m->level);
}

struct manager_level_view manager_level_view(const struct manager *m) {
    return (struct manager_level_view){m->level->now, m->level->held};
}

void manager_level_asked(struct manager *m) {
    m->level->asked_us = m->now_us;
    m->level->finished = groups_counts(m->groups).finished;
}

void manager_level_restore(struct manager *m, int64_t groups) {
    struct level *l = &m->level->now;
    if (m->recipe->trainer.staleness.hold == RECIPE_HOLD_MAX || groups == 0) return;
    l->groups = groups < l->bound ? groups : l->bound;
    groups_set_level(m->groups, l->groups);
}

/* Log-probs differ by what training moved since, for the engines agree (I6). Where they need not
 * (model.exact: false), a batch with little staleness would show their difference. */
void manager_level_step(struct manager *m, const struct json *line) {
    double stale = metrics_get_num(line, METRIC_OFF_POLICY_MEAN, 0);
    double differ = metrics_get_num(line, METRIC_LOGPROB_DIFF_MEAN, (double)NAN);
    if (stale > 0.25) level_moved(&m->level->now, differ / stale);
}

static int64_t rollouts(const struct manager *m) {
    const struct manager_client *c;
    int64_t n = 0;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        n += c->alive && c->role == MANAGER_ROLLOUT;
    return n;
}

/* A batch was formed: what was seen since the one before. The first one only starts the clock,
 * because until then everybody only starts. */
void manager_level_formed(struct manager *m) {
    double span = (double)(m->now_us - m->level->formed_us) * 1e-6;
    double wait = (double)(m->now_us - m->level->asked_us) * 1e-6;
    double all_us = manager_predict_held_us(m), held_us = all_us - m->level->held_us;
    bool first = m->level->formed_us == 0 || span <= 0;
    struct level_batch seen = {.wait_s = wait,
                               .train_s = span - wait,
                               .held = first ? 0 : held_us * 1e-6 / span,
                               .finished = m->level->finished,
                               .rollouts = rollouts(m)};
    m->level->formed_us = m->now_us;
    m->level->held_us = all_us;
    m->level->held = seen.held;
    if (first || m->recipe->trainer.staleness.hold == RECIPE_HOLD_MAX) return;
    int64_t before = m->level->now.groups, after = level_next(&m->level->now, &seen);
    if (after == before) return;
    groups_set_level(m->groups, after);
    m->work_changed = true;
    LOG(DEBUG, MANAGER, "step=%" PRId64 " level of %" PRId64 " groups is now %" PRId64 ", %s",
        manager_counts_batch(m)->step, before, after, level_reason(m->level->now.why));
}
