/* deal.h - which rank of the trainer computes which trajectories of a batch, and the exchange of
 * what it computed for them. A function of the batch and the number of ranks (I7): groups, longest
 * first (tokens, prompts included; equal ones in the order of their numbers), each to the rank that
 * has the fewest tokens so far (equal: the lowest rank). A group is never divided. */
#ifndef TRAINER_BATCH_DEAL_H
#define TRAINER_BATCH_DEAL_H

#include "trainer/batch/batch.h"
#include "trainer/ranks/exchange.h"

struct deal { /* zero-initialised by the owner; memory is kept */
    uint32_t n;
    int32_t *owner;   /* [n] rank, by trajectory */
    int64_t *trained; /* [n] tokens */
    size_t owner_cap, trained_cap;
    /* private */
    struct deal_group *group;
    int64_t *load, *at; /* by rank */
    char *own, *all;
    size_t group_cap, load_cap, at_cap, own_cap, all_cap;
};

void deal_make(struct deal *d, const struct batch *b, int n_ranks);
void deal_close(struct deal *d);

/* by_token: by trained token of the batch, filled where rank is the owner; then filled everywhere,
 * with the same bits on all ranks. */
MUST_CHECK int deal_share(struct deal *d, const struct exchange *x, float *by_token);

#endif
