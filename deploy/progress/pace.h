/* pace.h - how fast a run goes: tokens a second and the time left, from the steps of this session.
 * A run that was resumed reads the lines of all its steps at once; how long those took, and the
 * pause since, say nothing about the steps to come. */
#ifndef DEPLOY_PROGRESS_PACE_H
#define DEPLOY_PROGRESS_PACE_H

#include <stdint.h>

enum { PACE_STEPS = 64 };

struct pace { /* zeroed, then pace_start */
    double start, wall[PACE_STEPS];
    struct pace_part {
        double seconds, rollout, trainer; /* tokens */
        double trained;                   /* seconds of the trainer's computation */
    } part[PACE_STEPS];
    int64_t n; /* steps of this session */
};

/* wall: seconds since 1970, of now. */
void pace_start(struct pace *p, double wall);
/* A step that was done at `wall`: what rollouts generated in the `seconds` since the step before,
 * what the trainer computed in `trained` seconds. A step before the start does not count. */
void pace_step(struct pace *p, double wall, const struct pace_part *part);
/* Seconds until `left` more steps are done; below 0: no step of this session yet. It counts down
 * while a step takes as long as the others. */
double pace_left(const struct pace *p, int64_t left, double wall);
/* Tokens a second over the newest 10 seconds of steps, at least 8 steps: a step for which nothing
 * had to be generated, since its batch was there, does not make it 0. Below 0: not known. */
double pace_rollout(const struct pace *p);
double pace_trainer(const struct pace *p);

#endif
