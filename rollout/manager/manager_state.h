/* manager_state.h - what all parts of the manager share: the run, the time, and the parts
 * themselves. One thread owns all of it.
 *
 * A part is a struct that only its own file sees; everybody else calls its functions. Calls go
 * down this list only, so that each part can be read, and tested, with those below it:
 *
 *   manager.c           opening, the turn, who handles which message
 *   manager_restore.c   the state from the log
 *   manager_status.c    who waits for what
 *   manager_trainer.c   the batch that is asked for: batches out, steps done in
 *   manager_metrics.c   the line of a step
 *   manager_rollouts.c  work out, tokens in, acknowledgements of this turn
 *   manager_refuse.c    what peers may not say, and what becomes of those who do
 *   manager_weights.c   the content of each version, as told by trainer and rollouts
 *   manager_scores.c    finished trajectories to the reward service, scores back
 *   manager_sampling.c  which groups have a signal, what is learned about rows
 *   manager_level.c     how far rollouts may run ahead
 *   manager_predict.c   the staleness to expect
 *   manager_prompts.c   the pool: prompts of groups, tokens of trajectories, their records
 *   manager_clients.c   hello, heartbeats, who is alive
 *   manager_outbox.c    answers that wait for the log
 *   manager_counts.c    what is counted for the line of a step
 *   manager_metrics_file.c     the file metrics.jsonl
 *   manager_state.c      progress, complaints */
#ifndef ROLLOUT_MANAGER_MANAGER_STATE_H
#define ROLLOUT_MANAGER_MANAGER_STATE_H

#include "actor/text/dataset.h"
#include "actor/text/tokenizer.h"
#include "base/env.h"
#include "base/log.h"
#include "proto/link.h"
#include "proto/recipe/recipe.h"
#include "rollout/log/runlog.h"
#include "rollout/manager/groups.h"
#include "rollout/manager/sampling.h"

struct manager {
    /* the run */
    char *run_dir;
    struct recipe *recipe;
    struct runlog *log;
    struct groups *groups;
    int64_t size; /* trajectories of a group, the greedy one included: recipe_generated */
    struct dataset *data;
    struct sampling *sampling;
    struct tokenizer *tokenizer;
    enum chat_format chat;
    const struct env *env;
    struct net_sock *sock;
    /* the time of the turn, and what it has to do */
    uint64_t now_us, wall_us;
    uint64_t progress_us; /* something moved last */
    bool work_changed;    /* something happened that may let kept requests be answered */
    uint64_t warnings;    /* of peers that broke a rule */
    /* the parts */
    struct manager_clients *clients;
    struct manager_outbox *outbox;
    struct manager_counts *counts;
    struct manager_prompts *prompts;
    struct manager_rates *rates;
    struct manager_level *level;
    struct manager_scores *scores;
    struct manager_weights *weights;
    struct manager_refuse *refuse;
    struct manager_rollouts *rollouts;
    struct manager_trainer *trainer;
    struct manager_status *status;
};

/* Something moved: the watchdog starts anew, and kept requests are looked at. */
void manager_progress(struct manager *m);

/* A trajectory's number is its group's times the size, plus its place there. */
uint64_t manager_group_of(const struct manager *m, uint64_t trajectory);
uint64_t manager_trajectory(const struct manager *m, uint64_t group, int64_t place);

/* A peer broke a rule: a few lines from each place that says so, however often it does. */
#define manager_warn(m, from, what, why)                                                           \
    do {                                                                                           \
        static struct log_limit limit_;                                                            \
        manager_warn_at(&limit_, m, from, what, why);                                              \
    } while (0)
void manager_warn_at(struct log_limit *limit, struct manager *m, const struct net_id *from,
                     const char *what, const char *why);

#endif
