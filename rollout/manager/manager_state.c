/* manager_state.c - see manager_state.h. */
#include "rollout/manager/manager_state.h"

#include <inttypes.h>

void manager_progress(struct manager *m) {
    m->progress_us = m->now_us;
    m->work_changed = true;
}

uint64_t manager_group_of(const struct manager *m, uint64_t trajectory) {
    return trajectory / (uint64_t)m->size;
}

uint64_t manager_trajectory(const struct manager *m, uint64_t group, int64_t place) {
    ASSERT(place >= 0 && place < m->size);
    return group * (uint64_t)m->size + (uint64_t)place;
}

void manager_warn_at(struct log_limit *limit, struct manager *m, const struct net_id *from,
                     const char *what, const char *why) {
    m->warnings++;
    log_limited(limit, LOG_WARN, LOG_MANAGER, "peer=%.*s %s: %s (%" PRIu64 " such since the start)",
                (int)from->n, (const char *)from->bytes, what, why, m->warnings);
}
