/* arena.c - see arena.h. Chunks are never moved, so pointers stay valid until reset or close. A
 * request larger than a chunk gets one of its own; the rest of the chunk before is given up, which
 * is bounded by one chunk for each large request. reset keeps the first chunk: a parser that is
 * used for every message settles at no allocation at all. */
#include "base/arena.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>
#include <string.h>

struct arena_chunk {
    struct arena_chunk *prev;
    size_t cap, used;
    _Alignas(16) unsigned char data[];
};

struct arena {
    struct arena_chunk *top;
    size_t chunk_bytes, used;
};

static struct arena_chunk *chunk_new(struct arena_chunk *prev, size_t cap) {
    struct arena_chunk *c = mem_alloc(sizeof *c + cap);
    c->prev = prev;
    c->cap = cap;
    c->used = 0;
    return c;
}

struct arena *arena_open(size_t chunk_bytes) {
    struct arena *a = mem_zalloc(sizeof *a);
    a->chunk_bytes = chunk_bytes;
    a->top = chunk_new(NULL, chunk_bytes);
    return a;
}

void arena_close(struct arena **a) {
    if (!*a) return;
    for (struct arena_chunk *c = (*a)->top; c;) {
        struct arena_chunk *prev = c->prev;
        mem_free(c);
        c = prev;
    }
    mem_free(*a);
    *a = NULL;
}

void arena_reset(struct arena *a) {
    while (a->top->prev) {
        struct arena_chunk *prev = a->top->prev;
        mem_free(a->top);
        a->top = prev;
    }
    a->top->used = 0;
    a->used = 0;
}

void *arena_alloc(struct arena *a, size_t bytes) {
    ASSERT(bytes < SIZE_MAX / 4);
    size_t need = (bytes + 15) & ~(size_t)15;
    if (need > a->top->cap - a->top->used) {
        size_t cap = need > a->chunk_bytes ? need : a->chunk_bytes;
        a->top = chunk_new(a->top, cap);
    }
    void *p = a->top->data + a->top->used;
    a->top->used += need;
    a->used += bytes;
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n) {
    char *copy = arena_alloc(a, n + 1);
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

size_t arena_used(const struct arena *a) {
    return a->used;
}
