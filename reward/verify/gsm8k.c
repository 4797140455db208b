/* gsm8k.c - GSM8K marks its final answer with a line "#### 18". The response must do the same: its
 * last #### that is followed by a number counts. Numbers are compared as exact fractions, so 18 and
 * 18.0 are one number; a currency, a percent sign and a unit are decoration, because the reference
 * never has them.
 *
 * Hedging must not pay: a second number on the marked line ("#### 17 or 18") makes the answer
 * wrong. `flexible` also takes the last number of a response without any mark. A reference that
 * holds no number is an error of the data, never a zero. */
#include "reward/verify/verify_type.h"

#include "reward/math/mathword.h"
#include "reward/math/rational.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 512 }; /* of a line, looked at for what it is */

static const char mark[] = "####";
static const char digits[] = "0123456789";

/* What may stand between the mark and the number; the minus sign is read apart. */
static const char *const decoration[] = {
    " ",        "\t",           "$", "\\$",          "*",        "=",
    "\\boxed{", "\\text{",      "{", "\xe2\x82\xac", "\xc2\xa3", "\xc2\xa0",
    "~",        "\xe2\x89\x88", NULL};

/* Bytes of prefix if s starts with it, else 0. */
static size_t prefix_length(const char *s, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(s, prefix, n) == 0 ? n : 0;
}

/* Skips decoration and at most one sign. */
static const char *skip_decoration(const char *s, bool *negative) {
    bool sign = false;
    *negative = false;
    for (;;) {
        size_t n = 0, minus = 0;
        if (!sign && (minus = prefix_length(s, "-")) == 0) minus = prefix_length(s, "\xe2\x88\x92");
        if (minus == 0 && !sign) n = prefix_length(s, "+");
        if (minus || n) {
            sign = true;
            *negative = minus > 0;
            s += minus + n;
            continue;
        }
        for (size_t i = 0; decoration[i] && n == 0; i++)
            n = prefix_length(s, decoration[i]);
        if (n == 0) return s;
        s += n;
    }
}

/* A number at s: 18, 1,234.50, 3/4, 1 1/2. Bytes read, 0 for none. */
static size_t read_marked_number(struct rational *out, const char *s) {
    struct rational whole, part, under;
    size_t n = rational_read(&whole, s, true), m, k;
    if (n == 0) return 0;
    if (s[n] == '/' && (m = rational_read(&under, s + n + 1, true)) > 0)
        return rational_div(out, &whole, &under) ? n + 1 + m : 0;
    if (s[n] == ' ' && (m = strspn(s + n + 1, digits)) > 0 && s[n + 1 + m] == '/') {
        k = n + 1 + m + 1;
        m = rational_read(&part, s + n + 1, false);
        size_t d = rational_read(&under, s + k, false);
        if (m > 0 && d > 0 && rational_div(&part, &part, &under) &&
            rational_add(out, &whole, &part))
            return k + d;
        return 0;
    }
    *out = whole;
    return n;
}

enum found { FOUND_NONE, FOUND_SEVERAL, FOUND_NUMBER };

/* Whether the line at s numbers a heading that text follows: "1. Find the price", "2) Add". */
static bool is_markdown_heading(const char *s) {
    size_t n = strspn(s, digits);
    if (n == 0 || n > 2 || !s[n] || !strchr(".):", s[n]) || s[n + 1] != ' ') return false;
    s += n + 1 + strspn(s + n + 1, " *");
    const char *end = memchr(s, '\n', strnlen(s, LINE_BYTES));
    return isalpha((unsigned char)*s) && end && end[strspn(end, " \t\r\n")];
}

/* Behind the name that the line at s gives its number: "x = 18", "Total = 18". */
static const char *skip_name(const char *s) {
    size_t n = 0;
    while (n < LINE_BYTES && (isalpha((unsigned char)s[n]) || (s[n] && strchr(" $*_", s[n]))))
        n++;
    return s[n] == '=' ? s + n + 1 : s;
}

/* The word behind a number that makes another one of it: "18 million". False if what it makes is
 * not known ("18 squared"). */
static bool apply_magnitude(struct rational *x, const char *s) {
    s += strspn(s, " *");
    size_t n = 0;
    while (isalpha((unsigned char)s[n]))
        n++;
    struct mathword does = mathword_behind(s, n);
    if (does.behind == MATHWORD_POWER || does.behind == MATHWORD_PART) return false;
    struct rational factor = rational_int(does.factor);
    return does.behind != MATHWORD_SCALE || rational_mul(x, x, &factor);
}

/* The one number of the line at s, behind decoration. */
static enum found read_line(struct rational *out, const char *s) {
    bool negative;
    struct rational x;
    s = skip_decoration(skip_name(s), &negative);
    size_t n = is_markdown_heading(s) ? 0 : read_marked_number(&x, s);
    if (n == 0) return FOUND_NONE;
    const char *behind = s + n;
    for (s += n; *s && *s != '\n'; s++)
        if (isdigit((unsigned char)*s)) return FOUND_SEVERAL;
    if (!apply_magnitude(&x, behind)) return FOUND_SEVERAL;
    if (negative) rational_negate(&x);
    *out = x;
    return FOUND_NUMBER;
}

/* The last mark that a number follows. */
static enum found read_marked(struct rational *out, const char *text) {
    enum found found = FOUND_NONE;
    for (const char *s = text; (s = strstr(s, mark)) != NULL; s++) {
        struct rational x;
        enum found f = read_line(&x, s + sizeof mark - 1);
        if (f == FOUND_NONE) continue;
        found = f;
        if (f == FOUND_NUMBER) *out = x;
    }
    return found;
}

/* The last number anywhere. A minus counts unless it stands behind a letter, digit or bracket. */
static enum found read_last(struct rational *out, const char *text) {
    enum found found = FOUND_NONE;
    for (const char *s = text; *s;) {
        struct rational x;
        size_t n = isdigit((unsigned char)*s) || *s == '.' ? read_marked_number(&x, s) : 0;
        if (n == 0) {
            s += isdigit((unsigned char)*s) ? strspn(s, digits) : 1;
            continue;
        }
        const char *sign = s;
        while (sign > text && strchr("$\\", sign[-1]))
            sign--;
        if (sign > text && sign[-1] == '-' &&
            (sign - 1 == text || !(isalnum((unsigned char)sign[-2]) || strchr(")]}", sign[-2]))))
            rational_negate(&x);
        *out = x;
        found = FOUND_NUMBER;
        s += n;
    }
    return found;
}

/* A reference is judged before the response, so that a bad one is an error whatever was answered.
 */
static int run_gsm8k(const void *state, const struct verify_input *in, double *value,
                     char *reason) {
    struct rational want = rational_int(0), got = rational_int(0);
    const char *answer = in->answer;
    enum found found;
    if (strstr(answer, mark)) {
        found = read_marked(&want, answer);
    } else {
        answer += strspn(answer, " \t\r\n");
        found = read_line(&want, answer);
    }
    if (found != FOUND_NUMBER)
        return FAIL(ERR_CORRUPT, "the reference answer \"%.60s\" does not hold one number", answer);
    found = read_marked(&got, in->response);
    if (found == FOUND_NONE && state) found = read_last(&got, in->response);
    *value = found == FOUND_NUMBER && rational_equal(&want, &got) ? 1 : 0;
    if (found == FOUND_NONE)
        snprintf(reason, VERIFY_REASON, state ? "no number" : "no #### with a number");
    if (found == FOUND_SEVERAL) snprintf(reason, VERIFY_REASON, "several numbers after ####");
    if (found == FOUND_NUMBER)
        snprintf(reason, VERIFY_REASON, *value > 0 ? "right number" : "wrong number");
    return 0;
}

/* The state only says whether the last number may count. */
static int open_gsm8k(void **state, const struct verify_spec *spec) {
    static char flexible;
    if (spec->flexible) *state = &flexible;
    return 0;
}

const struct verify_type gsm8k_type = {
    .name = "gsm8k",
    .doc = "the number after the last ####; with flexible, else the last number",
    .uses = VERIFY_USES_FLEXIBLE | VERIFY_USES_AFTER,
    .needs_answer = true,
    .open = open_gsm8k,
    .run = run_gsm8k,
};
