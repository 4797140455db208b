/* inputs.h - inputs of recomputed layers that wait in host memory (offload_inputs). Private to
 * actor/.
 *
 * Invariants: mover is NULL, and every function does nothing, unless inputs_wait; layer l's input
 * has one place on the device, buffer l % 2, and resident[l % 2] says whose rows that buffer has or
 * will have when both streams are done. */
#ifndef ACTOR_INPUTS_H
#define ACTOR_INPUTS_H

#include "actor/actor_pass.h"

struct actor_inputs {
    const struct actor_pass *pass; /* whose rows are moved */
    char *host;                    /* [recompute, R, d] */
    struct kern_stream *mover;     /* that moves them; NULL: none */
    int32_t resident[2];           /* layers; -1: none */
};

/* Whether inputs of recomputed layers go to the host, and how many bytes that takes there. */
bool inputs_wait(const struct actor_config *cfg);
size_t inputs_bytes(const struct actor_config *cfg);
MUST_CHECK int inputs_open(struct actor_inputs *in, const struct actor_pass *pass);
void inputs_close(struct actor_inputs *in);
/* What is issued from here on finds layer l's input arrived, and may overwrite it if it was
 * leaving. */
MUST_CHECK int inputs_settle(const struct actor_inputs *in, int32_t l);
/* Layer l's input at x is computed: it may leave. */
MUST_CHECK int inputs_save(struct actor_inputs *in, int32_t l, const void *x);
/* Layer l's input will be wanted at x. */
MUST_CHECK int inputs_fetch(struct actor_inputs *in, int32_t l, void *x);
/* The buffers hold other rows than the newest pass's. */
void inputs_forget(struct actor_inputs *in);
/* Copies bytes of the newest rows between their place on the host and another (save: to it). */
MUST_CHECK int inputs_exchange(struct actor_inputs *in, int32_t l, void *other, size_t bytes,
                               bool save);

#endif
