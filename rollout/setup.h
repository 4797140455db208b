/* setup.h - the engine that a recipe asks for: one function, so that rollouts, evaluation and the
 * memory plan agree. */
#ifndef ROLLOUT_SETUP_H
#define ROLLOUT_SETUP_H

#include "proto/recipe.h"
#include "rollout/engine.h"

/* Of one rollout process: places for its share of rollout.concurrency, but at least one group.
 * tokenizer may be NULL for planning. */
struct engine_config setup_engine(const struct recipe *r, const struct shape *s,
                                  const struct tokenizer *tokenizer, const struct kern_backend *b);
size_t setup_kv_bytes(const struct engine_config *cfg); /* of its keys and values */

#endif
