/* manager_counts.c - see manager_counts.h. */
#include "rollout/manager/manager_counts.h"

#include "base/mem.h"

struct manager_counts {
    struct manager_window window;
    struct manager_batch_facts batch;
    double reward_mean;
    double tail_max, tail_len; /* sums: of the longest response of a group, of all responses */
    uint64_t tail_groups, tail_trajs;
};

void manager_counts_open(struct manager *m) {
    m->counts = mem_zalloc(sizeof *m->counts);
}

void manager_counts_close(struct manager *m) {
    mem_free(m->counts);
}

void manager_counts_start(struct manager *m) {
    struct groups_counts n = groups_counts(m->groups);
    m->counts->window = (struct manager_window){.start_us = m->now_us,
                                                .lost_trajectories = n.lost_trajectories,
                                                .lost_tokens = n.lost_tokens};
}

void manager_counts_tokens(struct manager *m, uint32_t n) {
    m->counts->window.tokens += n;
}

void manager_counts_finished(struct manager *m, int32_t n_response) {
    m->counts->window.finished++;
    m->counts->tail_len += (double)n_response;
    m->counts->tail_trajs++;
}

void manager_counts_group(struct manager *m, bool zero, int32_t longest_response) {
    m->counts->window.groups++;
    m->counts->window.zero += zero;
    m->counts->tail_max += (double)longest_response;
    m->counts->tail_groups++;
}

void manager_counts_rejected(struct manager *m, enum groups_reason reason) {
    m->counts->window.rejected[reason]++;
}

void manager_counts_judged(struct manager *m, double expected, double right, double n) {
    m->counts->window.expected += expected;
    m->counts->window.right += right;
    m->counts->window.judged += n;
}

void manager_counts_formed(struct manager *m, const struct manager_batch_facts *f) {
    m->counts->batch = *f;
}

void manager_counts_done(struct manager *m, double reward_mean) {
    m->counts->reward_mean = reward_mean;
}

const struct manager_window *manager_counts_window(const struct manager *m) {
    return &m->counts->window;
}

const struct manager_batch_facts *manager_counts_batch(const struct manager *m) {
    return &m->counts->batch;
}

double manager_counts_reward_mean(const struct manager *m) {
    return m->counts->reward_mean;
}

double manager_counts_tail(const struct manager *m) {
    const struct manager_counts *k = m->counts;
    return k->tail_max / (double)k->tail_groups / (k->tail_len / (double)k->tail_trajs);
}
