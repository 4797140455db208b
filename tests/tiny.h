/* tiny.h - a policy with random weights that is small enough for tests. */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include "actor/params.h"

#include <stdbool.h>

/* Two layers of width 32, 61 tokens, context 160. qwen: query and key norms, biases, untied head.
 */
struct shape tiny_shape(bool qwen);
/* Weights large enough that the distributions are far from uniform. */
struct params *tiny_params(const struct kern_backend *b, const struct shape *s, uint64_t seed);

#endif
