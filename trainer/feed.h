/* feed.h - trajectories -> what the network and its head are fed: packed rows, positions, pages,
 * and for each trained token the row that predicts it. Host memory only, taken once when opened.
 *
 * Token k of a response is predicted by the row before it: row n_prompt + k - 1 of its sequence
 * (for the first one that is the last prompt position). Rows behind the last predicting row compute
 * nothing that is used and are left out.
 *
 * Shared prompts: trajectories of one prompt can be fed as a unit, whose first member computes the
 * prompt and whose others start at the last prompt position (which predicts their first token) and
 * read the keys before it from the first one's pages. Attention reads K/V through page tables in
 * any case, so the log-probs have the same bits, and the reverse pass adds the keys' gradients up
 * in the shared pages: the same gradient but for the order of a sum. */
#ifndef TRAINER_FEED_H
#define TRAINER_FEED_H

#include "actor/actor.h"
#include "trainer/batch.h"

#include <stdbool.h>

struct feed_limits {
    int32_t rows_max, seqs_max, context, page;
};

struct feed {
    struct feed_limits limits;
    struct actor_batch in;
    int32_t n;                   /* trained tokens */
    const int32_t *row, *target; /* [n]; row: of the packed batch */
    const int32_t *seq, *token;  /* [n] trajectory and response position that each stands for */
    int32_t *memory;
};

struct feed_item {
    int32_t traj;   /* of the batch */
    int32_t leader; /* item (before this one) whose prompt is shared; -1: none */
};

/* Pages of the K/V pool that the fullest batch within the limits needs. */
int32_t feed_pages(const struct feed_limits *l);
size_t feed_bytes(const struct feed_limits *l);
void feed_open(struct feed *f, const struct feed_limits *l);
void feed_close(struct feed *f);

/* Rows that a trajectory occupies; 0 if no token of it is trained (all: every response token counts
 * as trained). */
int32_t feed_rows(const struct batch_traj *t, bool all);
/* Rows of `leader` that t can read instead of computing them: whole pages of the equal prompt
 * without its last position; 0 if there are none. */
int32_t feed_shared(const struct batch_traj *leader, const struct batch_traj *t, int32_t page);

/* Packs the trajectories of item[0..n-1], those with rows, in this order. The sum of their rows
 * (without the shared ones) and their number must be within the limits (a bug otherwise). */
void feed_fill(struct feed *f, const struct batch *b, const struct feed_item *item, int32_t n,
               bool all);

#endif
