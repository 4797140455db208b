/* mathfold.h - Unicode in a written answer as the ASCII and LaTeX that means the same. */
#ifndef REWARD_MATH_MATHFOLD_H
#define REWARD_MATH_MATHFOLD_H

#include "base/buf.h"

/* Appends text to out, in ASCII but for the letters of words (and marks on them), which stay as
 * they are. What has no meaning in an answer stays too, for the reader to refuse: nothing is
 * dropped but what cannot be seen. Spaces that are no ASCII become "\,", roots "\surd", an angle's
 * degrees "\degree"; a reader of LaTeX must know those. */
void mathfold(struct buf *out, const char *text);

#endif
