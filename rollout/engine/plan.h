/* plan.h - continuous batching: which sequences run, which rows the next forward has, which pages
 * they use. Knows no tensors; the engine executes what it says. */
#ifndef ROLLOUT_ENGINE_PLAN_H
#define ROLLOUT_ENGINE_PLAN_H

#include "rollout/engine/pages.h"
#include "rollout/engine/seq.h"

struct plan_config {
    int32_t seqs_max, waiting_max;
    int32_t chunk_tokens; /* prefill rows of one step */
    int32_t page, pages;
};

struct plan_item { /* tokens[first .. first+rows-1] of s are the rows of this step */
    struct seq *s;
    int32_t first, rows;
    bool samples; /* the last row gives the next token */
};

struct plan_copy { /* the first keys of pool page src -> dst */
    int32_t src, dst, keys;
};

struct plan_join { /* s draws its first token from the logits of an item's last row */
    struct seq *s;
    int32_t item;
};

struct plan_step {
    const struct plan_item *items;  /* oldest sequence first */
    const struct plan_copy *copies; /* before the forward */
    int32_t n_items, n_copies, n_rows;
};

struct plan_joins {
    const struct plan_join *joins;
    const struct plan_copy *copies; /* before anything else is written to the pool */
    int32_t n_joins, n_copies;
};

struct plan_counts {
    int32_t running, waiting;
    int64_t preemptions, cached_tokens;
};

struct plan; /* opaque; one thread */

struct plan *plan_open(const struct plan_config *cfg);
void plan_close(struct plan **p); /* closes the sequences too */
size_t plan_bytes(const struct plan_config *cfg);

/* Takes the sequence over; ERR_AGAIN when the waiting list is full, ERR_CONFIG when its id is known
 * (then the caller keeps it). */
MUST_CHECK int plan_add_take(struct plan *p, struct seq *s);
/* Ends a sequence in any state; false if there is none of this id. */
bool plan_remove(struct plan *p, uint64_t id);
/* Weights of this version from now on: nothing computed before is shared with anyone new. */
void plan_use(struct plan *p, int64_t version);

/* After a step that failed: nothing in the pool counts, every sequence waits to be computed again.
 */
void plan_restart(struct plan *p);

/* The next forward; valid until the next call. n_items 0: nothing to do. */
void plan_next(struct plan *p, struct plan_step *out);
/* The forward of the step was done: its keys are in the pool. Call before any token is pushed or
 * sequence removed. Those who waited for a prompt that is complete now start running: *out, valid
 * until the next call. */
void plan_done(struct plan *p, const struct plan_step *step, struct plan_joins *out);

void plan_counts(const struct plan *p, struct plan_counts *out);
struct pages *plan_pages(struct plan *p);

#endif
