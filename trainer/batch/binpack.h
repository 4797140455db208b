/* binpack.h - items of given sizes into bins of at most `budget` rows. Pure bookkeeping,
 * deterministic: longest first (ties: input order), each into the fullest bin that still takes it
 * (ties: oldest bin). An item longer than the budget gets a bin of its own. Items of 0 rows are
 * left out. */
#ifndef TRAINER_BATCH_BINPACK_H
#define TRAINER_BATCH_BINPACK_H

#include "base/columns.h"

#include <stddef.h>
#include <stdint.h>

/* Zero-initialised by the owner; memory is kept between plans. */
struct binpack {
    int32_t n_bins;
    int32_t *start; /* [n_bins + 1] into item */
    int32_t *item;  /* item numbers, bin after bin, in the order they were placed */
    struct columns memory;
};

/* rows[i] >= 0: rows of item i; seqs[i]: sequences it stands for (NULL: 1 each), at most seqs_max
 * of them in a bin. */
void binpack_plan(struct binpack *p, const int32_t *rows, const int32_t *seqs, int32_t n,
                  int32_t budget, int32_t seqs_max);
void binpack_close(struct binpack *p);

#endif
