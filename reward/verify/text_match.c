/* text_match.c - comparison of texts as people see them: Unicode NFC, white space at both ends
 * ignored, case folded if asked. Both sides go through the same folding, so that an accent written
 * as one or two code points, or a byte that is no UTF-8, never makes the difference.
 *
 * contains looks for the answer as a substring; as a whole word it must not touch a letter, digit,
 * combining mark or underscore. utf8proc only supplies the tables here: its allocating calls are
 * avoided, so that memory stays with base/mem. */
#include "reward/verify/text_match.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "reward/verify/verify_type.h"

#include <string.h>
#include <utf8proc.h>

static bool is_space(uint32_t cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (cp >= 9 && cp <= 13) || cp == 0x85 || c == UTF8PROC_CATEGORY_ZS ||
           c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

/* The text with U+FFFD for every byte that is not valid UTF-8. */
static char *sanitize(const char *s, size_t n, size_t *bytes) {
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
static void strip(char *s, size_t *bytes) {
    size_t n = *bytes, start = 0, end = 0, i = 0;
    bool seen = false;
    while (i < n) {
        uint32_t cp = 0;
        int len = utf8_decode(s + i, n - i, &cp);
        ASSERT(len > 0);
        if (!is_space(cp)) {
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

char *text_match_fold(const char *s, size_t n, bool ignore_case, size_t *bytes) {
    size_t len;
    char *out = sanitize(s, n, &len);
    if (!is_ascii(out, len))
        out = compose(out, &len, ignore_case ? UTF8PROC_CASEFOLD : 0);
    else if (ignore_case)
        fold_ascii(out, len);
    strip(out, &len);
    if (bytes) *bytes = len;
    return out;
}

char *text_match_compatible(const char *s) {
    size_t len;
    char *out = sanitize(s, strlen(s), &len);
    return is_ascii(out, len) ? out : compose(out, &len, UTF8PROC_COMPAT);
}

static bool is_word(uint32_t cp) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return cp == '_' || (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NO);
}

/* Whether a word character ends right before s + at. */
static bool word_before(const char *s, size_t at) {
    uint32_t cp = 0;
    size_t i = at;
    if (at == 0) return false;
    do
        i--;
    while (i > 0 && ((unsigned char)s[i] & 0xc0) == 0x80);
    return utf8_decode(s + i, at - i, &cp) > 0 && is_word(cp);
}

static bool word_at(const char *s, size_t n, size_t at) {
    uint32_t cp = 0;
    return at < n && utf8_decode(s + at, n - at, &cp) > 0 && is_word(cp);
}

static bool contains(const char *s, size_t n, const char *word, size_t m, bool whole) {
    for (const char *p = s; (p = memmem(p, n - (size_t)(p - s), word, m)) != NULL; p++) {
        size_t at = (size_t)(p - s);
        if (!whole || (!word_before(s, at) && !word_at(s, n, at + m))) return true;
    }
    return false;
}

/* The parameters are two flags, so the state is one of four constants. */
struct state {
    bool ignore_case, whole_word;
};

static int open(void **state, const struct verify_spec *spec) {
    static struct state table[2][2] = {{{false, false}, {false, true}},
                                       {{true, false}, {true, true}}};
    *state = &table[spec->ignore_case][spec->whole_word];
    return 0;
}

static int compare(const struct state *st, const struct verify_input *in, bool exact,
                   double *value) {
    size_t n, m;
    char *response = text_match_fold(in->response, strlen(in->response), st->ignore_case, &n);
    char *answer = text_match_fold(in->answer, strlen(in->answer), st->ignore_case, &m);
    bool right = exact ? n == m && memcmp(response, answer, n) == 0
                       : m > 0 && contains(response, n, answer, m, st->whole_word);
    mem_free(response);
    mem_free(answer);
    if (m == 0) return FAIL(ERR_CORRUPT, "the reference answer is blank");
    *value = right ? 1 : 0;
    return 0;
}

static int run_exact(const void *state, const struct verify_input *in, double *value,
                     char *reason) {
    (void)reason;
    return compare(state, in, true, value);
}

static int run_contains(const void *state, const struct verify_input *in, double *value,
                        char *reason) {
    (void)reason;
    return compare(state, in, false, value);
}

const struct verify_type text_match_exact_type = {
    .name = "exact",
    .doc = "the response is the answer, white space at both ends aside",
    .uses = VERIFY_USES_CASE | VERIFY_USES_AFTER,
    .needs_answer = true,
    .open = open,
    .run = run_exact,
};

const struct verify_type text_match_contains_type = {
    .name = "contains",
    .doc = "the response contains the answer; with whole_word, as a word of its own",
    .uses = VERIFY_USES_CASE | VERIFY_USES_WORD | VERIFY_USES_AFTER,
    .needs_answer = true,
    .open = open,
    .run = run_contains,
};
