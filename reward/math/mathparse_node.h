/* mathparse_node.h - a structure of exact values: 5, (1, 2], {1, 2}, x = 3, a matrix. */
#ifndef REWARD_MATH_MATHPARSE_NODE_H
#define REWARD_MATH_MATHPARSE_NODE_H

#include "reward/math/algebra.h"

enum mathparse_kind {
    MATHPARSE_VALUE,
    MATHPARSE_TEXT,     /* words only */
    MATHPARSE_LIST,     /* a, b: order does not matter */
    MATHPARSE_SET,      /* {a, b} */
    MATHPARSE_BUILDER,  /* {a | b, c}: items a and then the conditions */
    MATHPARSE_TUPLE,    /* (a, b), [a, b): tuples and intervals */
    MATHPARSE_UNION,    /* a \cup b */
    MATHPARSE_PAIR,     /* a \cap b, a \setminus b: op[0] says which */
    MATHPARSE_RELATION, /* a = b, a < b <= c, a \in b */
    MATHPARSE_MATRIX    /* n items, row by row */
};

/* The left side of a relation that is written without one: ">= 5". */
#define MATHPARSE_ASKED " "

enum { MATHPARSE_ITEMS = 64, MATHPARSE_OPS = 8 };

struct mathparse_node {
    enum mathparse_kind kind;
    bool percent;           /* VALUE: written with % */
    char noon;              /* VALUE: 'a' with "a.m.", 'p' with "p.m." */
    bool named;             /* RELATION: begins with a name: x, f(x), |AB|, dy/dx */
    bool named_last;        /* RELATION: ends with a name */
    bool names;             /* RELATION: begins with a sum of letters */
    char open, close;       /* TUPLE: brackets. MATRIX: open is the first letter of its kind */
    char joint;             /* LIST: 'a' or 'o' where "and" or "or" separates items */
    char op[MATHPARSE_OPS]; /* RELATION: between item i and i + 1 */
    size_t n, cols;         /* items; MATRIX: columns */
    const struct algebra_value *value; /* VALUE */
    const struct mathparse_node **item;
};

#endif
