/* mathans.c - three steps: find the final answer in both texts (answer), read both as structures
 * of exact values (mathparse), compare the structures (mathsame). Text that is equal after dropping
 * LaTeX's spacing is equal without being read.
 *
 * Who is blamed when something cannot be read decides the score. A response that cannot be read is
 * wrong: 0. A reference that cannot be read, and is not the same text as the response, cannot
 * judge: ERR_UNSUP, so that a row of data never silently scores zero for everyone.
 *
 * "1,234" may be a number or a list; both readings are tried, each for both sides alike. */
#include "reward/verify/verify_type.h"

#include "base/buf.h"
#include "reward/math/mathfold.h"
#include "reward/math/mathlex.h"
#include "reward/math/mathlooks.h"
#include "reward/math/mathparse.h"
#include "reward/math/mathsame.h"
#include "reward/math/mathunit.h"
#include "reward/verify/answer.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef const struct mathparse_node *node;

/* ---- comparing texts ---- */

/* Bytes of the first of list that s starts with and that does not go on as a longer command. */
static size_t prefix(const char *const *list, const char *s) {
    for (; *list; list++) {
        size_t n = strlen(*list);
        if (strncmp(s, *list, n) != 0) continue;
        if (!isalpha((unsigned char)(*list)[n - 1]) || !isalpha((unsigned char)s[n])) return n;
    }
    return 0;
}

static bool between_digits(const struct buf *out, const char *s) {
    return out->len > 0 && isdigit((unsigned char)out->data[out->len - 1]) &&
           isdigit((unsigned char)s[strspn(s, " \t\r\n")]);
}

/* Whether the brace at s only groups: no command, power or other group before it takes it. */
static bool is_grouping(const struct buf *out) {
    size_t n = out->len;
    if (n > 0 && strchr("^_}]", out->data[n - 1])) return false;
    while (n > 0 && isalpha((unsigned char)out->data[n - 1]))
        n--;
    return n == 0 || out->data[n - 1] != '\\';
}

/* The text folded, without looks, spacing (except between digits), text commands and braces that
 * only group. */
static void normalize(struct buf *out, const char *text) {
    static const char *const texts[] = {"\\text{", "\\mathrm{", NULL};
    struct buf folded = {0}, plain = {0};
    size_t depth = 0, n;
    uint64_t dropped = 0; /* bit d: the brace opened at depth d is left out */
    mathfold(&folded, text);
    mathlooks(&plain, folded.data);
    buf_reset(out);
    for (const char *s = plain.data; *s; s += n) {
        if ((n = prefix(texts, s)) > 0 && depth < 64) {
            dropped |= (uint64_t)1 << depth++;
            continue;
        }
        n = 1;
        if (*s == '\\' && s[1]) { /* \{ is no brace of a group */
            buf_add(out, s, n = 2);
        } else if (*s == '{' && depth < 64) {
            bool drop = is_grouping(out);
            dropped = (dropped & ~((uint64_t)1 << depth)) | ((uint64_t)drop << depth);
            depth++;
            if (!drop) buf_str(out, "{");
        } else if (*s == '}' && depth > 0) {
            if (!(dropped >> --depth & 1)) buf_str(out, "}");
        } else if (!isspace((unsigned char)*s) || between_digits(out, s)) {
            buf_add(out, isspace((unsigned char)*s) ? " " : s, 1);
        }
    }
    buf_str(out, "");
    buf_close(&folded);
    buf_close(&plain);
}

/* Only letters and numbers with their signs, in lower case. */
static void only_letters(struct buf *out, const char *s) {
    buf_reset(out);
    for (; *s; s++) {
        bool part = strchr("-./", *s) && isdigit((unsigned char)s[1]); /* of a number */
        if (isalnum((unsigned char)*s) || (unsigned char)*s >= 0x80 || part) {
            char c = (char)tolower((unsigned char)*s);
            buf_add(out, &c, 1);
        }
    }
    buf_str(out, "");
}

static const char *text_of(const struct buf *b) {
    return b->data ? b->data : "";
}

/* plain: words may differ in case and punctuation. */
static bool same_text(const char *a, const char *b, bool plain) {
    struct buf x = {0}, y = {0}, p = {0}, q = {0};
    normalize(&x, a);
    normalize(&y, b);
    bool equal = strcmp(text_of(&x), text_of(&y)) == 0 && x.len > 0;
    if (plain && !equal) {
        only_letters(&p, text_of(&x));
        only_letters(&q, text_of(&y));
        equal = strcmp(text_of(&p), text_of(&q)) == 0 && p.len > 0;
    }
    buf_close(&x);
    buf_close(&y);
    buf_close(&p);
    buf_close(&q);
    return equal;
}

/* A word of three letters or more, or "no": a product of one-letter variables is rarely that long.
 */
static bool is_single_word(const char *s) {
    struct buf x = {0};
    normalize(&x, s);
    size_t n = 0;
    bool other = false;
    for (size_t i = 0; i < x.len; i++) {
        n += isalpha((unsigned char)x.data[i]) != 0;
        other = other || (!isalpha((unsigned char)x.data[i]) && x.data[i] != '.');
    }
    bool no = n == 2 && strncasecmp(text_of(&x), "no", 2) == 0;
    buf_close(&x);
    return !other && (n >= 3 || no);
}

/* Words that are a set, as its sign; other text as it is. */
static const char *without_words(const char *s) {
    static const char *const set[][2] = {
        {"allrealnumbers", "\\mathbb{R}"}, {"allreals", "\\mathbb{R}"},
        {"realnumbers", "\\mathbb{R}"},    {"thesetofallrealnumbers", "\\mathbb{R}"},
        {"theemptyset", "\\emptyset"},     {"emptyset", "\\emptyset"},
    };
    struct buf x = {0}, y = {0};
    normalize(&x, s);
    only_letters(&y, text_of(&x));
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        if (strcmp(text_of(&y), set[i][0]) == 0) s = set[i][1];
    buf_close(&x);
    buf_close(&y);
    return s;
}

/* ---- the verdict ---- */

enum verdict { VERDICT_WRONG, VERDICT_RIGHT, VERDICT_UNREADABLE, VERDICT_TEXT };

/* Five words or more outside commands: a sentence, whatever formulas are in it. It is text, equal
 * to the same text only. */
static bool is_sentence_text(const char *s) {
    size_t words = 0, n;
    while (*s) {
        if (*s == '\\') {
            n = 1 + strspn(s + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
            bool environment = strncmp(s, "\\begin{", 7) == 0 || strncmp(s, "\\end{", 5) == 0;
            s += environment ? strcspn(s, "}") : n + (n == 1 && s[1] != 0);
            continue;
        }
        for (n = 0; isalpha((unsigned char)s[n]);)
            n++;
        words += n >= 2 && strspn(s, "lcr") < n; /* columns of an array are no word */
        s += n > 0 ? n : 1;
    }
    return words >= 5;
}

/* One reading of both. UNREADABLE: the reference; TEXT: the reference is words. */
static enum verdict judge_reading(const char *want, const char *got, bool commas,
                                  const char **why) {
    struct arena *arena = arena_open(1 << 16);
    struct algebra *g = algebra_init(arena);
    node a = mathparse_read(g, arena, without_words(want), commas);
    enum verdict v = VERDICT_UNREADABLE;
    if (a && a->kind == MATHPARSE_TEXT) {
        v = VERDICT_TEXT;
    } else if (a && mathsame(g, a, a) == 1) {
        node b = mathparse_read(g, arena, without_words(got), commas);
        int s = b ? mathsame(g, a, b) : 0;
        v = s == 1 ? VERDICT_RIGHT : VERDICT_WRONG;
        *why = s == 0 ? "is not" : "is too large to compare with";
        if (!b) *why = "cannot be read as an answer like";
    }
    arena_close(&arena);
    return v;
}

/* "188 m", "5 m^2": where a number is asked for, a lone letter that stands apart behind a number at
 * the end is its unit and no variable. The text with that letter upright, NULL if it has none. */
static char *with_unit(struct arena *arena, const char *s) {
    size_t n = strlen(s), end = n, letter;
    while (end > 0 && strchr("^{}23", s[end - 1]))
        end--;
    const char *power = s + end;
    bool squared = strcmp(power, "^2") == 0 || strcmp(power, "^3") == 0 ||
                   strcmp(power, "^{2}") == 0 || strcmp(power, "^{3}") == 0;
    letter = end - 1; /* "5 K" may be five thousand */
    if (end < 3 || (*power && !squared) || s[letter] == 'K' || !mathunit_is_letter(s[letter]))
        return NULL;
    for (size_t i = 1; i < letter; i++) /* "3 + 2 m" is a sum */
        if (strchr("+-", s[i]) && s[i - 1] != '{' && s[i - 1] != '^') return NULL;
    size_t blanks = letter;
    while (blanks > 0 && strchr(" ~\\,;", s[blanks - 1]))
        blanks--;
    if (blanks == letter || blanks == 0 || !strchr("0123456789})", s[blanks - 1])) return NULL;
    struct buf b = {0};
    buf_add(&b, s, letter);
    buf_str(&b, "\\mathrm{");
    buf_add(&b, s + letter, 1);
    buf_str(&b, "}");
    buf_str(&b, power);
    char *out = arena_strndup(arena, b.data, b.len);
    buf_close(&b);
    return out;
}

/* Whether the reference is a value without variables. */
static bool is_number(const char *want) {
    struct arena *arena = arena_open(1 << 16);
    struct algebra *g = algebra_init(arena);
    node a = mathparse_read(g, arena, want, true);
    bool yes = a && a->kind == MATHPARSE_VALUE && algebra_is_constant(g, a->value);
    arena_close(&arena);
    return yes;
}

static int verdict(const char *want, const char *got, double *value, char *reason) {
    const char *why = "is not";
    enum verdict v = VERDICT_UNREADABLE;
    if (same_text(want, got, is_single_word(want) && is_single_word(got))) v = VERDICT_RIGHT;
    for (int commas = 1; commas >= 0 && v != VERDICT_RIGHT && v != VERDICT_TEXT; commas--) {
        enum verdict w = judge_reading(want, got, commas, &why);
        if (w != VERDICT_UNREADABLE) v = w;
    }
    if (v == VERDICT_TEXT) v = same_text(want, got, true) ? VERDICT_RIGHT : VERDICT_WRONG;
    if (v == VERDICT_UNREADABLE && is_sentence_text(want))
        v = VERDICT_WRONG; /* not the same text */
    if (v == VERDICT_UNREADABLE)
        return FAIL(ERR_UNSUP, "the reference answer \"%.80s\" cannot be read as mathematics",
                    want);
    *value = v == VERDICT_RIGHT ? 1 : 0;
    if (v == VERDICT_RIGHT) why = "is";
    snprintf(reason, VERIFY_REASON, "\"%.70s\" %s \"%.70s\"", got, why, want);
    return 0;
}

/* A box, a marked line, or the whole text. */
static const char *find_reference(struct arena *arena, const char *answer) {
    struct formula_span a = answer_boxed(answer);
    if (!a.s) a = answer_marked(answer);
    if (!a.s) a = (struct formula_span){answer, strlen(answer)};
    a = formula_strip(a);
    return arena_strndup(arena, a.s, a.n);
}

static int run_math(const void *state, const struct verify_input *in, double *value, char *reason) {
    int rc = 0;
    struct arena *arena = arena_open(1 << 14);
    const char *want = find_reference(arena, in->answer);
    (void)state;
    if (!*want) TRY_OUT(FAIL(ERR_CORRUPT, "the reference answer is blank"));
    if (strlen(want) > MATHLEX_BYTES)
        TRY_OUT(FAIL(ERR_UNSUP, "the reference answer has %zu bytes, limit %d", strlen(want),
                     MATHLEX_BYTES));
    const char *got = answer_find(arena, in->response);
    if (!got || strlen(got) > MATHLEX_BYTES) got = "";
    TRY_OUT(verdict(want, got, value, reason));
    char *unit = *value > 0 ? NULL : with_unit(arena, got);
    if (unit && is_number(want)) TRY_OUT(verdict(want, unit, value, reason));
    if (!*got) snprintf(reason, VERIFY_REASON, "no final answer found");
out:
    arena_close(&arena);
    return rc;
}

const struct verify_type mathans_type = {
    .name = "math",
    .doc = "the final answer (boxed, stated or last number) equals the reference, exactly",
    .uses = VERIFY_USES_AFTER,
    .needs_answer = true,
    .run = run_math,
};
