/* actor_memory.c - see actor_memory.h. */
#include "actor/actor_memory.h"

#include "base/mem.h"

enum { ALIGN = 64 };

static void *carve(struct actor_carve *c, size_t size, int64_t x, int64_t y) {
    size_t n = size;
    ASSERT(c->part && x >= 0 && y >= 0);
    if (!mem_mul(&n, n, (size_t)x) || !mem_mul(&n, n, (size_t)y) || n > SIZE_MAX / 4 ||
        c->used > SIZE_MAX / 4) {
        c->overflow = true;
        return NULL;
    }
    void *p = c->base ? c->base + c->used : NULL;
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    c->used += n;
    *c->part += n;
    return p;
}

void *actor_carve(struct actor_carve *c, int64_t x, int64_t y) {
    return carve(c, c->size, x, y);
}

void *actor_carve_f32(struct actor_carve *c, int64_t x, int64_t y) {
    return carve(c, sizeof(float), x, y);
}
