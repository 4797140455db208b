/* setup.h - the engine and the data sets that a recipe asks for: one function each, so that
 * rollouts, manager, evaluation, sft and the plan before a run mean the same. (actor/ knows no
 * recipes.) */
#ifndef ROLLOUT_SETUP_H
#define ROLLOUT_SETUP_H

#include "actor/dataset.h"
#include "proto/recipe.h"
#include "rollout/engine.h"
#include "rollout/runlog.h"

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

/* Whose log it is: the effective recipe's text identifies the run. */
struct runlog_meta setup_log(const struct recipe *r);

/* section: "data.train", for the error of a missing path. seed: the recipe's. */
MUST_CHECK int setup_dataset(struct dataset **out, const struct recipe_data *d, const char *section,
                             uint64_t seed);

#endif
