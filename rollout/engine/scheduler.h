/* scheduler.h - continuous batching: which sequences run, which rows the next forward has, which
 * pages they use. Knows no tensors; the engine executes what it says. */
#ifndef ROLLOUT_ENGINE_SCHEDULER_H
#define ROLLOUT_ENGINE_SCHEDULER_H

#include "rollout/engine/pages.h"
#include "rollout/engine/seq.h"

struct scheduler_config {
    int32_t seqs_max, waiting_max;
    int32_t chunk_tokens; /* prefill rows of one step */
    int32_t page, pages;
};

struct scheduler_item { /* tokens[first .. first+rows-1] of s are the rows of this step */
    struct seq *s;
    int32_t first, rows;
    bool samples; /* the last row gives the next token */
};

struct scheduler_copy { /* the first keys of pool page src -> dst */
    int32_t src, dst, keys;
};

struct scheduler_join { /* s draws its first token from the logits of an item's last row */
    struct seq *s;
    int32_t item;
};

struct scheduler_step {
    const struct scheduler_item *items;  /* oldest sequence first */
    const struct scheduler_copy *copies; /* before the forward */
    int32_t n_items, n_copies, n_rows;
};

struct scheduler_joins {
    const struct scheduler_join *joins;
    const struct scheduler_copy *copies; /* before anything else is written to the pool */
    int32_t n_joins, n_copies;
};

struct scheduler_counts {
    int32_t running, waiting;
    int64_t preemptions, cached_tokens;
};

struct scheduler; /* opaque; one thread */

struct scheduler *scheduler_open(const struct scheduler_config *cfg);
void scheduler_close(struct scheduler **p); /* closes the sequences too */
size_t scheduler_bytes(const struct scheduler_config *cfg);

/* Takes the sequence over; ERR_AGAIN when the waiting list is full, ERR_CONFIG when its id is known
 * (then the caller keeps it). */
MUST_CHECK int scheduler_add_take(struct scheduler *p, struct seq *s);
/* Ends a sequence in any state; false if there is none of this id. */
bool scheduler_remove(struct scheduler *p, uint64_t id);
/* Weights of this version from now on: nothing computed before is shared with anyone new. */
void scheduler_use(struct scheduler *p, int64_t version);

/* After a step that failed: nothing in the pool counts, every sequence waits to be computed again.
 */
void scheduler_restart(struct scheduler *p);

/* The next forward; valid until the next call. n_items 0: nothing to do. */
void scheduler_next(struct scheduler *p, struct scheduler_step *out);
/* The forward of the step was done: its keys are in the pool. Call before any token is pushed or
 * sequence removed. Those who waited for a prompt that is complete now start running: *out, valid
 * until the next call. */
void scheduler_done(struct scheduler *p, const struct scheduler_step *step,
                    struct scheduler_joins *out);

void scheduler_counts(const struct scheduler *p, struct scheduler_counts *out);
struct pages *scheduler_pages(struct scheduler *p);

#endif
