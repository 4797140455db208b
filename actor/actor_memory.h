/* actor_memory.h - the actor's one slab of backend memory, and how it is carved. Private to actor/.
 *
 * Everything is carved by code that runs twice: without a base, to say how much is needed (the
 * memory plan that a user sees before the start), and with one, to hand out the pieces. So the plan
 * cannot differ from what is taken. */
#ifndef ACTOR_ACTOR_MEMORY_H
#define ACTOR_ACTOR_MEMORY_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct actor_carve {
    char *base;        /* NULL: only counting, every piece is NULL */
    size_t used, size; /* size: of an element of the actor's type */
    size_t *part;      /* of struct actor_plan: what is being taken */
    bool overflow;
};

/* The next x * y elements: of the actor's type; of four bytes (f32, i32). */
void *actor_carve(struct actor_carve *c, int64_t x, int64_t y);
void *actor_carve_f32(struct actor_carve *c, int64_t x, int64_t y);

#endif
