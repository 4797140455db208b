/* mathphrase.h - words among the signs of an answer: what they change is turned into signs, what
 * they only say is left out, and what is not understood makes the answer unreadable. */
#ifndef REWARD_MATH_MATHPHRASE_H
#define REWARD_MATH_MATHPHRASE_H

#include "base/arena.h"
#include "reward/math/mathlex_token.h"

enum mathphrase_result {
    MATHPHRASE_READ,
    MATHPHRASE_WORDS,     /* nothing but words */
    MATHPHRASE_UNREADABLE /* words that change a value in a way that is not known */
};

/* raw[0..n) and END tokens behind them, as mathlex cuts them, with TEXT for runs of letters and
 * words. out: what mathparse reads, with END tokens behind it; *m: how many, without those. Numbers
 * that were words are in arena. */
enum mathphrase_result mathphrase_resolve(struct mathlex_token out[MATHLEX_TOKENS], size_t *m,
                                          struct mathlex_token *raw, size_t n, struct arena *arena);

#endif
