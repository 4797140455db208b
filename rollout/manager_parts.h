/* manager_parts.h - what the manager's state is made of; see manager_impl.h. */
#ifndef ROLLOUT_MANAGER_PARTS_H
#define ROLLOUT_MANAGER_PARTS_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/net.h"
#include "rollout/groups.h"
#include "rollout/level.h"
#include "rollout/runlog.h"

enum manager_role {
    MANAGER_NOBODY,
    MANAGER_ROLLOUT,
    MANAGER_REWARD,
    MANAGER_TRAINER,
    MANAGER_EVALUATOR,
    MANAGER_OTHER
};

struct manager_client {
    bool used, alive; /* alive: said hello and was heard of since */
    enum manager_role role;
    char name[RUNLOG_NAME_MAX + 1], service[RUNLOG_NAME_MAX + 1];
    struct net_id id;
    uint64_t incarnation, heard_us;
    uint64_t writer;  /* hash of the name */
    uint64_t session; /* our incarnation as told to it: a new one makes it say hello again */
    int64_t version, running, kv_used, kv_total, tokens;
    double busy, tokens_per_s;
    uint64_t beat_us;       /* of the newest heartbeat */
    uint32_t credit;        /* places of a work request that is kept, 0: none */
    uint32_t places;        /* that the client has in all, 0: it did not say */
    int64_t credit_version; /* weights it named; checked, unlike a heartbeat's */
    uint64_t credit_us;
    uint32_t offences; /* what it sent that broke a rule, since it is known by name */
    bool banned;       /* too many: nothing of it is taken, and it gets nothing */
};

/* What is there of a trajectory. An unfinished one is all here; a finished one stays until its
 * group leaves the pool, as long as there is room (MANAGER_KEEP_BYTES), else it is in the log. */
struct manager_tokens {
    uint64_t id, writer; /* writer: hash of the name of the rollout that sent the newest tokens */
    uint64_t life;       /* incarnation of that rollout: a process's versions never go back */
    uint64_t started_us; /* wall clock; 0: nothing is here */
    int32_t n;
    uint32_t finish;  /* enum engine_finish */
    int64_t step;     /* steps done when it was finished */
    int64_t *version; /* [cap], and in the same memory the others */
    int32_t *response;
    float *logprob;
    size_t cap;
    uint32_t *partial; /* offsets of its partials in the log */
    size_t n_partials, partials_cap;
    bool restored; /* there may be more of them, from before this manager */
    bool kept;     /* finished, and counted in the room for such */
};

struct manager_weights { /* a version */
    struct hash hash;
    bool loaded;    /* a rollout said that it has it, and there is a record of that */
    bool published; /* the trainer reported it */
};

struct manager_ack { /* for tokens that are in the log batch, not yet written */
    struct manager_client *client;
    uint64_t trajectory;
    int32_t received;
};

struct manager_span { /* the part of a Tokens message that is about one trajectory */
    uint64_t id;
    uint32_t offset, n, finish;
    const int32_t *response;
    const float *logprob;
    const int64_t *version;
};

struct manager_prompt {
    bool used;
    uint64_t group, row, epoch;
    char *text;
    int32_t *ids;
    size_t n;
};

struct manager_job { /* a finished trajectory without a score */
    uint64_t id;
    uint64_t sent_us; /* 0: not with the reward service */
};

struct manager_alone { /* of a kind of service that the run needs, only banned ones are there */
    uint64_t since_us; /* 0: not so */
    struct buf last;   /* what the newest of them was banned for */
    int code;          /* and the error that it is */
};

struct manager_last { /* newest step done */
    int64_t step;
    double reward_mean;
};

struct manager_window { /* since the last step was done, for its line in metrics.jsonl */
    uint64_t start_us, tokens, finished;
    uint64_t rejected[GROUPS_REASONS];
    int64_t groups, zero;                   /* finished; of them with equal rewards */
    int64_t lost_trajectories, lost_tokens; /* of rejected groups until this window */
    double expected, right, judged;         /* vade: right responses by the posteriors, and found */
};

struct manager_rates { /* for the prediction of staleness, see manager_predict.c */
    struct manager_mark {
        uint64_t us; /* 0: not set */
        double held_us, wait_us;
        int64_t steps, finished; /* finished: groups ever */
        int64_t running;         /* groups, summed over the steps' ends */
        double waiting;          /* batches that waited */
    } now, since, next;          /* now: sums since the start; rates are taken from `since` on */
};

struct manager_level { /* see manager_level.c */
    struct level now;
    uint64_t formed_us; /* the newest batch */
    double held_us;     /* rates.now.held_us then */
    double held;        /* between it and the one before: level_batch */
};

struct manager_batch_facts { /* of the newest batch formed */
    int64_t step, n, zero_groups, staleness_max;
    double staleness, in_flight; /* sums over its trajectories */
    int64_t histogram[64];       /* by staleness; the last one: and more */
    uint64_t formed_us, asked_us, answered_us;
};

struct manager;
/* A peer broke a rule: a few lines from each place that says so, however often it does. */
#define manager_warn(m, from, what, why)                                                           \
    do {                                                                                           \
        static struct log_limit limit_;                                                            \
        manager_warn_at(&limit_, m, from, what, why);                                              \
    } while (0)
void manager_warn_at(struct log_limit *limit, struct manager *m, const struct net_id *from,
                     const char *what, const char *why);

#endif
