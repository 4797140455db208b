/* group_state.h - what may become of a group of trajectories: what its record in the log says, and
 * what the manager's state machine (rollout/manager/groups.h) decides. */
#ifndef ROLLOUT_LOG_GROUP_STATE_H
#define ROLLOUT_LOG_GROUP_STATE_H

enum groups_state { GROUPS_RUNNING = 1, GROUPS_FINISHED, GROUPS_TRAINED, GROUPS_REJECTED };

enum groups_reason {
    GROUPS_KEPT,
    GROUPS_STALE,   /* `drop` mode: its deadline passed */
    GROUPS_REWARD,  /* the reward of a trajectory is an error */
    GROUPS_PROMPT,  /* the dataset's row cannot be used */
    GROUPS_ABORTED, /* rollouts gave a trajectory back GROUPS_ABORTS_MAX times */
    GROUPS_ZERO,    /* dynamic sampling: its rewards are all equal */
    GROUPS_WEIGHTS, /* it has tokens of other weights than the trainer's */
    GROUPS_MANUAL,  /* `weir replay RUN reject` */
    GROUPS_LOST,    /* its records were damaged: `weir replay RUN salvage` */
    GROUPS_REASONS
};

const char *group_reason_name(enum groups_reason r);
enum groups_reason groups_reason_from(const char *name); /* GROUPS_KEPT for an unknown name */

#endif
