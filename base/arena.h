/* arena.h - a bump allocator for things that die together: one message, one parsed document. Not
 * thread-safe. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena; /* opaque; not thread-safe */
struct arena *arena_open(size_t chunk_bytes);
void arena_close(struct arena **a);
void arena_reset(struct arena *a);                /* keeps the first chunk */
void *arena_alloc(struct arena *a, size_t bytes); /* 16-byte aligned, not zeroed, never NULL */
char *arena_strndup(struct arena *a, const char *s, size_t n);
size_t arena_used(const struct arena *a); /* bytes handed out since open or reset */

#endif
