/* text_match.h - the text comparison that the types exact, contains and regex share. */
#ifndef REWARD_VERIFY_TEXT_MATCH_H
#define REWARD_VERIFY_TEXT_MATCH_H

#include <stdbool.h>
#include <stddef.h>

/* s[0..n) in Unicode NFC, without white space at both ends, case-folded if wanted; each invalid
 * byte is U+FFFD. NUL-terminated, *bytes set if not NULL; mem_free. */
char *text_match_fold(const char *s, size_t n, bool ignore_case, size_t *bytes);

/* Unicode NFKC, in which full-width letters and digits are plain ones; mem_free. */
char *text_match_compatible(const char *s);

#endif
