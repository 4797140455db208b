/* split.h - the plan of a step: in which forward and backward passes the rows of a batch are
 * computed, and which rows are computed once for several trajectories.
 *
 * Trajectories share rows where their tokens begin alike: a system prompt, the prompt of a group,
 * turns. Row r predicts token r + 1, so trajectories that agree in their first m tokens share rows
 * 0 .. m-2, whole pages of them; the row that predicts the first different token is each one's own.
 * Shared rows are computed either
 *  - in one pass with all that read them (a unit: trajectories next to each other in the order of
 *    their tokens, each beginning where it leaves the one before it); or
 *  - as a segment (actor_push): forward, then everything that reads them pass by pass, then
 *    backward. Segments nest, so that any number of levels is shared.
 *
 * The plan is a function of the batch and the limits alone, so that a replayed step adds its
 * gradients in the same order (I7): nothing is measured here. */
#ifndef TRAINER_BATCH_SPLIT_H
#define TRAINER_BATCH_SPLIT_H

#include "base/columns.h"
#include "trainer/batch/binpack.h"
#include "trainer/batch/microbatch.h"

enum split_mode {
    SPLIT_OFF,      /* no rows are shared */
    SPLIT_PACKED,   /* within a pass only */
    SPLIT_SCHEDULE, /* a segment wherever more is saved than a pass costs, else within a pass */
    SPLIT_AUTO      /* the cheaper of both by the cost model */
};

/* In rows: what a row's matrix products cost is 1. */
struct split_cost {
    double pass; /* one more forward and backward pass */
    double key;  /* attention of one row to one key */
    double last; /* share of a row that a segment without trained tokens saves (keys_only) */
};

struct split_limits {
    enum split_mode mode;
    int32_t rows; /* of live segments and a pass together; of a pass alone with offload */
    int32_t seqs_max, page;
    bool offload;
    struct split_cost cost;
};

enum split_kind { SPLIT_PUSH, SPLIT_WAVE, SPLIT_POP };

struct split_op {
    enum split_kind kind;
    /* PUSH, POP: a segment of rows from .. to-1; order[first .. first+n-1] are the trajectories
     * that read it. WAVE: item[first .. first+n-1], over segments of `from` rows. */
    int32_t first, n, from, to;
};

struct split_unit {
    int32_t a, b, base; /* order[a .. b-1], over segments of base rows */
};

/* Zero-initialised by the owner; memory is kept between plans. */
struct split {
    int32_t n_ops, passes; /* passes: segments and waves */
    struct split_op *op;
    int32_t *order;               /* trajectories in the order of their tokens, those with rows */
    struct microbatch_item *item; /* [n_items] of waves, wave after wave */
    int32_t n_items, n_units;

    /* While planning, by position in order: an entry, and the sums over entries 1 .. of their own
     * rows and sequences; [n_units]: units that are not in a wave yet. */
    struct split_entry *entry;
    int64_t *rows_before, *seqs_before;
    struct split_unit *unit;
    int32_t *unit_rows, *unit_seqs;
    struct binpack pack;
    struct columns memory; /* of all but op */
    size_t op_cap;
};

/* rows[i]: rows of trajectory i on its own, 0 leaves it out. A wave has at most limits.rows rows
 * less those of the segments under it (one trajectory alone may have more without segments), and at
 * most seqs_max sequences. */
void split_make(struct split *p, const struct batch *b, const int32_t *rows,
                const struct split_limits *l);
void split_close(struct split *p);

#endif
