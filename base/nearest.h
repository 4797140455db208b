/* nearest.h - the known word closest to a mistyped one, for "unknown key x; did you mean y". */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

/* The word of list with the fewest single-letter insertions, deletions and replacements from word,
 * the first one on a tie; NULL if n is 0. Case does not count. Only the first 63 bytes are
 * compared. */
const char *nearest_word(const char *word, const char *const *list, size_t n);

#endif
