/* mathparse.h - reads a written answer as a structure of exact values. */
#ifndef REWARD_MATH_MATHPARSE_H
#define REWARD_MATH_MATHPARSE_H

#include "reward/math/mathparse_node.h"

/* NULL if text is no answer that this reader understands. commas: as in mathlex_read. */
const struct mathparse_node *mathparse_read(struct algebra *g, struct arena *arena,
                                            const char *text, bool commas);

#endif
