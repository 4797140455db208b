/* mathlex_token.c - see mathlex_token.h. */
#include "reward/math/mathlex_token.h"

#include "base/words.h"

#include <strings.h>

static const char *const functions[] = {
    "sin",     "cos",    "tan",    "cot",    "sec",    "csc",    "arcsin",  "arccos",
    "arctan",  "sinh",   "cosh",   "tanh",   "log",    "ln",     "exp",     "lg",
    "sqrt",    "frac",   "binom",  "gcd",    "lcm",    "max",    "min",     "deg",
    "det",     "arccot", "arcsec", "arccsc", "coth",   "sech",   "csch",    "mod",
    "bmod",    "pmod",   "floor",  "ceil",   "abs",    "sum",    "prod",    "int",
    "lim",     "dbinom", "tbinom", "arsinh", "arcosh", "artanh", "arcsinh", "arccosh",
    "arctanh", "asin",   "acos",   "atan",   "cosec",  "Re",     "Im",      NULL};

bool mathlex_is_function(const char *s, size_t n) {
    return words_have(functions, s, n);
}

bool mathlex_is(const struct mathlex_token *t, char punct) {
    return t->kind == MATHLEX_PUNCT && t->punct == punct;
}

bool mathlex_says(const struct mathlex_token *t, const char *name) {
    return strlen(name) == t->n && strncasecmp(t->s, name, t->n) == 0;
}

char mathlex_mirrored(char relation) {
    switch (relation) {
    case '<': return '>';
    case '>': return '<';
    case MATHLEX_LE: return MATHLEX_GE;
    case MATHLEX_GE: return MATHLEX_LE;
    default: return relation;
    }
}
