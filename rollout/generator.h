/* generator.h - what generates for a rollout: the engine with its change of weights, or a model of
 * them in a simulation. rollout.c talks to the manager and knows no more of either than this. */
#ifndef ROLLOUT_GENERATOR_H
#define ROLLOUT_GENERATOR_H

#include "base/hash.h"
#include "proto/trajectory.h"
#include "rollout/engine/engine.h"

struct generator {
    void *self;    /* of the functions */
    size_t places; /* trajectories that it runs at a time */
    /* Goes on with the trajectory, which it copies. ERR_AGAIN: its list is full; with any error it
     * does not run that. */
    int (*add)(void *self, const struct trajectory *w);
    void (*abort)(void *self, uint64_t id);
    bool (*idle)(void *self);
    /* One token or less for each trajectory that runs, as engine_step. */
    int (*step)(void *self, const struct engine_token **events, int32_t *n);
    void (*stats)(void *self, struct engine_stats *out);

    /* Gets newer weights ready, and changes to them if it may. step_us: what a step took lately. */
    int (*take_weights)(void *self, uint64_t now_us, uint64_t step_us, bool may);
    bool (*taking)(void *self);                        /* more of that would be of use now */
    int64_t (*version)(void *self, struct hash *hash); /* in use, with its content; -1: none */
    int64_t (*newest)(void *self);                     /* that it has heard of; -1: none */
};

#endif
