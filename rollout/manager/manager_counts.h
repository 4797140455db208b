/* manager_counts.h - what is counted for the line of a step: what came in since the step before,
 * facts of the newest batch, the newest step. Read by whoever tells people or decides by it. */
#ifndef ROLLOUT_MANAGER_MANAGER_COUNTS_H
#define ROLLOUT_MANAGER_MANAGER_COUNTS_H

#include "rollout/manager/manager_state.h"

struct manager_window { /* since the last step was done, for its line in metrics.jsonl */
    uint64_t start_us, tokens, finished;
    uint64_t rejected[GROUPS_REASONS];
    int64_t groups, zero;                   /* finished; of them with equal rewards */
    int64_t lost_trajectories, lost_tokens; /* of rejected groups until this window */
    double expected, right, judged;         /* vade: right responses by the posteriors, and found */
};

struct manager_batch_facts { /* of the newest batch formed */
    int64_t step, n, zero_groups, staleness_max;
    double staleness, in_flight; /* sums over its trajectories */
    int64_t histogram[64];       /* by staleness; the last one: and more */
    uint64_t formed_us, asked_us, answered_us;
};

void manager_counts_open(struct manager *m);
void manager_counts_close(struct manager *m);

void manager_counts_start(struct manager *m); /* of a new window */
void manager_counts_tokens(struct manager *m, uint32_t n);
void manager_counts_finished(struct manager *m, int32_t n_response); /* a trajectory */
void manager_counts_group(struct manager *m, bool zero, int32_t longest_response); /* finished */
void manager_counts_rejected(struct manager *m, enum groups_reason reason);
/* n responses to a row, of which the posterior expected `expected` to be right. */
void manager_counts_judged(struct manager *m, double expected, double right, double n);
void manager_counts_formed(struct manager *m, const struct manager_batch_facts *f);
void manager_counts_done(struct manager *m, double reward_mean); /* of the newest step */

const struct manager_window *manager_counts_window(const struct manager *m);
const struct manager_batch_facts *manager_counts_batch(const struct manager *m);
double manager_counts_reward_mean(const struct manager *m); /* of the newest step, NAN: none */
/* Since the start: the mean over groups of their longest response, over the mean of all. */
double manager_counts_tail(const struct manager *m);

#endif
