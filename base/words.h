/* words.h - lists of words that end with NULL. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Whether s[0..n) is one of them. */
static inline bool words_have(const char *const *list, const char *s, size_t n) {
    for (; *list; list++)
        if (strlen(*list) == n && memcmp(*list, s, n) == 0) return true;
    return false;
}

static inline bool words_have_text(const char *const *list, const char *text) {
    return words_have(list, text, strlen(text));
}

#endif
