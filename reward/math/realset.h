/* realset.h - sets of real numbers as answers write them: (1, 2], 1 < x \le 2, x \ne 0, \mathbb{R},
 * \{x \mid x > 2\}, unions, differences. All of them become sorted pieces, so that different ways
 * to write one set are equal. */
#ifndef REWARD_MATH_REALSET_H
#define REWARD_MATH_REALSET_H

#include "reward/math/mathparse.h"

enum { REALSET_PIECES = 32 };

struct realset_end {
    const struct algebra_value *value; /* NULL: infinite */
    double at;                         /* NAN: not known as a number (a variable) */
    bool closed;
};

struct realset {
    size_t n; /* 0: the empty set */
    struct {
        struct realset_end low, high;
    } piece[REALSET_PIECES];
    const char *variable; /* of x > 2, where the set was written as a condition; or NULL */
};

/* false if n does not describe a set of real numbers. */
bool realset_read(struct realset *out, struct algebra *g, const struct mathparse_node *n);
bool realset_equal(struct algebra *g, const struct realset *a, const struct realset *b);

#endif
