/* utf8.h - strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decodes one code point at s[0..n). Returns its length 1..4, 0 if s starts with no valid sequence,
 * and -1 if the n > 0 bytes are a proper beginning of one that more bytes could complete. *cp is
 * set only on success. */
int utf8_decode(const char *s, size_t n, uint32_t *cp);
int utf8_encode(uint32_t cp, char out[4]);         /* length; 0 for a surrogate or above U+10FFFF */
size_t utf8_valid_prefix(const char *s, size_t n); /* bytes of the longest valid prefix */

#endif
