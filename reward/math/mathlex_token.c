/* mathlex_token.c - see mathlex_token.h. */
#include "reward/math/mathlex_token.h"

#include <string.h>

static const char *const functions[] = {
    "sin",     "cos",    "tan",    "cot",    "sec",    "csc",    "arcsin",  "arccos",
    "arctan",  "sinh",   "cosh",   "tanh",   "log",    "ln",     "exp",     "lg",
    "sqrt",    "frac",   "binom",  "gcd",    "lcm",    "max",    "min",     "deg",
    "det",     "arccot", "arcsec", "arccsc", "coth",   "sech",   "csch",    "mod",
    "bmod",    "pmod",   "floor",  "ceil",   "abs",    "sum",    "prod",    "int",
    "lim",     "dbinom", "tbinom", "arsinh", "arcosh", "artanh", "arcsinh", "arccosh",
    "arctanh", "asin",   "acos",   "atan",   "cosec",  "Re",     "Im",      NULL};

bool mathlex_is_function(const char *s, size_t n) {
    for (size_t i = 0; functions[i]; i++)
        if (strlen(functions[i]) == n && memcmp(functions[i], s, n) == 0) return true;
    return false;
}
