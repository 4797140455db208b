/* mathlex.h - a written answer to its tokens. LaTeX spacing, dollar signs, currencies and units are
 * dropped here; different spellings become one. */
#ifndef REWARD_MATH_MATHLEX_H
#define REWARD_MATH_MATHLEX_H

#include "base/arena.h"
#include "reward/math/mathlex_token.h"

/* The tokens of text and an END, with Unicode folded (mathfold), looks left out (mathlooks) and
 * words understood (mathphrase): units and nouns behind a value, and announcements in front of one,
 * are gone; other words are SYMBOLs of their own. commas: 1,234 is one number outside brackets.
 * Returns how many, with the END; 0 if the text is too long or holds what no answer holds.
 * *only_words: there was nothing else. Tokens point into arena. */
size_t mathlex_read(struct mathlex_token out[MATHLEX_TOKENS], bool *only_words, const char *text,
                    bool commas, struct arena *arena);

#endif
