/* mathfunc.h - functions of exact values, with their values where those are exact too: 5! is 120,
 * \log_2 8 is 3, \gcd(4,6) is 2. Everything else is a function value equal to itself
 * (algebra_func). NULL arguments are handed on. */
#ifndef REWARD_MATH_MATHFUNC_H
#define REWARD_MATH_MATHFUNC_H

#include "reward/math/algebra.h"

/* name(arg[0], ..., arg[n - 1]), n >= 1; base: of log, or NULL (then 10). */
const struct algebra_value *mathfunc_apply(struct algebra *g, const char *name,
                                           const struct algebra_value *const *arg, size_t n,
                                           const struct algebra_value *base);
/* a mod b where both are integers, else the function value. */
const struct algebra_value *mathfunc_mod(struct algebra *g, const struct algebra_value *a,
                                         const struct algebra_value *b);

#endif
