/* split.h - the microbatches of a step: trajectories of one prompt become units that compute the
 * prompt once (feed.h), units are packed into bins (pack.h). A function of the batch and the limits
 * alone, so that a replayed step adds its gradients in the same order (I7). */
#ifndef TRAINER_SPLIT_H
#define TRAINER_SPLIT_H

#include "trainer/feed.h"
#include "trainer/pack.h"

struct split_limits {
    int32_t budget, seqs_max, page; /* budget: rows of a microbatch */
    bool share;
};

struct split { /* zero-initialised by the owner; memory is kept between plans */
    struct pack pack;
    int32_t n_units;
    int32_t *start, *rows, *seqs; /* by unit: first member, rows, members */
    int32_t *member;              /* trajectories, unit after unit */
    struct feed_item *items;
    size_t start_cap, rows_cap, seqs_cap, member_cap, items_cap;
};

/* rows[i]: rows of trajectory i on its own, 0 leaves it out. A unit is at most a budget large, or
 * one trajectory. */
void split_make(struct split *p, const struct batch *b, const int32_t *rows,
                const struct split_limits *l);
/* What feed_fill needs of microbatch bin < pack.n_bins; valid until the next call. */
const struct feed_item *split_bin(struct split *p, int32_t bin, int32_t *n);
void split_close(struct split *p);

#endif
