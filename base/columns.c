/* columns.c - see columns.h. */
#include "base/columns.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>
#include <string.h>

enum { COLUMN_ALIGN = 64 };

static size_t column_bytes(size_t n, size_t size) {
    size_t bytes = 0;
    ASSERT(mem_mul(&bytes, n, size) && bytes < SIZE_MAX / 2);
    return (bytes + COLUMN_ALIGN - 1) / COLUMN_ALIGN * COLUMN_ALIGN;
}

void columns_zero(struct columns *c, size_t n, const struct column *column, size_t n_columns) {
    size_t bytes = 0, at = 0;
    if (n == 0) n = 1; /* no array is NULL */
    for (size_t i = 0; i < n_columns; i++)
        bytes += column_bytes(n, column[i].size);
    if (bytes > c->bytes) {
        size_t twice = 2 * c->bytes;
        mem_free(c->memory);
        c->bytes = bytes > twice ? bytes : twice;
        c->memory = mem_aligned(c->bytes, COLUMN_ALIGN);
    }
    memset(c->memory, 0, bytes);
    for (size_t i = 0; i < n_columns; i++) {
        char *array = (char *)c->memory + at;
        memcpy(column[i].array, &array, sizeof array);
        at += column_bytes(n, column[i].size);
    }
    ASSERT(at == bytes);
}

void columns_free(struct columns *c) {
    mem_free(c->memory);
    *c = (struct columns){0};
}
