/* mathmeasure.h - units of measure among tokens: how many tokens one takes. The tokens are those
 * that mathlex cuts, with an END behind them. */
#ifndef REWARD_MATH_MATHMEASURE_H
#define REWARD_MATH_MATHMEASURE_H

#include "reward/math/mathlex_token.h"

/* Tokens of a unit at t, 0 if there is none: "km", "kg m^2 / s^2", "miles per hour",
 * \frac{m}{s}, with powers. letters: it may begin with one bare letter ("s" behind "/"). */
size_t mathmeasure_length(const struct mathlex_token *t, bool letters);
/* Tokens of a quotient or product of bare letters behind a blank, "5 m/s", "5 N \cdot m"; 0 if what
 * stands there may as well be of variables. */
size_t mathmeasure_letters(const struct mathlex_token *t);
/* Whether the TEXT t alone is a unit, by its name and how it is written. */
bool mathmeasure_is_unit(const struct mathlex_token *t);
/* Tokens of a unit of which a part is a command: \mu m, k\Omega, \AA; 0 for none. */
size_t mathmeasure_special(const struct mathlex_token *t);
/* Tokens of words in brackets behind a value, "(apples)", "(exact)", with the brackets; 0 if they
 * are none, or do something to the value. */
size_t mathmeasure_remark(const struct mathlex_token *t);
/* Tokens of a power, "^2", "^-1" or "^{-2}", at t; 0 for none. */
size_t mathmeasure_exponent(const struct mathlex_token *t);

#endif
