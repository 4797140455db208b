/* algebra_impl.h - the normal form of algebra.h's values, for the files that compute on it: a value
 * is num/den, both polynomials; a term is a rational times powers of atoms. */
#ifndef REWARD_MATH_ALGEBRA_IMPL_H
#define REWARD_MATH_ALGEBRA_IMPL_H

#include "reward/math/algebra.h"

enum {
    TERMS_MAX = 64,  /* of a polynomial */
    FACTORS_MAX = 8, /* of a term */
    ATOMS_MAX = 64   /* of a comparison */
};

enum atom_kind { ATOM_PRIME, ATOM_I, ATOM_SYMBOL, ATOM_FUNC };

struct atom {
    enum atom_kind kind;
    uint64_t prime;
    const char *name;
    size_t name_bytes;
    const struct algebra_value *a, *b;
};

struct factor { /* atom ^ (num / den), reduced, den > 0, num != 0 */
    int32_t atom, num, den;
};

struct term {
    struct rational c;
    int32_t n;
    struct factor f[FACTORS_MAX];
};

struct poly {
    size_t n;
    struct term *t;
};

struct algebra_value {
    struct poly num, den; /* den is never zero */
};

struct algebra {
    struct arena *arena;
    int32_t n_atoms;
    int64_t budget;      /* term operations left */
    int64_t evaluations; /* of factors by numbers, left */
    struct atom atom[ATOMS_MAX];
};

#endif
