/* verify_spec.h - a recipe's reward list as verifier specs. */
#ifndef REWARD_VERIFY_VERIFY_SPEC_H
#define REWARD_VERIFY_VERIFY_SPEC_H

#include "base/err.h"
#include "proto/recipe/recipe.h"
#include "reward/verify/verify.h"

/* Compiles r's reward list; the recipe may go away afterwards. ERR_CONFIG if the list is empty or
 * an entry is wrong. */
MUST_CHECK int verify_spec_open(struct verify **out, const struct recipe *r);

#endif
