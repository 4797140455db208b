/* mathsame.h - whether two answers that were read say the same. */
#ifndef REWARD_MATH_MATHSAME_H
#define REWARD_MATH_MATHSAME_H

#include "reward/math/mathparse.h"

/* 1 equal, 0 not, -1 too large to tell. The sides differ where one is an equation: a response may
 * say what its value is the value of (a+b=5 for 5); a reference that is an equation is only its
 * value where it begins with a name (x = 5). */
int mathsame(struct algebra *g, const struct mathparse_node *want,
             const struct mathparse_node *got);

#endif
