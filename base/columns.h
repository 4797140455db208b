/* columns.h - arrays of one length in one allocation: the columns of a table. */
#ifndef BASE_COLUMNS_H
#define BASE_COLUMNS_H

#include <stddef.h>

struct columns { /* zero-initialised by the owner of the table */
    void *memory;
    size_t bytes;
};

struct column {
    void *array; /* address of the pointer to its elements */
    size_t size; /* of an element */
};
#define COLUMN(pointer)                                                                            \
    { &(pointer), sizeof *(pointer) }

/* Points each array at n zeroed elements of its own, aligned to a cache line. What the arrays held
 * before is gone; the memory grows by doubling and is used again. */
void columns_zero(struct columns *c, size_t n, const struct column *column, size_t n_columns);
void columns_free(struct columns *c); /* the arrays are gone with it */

#endif
