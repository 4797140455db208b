/* feed.h - trajectories -> what the network and its head are fed: packed rows, positions, pages,
 * and for each trained token the row that predicts it. Host memory only, taken once when opened.
 *
 * Token k of a response is predicted by the row before it: row n_prompt + k - 1 of its sequence
 * (for the first one that is the last prompt position). Rows behind the last predicting row compute
 * nothing that is used and are left out. Every sequence owns its K/V pages. */
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

/* Pages of the K/V pool that the fullest batch within the limits needs. */
int32_t feed_pages(const struct feed_limits *l);
size_t feed_bytes(const struct feed_limits *l);
void feed_open(struct feed *f, const struct feed_limits *l);
void feed_close(struct feed *f);

/* Rows that a trajectory occupies; 0 if no token of it is trained (all: every response token counts
 * as trained). */
int32_t feed_rows(const struct batch_traj *t, bool all);

/* Packs trajectories item[0..n-1] of the batch, those with rows, in this order. The sum of their
 * rows and their number must be within the limits (a bug otherwise). */
void feed_fill(struct feed *f, const struct batch *b, const int32_t *item, int32_t n, bool all);

#endif
