/* text_match.c - types exact and contains. Response and answer go through the same folding
 * (base/textfold.h). contains looks for the answer as a substring; as a whole word it must not
 * touch a letter, digit, combining mark or underscore. */
#include "base/mem.h"
#include "base/textfold.h"
#include "base/utf8.h"
#include "reward/verify/verify_type.h"

#include <string.h>
#include <utf8proc.h>

static bool is_word_character(uint32_t cp) {
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
    return utf8_decode(s + i, at - i, &cp) > 0 && is_word_character(cp);
}

static bool word_starts_at(const char *s, size_t n, size_t at) {
    uint32_t cp = 0;
    return at < n && utf8_decode(s + at, n - at, &cp) > 0 && is_word_character(cp);
}

static bool contains(const char *s, size_t n, const char *word, size_t m, bool whole) {
    for (const char *p = s; (p = memmem(p, n - (size_t)(p - s), word, m)) != NULL; p++) {
        size_t at = (size_t)(p - s);
        if (!whole || (!word_before(s, at) && !word_starts_at(s, n, at + m))) return true;
    }
    return false;
}

/* The parameters are two flags, so the state is one of four constants. */
struct state {
    bool ignore_case, whole_word;
};

static int open_text_match(void **state, const struct verify_spec *spec) {
    static struct state table[2][2] = {{{false, false}, {false, true}},
                                       {{true, false}, {true, true}}};
    *state = &table[spec->ignore_case][spec->whole_word];
    return 0;
}

static int compare_texts(const struct state *st, const struct verify_input *in, bool exact,
                         double *value) {
    size_t n, m;
    char *response = textfold(in->response, strlen(in->response), st->ignore_case, &n);
    char *answer = textfold(in->answer, strlen(in->answer), st->ignore_case, &m);
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
    return compare_texts(state, in, true, value);
}

static int run_contains(const void *state, const struct verify_input *in, double *value,
                        char *reason) {
    (void)reason;
    return compare_texts(state, in, false, value);
}

const struct verify_type text_match_exact_type = {
    .name = "exact",
    .doc = "the response is the answer, white space at both ends aside",
    .uses = VERIFY_USES_CASE | VERIFY_USES_AFTER,
    .needs_answer = true,
    .open = open_text_match,
    .run = run_exact,
};

const struct verify_type text_match_contains_type = {
    .name = "contains",
    .doc = "the response contains the answer; with whole_word, as a word of its own",
    .uses = VERIFY_USES_CASE | VERIFY_USES_WORD | VERIFY_USES_AFTER,
    .needs_answer = true,
    .open = open_text_match,
    .run = run_contains,
};
