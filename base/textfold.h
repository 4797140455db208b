/* textfold.h - texts as people see them: an accent is the same whether it is written as one code
 * point or two, and a byte that is no UTF-8 never makes a difference. */
#ifndef BASE_TEXTFOLD_H
#define BASE_TEXTFOLD_H

#include <stdbool.h>
#include <stddef.h>

/* s[0..n) in Unicode NFC, without white space at both ends, case-folded if wanted; each invalid
 * byte is U+FFFD. NUL-terminated, *bytes set if not NULL; mem_free. */
char *textfold(const char *s, size_t n, bool ignore_case, size_t *bytes);

/* Unicode NFKC, in which full-width letters and digits are plain ones; mem_free. */
char *textfold_compatible(const char *s);

#endif
