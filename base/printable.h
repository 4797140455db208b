/* printable.h - text of strangers (a model's response, a data set's prompt) for a terminal. */
#ifndef BASE_PRINTABLE_H
#define BASE_PRINTABLE_H

#include "base/buf.h"

#include <stdbool.h>

/* Appends s with everything that a terminal would obey rather than show written as an escape:
 * control characters (\e, \r, \x07, ...), the second set of them (U+0080 to U+009F), line and
 * paragraph separators, marks that change the direction of writing, invisible characters, and bytes
 * that are not UTF-8. A tab is \t; a line end stays one if lines is true and is \n otherwise. */
void printable_add(struct buf *out, const char *s, size_t n, bool lines);
/* The same with lines, each line of the text after `margin`, so that a text cannot pose as a line
 * of the program. Ends with a line end. */
void printable_block(struct buf *out, const char *s, size_t n, const char *margin);

#endif
