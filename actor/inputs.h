/* inputs.h - inputs of recomputed layers that wait in host memory. Private to actor/. */
#ifndef ACTOR_INPUTS_H
#define ACTOR_INPUTS_H

#include "actor/actor.h"

/* Layer l keeps its input only. */
static inline bool actor_recomputes(const struct actor_config *cfg, int32_t l) {
    return cfg->train && l < cfg->recompute;
}

/* inputs_wait: inputs of recomputed layers go to the host. settle: what is issued from
 * here on finds layer l's input arrived, and may overwrite it if it was leaving. save: the input is
 * computed; fetch: it will be wanted. forget: the buffers hold other rows. exchange: bytes of the
 * newest rows between their place on the host and another. All but the first three do nothing
 * without offload_inputs, or for layers that are not recomputed. */
bool inputs_wait(const struct actor_config *cfg);
size_t inputs_bytes(const struct actor_config *cfg);
MUST_CHECK int inputs_open(struct actor *a);
void inputs_close(struct actor *a);
MUST_CHECK int inputs_settle(struct actor *a, int32_t l);
MUST_CHECK int inputs_save(struct actor *a, int32_t l);
MUST_CHECK int inputs_fetch(struct actor *a, int32_t l);
void inputs_forget(struct actor *a);
MUST_CHECK int inputs_exchange(struct actor *a, int32_t l, void *other, size_t bytes, bool save);

#endif
