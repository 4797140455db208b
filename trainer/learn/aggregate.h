/* aggregate.h - aggregation: how much each trained token counts in the loss. Known before the first
 * microbatch and before any rejection, so neither the split of a batch nor a mask changes what the
 * others count. With T trained tokens, N trajectories that have any, L_i of them in trajectory i:
 *
 *   token-mean     1 / T
 *   sequence-mean  1 / (N L_i)
 *   sequence-sum   1 / N
 *   constant       1 / (N constant)      (Dr.GRPO) */
#ifndef TRAINER_LEARN_AGGREGATE_H
#define TRAINER_LEARN_AGGREGATE_H

#include "proto/recipe/recipe.h"

#include <stddef.h>
#include <stdint.h>

/* first[n + 1]: the tokens of trajectory i are first[i] .. first[i + 1] - 1; weight: by token, the
 * first one being first[0]. */
void aggregate_tokens(double *weight, const int64_t *first, size_t n, enum recipe_aggregation how,
                      double constant);

#endif
