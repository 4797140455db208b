/* mathreader.h - the reader behind mathparse: its state, and the files that share it. mathreader.c
 * moves over tokens, mathreader_sum.c reads what signs join, mathreader_atom.c what stands between
 * them. */
#ifndef REWARD_MATH_MATHREADER_H
#define REWARD_MATH_MATHREADER_H

#include "base/arena.h"
#include "reward/math/mathlex_token.h"
#include "reward/math/mathparse_node.h"

enum { MATHREADER_DEPTH = 60 };

struct mathreader {
    struct algebra *g;
    struct arena *arena;
    struct mathlex_token *at;
    int depth, bars;
    int angle;     /* > 0: inside an argument of a trigonometric function: degrees count */
    int steps;     /* atoms that may still be read: what is read again counts again */
    bool no_bar;   /* a bar ends the head of a set: {x | ...} */
    bool infinite; /* \infty was read somewhere */
    bool ordered;  /* the side of an inequality: \cup joins the next one (x < 1 \cup x > 2) */
    bool plus_minus, minus_first;
    bool percent;                      /* seen in the value being read */
    char noon;                         /* likewise: 'a' or 'p' of a time of day */
    const struct mathlex_token *bound; /* the variable of the finite sum being added up, or NULL */
    int64_t bound_value;
};

/* A place to go back to. Reading takes digits out of tokens (\frac12), so the tokens are kept. */
struct mathreader_mark {
    struct mathlex_token *at, *copy;
    size_t n;
};
struct mathreader_mark mathreader_mark(struct mathreader *r);
void mathreader_rewind(struct mathreader *r, const struct mathreader_mark *m);

bool mathreader_is(const struct mathreader *r, char punct); /* the next token is this sign */
bool mathreader_accept(struct mathreader *r, char punct);   /* reads it if it is */
bool mathreader_is_name(const struct mathlex_token *t, const char *name);
bool mathreader_is_command(const struct mathreader *r, const char *name);

struct mathparse_node *mathreader_new(struct mathreader *r, enum mathparse_kind kind);
const struct mathparse_node *mathreader_value(struct mathreader *r, const struct algebra_value *v);
/* The value that arithmetic applies to; NULL for what is none. */
const struct algebra_value *mathreader_value_of(const struct mathparse_node *n);
/* false, with nothing added, if item is NULL or there is no room. */
bool mathreader_add(struct mathreader *r, struct mathparse_node *n,
                    const struct mathparse_node *item);
/* Infinity takes part in nothing but a change of sign: false for what mentions it. */
bool mathreader_is_finite(const struct mathreader *r, const struct algebra_value *a);
/* What from..to says, as a name that is only equal to the same tokens. */
const struct algebra_value *mathreader_opaque(struct mathreader *r, const char *kind,
                                              const struct mathlex_token *from,
                                              const struct mathlex_token *to);

/* mathreader_sum.c; all of them return NULL for what is not understood. */
const struct mathparse_node *mathreader_relation(struct mathreader *r);
const struct mathparse_node *mathreader_sum(struct mathreader *r);
const struct mathparse_node *mathreader_product(struct mathreader *r);
const struct mathparse_node *mathreader_power(struct mathreader *r);
/* A comma, a semicolon, the word "and" or "or", or a comma and a word; the word is kept in
 * n->joint. */
bool mathreader_separator(struct mathreader *r, struct mathparse_node *n);
/* Relations up to one of the closing signs, which is read and kept in n->close. */
bool mathreader_items(struct mathreader *r, struct mathparse_node *n, const char *closing);

/* mathreader_atom.c */
const struct mathparse_node *mathreader_atom(struct mathreader *r);
const struct algebra_value *mathreader_exponent(struct mathreader *r);
/* The argument of a command: a group, or one token; of a number only one digit if by_digit. */
const struct algebra_value *mathreader_argument(struct mathreader *r, bool by_digit);

#endif
