/* manager_setup.h - what a recipe asks of the manager's admission and of its sampling policy, for
 * the manager and for who looks at a recipe before a run. */
#ifndef ROLLOUT_MANAGER_MANAGER_SETUP_H
#define ROLLOUT_MANAGER_MANAGER_SETUP_H

#include "proto/recipe/recipe.h"
#include "rollout/manager/groups.h"

struct groups_config manager_setup_groups(const struct recipe *r);
/* Whether the policy vade finds its candidates among so many rows. */
MUST_CHECK int manager_setup_candidates(const struct recipe *r, uint64_t rows);

#endif
