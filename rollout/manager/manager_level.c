/* manager_level.c - what the manager sees of trainer and rollouts, for level.c: how long a batch
 * request was kept because groups were missing (not because of the log or the trainer itself), and
 * which share of the places that rollouts asked to fill admission kept empty. The level is in the
 * batch's record, so that a manager that starts anew goes on with it. */
#include "rollout/manager/manager_level.h"
#include "base/log.h"
#include "rollout/manager/manager_impl.h"

#include <inttypes.h>

void manager_level_open(struct manager *m) {
    int64_t batch = m->recipe->trainer.batch.groups;
    int64_t bound = m->recipe->trainer.staleness.max * batch;
    m->level.now = level_start(batch, bound);
    if (m->recipe->trainer.staleness.hold == RECIPE_HOLD_MAX) m->level.now.groups = bound;
    groups_set_level(m->groups, m->level.now.groups);
}

void manager_level_restore(struct manager *m, int64_t groups) {
    struct level *l = &m->level.now;
    if (m->recipe->trainer.staleness.hold == RECIPE_HOLD_MAX || groups == 0) return;
    l->groups = groups < l->bound ? groups : l->bound;
    groups_set_level(m->groups, l->groups);
}

static void end_short(struct manager *m) {
    if (m->ask.short_us) m->ask.starved_us += m->now_us - m->ask.short_us;
    m->ask.short_us = 0;
}

void manager_level_starved(struct manager *m) {
    bool few = groups_counts(m->groups).finished < m->recipe->trainer.batch.groups;
    if (!few) /* what is missing is one that must not wait: that is not the level's */
        end_short(m);
    else if (m->ask.short_us == 0)
        m->ask.short_us = m->now_us;
}

/* A batch was formed: what was seen since the one before. The first one only starts the clock,
 * because until then everybody only starts. */
void manager_level_formed(struct manager *m) {
    end_short(m);
    double span = (double)(m->now_us - m->level.formed_us) * 1e-6;
    double starved = (double)m->ask.starved_us * 1e-6;
    double held_us = m->rates.now.held_us - m->level.held_us;
    bool first = m->level.formed_us == 0 || span <= 0;
    struct level_batch seen = {.starved_s = starved,
                               .train_s = span - starved,
                               .held = first ? 0 : held_us * 1e-6 / span,
                               .spare = groups_counts(m->groups).finished};
    m->level.formed_us = m->now_us;
    m->level.held_us = m->rates.now.held_us;
    m->level.held = seen.held;
    m->level.starved_s = starved;
    if (first || m->recipe->trainer.staleness.hold == RECIPE_HOLD_MAX) return;
    int64_t before = m->level.now.groups, after = level_next(&m->level.now, &seen);
    if (after == before) return;
    groups_set_level(m->groups, after);
    m->work_changed = true;
    LOG(DEBUG, MANAGER, "step=%" PRId64 " level of %" PRId64 " groups is now %" PRId64 ", %s",
        m->facts.step, before, after, level_reason(m->level.now.why));
}
