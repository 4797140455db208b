/* level.h - how many groups may be live beyond the batch that the trainer takes next: as few as
 * keep it from waiting (`trainer.staleness.hold: auto`).
 *
 * Staleness costs quality, an idle trainer costs time. The bound eta says how much staleness is
 * allowed; what of it is of use depends on rates, lengths and machines that change during a run.
 * So the level moves by what was seen: up while the trainer waits for groups that admission held
 * back, down while finished groups lie unused. Level and bound are in groups, not in batches: a
 * level of 1.3 batches gives a mean staleness of about 1.3. The rule is in level.c, what it does
 * over time in docs/staleness.md. */
#ifndef ROLLOUT_MANAGER_LEVEL_H
#define ROLLOUT_MANAGER_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

enum level_why { LEVEL_START, LEVEL_KEPT, LEVEL_RAISED, LEVEL_LOWERED, LEVEL_AT_BOUND, LEVEL_SLOW };

struct level_batch {  /* what was seen between the batch before and this one */
    double starved_s; /* the trainer had asked and there were not enough finished groups */
    double train_s;   /* the rest of the time */
    double held;      /* share of rollouts' places that admission kept empty, 0 .. 1 */
    int64_t spare;    /* finished groups that this batch leaves in the pool */
};

struct level {
    int64_t batch;  /* B: groups per step */
    int64_t bound;  /* most: staleness.max * B */
    int64_t groups; /* the level now, 0 .. bound */
    enum level_why why;
    /* Batches that started under this level */
    struct level_seen {
        int32_t n;                  /* -1: the next one did not */
        double share, square, held; /* sums: of the share of time that the trainer waited, ... */
        int64_t spare;              /* the least */
    } seen, base;                   /* base: under the level before the trial */
    int32_t trial;    /* +1, -1: raised or lowered to see what it does; 0: it was not */
    int64_t before;   /* trial: where from */
    int32_t turn;     /* direction of the next trial */
    int32_t patience; /* decisions until then */
};

/* Starts at one batch (generation beside training), or at the bound if that is less. */
struct level level_start(int64_t batch, int64_t bound);
/* After a batch was formed: the level from now on, also in l->groups. */
int64_t level_next(struct level *l, const struct level_batch *seen);
/* Why the level is what it is, for people. */
const char *level_reason(enum level_why why);

#endif
