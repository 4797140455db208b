/* manager_prompts.h - what belongs to groups and trajectories of the pool beside their state in
 * groups.h: prompts, tokens streamed so far, records. */
#ifndef ROLLOUT_MANAGER_MANAGER_PROMPTS_H
#define ROLLOUT_MANAGER_MANAGER_PROMPTS_H

#include "rollout/manager/manager_state.h"

struct manager_prompt {
    bool used;
    uint64_t group, row, epoch;
    char *text;
    int32_t *ids;
    size_t n;
};

/* What is there of a trajectory. An unfinished one is all here; a finished one stays until its
 * group leaves the pool, as long as there is room for such (KEEP_BYTES), else it is in the log. */
struct manager_tokens {
    struct trajectory
        traj;          /* its tokens so far, owned, without prompt; started 0: nothing is here */
    uint64_t writer;   /* hash of the name of the rollout that sent the newest tokens */
    uint64_t life;     /* incarnation of that rollout: a process's versions never go back */
    uint32_t *partial; /* offsets of its partials in the log */
    size_t n_partials, partials_cap;
    bool restored; /* there may be more of them, from before this manager */
    bool kept;     /* finished, and counted in the room for such */
};

/* After the groups are opened: as many places as their pool has. */
void manager_prompts_open(struct manager *m);
void manager_prompts_close(struct manager *m);

/* ERR_CONFIG: no batch can be formed of these rows, which are too few or all useless. */
MUST_CHECK int manager_prompts_check(struct manager *m);
/* The prompt of a group of the pool; ERR_CONFIG: the row cannot be used. */
MUST_CHECK int manager_prompts_get(struct manager *m, uint64_t group,
                                   const struct manager_prompt **out);
/* The tokens of a trajectory of the pool; empty for a new one. */
struct manager_tokens *manager_prompts_tokens(struct manager *m, uint64_t trajectory);
/* It is finished: keeps its tokens, if there is room. */
void manager_prompts_keep(struct manager *m, struct manager_tokens *t);
/* A finished one, from memory or the log. hold (zeroed) owns: runlog_free. */
MUST_CHECK int manager_prompts_load(struct manager *m, uint64_t id, struct trajectory *out,
                                    struct runlog_record *hold);
/* The group's greedy trajectory, plus 1; 0: the recipe wants none. */
uint64_t manager_prompts_greedy(const struct manager *m, uint64_t group);
/* Of a group that a log has: the row that was chosen for it. */
void manager_prompts_restore(struct manager *m, const struct runlog_group *g);
/* Puts the group's record as it is in the pool, or as trained or rejected. */
MUST_CHECK int manager_prompts_record(struct manager *m, uint64_t group);
MUST_CHECK int manager_prompts_leave(struct manager *m, uint64_t group, enum groups_state state,
                                     enum groups_reason reason, int64_t step);
/* Rejects it and logs why, in words that also end the run when too many fail in a row. */
MUST_CHECK int manager_prompts_fail(struct manager *m, uint64_t group, enum groups_reason reason,
                                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
