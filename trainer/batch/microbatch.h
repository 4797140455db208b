/* microbatch.h - trajectories -> what the network and its head are fed in one pass: packed rows,
 * positions, pages, and for each row that predicts a trained token, which tokens those are.
 *
 * Token k of a response is predicted by the row before it: row n_prompt + k - 1 of its sequence
 * (for the first one that is the last prompt position). Rows behind the last predicting row compute
 * nothing that is used and are left out.
 *
 * Rows that several trajectories have in common are fed once (split.h): a trajectory of a wave
 * begins where it leaves the one before it, or where the segments end, and reads the keys before
 * that from pages that are there. Attention reads K/V through page tables in any case, so the
 * log-probs have the same bits, and the backward pass adds the keys' gradients up in the shared
 * pages: the same gradient but for the order of a sum. A shared row that predicts a trained token
 * does so for all trajectories that share it: the head sees it once, with the sum of their
 * derivatives. */
#ifndef TRAINER_BATCH_MICROBATCH_H
#define TRAINER_BATCH_MICROBATCH_H

#include "actor/actor.h"
#include "trainer/batch/batch.h"

#include <stdbool.h>

struct microbatch_limits {
    int32_t rows_max, seqs_max, context, page;
    int32_t segments; /* slots below which no wave has rows of its own, beyond rows_max */
};

struct microbatch {
    struct microbatch_limits limits;
    struct actor_batch in;
    int32_t n;                   /* rows that predict trained tokens */
    const int32_t *row, *target; /* [n]; row: of the packed batch */
    const int32_t *start;        /* [n + 1] into element */
    int64_t *element; /* numbers of the trained tokens that row i predicts: start[i] .. */
    /* private */
    int32_t *memory;
    int64_t *pair; /* row, element: as they were found */
    size_t element_cap, pair_cap;
};

struct microbatch_item {
    int32_t traj;     /* of the batch */
    int32_t from, to; /* rows fed; from: a multiple of the page */
    /* The rows before `from` were computed by the item before this one (true), or by segments. */
    bool chained;
};

/* Which tokens count as trained and what their numbers are. */
struct microbatch_tokens {
    const int64_t *first; /* by trajectory: number of its first trained token; the rest follow */
    bool all;             /* every response token counts as trained */
};

/* Pages of the K/V pool that the fullest batch within the limits needs. */
int32_t microbatch_pages(const struct microbatch_limits *l);
size_t microbatch_bytes(const struct microbatch_limits *l);
void microbatch_open(struct microbatch *f, const struct microbatch_limits *l);
void microbatch_close(struct microbatch *f);

/* Rows that a trajectory occupies; 0 if no token of it is trained. */
int32_t microbatch_rows(const struct batch_traj *t, bool all);

/* A wave: the items in this order, over segments of `base` rows. Their rows and number must be
 * within the limits (a bug otherwise). */
void microbatch_wave(struct microbatch *f, const struct batch *b,
                     const struct microbatch_tokens *tokens, const struct microbatch_item *item,
                     int32_t n, int32_t base);
/* A segment: rows from .. to-1 that trajectories traj[0..n-1] share. */
void microbatch_frame(struct microbatch *f, const struct batch *b,
                      const struct microbatch_tokens *tokens, const int32_t *traj, int32_t n,
                      int32_t from, int32_t to);

#endif
