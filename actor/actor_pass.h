/* actor_pass.h - the newest forward pass: its batch on the device, and where its rows and keys lie.
 * Private to actor/.
 *
 * Invariants (actor_pass_check):
 * - n is 0 as long as no forward is valid, else base + n <= rows_max and n_seqs <= n.
 * - whole (its activations are all there, unused) only in training, only with n > 0, and not of a
 *   segment.
 * - base rows of the activations and keys slots of the pool belong to live segments; base is 0
 *   where segments wait in host memory; both are 0 without segments.
 * - staged: meta_host may still be read by a transfer, so it is not written before a wait. */
#ifndef ACTOR_ACTOR_PASS_H
#define ACTOR_ACTOR_PASS_H

#include "actor/actor_memory.h"
#include "actor/actor_types.h"

struct actor_pass {
    const struct actor_config *cfg; /* the actor's own copy */
    const struct kern_backend *b;
    struct kern_stream *s;

    void *meta;         /* i32: the batch's arrays */
    int32_t *meta_host; /* [meta_elements] */
    bool staged;
    int64_t waits;
    uint8_t *slot_mark; /* train: [pages * page]: slots that have a row of the backward pass */
    struct kern_tensor cos, sin; /* [context, D/2] of the rotation */

    int32_t base, keys; /* rows and slots of live segments: the pass's own are behind them */

    int32_t n, n_seqs; /* rows, sequences */
    int32_t slot0;     /* slot of the first row */
    int32_t slots;     /* backward: slots below this one take part */
    bool whole;        /* a backward pass may follow */
    bool keys_only;    /* its last layer ended with keys and values */
    bool is_segment;   /* loaded again for the backward pass of the newest segment */
    struct kern_tensor ids, pos, slot;
    struct kern_attn attn;
};

/* Carves the batch's arrays and the tables of the rotation. */
void actor_pass_carve(struct actor_pass *p, struct actor_carve *c, const struct actor_config *cfg);
/* p: zeroed but for cfg, b, s and what was carved. */
MUST_CHECK int actor_pass_open(struct actor_pass *p);
void actor_pass_close(struct actor_pass *p);

/* Forgets the newest forward. */
static inline void actor_pass_reset(struct actor_pass *p) {
    p->n = 0;
    p->whole = p->is_segment = false;
}
void actor_pass_check(const struct actor_pass *p);

/* What an op may rely on; ERR_CONFIG names the field that is out of range. */
MUST_CHECK int actor_pass_check_batch(const struct actor_pass *p, const struct actor_batch *b);
/* Checks a batch, sends it to the device and makes it the newest. */
MUST_CHECK int actor_pass_load(struct actor_pass *p, const struct actor_batch *b);
/* The same of a batch of one row a sequence that lies at these places already. */
MUST_CHECK int actor_pass_load_at(struct actor_pass *p, const struct actor_batch *b,
                                  const struct actor_places *at);
/* What a backward pass of b may rely on: every row has a place of its own in the pool, and every
 * key that is read lies in one of them or in a segment. */
MUST_CHECK int actor_pass_check_keys(struct actor_pass *p, const struct actor_batch *b);
MUST_CHECK int actor_pass_wait(struct actor_pass *p);

/* Its rows of an array of the actor's type: [n, width]. */
static inline struct kern_tensor actor_pass_rows(const struct actor_pass *p, void *x,
                                                 int64_t width) {
    return kern_view2(x, actor_type(p->cfg), p->n, width);
}

#endif
