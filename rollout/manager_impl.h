/* manager_impl.h - the manager's state, shared by its files. One thread owns all of it.
 *
 *   manager.c           opening, the loop, who handles which message
 *   manager_clients.c   hello, heartbeats, who is alive
 *   manager_outbox.c    answers that wait for the log
 *   manager_rollouts.c  work out, tokens in
 *   manager_refuse.c    what peers may not say, and what becomes of those who do
 *   manager_prompts.c   rows of the data set as prompts; tokens of unfinished trajectories
 *   manager_sampling.c  which groups have a signal, what is learned about rows
 *   manager_scores.c    finished trajectories to the reward service, scores back
 *   manager_weights.c   the content of each version, as told by trainer and rollouts
 *   manager_trainer.c   batches out, steps done in
 *   manager_metrics.c   metrics.jsonl
 *   manager_level.c     how far rollouts may run ahead
 *   manager_predict.c   the staleness to expect
 *   manager_status.c    who waits for what
 *   manager_restore.c   the state from the log */
#ifndef ROLLOUT_MANAGER_IMPL_H
#define ROLLOUT_MANAGER_IMPL_H

#include "actor/dataset.h"
#include "actor/tokenizer.h"
#include "base/net.h"
#include "proto/link.h"
#include "proto/recipe.h"
#include "rollout/manager_outbox.h"
#include "rollout/manager_parts.h"
#include "rollout/runlog.h"
#include "rollout/sampling.h"

enum {
    MANAGER_CLIENTS_MAX = 1100,    /* known at a time: all rollouts and a few others */
    MANAGER_SCORES_OUT = 512,      /* trajectories the reward service holds at a time */
    MANAGER_KEEP_BYTES = 64 << 20, /* of finished trajectories in memory */
    MANAGER_TURN_EVENTS = 8,       /* after so many the turn ends */
    MANAGER_EVENT_BYTES = 1 << 17, /* of an event: then it goes to the log's writer */
    MANAGER_WORK_MAX = 1024,       /* items of one Work */
    MANAGER_SILENT_BEATS = 5,      /* missed heartbeats until a client is dead */
    MANAGER_OFFENCES_MAX = 16,     /* of a client, then it is banned */
    MANAGER_STALL_US = 30000000
};

struct manager {
    char *run_dir, *metrics_path;
    struct recipe *recipe;
    struct net *net;
    struct net_sock *sock;
    struct groups *groups;
    int64_t size;           /* trajectories of a group, the greedy one included: recipe_generated */
    int64_t vocab, context; /* token ids and lengths that the trainer will take */
    struct runlog *log;
    struct dataset *data;
    struct sampling *sampling;
    struct tokenizer *tokenizer;
    enum chat_format chat;
    uint64_t incarnation, now_us, wall_us, started_us, silent_us; /* wall_us: as now_us */
    uint32_t sessions;
    struct manager_client *client;   /* [MANAGER_CLIENTS_MAX] */
    size_t n_clients;                /* slots ever used */
    struct manager_tokens *tokens;   /* [groups_capacity] by groups_index */
    struct manager_prompt *prompt;   /* [groups_capacity / group_size] by place */
    struct manager_job *job;         /* [groups_capacity] in the order of finishing */
    size_t n_jobs, n_sent, next_job; /* next_job: all before it are sent, or need not be */
    uint64_t sweep_us;               /* when jobs were swept last */
    struct manager_outbox outbox;
    struct manager_ack *acks; /* of this turn */
    size_t n_acks, acks_cap;
    struct manager_weights *weights; /* [n_weights] by version */
    size_t n_weights, weights_cap;
    size_t kept_bytes;        /* of finished trajectories in memory */
    uint64_t scores_pause_us; /* the reward service said "not now": nothing before this */
    struct {
        bool pending;
        struct net_id id;
        int64_t step;
        uint64_t since_us;
        int64_t finished; /* groups, then */
    } ask;                /* the trainer's batch request that waits */
    uint64_t *form;       /* [batch.groups] scratch */
    struct manager_window window;
    struct manager_batch_facts facts;
    struct manager_rates rates;
    struct manager_last last;
    struct manager_level level;
    double tail_max, tail_len; /* sums for the longest response of a group over the mean */
    uint64_t tail_groups, tail_trajs;
    uint64_t progress_us, stall_said_us, warnings;
    struct manager_alone alone;
    struct buf failure; /* why a group was rejected last, for a reward or aborted */
    bool work_changed;  /* something happened that may let kept requests be answered */
};

/* Sends once everything put into the log so far is written. ERR_AGAIN, now, or the peer is lost
 * later: it is gone or does not read. */
MUST_CHECK int manager_send(struct manager *m, const struct net_id *to, enum wire_type type,
                            const void *body, const struct wire_frame *frames, size_t n);
void manager_progress(struct manager *m); /* something moved: the watchdog starts anew */

/* manager_clients.c */
MUST_CHECK int manager_clients_hello(struct manager *m, const struct net_id *from,
                                     const struct wire_msg *msg);
void manager_clients_heartbeat(struct manager *m, const struct net_id *from,
                               const struct wire_msg *msg);
struct manager_client *manager_clients_find(struct manager *m, const struct net_id *id);
/* NULL and an answer that makes it say hello: unknown, or thought dead. */
struct manager_client *manager_clients_known(struct manager *m, const struct net_id *from);
/* Ends its leases; why is for the log, NULL: say nothing. */
void manager_clients_lose(struct manager *m, struct manager_client *c, const char *why);
void manager_clients_tick(struct manager *m);
struct manager_client *manager_clients_reward(struct manager *m); /* NULL: none alive */

/* manager_rollouts.c */
void manager_rollouts_request(struct manager *m, struct manager_client *c,
                              const struct wire_msg *msg);
MUST_CHECK int manager_rollouts_tokens(struct manager *m, struct manager_client *c,
                                       const struct wire_msg *msg);
/* Writes what was collected, then acknowledges it. */
MUST_CHECK int manager_rollouts_flush(struct manager *m);
MUST_CHECK int manager_rollouts_dispatch(struct manager *m); /* answers kept requests */

/* manager_prompts.c */
/* ERR_CONFIG: no batch can be formed of these rows, which are too few or all useless. */
MUST_CHECK int manager_prompts_check(struct manager *m);
/* The prompt of a group of the pool; ERR_CONFIG: the row cannot be used. */
MUST_CHECK int manager_prompts_get(struct manager *m, uint64_t group,
                                   const struct manager_prompt **out);
/* The tokens of a trajectory of the pool; empty for a new one. */
struct manager_tokens *manager_prompts_tokens(struct manager *m, uint64_t trajectory);
void manager_prompts_add(struct manager_tokens *t, int32_t n, const int32_t *response,
                         const float *logprob, const int64_t *version);
void manager_prompts_release(struct manager *m, struct manager_tokens *t); /* its memory */
/* It is finished: keeps its tokens, if there is room. */
void manager_prompts_keep(struct manager *m, struct manager_tokens *t);
/* A finished one, from memory or the log, without its times. hold (zeroed) owns: runlog_free. */
MUST_CHECK int manager_prompts_load(struct manager *m, uint64_t id, struct runlog_traj *out,
                                    struct runlog_record *hold);
/* The group's greedy trajectory, plus 1; 0: the recipe wants none. */
uint64_t manager_prompts_greedy(const struct manager *m, uint64_t group);
uint64_t manager_prompts_writer(const char *name);
/* Of a group that a log has: the row that was chosen for it. */
void manager_prompts_restore(struct manager *m, const struct runlog_group *g);
/* Puts the group's record as it is in the pool, or as trained or rejected. */
MUST_CHECK int manager_prompts_record(struct manager *m, uint64_t group);
MUST_CHECK int manager_prompts_leave(struct manager *m, uint64_t group, enum groups_state state,
                                     enum groups_reason reason, int64_t step);

/* manager_sampling.c */
MUST_CHECK int manager_sampling_open(struct manager *m);
/* All trajectories of a group are scored: counts it; perhaps it is rejected now. */
MUST_CHECK int manager_sampling_finished(struct manager *m, uint64_t group);
/* The step trains the group, which is still in the pool. */
void manager_sampling_trained(struct manager *m, uint64_t group, uint64_t row, int64_t step);
/* The row's posterior after the step; zeros: nothing is learned. */
struct sampling_beta manager_sampling_after(const struct manager *m, uint64_t row, int64_t step);
MUST_CHECK int manager_sampling_restore(struct manager *m, const struct runlog_group *g);
MUST_CHECK int manager_sampling_restored(struct manager *m); /* the whole pool is */

/* manager_scores.c */
void manager_scores_add(struct manager *m, uint64_t trajectory);
MUST_CHECK int manager_scores_reply(struct manager *m, const struct wire_msg *msg);
MUST_CHECK int manager_scores_send(struct manager *m);
void manager_scores_lost(struct manager *m); /* the service is gone: all of them again */

/* manager_weights.c. ERR_MISMATCH: others have other weights as this version, which can exist. */
MUST_CHECK int manager_weights_loaded(struct manager *m, int64_t version, struct hash hash,
                                      const char *who);
MUST_CHECK int manager_weights_published(struct manager *m, int64_t version, struct hash hash);
bool manager_weights_confirmed(const struct manager *m, int64_t version); /* by the trainer */
bool manager_weights_known(const struct manager *m, const int64_t *version, size_t n);
MUST_CHECK int manager_weights_restore(struct manager *m);

/* manager_trainer.c */
MUST_CHECK int manager_trainer_ask(struct manager *m, const struct net_id *from,
                                   const struct wire_msg *msg);
MUST_CHECK int manager_trainer_answer(struct manager *m); /* the kept request, when it can be */
MUST_CHECK int manager_trainer_done(struct manager *m, const struct net_id *from,
                                    const struct wire_msg *msg);
MUST_CHECK int manager_trainer_eval(struct manager *m, const struct net_id *from,
                                    const struct wire_msg *msg);

/* manager_metrics.c */
void manager_metrics_line(struct manager *m, int64_t step, const char *report, size_t bytes,
                          struct buf *out);
MUST_CHECK int manager_metrics_rewrite(struct manager *m); /* from the log */
MUST_CHECK int manager_metrics_append(struct manager *m, const char *line, size_t bytes);
void manager_metrics_window(struct manager *m); /* starts a new one */

/* manager_status.c */
void manager_status_json(struct manager *m, struct buf *out);
void manager_status_watch(struct manager *m);

/* manager_restore.c */
MUST_CHECK int manager_restore(struct manager *m);

#endif
