/* setup_engine.h - the engine that a recipe asks for, so that rollouts, evaluation and the plan
 * before a run mean the same. */
#ifndef ROLLOUT_SETUP_SETUP_ENGINE_H
#define ROLLOUT_SETUP_SETUP_ENGINE_H

#include "proto/recipe/recipe.h"
#include "rollout/engine/engine.h"

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
size_t setup_kv_bytes(const struct engine_config *cfg); /* of its keys and values */

#endif
