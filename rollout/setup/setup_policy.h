/* setup_policy.h - the policy, its chat format and the data sets that a recipe asks for. actor/
 * knows no recipes; this is the one place between. */
#ifndef ROLLOUT_SETUP_SETUP_POLICY_H
#define ROLLOUT_SETUP_SETUP_POLICY_H

#include "actor/policy.h"
#include "actor/text/dataset.h"
#include "proto/recipe/recipe.h"

/* The chat format with the recipe's arguments, and the policy with it; dir NULL: the recipe's. */
MUST_CHECK int setup_chat(enum chat_format *out, const struct recipe *r, const char *dir);
MUST_CHECK int setup_policy(struct policy *out, const struct recipe *r, const char *dir);

/* section: "data.train", for the error of a missing path. seed: the recipe's. */
MUST_CHECK int setup_dataset(struct dataset **out, const struct recipe_data *d, const char *section,
                             uint64_t seed);

#endif
