/* inputs.c - inputs of recomputed layers that wait in host memory (offload_inputs).
 *
 * Of a recomputed layer its input is all that stays until the reverse. Here two of these stay on
 * the device, layer l's in buffer l % 2; each goes to the host on a stream of its own while its
 * layer computes, and comes back one layer ahead of its reverse. A stream waits for all that the
 * other was given so far, so the order of calls is the schedule: a layer's input is waited for
 * before the next one is asked for, and its buffer is not written before it has left.
 *
 * Rows lie on the host where they lie in the activations (base), so those of frames stay valid
 * whatever passes come between. */
#include "actor/inputs.h"

#include "actor/actor_impl.h"

#include <string.h>

bool inputs_wait(const struct actor_config *cfg) {
    return cfg->train && cfg->offload_inputs && cfg->recompute > 2;
}

static size_t row_bytes(const struct actor_config *cfg) {
    return (size_t)cfg->shape.d * actor_size(cfg);
}

size_t inputs_bytes(const struct actor_config *cfg) {
    if (!inputs_wait(cfg)) return 0;
    return (size_t)cfg->recompute * (size_t)cfg->rows_max * row_bytes(cfg);
}

int inputs_open(struct actor *a) {
    void *host = NULL;
    if (!inputs_wait(&a->cfg)) return 0;
    TRY(err_wrap(kern_alloc_host(a->b, &host, inputs_bytes(&a->cfg)), "inputs of layers"));
    a->inputs = host;
    return kern_stream_open(a->b, &a->mover, 0);
}

void inputs_close(struct actor *a) {
    kern_stream_close(a->b, a->mover);
    kern_release_host(a->b, a->inputs);
}

static bool has(const struct actor *a, int32_t l) {
    return a->mover && l >= 0 && l < a->cfg.recompute;
}

static char *host_rows(const struct actor *a, int32_t l) {
    size_t row = (size_t)l * (size_t)a->cfg.rows_max + (size_t)a->base;
    return a->inputs + row * row_bytes(&a->cfg);
}

int inputs_settle(struct actor *a, int32_t l) {
    return has(a, l) ? kern_after(a->b, a->s, a->mover) : 0;
}

int inputs_save(struct actor *a, int32_t l) {
    if (!has(a, l)) return 0;
    size_t bytes = (size_t)a->n * row_bytes(&a->cfg);
    a->resident[l % 2] = l;
    TRY(kern_after(a->b, a->mover, a->s));
    return kern_get(a->b, a->mover, host_rows(a, l), actor_acts_at(a, l).x0, bytes);
}

int inputs_fetch(struct actor *a, int32_t l) {
    if (!has(a, l) || a->resident[l % 2] == l) return 0;
    size_t bytes = (size_t)a->n * row_bytes(&a->cfg);
    a->resident[l % 2] = l;
    TRY(kern_after(a->b, a->mover, a->s));
    return kern_put(a->b, a->mover, actor_acts_at(a, l).x0, host_rows(a, l), bytes);
}

void inputs_forget(struct actor *a) {
    a->resident[0] = a->resident[1] = -1;
}

int inputs_exchange(struct actor *a, int32_t l, void *other, size_t bytes, bool save) {
    ASSERT(has(a, l));
    TRY(kern_sync(a->b, a->s)); /* may still move a frame from or to `other` */
    TRY(kern_sync(a->b, a->mover));
    memcpy(save ? other : host_rows(a, l), save ? host_rows(a, l) : other, bytes);
    return 0;
}
