/* columns_test.c - the columns of a table do not overlap, are zero and aligned at every length. */
#include "base/columns.h"

#include "tests/test.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct table {
    double *d;
    char *c;
    int32_t *i;
    struct columns memory;
};

static void open_table(struct table *t, size_t n) {
    const struct column columns[] = {COLUMN(t->d), COLUMN(t->c), COLUMN(t->i)};
    columns_zero(&t->memory, n, columns, 3);
}

static bool is_zero(const void *p, size_t bytes) {
    const char *c = p;
    for (size_t i = 0; i < bytes; i++)
        if (c[i] != 0) return false;
    return true;
}

static bool is_aligned(const void *p) {
    return (uintptr_t)p % 64 == 0;
}

TEST(columns_are_apart_and_zero) {
    static const size_t lengths[] = {3, 0, 1, 64, 1000, 7};
    struct table t = {0};
    for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
        size_t n = lengths[k];
        open_table(&t, n);
        CHECK(t.d && t.c && t.i && is_aligned(t.d) && is_aligned(t.c) && is_aligned(t.i));
        CHECK(is_zero(t.d, n * sizeof *t.d) && is_zero(t.c, n) && is_zero(t.i, n * sizeof *t.i));
        memset(t.d, 1, n * sizeof *t.d);
        CHECK(is_zero(t.c, n) && is_zero(t.i, n * sizeof *t.i));
        memset(t.c, 2, n);
        memset(t.i, 3, n * sizeof *t.i);
        for (size_t i = 0; i < n * sizeof *t.d; i++)
            CHECK(((const char *)t.d)[i] == 1);
        for (size_t i = 0; i < n; i++)
            CHECK(t.c[i] == 2);
    }
    columns_free(&t.memory);
    CHECK(!t.memory.memory && t.memory.bytes == 0);
}
