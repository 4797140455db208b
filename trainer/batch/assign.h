/* assign.h - which rank of the trainer computes which trajectories of a batch, and the exchange of
 * what it computed for them. A function of the batch and the number of ranks (I7): groups, longest
 * first (tokens, prompts included; equal ones in the order of their numbers), each to the rank that
 * has the fewest tokens so far (equal: the lowest rank). A group is never divided. */
#ifndef TRAINER_BATCH_ASSIGN_H
#define TRAINER_BATCH_ASSIGN_H

#include "base/columns.h"
#include "trainer/batch/batch.h"
#include "trainer/ranks/rank_comm.h"

/* Zero-initialised by the owner; memory is kept between batches. */
struct assign {
    uint32_t n;
    int32_t *owner;   /* [n] rank, by trajectory */
    int64_t *trained; /* [n] tokens */
    /* private */
    struct assign_group *group; /* [n_groups] */
    int64_t *load, *at;         /* [n_ranks] */
    char *own, *all;            /* what one rank sends, what all do */
    struct columns traj_memory, group_memory, rank_memory;
    size_t own_cap, all_cap;
};

void assign_make(struct assign *d, const struct batch *b, int n_ranks);
void assign_close(struct assign *d);

/* by_token: by trained token of the batch, filled where rank is the owner; then filled everywhere,
 * with the same bits on all ranks. */
MUST_CHECK int assign_all_gather(struct assign *d, const struct rank_comm *x, float *by_token);

#endif
