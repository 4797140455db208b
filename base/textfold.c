/* textfold.c - see textfold.h. utf8proc supplies the tables only: its allocating calls are avoided,
 * so that memory stays with base/mem. ASCII, which is nearly every text, never gets there. */
#include "base/textfold.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

static bool fold_is_space(uint32_t cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (cp >= 9 && cp <= 13) || cp == 0x85 || c == UTF8PROC_CATEGORY_ZS ||
           c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

/* The text with U+FFFD for every byte that is not valid UTF-8. */
static char *replace_invalid(const char *s, size_t n, size_t *bytes) {
    char *out = mem_alloc(n * 3 + 1);
    size_t used = 0, i = 0;
    while (i < n) {
        uint32_t cp;
        int len = utf8_decode(s + i, n - i, &cp);
        if (len <= 0) {
            used += (size_t)utf8_encode(0xfffd, out + used);
            i++;
            continue;
        }
        memcpy(out + used, s + i, (size_t)len);
        used += (size_t)len;
        i += (size_t)len;
    }
    out[used] = 0;
    *bytes = used;
    return out;
}

static bool is_ascii(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] >= 0x80) return false;
    return true;
}

/* Valid UTF-8 composed, with more options; takes s. */
static char *compose(char *s, size_t *bytes, utf8proc_option_t more) {
    utf8proc_option_t opt = UTF8PROC_STABLE | UTF8PROC_COMPOSE | more;
    utf8proc_ssize_t n = (utf8proc_ssize_t)*bytes;
    utf8proc_ssize_t need = utf8proc_decompose((const utf8proc_uint8_t *)s, n, NULL, 0, opt);
    ASSERT(need >= 0); /* the text is valid, and at most 48 MiB */
    /* reencode writes UTF-8 over the code points, at most 4 bytes each, and a NUL */
    utf8proc_int32_t *cp = mem_alloc(((size_t)need + 1) * sizeof *cp);
    need = utf8proc_decompose((const utf8proc_uint8_t *)s, n, cp, need, opt);
    ASSERT(need >= 0);
    need = utf8proc_reencode(cp, need, opt);
    ASSERT(need >= 0);
    mem_free(s);
    *bytes = (size_t)need;
    return (char *)cp;
}

static void fold_ascii(char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] >= 'A' && s[i] <= 'Z') s[i] = (char)(s[i] + 'a' - 'A');
}

/* Cuts white space at both ends in place. */
static void cut_space(char *s, size_t *bytes) {
    size_t n = *bytes, start = 0, end = 0, i = 0;
    bool seen = false;
    while (i < n) {
        uint32_t cp = 0;
        int len = utf8_decode(s + i, n - i, &cp);
        ASSERT(len > 0);
        if (!fold_is_space(cp)) {
            if (!seen) start = i;
            seen = true;
            end = i + (size_t)len;
        }
        i += (size_t)len;
    }
    memmove(s, s + start, end - start);
    s[end - start] = 0;
    *bytes = end - start;
}

char *textfold(const char *s, size_t n, bool ignore_case, size_t *bytes) {
    size_t len;
    char *out = replace_invalid(s, n, &len);
    if (!is_ascii(out, len))
        out = compose(out, &len, ignore_case ? UTF8PROC_CASEFOLD : 0);
    else if (ignore_case)
        fold_ascii(out, len);
    cut_space(out, &len);
    if (bytes) *bytes = len;
    return out;
}

char *textfold_compatible(const char *s) {
    size_t len;
    char *out = replace_invalid(s, strlen(s), &len);
    return is_ascii(out, len) ? out : compose(out, &len, UTF8PROC_COMPAT);
}
