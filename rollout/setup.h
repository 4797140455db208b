/* setup.h - the policy, the engine and the data sets that a recipe asks for: one function each, so
 * that rollouts, manager, evaluation, sft and the plan before a run mean the same. (actor/ knows no
 * recipes.) */
#ifndef ROLLOUT_SETUP_H
#define ROLLOUT_SETUP_H

#include "actor/policy.h"
#include "actor/text/dataset.h"
#include "proto/recipe/recipe.h"
#include "rollout/engine/engine.h"
#include "rollout/log/runlog.h"
#include "rollout/manager/groups.h"

/* Of one rollout process: places for its share of rollout.concurrency, but at least one group.
 * tokenizer may be NULL for planning. */
struct engine_config setup_engine(const struct recipe *r, const struct shape *s,
                                  const struct tokenizer *tokenizer, const struct kern_backend *b);
/* On a device with memory of its own, and unless the recipe says how much (rollout.kv_memory): as
 * many pages as cfg asks for, or as fit into this rollout's share of the memory beside two slabs of
 * weights and the rest of the engine. ERR_CONFIG with all the numbers when not one sequence fits.
 * The second is the rule alone, for a device of `total` bytes with `left` not taken. */
MUST_CHECK int setup_fit(struct engine_config *cfg, const struct recipe *r);
MUST_CHECK int setup_fit_within(struct engine_config *cfg, const struct recipe *r, size_t left,
                                size_t total);
/* Whether the policy vade finds its candidates among so many rows. */
MUST_CHECK int setup_candidates(const struct recipe *r, uint64_t rows);
struct groups_config setup_groups(const struct recipe *r);
size_t setup_kv_bytes(const struct engine_config *cfg); /* of its keys and values */

/* The chat format with the recipe's arguments, and the policy with it; dir NULL: the recipe's. */
MUST_CHECK int setup_chat(enum chat_format *out, const struct recipe *r, const char *dir);
MUST_CHECK int setup_policy(struct policy *out, const struct recipe *r, const char *dir);
/* Whose log it is: what of the recipe, that of run_dir, may not change identifies the run. */
MUST_CHECK int setup_log(struct runlog_meta *out, const char *run_dir, const struct recipe *r);

/* section: "data.train", for the error of a missing path. seed: the recipe's. */
MUST_CHECK int setup_dataset(struct dataset **out, const struct recipe_data *d, const char *section,
                             uint64_t seed);

#endif
