/* groups.h - which trajectories may run, who runs them, which groups a training step gets: the
 * rules of ARCHITECTURE.md, "Staleness" and "Exactly once", as a pure state machine. No sockets,
 * clock, disk or tokens: the manager owns those, tells this what happened and does what it says.
 *
 * Every group in the pool is running (some trajectory unfinished or unscored) or finished. Trained
 * and rejected groups leave the pool. The whole state can be rebuilt from the rollout log
 * (groups_restore...). Two promises (I2, I3): in `wait` mode no group ever becomes too stale; in
 * either mode a group is trained at most once and leaves the pool trained or with a reason. */
#ifndef ROLLOUT_MANAGER_GROUPS_H
#define ROLLOUT_MANAGER_GROUPS_H

#include "base/err.h"
#include "rollout/log/group_state.h"

#include <stdbool.h>
#include <stdint.h>

enum { GROUPS_TRAJECTORIES_MAX = 1 << 20, GROUPS_ABORTS_MAX = 5 };

struct groups_config {
    int64_t groups;      /* B: groups per training step */
    int64_t size;        /* trajectories per group */
    int64_t eta;         /* staleness bound */
    int64_t concurrency; /* trajectories running at once */
    int64_t steps;       /* of the whole run */
    int64_t tokens_max;  /* per trajectory */
    bool drop;           /* late: drop */
    bool dynamic;        /* groups whose rewards are all equal are not trained: groups_refused */
};

enum groups_traj_state {
    GROUPS_WAITING = 1, /* to be handed out, perhaps again */
    GROUPS_LEASED,
    GROUPS_GENERATED, /* complete, not scored */
    GROUPS_SCORED
};

struct groups_traj {
    enum groups_traj_state state;
    int32_t rollout;  /* that runs it, -1 */
    int32_t received; /* tokens stored */
    int32_t aborts;
    bool lost;      /* was leased before and came back */
    int64_t oldest; /* least version among its tokens, INT64_MAX: none yet */
    float reward;
};

struct groups_group {
    uint64_t id;
    int64_t slot;
    int64_t floor; /* none of its tokens is, or will be, of an older version */
    enum groups_state state;
    uint32_t waiting, lost, scored;
    bool zero; /* finished, and all rewards are equal: no gradient from it */
};

struct groups_item {
    uint64_t trajectory, group;
    bool starts; /* first of a group that did not exist before: write its record */
};

struct groups_counts {
    int64_t done;                            /* steps done: the version known to exist */
    int64_t formed;                          /* batches formed, >= done */
    uint64_t next;                           /* id of the next new group */
    int64_t live;                            /* trained + finished + running groups */
    int64_t running, finished;               /* groups in the pool */
    int64_t leased, waiting, lost, unscored; /* trajectories */
    int64_t rejected[GROUPS_REASONS];        /* groups since the start of the run */
    int64_t failed_in_row; /* rejected for a reward or aborted since one finished (or restoring) */
    int64_t zero_rejected; /* GROUPS_ZERO since the newest batch was formed */
    int64_t lost_trajectories, lost_tokens; /* with tokens, of rejected groups, since groups_open */
};

struct groups;

/* ERR_CONFIG names the setting out of range. */
MUST_CHECK int groups_open(struct groups **out, const struct groups_config *cfg);
void groups_close(struct groups **g);
struct groups_counts groups_counts(const struct groups *g);
int64_t groups_capacity(const struct groups *g); /* trajectories in the pool at most */

/* Groups that may be live beyond the next batch: admission is open while live < (done + 1) * B +
 * level. At most eta * B, which it is until this is called. Only when groups start depends on it:
 * the bound holds at any level, and at any sequence of levels. */
void groups_set_level(struct groups *g, int64_t level);
int64_t groups_level(const struct groups *g);

/* In the pool, else NULL. Pointers are valid until the next call that changes the state. */
const struct groups_group *groups_group(const struct groups *g, uint64_t group);
const struct groups_traj *groups_traj(const struct groups *g, uint64_t trajectory);
/* 0 .. groups_capacity-1, the same as long as the trajectory is in the pool; -1: it is not. */
int64_t groups_index(const struct groups *g, uint64_t trajectory);
/* The pool's groups in id order: NULL past the end. */
const struct groups_group *groups_at(const struct groups *g, int64_t i);
int64_t groups_deadline(const struct groups *g, uint64_t group); /* last step that may train it */

/* Leases at most n trajectories to a rollout that holds `version`: the oldest groups first, what
 * was lost before what is new, starting groups as admission allows. Returns how many. When none,
 * *min_version > version says that newer weights are wanted first; otherwise the request is to be
 * kept until something changes. version must be at most counts.formed: newer ones cannot exist. */
uint32_t groups_dispatch(struct groups *g, int32_t rollout, int64_t version, uint32_t n,
                         struct groups_item *items, int64_t *min_version);
/* Trajectories that the rollout has. */
uint32_t groups_leased(const struct groups *g, int32_t rollout);
/* A rollout says that it is running this trajectory. Leases it, if it is unfinished and nobody
 * else's, and returns the tokens stored; -1: it must forget it. */
int32_t groups_adopt(struct groups *g, int32_t rollout, uint64_t trajectory);
/* The rollout is gone: all that it held is handed out again. */
uint32_t groups_release(struct groups *g, int32_t rollout);
/* true: it was given back too often, its group is rejected now (GROUPS_ABORTED). */
bool groups_abort(struct groups *g, int32_t rollout, uint64_t trajectory);

enum groups_take {
    GROUPS_TAKE,     /* new: all but the first *known tokens; already counted */
    GROUPS_KNOWN,    /* nothing new, or a gap: answer with `received` */
    GROUPS_FORGET,   /* not this rollout's: answer -1 */
    GROUPS_MALFORMED /* breaks a rule: answer -1; err_text says which */
};
/* n tokens from offset on, with their versions; last: the trajectory is complete with them. */
enum groups_take groups_tokens(struct groups *g, int32_t rollout, uint64_t trajectory,
                               uint32_t offset, uint32_t n, const int64_t *version, bool last,
                               uint32_t *known);
/* The reward of a complete trajectory. false: not waited for (a duplicate, a rejected group). */
bool groups_score(struct groups *g, uint64_t trajectory, float reward);
/* Dynamic sampling: finished, but to be rejected with GROUPS_ZERO before anything else happens. */
bool groups_refused(const struct groups *g, uint64_t group);
/* Takes a group out of the pool for a reason; its slot is free again. false: not in the pool. */
bool groups_reject(struct groups *g, uint64_t group, enum groups_reason reason);

/* The groups of batch counts.formed, ascending, or false: not yet. Changes nothing. */
bool groups_form(const struct groups *g, uint64_t *groups);
/* They are that batch now; leave the pool. */
void groups_train(struct groups *g, const uint64_t *groups);
/* `drop` mode, after groups_train until false: rejects one group that became too stale. */
bool groups_expire(struct groups *g, uint64_t *group);
/* ERR_CONFIG when no batch was formed for the step. Repeating a step changes nothing. */
MUST_CHECK int groups_step_done(struct groups *g, int64_t step);
/* The unfinished group that the next batch needs most: least deadline, then id. NULL: none. */
const struct groups_group *groups_blocker(const struct groups *g);

/* Rebuilding, in this order: batches, then every group record ascending, each followed by what is
 * stored of its trajectories when it is RUNNING, then the end. ERR_CORRUPT: not a state that this
 * machine can be in. */
void groups_restore_batches(struct groups *g, int64_t formed, int64_t done);
MUST_CHECK int groups_restore_group(struct groups *g, uint64_t group, int64_t slot, int64_t floor,
                                    enum groups_state state, enum groups_reason reason);
/* After the record of a group with GROUPS_ZERO: how many batches were formed when it left. */
void groups_restore_zero(struct groups *g, int64_t formed);
/* complete: all its tokens are there; scored: reward holds. */
MUST_CHECK int groups_restore_traj(struct groups *g, uint64_t trajectory, int32_t received,
                                   int64_t oldest, bool complete, bool scored, float reward);
MUST_CHECK int groups_restore_end(struct groups *g);

#endif
