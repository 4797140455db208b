/* algebra.h - exact values of answers: quotients of sums of terms, a term being a rational number
 * times powers of atoms (variables, pi, i, roots of primes, function values). Enough to know that
 * \frac{1}{\sqrt{2}} is \frac{\sqrt{2}}{2} and (x+1)^2 is x^2+2x+1, without floating point. Equal
 * means equal as formal expressions, with roots of variables taken as positive.
 *
 * Every operation may refuse (too large, division by zero) and then returns NULL; operations accept
 * NULL and hand it on, so a whole expression is checked once at its end. */
#ifndef REWARD_MATH_ALGEBRA_H
#define REWARD_MATH_ALGEBRA_H

#include "base/arena.h"
#include "reward/math/rational.h"

struct algebra;       /* atoms and memory of one comparison: both sides must share it */
struct algebra_value; /* lives as long as the arena */

struct algebra *algebra_init(struct arena *arena);

const struct algebra_value *algebra_number(struct algebra *g, const struct rational *x);
const struct algebra_value *algebra_int(struct algebra *g, int64_t x);
/* "i" is the imaginary unit; every other name is a variable. */
const struct algebra_value *algebra_symbol(struct algebra *g, const char *name, size_t n);
const struct algebra_value *algebra_add(struct algebra *g, const struct algebra_value *a,
                                        const struct algebra_value *b);
const struct algebra_value *algebra_mul(struct algebra *g, const struct algebra_value *a,
                                        const struct algebra_value *b);
const struct algebra_value *algebra_div(struct algebra *g, const struct algebra_value *a,
                                        const struct algebra_value *b);
const struct algebra_value *algebra_neg(struct algebra *g, const struct algebra_value *a);
/* Roots are powers 1/n; odd roots of negative numbers are real, square roots imaginary. */
const struct algebra_value *algebra_pow(struct algebra *g, const struct algebra_value *base,
                                        const struct algebra_value *exponent);
/* name(a) or name(a, b), b may be NULL: known only by being equal to itself. */
const struct algebra_value *algebra_func(struct algebra *g, const char *name,
                                         const struct algebra_value *a,
                                         const struct algebra_value *b);

/* 1 equal, 0 not equal, -1 too large to tell. */
int algebra_equal(struct algebra *g, const struct algebra_value *a, const struct algebra_value *b);
bool algebra_is_rational(struct rational *out, const struct algebra_value *a);
/* Of a and -a one is negative in this sense (unless both are 0): by the sign of its first term. */
bool algebra_is_negative(const struct algebra_value *a);
/* Exactly this symbol; its name, or NULL. */
const char *algebra_symbol_name(const struct algebra *g, const struct algebra_value *a);
/* a = base ^ exponent with a base that is a symbol, a function's value or a prime; no sum, no
 * product. A power of e comes as that. */
bool algebra_is_power(struct algebra *g, const struct algebra_value *a,
                      const struct algebra_value **base, const struct algebra_value **exponent);
/* Whether a symbol of this name is in a, the arguments of functions included. */
bool algebra_mentions(const struct algebra *g, const struct algebra_value *a, const char *name);
/* No variable and no unknown function in it. */
bool algebra_is_constant(const struct algebra *g, const struct algebra_value *a);
int64_t algebra_gcd(int64_t a, int64_t b); /* >= 0 */

/* Takes work from what a comparison may cost; false when it is used up. For callers that do work of
 * their own. */
bool algebra_spend(struct algebra *g, int64_t work);

/* ---- by numbers (algebra_numeric.c) ---- */

/* As algebra_equal, and where the normal forms differ by numbers: both are evaluated at fixed
 * pseudo-random points with bounds of the rounding error, and equal where they agree within those
 * everywhere. Knows identities of functions and nested roots. Long decimals, and values whose size
 * rounding could hide, do not take part: 1.41421356237 is not \sqrt{2}. */
int algebra_same(struct algebra *g, const struct algebra_value *a, const struct algebra_value *b);
/* a = c * b with a constant c: its sign (2: c is not real); 0: no. */
int algebra_ratio_sign(struct algebra *g, const struct algebra_value *a,
                       const struct algebra_value *b);
bool algebra_function_is_known(const char *name); /* can be evaluated by numbers */
/* The value of a real constant; false if a is none. */
bool algebra_real(double *out, struct algebra *g, const struct algebra_value *a);

#endif
