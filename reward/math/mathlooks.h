/* mathlooks.h - a written answer without what only changes its looks. */
#ifndef REWARD_MATH_MATHLOOKS_H
#define REWARD_MATH_MATHLOOKS_H

#include "base/buf.h"

/* Appends text, which mathfold has folded, without LaTeX's spaces, sizes, colours, fonts and
 * invisible parts, with one spelling for each of what has several: \text for words in any face,
 * \mathrm for upright letters, \frac for all fractions (infix ones too), "\degree" for degrees,
 * digits without separators of thousands but a plain comma. The result reads the same again. */
void mathlooks(struct buf *out, const char *text);

#endif
