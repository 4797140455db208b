/* statement.h - what a response says its answer is, in words: a statement ("the answer is 7"), or
 * what its last sentences come to. */
#ifndef REWARD_VERIFY_STATEMENT_H
#define REWARD_VERIFY_STATEMENT_H

#include "reward/verify/prose.h"

/* The token where the last answer that the text states begins ("the answer is", "Answer:", in the
 * languages that models use, maybe on the next line), p->n if none is: "the answer is not 7" states
 * none. */
size_t statement_begin(const struct prose *p);
/* Whether the tokens before t deny it: "not 7", "rather than 7", "isn't equal to 7". */
bool statement_denied(const struct prose *p, size_t t);
/* Whether the Chinese word denies what follows it: it ends in "is not", "do not choose". */
bool statement_wide_denial(const struct prose_token *t);

/* The answer that the text states or comes to, NULL if it says none: a formula as what it comes to,
 * or words. */
const char *statement_answer(struct arena *arena, const struct prose *p);

#endif
