/* inputs.c - inputs of recomputed layers that wait in host memory (offload_inputs).
 *
 * Of a recomputed layer its input is all that stays until the backward pass. Here two of these stay
 * on the device, layer l's in buffer l % 2; each goes to the host on a stream of its own while its
 * layer computes, and comes back one layer ahead of its backward pass. A stream waits for all that
 * the other was given so far, so the order of calls is the schedule: a layer's input is waited for
 * before the next one is asked for, and its buffer is not written before it has left.
 *
 * Rows lie on the host where they lie in the activations (base), so those of segments stay valid
 * whatever passes come between. */
#include "actor/inputs.h"

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

int inputs_open(struct actor_inputs *in, const struct actor_pass *pass) {
    void *host = NULL;
    in->pass = pass;
    inputs_forget(in);
    if (!inputs_wait(pass->cfg)) return 0;
    TRY(err_wrap(kern_alloc_host(pass->b, &host, inputs_bytes(pass->cfg)), "inputs of layers"));
    in->host = host;
    return kern_stream_open(pass->b, &in->mover, 0);
}

void inputs_close(struct actor_inputs *in) {
    if (!in->pass) return;
    kern_stream_close(in->pass->b, in->mover);
    kern_release_host(in->pass->b, in->host);
}

static bool is_moved(const struct actor_inputs *in, int32_t l) {
    return in->mover && l >= 0 && l < in->pass->cfg->recompute;
}

static char *host_rows(const struct actor_inputs *in, int32_t l) {
    const struct actor_config *cfg = in->pass->cfg;
    ASSERT(in->pass->base + in->pass->n <= cfg->rows_max);
    size_t row = (size_t)l * (size_t)cfg->rows_max + (size_t)in->pass->base;
    return in->host + row * row_bytes(cfg);
}

static size_t pass_bytes(const struct actor_inputs *in) {
    return (size_t)in->pass->n * row_bytes(in->pass->cfg);
}

int inputs_settle(const struct actor_inputs *in, int32_t l) {
    return is_moved(in, l) ? kern_after(in->pass->b, in->pass->s, in->mover) : 0;
}

int inputs_save(struct actor_inputs *in, int32_t l, const void *x) {
    if (!is_moved(in, l)) return 0;
    in->resident[l % 2] = l;
    TRY(kern_after(in->pass->b, in->mover, in->pass->s));
    return kern_get(in->pass->b, in->mover, host_rows(in, l), x, pass_bytes(in));
}

int inputs_fetch(struct actor_inputs *in, int32_t l, void *x) {
    if (!is_moved(in, l) || in->resident[l % 2] == l) return 0;
    in->resident[l % 2] = l;
    TRY(kern_after(in->pass->b, in->mover, in->pass->s));
    return kern_put(in->pass->b, in->mover, x, host_rows(in, l), pass_bytes(in));
}

void inputs_forget(struct actor_inputs *in) {
    in->resident[0] = in->resident[1] = -1;
}

int inputs_exchange(struct actor_inputs *in, int32_t l, void *other, size_t bytes, bool save) {
    ASSERT(is_moved(in, l) && bytes == pass_bytes(in));
    TRY(kern_sync(in->pass->b, in->pass->s)); /* may still move a segment from or to `other` */
    TRY(kern_sync(in->pass->b, in->mover));
    memcpy(save ? other : host_rows(in, l), save ? host_rows(in, l) : other, bytes);
    return 0;
}
