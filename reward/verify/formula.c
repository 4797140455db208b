/* formula.c - delimiters are looked up; a bare formula is read item by item: operands (numbers,
 * commands, single letters), operators that must stand between two of them, and brackets that must
 * close. It ends where prose goes on: at a word, at a comma outside brackets, at a full stop.
 *
 * A dollar sign is money before a digit unless another one closes it the way formulas are closed:
 * "$5 and $7" are two amounts, "$5$" and "$5 < x$" are formulas. */
#include "reward/verify/formula.h"

#include "base/utf8.h"
#include "base/words.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

/* A longer one is none, so that openings that nothing closes cost little. */
enum { FORMULA_BYTES = 8192, GROUP_BYTES = 1024, BARE_BYTES = 512 };

static bool is_decimal(char c) {
    return c >= '0' && c <= '9';
}

static bool is_latin(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static size_t letter_run(const char *s) {
    size_t n = 0;
    while (is_latin(s[n]))
        n++;
    return n;
}

static size_t spaces(const char *s) {
    return strspn(s, " \t");
}

size_t formula_group(const char *s) {
    size_t depth = 0;
    for (size_t i = 0; s[i] && i < GROUP_BYTES; i++) {
        if (s[i] == '\\' && s[i + 1]) {
            i++;
        } else if (s[i] == '{') {
            depth++;
        } else if (s[i] == '}' && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* ---- between delimiters ---- */

/* Whether s[0..n) has prose in it: a word of three letters or more that is no command, no name of a
 * function and not inside braces, as \text{...} has its words. */
static bool has_prose(const char *s, size_t n) {
    static const char *const functions[] = {"sin", "cos", "tan", "log", "exp", "gcd",
                                            "lcm", "max", "min", "mod", NULL};
    size_t depth = 0;
    for (size_t i = 0; i < n; i++) {
        size_t m = letter_run(s + i);
        if (s[i] == '\\') {
            m = letter_run(s + i + 1);
            i += m > 0 ? m : 1;
        } else if (m > 0) {
            bool lower = m >= 3 && s[i + 1] >= 'a' && s[i + 2] >= 'a'; /* not ABC */
            if (depth == 0 && lower && !words_have(functions, s + i, m)) return true;
            i += m - 1;
        }
        if (s[i] == '{') depth++;
        if (s[i] == '}' && depth > 0) depth--;
    }
    return false;
}

/* Offset of the dollar sign that closes the formula behind the one at s[-1]; 0 if none does. */
static size_t closing_dollar(const char *s) {
    for (size_t n = 0; s[n] && n < GROUP_BYTES; n++) {
        if (s[n] == '\\' && s[n + 1]) {
            n++;
        } else if (s[n] == '\n' && s[n + 1 + spaces(s + n + 1)] == '\n') {
            return 0;
        } else if (s[n] == '$') {
            bool tight = n > 0 && !isspace((unsigned char)s[n - 1]);
            bool loose = n > 1 && isspace((unsigned char)s[0]) && !tight;
            if (!(tight || loose) || is_decimal(s[n + 1]) || has_prose(s, n)) return 0;
            return n;
        }
    }
    return 0;
}

/* The first close in the bytes at s that a formula may have, NULL if there is none. */
static const char *find(const char *s, const char *close) {
    return memmem(s, strnlen(s, FORMULA_BYTES), close, strlen(close));
}

static size_t delimited_by(struct formula_span *inside, const char *s, const char *open,
                           const char *close) {
    size_t n = strlen(open);
    if (strncmp(s, open, n) != 0) return 0;
    const char *end = find(s + n, close);
    while (end && end > s + n && end[-1] == '\\' && end[-2] == '\\') /* \\[2pt] opens nothing */
        end = find(end + 1, close);
    if (!end) return 0;
    *inside = (struct formula_span){s + n, (size_t)(end - s) - n};
    return (size_t)(end - s) + strlen(close);
}

static size_t environment(struct formula_span *inside, const char *s) {
    char close[64];
    if (strncmp(s, "\\begin{", 7) != 0) return 0;
    size_t n = strcspn(s + 7, "}\n");
    if (s[7 + n] != '}' || n + 8 > sizeof close) return 0;
    memcpy(close, "\\end{", 5);
    memcpy(close + 5, s + 7, n + 1);
    close[n + 6] = 0;
    const char *end = find(s + 8 + n, close);
    if (!end) return 0;
    *inside = (struct formula_span){s, (size_t)(end - s) + strlen(close)};
    return inside->n;
}

size_t formula_delimited(struct formula_span *inside, const char *s) {
    size_t n;
    if (*s == '\\') {
        if ((n = delimited_by(inside, s, "\\(", "\\)")) > 0) return n;
        if ((n = delimited_by(inside, s, "\\[", "\\]")) > 0) return n;
        return environment(inside, s);
    }
    if (*s != '$') return 0;
    if (s[1] == '$') return delimited_by(inside, s, "$$", "$$");
    if ((n = closing_dollar(s + 1)) == 0) return 0;
    *inside = (struct formula_span){s + 1, n};
    return n + 2;
}

/* ---- bare ---- */

enum item { ITEM_NONE, ITEM_OPERAND, ITEM_NUMBER, ITEM_OPERATOR, ITEM_RELATION, ITEM_POSTFIX };

/* Code points beyond ASCII that stand in formulas. */
static enum item unicode_item(uint32_t cp) {
    if (cp == 0x2264 || cp == 0x2265 || cp == 0x2260 || cp == 0x2248 || cp == 0x2208 ||
        cp == 0xff1d || cp == 0xff1c || cp == 0xff1e)
        return ITEM_RELATION;
    if (cp == 0x2212 || cp == 0xd7 || cp == 0xf7 || cp == 0xb7 || cp == 0x22c5 || cp == 0x2219 ||
        cp == 0xb1 || cp == 0x222a || cp == 0x2229 || cp == 0x2044 || cp == 0xff0b || cp == 0xff0d)
        return ITEM_OPERATOR;
    if (cp == 0xb2 || cp == 0xb3 || cp == 0xb9 || cp == 0xb0 || (cp >= 0x2070 && cp < 0x20a0) ||
        cp == 0xff05)
        return ITEM_POSTFIX;
    if ((cp >= 0xbc && cp <= 0xbe) || (cp >= 0x2150 && cp <= 0x215e) ||
        (cp >= 0xff10 && cp <= 0xff19))
        return ITEM_NUMBER;
    if (cp == 0x221a || cp == 0x221b || cp == 0x221e || cp == 0x2205 || cp == 0x211d ||
        (cp >= 0x391 && cp <= 0x3c9))
        return ITEM_OPERAND;
    return ITEM_NONE;
}

/* Digits at s with thousands, a fraction and a currency sign before them. */
static size_t bare_number_length(const char *s) {
    static const char *const currency[] = {"US$",      "\\$",      "$", "\xe2\x82\xac",
                                           "\xc2\xa3", "\xc2\xa5", NULL};
    size_t c = 0, n;
    for (size_t i = 0; currency[i] && c == 0; i++)
        if (strncmp(s, currency[i], strlen(currency[i])) == 0) c = strlen(currency[i]);
    s += c;
    n = strspn(s, "0123456789");
    while (n > 0) {
        size_t gap = s[n] == ',' ? 1 : strncmp(s + n, "{,}", 3) == 0 ? 3 : 0;
        if (strncmp(s + n, ",\\!", 3) == 0) gap = 3;
        if (strncmp(s + n, "\xc2\xa0", 2) == 0) gap = 2;
        if (strncmp(s + n, "\xe2\x80\xaf", 3) == 0 || strncmp(s + n, "\xe2\x80\x89", 3) == 0)
            gap = 3;
        if (gap == 0 || strspn(s + n + gap, "0123456789") != 3) break;
        n += gap + 3;
    }
    if (s[n] == '.' && is_decimal(s[n + 1])) n += 1 + strspn(s + n + 1, "0123456789");
    if (n > 0 && s[n] == ':' && is_decimal(s[n + 1])) n += 1 + strspn(s + n + 1, "0123456789");
    if (n > 0 && (s[n] == 'e' || s[n] == 'E')) {
        size_t sign = s[n + 1] == '-' || s[n + 1] == '+',
               m = strspn(s + n + 1 + sign, "0123456789");
        if (m > 0 && !is_latin(s[n + 1 + sign + m])) n += 1 + sign + m;
    }
    return n > 0 ? c + n : 0;
}

/* A command with its arguments, \left and \right with nothing. */
static enum item command_length(const char *s, size_t *n) {
    static const char *const relations[] = {"le",      "leq", "ge",     "geq", "lt",
                                            "gt",      "ne",  "neq",    "in",  "approx",
                                            "implies", "to",  "subset", NULL};
    static const char *const operators[] = {"times", "cdot", "div", "pm",       "mp",   "cup",
                                            "cap",   "ast",  "mid", "setminus", "over", NULL};
    static const char *const environments[] = {"begin", "end", NULL};
    static const char *const spacing[] = {"left", "right", "quad", "qquad", "big",
                                          "Big",  "bigl",  "bigr", NULL};
    size_t m = letter_run(s + 1);
    *n = 1 + m;
    if (m == 0) {
        *n = 2;
        if (s[1] == '%') return ITEM_POSTFIX;
        return s[1] && formula_is_in(s[1], ",;:! ") ? ITEM_POSTFIX : ITEM_NONE;
    }
    if (words_have(environments, s + 1, m)) return ITEM_NONE;
    if (words_have(relations, s + 1, m)) return ITEM_RELATION;
    if (words_have(operators, s + 1, m)) return ITEM_OPERATOR;
    if (words_have(spacing, s + 1, m)) return ITEM_POSTFIX;
    for (size_t g; s[*n] == '{' || s[*n] == '['; *n += g) {
        const char *end = s[*n] == '[' ? memchr(s + *n, ']', strnlen(s + *n, 40)) : NULL;
        g = s[*n] == '{' ? formula_group(s + *n) : end ? (size_t)(end + 1 - s) - *n : 0;
        if (g == 0 && s[*n] == '{') return ITEM_NONE;
        if (g == 0) break;
    }
    if (m >= 4 && memcmp(s + 2, "frac", 4) == 0 && is_decimal(s[*n])) *n += 1; /* \frac{1}2 */
    if (m == 4 && memcmp(s + 1, "frac", 4) == 0)
        while (is_decimal(s[*n]))
            *n += 1; /* \frac12 */
    if (m == 4 && memcmp(s + 1, "sqrt", 4) == 0 && is_decimal(s[*n])) *n += 1;
    return ITEM_OPERAND;
}

struct run {
    const char *s;
    size_t at;  /* what is read */
    size_t end; /* behind the last item that may end it */
    int depth;
    bool want;      /* an operand must come */
    bool solid;     /* a number, a command or a relation was there */
    bool solid_end; /* the same, up to `end`: what an operator joins to nothing does not count */
    bool last_number;
    int signs; /* in a row */
};

/* Letters at s that are operands here: glued to what is before them, or single beside an operator.
 */
static size_t letter_operand(const struct run *r, const char *s, bool glued) {
    static const char *const names[] = {"sin", "cos", "tan", "log", "ln",  "sqrt", "pi", "exp",
                                        "gcd", "lcm", "max", "min", "mod", "cot",  NULL};
    size_t n = letter_run(s), gap = spaces(s + n);
    const char *next = s + n + gap;
    if (n == 0 || (unsigned char)s[n] >= 0x80 || s[n] == '\'') return 0;
    if (n > 1 && words_have(names, s, n)) return r->at > 0 || *next == '(' || n == 2 ? n : 0;
    if (glued) return n <= 2 ? n : 0;
    bool relation = *next == '=' || *next == '<' || *next == '>' ||
                    strncmp(next, "\xe2\x89", 2) == 0 || strncmp(next, "\\le", 3) == 0 ||
                    strncmp(next, "\\ge", 3) == 0;
    bool named = n <= 3 && relation && isupper((unsigned char)*s);
    if (n > 1) return named ? n : 0;
    if (r->at > 0 && r->want) return 1;
    if (r->depth > 0) return 1;
    if (s[1] == '(' && is_latin(s[2]) && s[3] == ')') return 1;
    if (s[1] == '_' || s[1] == '^') return 1;
    return relation || (*next && formula_is_in(*next, "+*/")) || (s[1] == '-' && is_decimal(s[2]))
               ? 1
               : 0;
}

/* What is read may end here, unless a bracket is open. */
static void may_end(struct run *r) {
    if (r->depth > 0) return;
    r->end = r->at;
    r->solid_end = r->solid;
}

static void operand(struct run *r, size_t n, bool solid, bool number) {
    r->at += n;
    r->want = false;
    r->solid = r->solid || solid;
    r->last_number = number;
    r->signs = 0;
    may_end(r);
}

/* An operator must have as much space before as behind it where it could be a hyphen or emphasis,
 * and something behind it. */
static bool binary(struct run *r, size_t gap, size_t n) {
    const char *s = r->s + r->at + gap;
    size_t behind = spaces(s + n);
    char next = s[n + behind];
    if ((*s == '-' || *s == '*') && (gap > 0) != (behind > 0)) return false;
    if (!next || next == '\n') return false;
    r->at += gap + n + behind;
    r->want = true;
    return true;
}

/* ASCII operators; bytes, 0 if it is none. */
static size_t operator_length(const char *s, enum item *kind) {
    *kind = ITEM_OPERATOR;
    if (formula_is_in(*s, "=<>")) {
        *kind = ITEM_RELATION;
        return s[1] == '=' ? 2 : 1;
    }
    if (*s == '*' && s[1] == '*') return 2;
    return formula_is_in(*s, "+-*/") ? 1 : 0;
}

static bool opens(struct run *r, size_t gap) {
    const char *s = r->s + r->at + gap;
    size_t n = *s == '\\' && s[1] == '{' ? 2 : 1;
    if (!(n == 2 || formula_is_in(*s, "([{")) || r->depth > 20) return false;
    if (!r->want && r->at > 0 && gap > 0) return false; /* "7 (see ...": a tail */
    r->at += gap + n;
    r->depth++;
    r->want = true;
    return true;
}

static bool closes(struct run *r, size_t gap) {
    const char *s = r->s + r->at + gap;
    size_t n = *s == '\\' && s[1] == '}' ? 2 : 1;
    if (!(n == 2 || formula_is_in(*s, ")]}")) || r->depth == 0 || r->want) return false;
    r->at += gap + n;
    r->depth--;
    r->last_number = false;
    may_end(r);
    return true;
}

/* Whether the mark at s goes on with its sentence or formula: "5! ways", "5! + 1". */
static bool is_factorial(const char *s) {
    size_t gap = spaces(s + 1);
    char next = s[1 + gap];
    return formula_is_in(next, "+-*/=)") || (gap > 0 && next >= 'a' && next <= 'z');
}

/* What changes an operand from behind: ^2, _1, %, !, degrees, spacing commands. */
static bool postfix(struct run *r) {
    const char *s = r->s + r->at;
    uint32_t cp = 0;
    size_t n = 0, m;
    if (*s == '^' || *s == '_') {
        size_t p = s[1] == '(' ? strcspn(s + 1, ")\n") + 1 : 0;
        n = 1 + (s[1] == '{' ? formula_group(s + 1) : p > 0 && s[p] == ')' ? p : 0);
        if (n == 1) n += (s[1] == '-') + strspn(s + 1 + (s[1] == '-'), "0123456789");
        if (n == 1 && s[1] == '\\' && command_length(s + 1, &m) == ITEM_OPERAND) n += m;
        if (n == 1 && is_latin(s[1])) n = 2;
        if (n == 1) n = 0;
    } else if (*s == '%') {
        n = 1;
    } else if (*s == '!' && is_factorial(s)) {
        n = 1;
    } else if (*s == '\\' && command_length(s, &m) == ITEM_POSTFIX) {
        n = m;
    } else {
        int len = utf8_decode(s, strnlen(s, 4), &cp);
        if (len > 1 && unicode_item(cp) == ITEM_POSTFIX) n = (size_t)len;
    }
    if (n == 0) return false;
    if (*s == '\\' && s[1] != '%' && !r->depth) { /* spacing ends nothing */
        r->at += n;
        return true;
    }
    operand(r, n, false, r->last_number);
    return true;
}

static bool read_operand(struct run *r, size_t gap) {
    const char *s = r->s + r->at + gap;
    uint32_t cp = 0;
    size_t n, m;
    bool glued = gap == 0 && r->at > 0 && !r->want;
    if (*s == '+' || *s == '-' || strncmp(s, "\xe2\x88\x92", 3) == 0 ||
        strncmp(s, "\xef\xbc\x8d", 3) == 0) { /* a sign */
        if (!r->want) return false;
        n = *s == '+' || *s == '-' ? 1 : 3;
        if (isspace((unsigned char)s[n]) || (n == 1 && s[n] == *s) || r->signs++ > 0) return false;
        r->at += gap + n;
        return true;
    }
    if ((n = bare_number_length(s)) > 0) {
        size_t den = n + strspn(s + n, "/");
        bool mixed = r->last_number && gap > 0 && s[n] == '/' && is_decimal(s[den]);
        if (!r->want && !mixed) return false;
        if (mixed) n = den + strspn(s + den, "0123456789");
        operand(r, gap + n, true, true);
        return true;
    }
    if (*s == '.' && is_decimal(s[1]) && r->want) {
        operand(r, gap + 1 + strspn(s + 1, "0123456789"), true, true);
        return true;
    }
    struct formula_span inside;
    if (r->want && (n = environment(&inside, s)) > 0) {
        operand(r, gap + n, true, false);
        return true;
    }
    if (*s == '\\' && command_length(s, &m) == ITEM_OPERAND && s[1] != '{' && s[1] != '}') {
        operand(r, gap + m, true, false);
        return true;
    }
    if ((n = letter_operand(r, s, glued)) > 0 && (r->want || glued)) {
        operand(r, gap + n, false, false);
        return true;
    }
    int len = utf8_decode(s, strnlen(s, 4), &cp);
    enum item kind = len > 1 ? unicode_item(cp) : ITEM_NONE;
    if ((kind == ITEM_OPERAND || kind == ITEM_NUMBER) && (r->want || glued)) {
        r->at += gap + (size_t)len;
        r->want = cp == 0x221a || cp == 0x221b; /* a root of something */
        r->solid = r->solid || cp < 0x391 || cp > 0x3c9 || r->at > gap + (size_t)len;
        r->last_number = false;
        if (!r->want) may_end(r);
        return true;
    }
    return false;
}

/* An operator or a comma in brackets, behind an operand. */
static bool read_operator(struct run *r, size_t gap) {
    const char *s = r->s + r->at + gap;
    enum item kind;
    uint32_t cp = 0;
    size_t n = operator_length(s, &kind);
    if (n == 0 && *s == ',' && r->depth > 0) n = 1;
    if (n == 0 && *s == '\\') {
        kind = command_length(s, &n);
        if (kind != ITEM_OPERATOR && kind != ITEM_RELATION) n = 0;
    }
    if (n == 0 && (unsigned char)*s >= 0x80) {
        int len = utf8_decode(s, strnlen(s, 4), &cp);
        kind = len > 0 ? unicode_item(cp) : ITEM_NONE;
        if (kind == ITEM_OPERATOR || kind == ITEM_RELATION) n = (size_t)len;
    }
    if (n == 0 && *s == 'x' && gap > 0 && s[1] == ' ' && is_decimal(s[2])) n = 1; /* 2 x 3 */
    if (n == 0 || !binary(r, gap, n)) return false;
    r->solid = r->solid || !formula_is_in(*s, ",/"); /* "A/B" is no formula */
    return true;
}

/* Where the run may begin: not in the middle of a word, a number or a path. */
static bool may_begin(const char *text, const char *s) {
    if (s == text) return true;
    char before = s[-1];
    if (is_latin(*s) || *s == '.') return !is_latin(before) && !is_decimal(before);
    if (*s == '-' || *s == '+') return !is_latin(before) && !is_decimal(before) && before != *s;
    return !is_decimal(before);
}

size_t formula_bare(const char *text, const char *s) {
    struct run r = {.s = s, .want = true};
    enum item kind = ITEM_NONE;
    size_t n;
    if (isspace((unsigned char)*s) || !may_begin(text, s)) return 0;
    if (*s != '=' && (n = operator_length(s, &kind)) > 0 && kind == ITEM_RELATION) {
        r.at = n + spaces(s + n); /* "< 5" */
        r.solid = true;
    } else if (strncmp(s, "\xe2\x89", 3 - 1) == 0) {
        r.at = 3 + spaces(s + 3);
        r.solid = true;
    }
    size_t first = r.at;
    while (r.s[r.at] && r.at < BARE_BYTES) {
        size_t gap = spaces(r.s + r.at);
        if (!r.want && gap == 0 && postfix(&r)) continue;
        if (opens(&r, gap) || closes(&r, gap)) continue;
        if (read_operand(&r, gap)) continue;
        if (r.want || !read_operator(&r, gap)) break;
    }
    return r.solid_end && r.end > first ? r.end : 0;
}

/* ---- what it comes to ---- */

static struct formula_span trimmed(const char *s, const char *end) {
    while (s < end && (isspace((unsigned char)*s) || *s == '&'))
        s++;
    while (end > s && isspace((unsigned char)end[-1]))
        end--;
    return (struct formula_span){s, (size_t)(end - s)};
}

/* Whether the command at s[0..n) is \\name. */
static bool is_bare_command(const char *s, const char *name) {
    size_t m = strlen(name);
    return s[0] == '\\' && strncmp(s + 1, name, m) == 0 && !is_latin(s[1 + m]);
}

/* The environment of lines that f ends with, maybe behind something. */
static struct formula_span final_lines(struct formula_span f) {
    static const char *const lines[] = {
        "align",    "align*",   "aligned",  "gather",    "gather*",   "gathered", "split",
        "eqnarray", "equation", "multline", "equation*", "eqnarray*", NULL};
    static const char begin[] = "\\begin{";
    const char *end = f.s + f.n, *s = f.s;
    struct formula_span inside;
    while ((s = memmem(s, (size_t)(end - s), begin, sizeof begin - 1)) != NULL) {
        size_t n = strcspn(s + 7, "}");
        if (words_have(lines, s + 7, n) && environment(&inside, s) == (size_t)(end - s))
            return inside;
        s += sizeof begin - 1;
    }
    return (struct formula_span){0};
}

/* The last line that is not blank of an environment of lines; else f. */
static struct formula_span last_line(struct formula_span f) {
    struct formula_span lines = final_lines(f), best = f;
    if (!lines.s) return f;
    const char *s = lines.s + 8 + strcspn(lines.s + 7, "}"), *end = lines.s + lines.n - 1;
    while (end > s && *end != '\\')
        end--; /* \\end{...} */
    const char *row = s;
    int depth = 0; /* of environments inside: their rows are not ours */
    for (; s < end; s++) {
        if (*s != '\\') continue;
        depth += is_bare_command(s, "begin") - is_bare_command(s, "end");
        if (s[1] == '\\' && depth == 0) {
            if (trimmed(row, s).n > 0) best = trimmed(row, s);
            row = s + 2;
        }
        s++;
    }
    return row < end && trimmed(row, end).n > 0 ? trimmed(row, end) : best;
}

/* Whether s[0..n) is a calculation: it has no variable. Words in braces are none. */
static bool is_calculation(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\\') {
            size_t m = letter_run(s + i + 1);
            bool words = (m >= 4 && memcmp(s + i + 1, "text", 4) == 0) ||
                         (m == 6 && memcmp(s + i + 1, "mathrm", 6) == 0) ||
                         is_bare_command(s + i, "begin") || is_bare_command(s + i, "end");
            i += m > 0 ? m : 1;
            if (words && s[i + 1] == '{') i += formula_group(s + i + 1);
        } else if (is_latin(s[i])) {
            bool times = s[i] == 'x' && i > 0 && s[i - 1] == ' ' && s[i + 1] == ' ';
            if (!times) return false; /* "3 x 4" has no variable */
        }
    }
    return true;
}

/* What stands at top level in a formula. */
struct outline {
    size_t n_equal;
    const char *last_equal, *implied; /* behind the last of them */
    const char *modulus;              /* \\pmod and the like behind the last \\equiv */
    bool list, order;                 /* a comma, "and" or "or"; < and the like behind the last = */
};

static void outline_command(struct outline *o, const char *s) {
    static const char *const implies[] = {
        "implies", "Rightarrow", "Longrightarrow", "therefore", "Longleftarrow", "iff", NULL};
    size_t m = letter_run(s + 1);
    if (words_have(implies, s + 1, m)) {
        *o = (struct outline){.implied = s + 1 + m};
    } else if (is_bare_command(s, "equiv")) { /* 17 \\equiv 2 \\pmod{5} comes to 2 */
        o->n_equal += 2;
        o->last_equal = s + 1 + m;
        o->modulus = NULL;
    } else if (o->last_equal && !o->modulus &&
               (is_bare_command(s, "pmod") || is_bare_command(s, "bmod") ||
                is_bare_command(s, "mod"))) {
        o->modulus = s;
    } else if (is_bare_command(s, "le") || is_bare_command(s, "leq") || is_bare_command(s, "ge") ||
               is_bare_command(s, "geq") || is_bare_command(s, "lt") || is_bare_command(s, "gt")) {
        o->order = true;
    } else if (m >= 4 && memcmp(s + 1, "text", 4) == 0 && s[1 + m] == '{') {
        const char *word = s + 2 + m + spaces(s + 2 + m);
        o->list = o->list || strncmp(word, "or", 2) == 0 || strncmp(word, "and", 3) == 0;
    }
}

/* Signs count at depth 0 only: the = of \sum_{i=1} says nothing about the formula. */
static struct outline outline(struct formula_span f) {
    struct outline o = {0};
    int depth = 0;
    for (const char *s = f.s; s < f.s + f.n; s++) {
        if (*s == '\\') {
            depth += is_bare_command(s, "begin") - is_bare_command(s, "end");
            if (s[1] == '{') depth++;
            if (s[1] == '}') depth--;
            if (depth == 0) outline_command(&o, s);
            s++;
        } else if (formula_is_in(*s, "([{")) {
            depth++;
        } else if (formula_is_in(*s, ")]}")) {
            depth--;
        } else if (depth == 0 && *s == '=' && !(s > f.s && formula_is_in(s[-1], "<>!:=")) &&
                   s[1] != '=') {
            o.n_equal++;
            o.last_equal = s + 1;
            o.order = false;
        } else if (depth == 0 && (*s == '<' || *s == '>')) {
            o.order = true;
        } else if (depth == 0 && (*s == ',' || *s == ';') && !is_decimal(s[1]) && s[1] != '\\') {
            o.list = true;
        }
    }
    return o;
}

struct formula_span formula_result(struct formula_span f) {
    const char *end = f.s + f.n;
    f = last_line(trimmed(f.s, end));
    end = f.s + f.n;
    while (f.n > 0 && formula_is_in(end[-1], ".,;") && (f.n < 2 || end[-2] != '\\')) {
        end--;
        f = trimmed(f.s, end);
        end = f.s + f.n;
    }
    struct outline o = outline(f);
    if (o.implied && trimmed(o.implied, end).n > 0) f = trimmed(o.implied, end);
    if (o.list || o.order || o.n_equal == 0 || trimmed(o.last_equal, end).n == 0) return f;
    struct formula_span last = trimmed(o.last_equal, o.modulus ? o.modulus : end);
    bool sum = is_calculation(f.s, (size_t)(o.last_equal - 1 - f.s)) && !formula_is_name(last);
    return o.n_equal > 1 || sum ? last : f; /* "5 = x" is whole */
}

bool formula_is_name(struct formula_span f) {
    static const char *const values[] = {"pi",   "infty", "emptyset", "varnothing", "frac", "dfrac",
                                         "sqrt", "text",  "tfrac",    "begin",      NULL};
    f = trimmed(f.s, f.s + f.n);
    for (size_t i = 0; i < f.n; i++) {
        size_t m = f.s[i] == '\\' ? letter_run(f.s + i + 1) : 0;
        if (m > 0 && words_have(values, f.s + i + 1, m)) return false;
        i += m;
        bool ok = m > 0 || is_latin(f.s[i]) || formula_is_in(f.s[i], " (),'{}_\\") ||
                  (i > 0 && is_decimal(f.s[i]) && formula_is_in(f.s[i - 1], "_{"));
        if (!ok) return false;
    }
    return f.n > 0;
}

/* ---- its edges ---- */

/* Whether s[i] is escaped: behind an odd number of backslashes. */
static bool is_escaped(const char *s, size_t i) {
    enum { MOST = 64 }; /* of backslashes that are looked at */
    size_t n = 0;
    while (n < i && n < MOST && s[i - 1 - n] == '\\')
        n++;
    return n % 2 == 1;
}

/* Bytes of the spacing command that ends a: "\,", "\ ", "\quad". */
static size_t space_at_end(struct formula_span a) {
    static const char *const command[] = {"\\quad",      "\\qquad", "\\enspace",
                                          "\\thinspace", "\\hfill", NULL};
    if (a.n >= 2 && formula_is_in(a.s[a.n - 1], ",;:!> \t\r\n\\") && is_escaped(a.s, a.n - 1))
        return 2;
    for (size_t i = 0; command[i]; i++) {
        size_t n = strlen(command[i]);
        if (a.n >= n && memcmp(a.s + a.n - n, command[i], n) == 0 && !is_escaped(a.s, a.n - n))
            return n;
    }
    return 0;
}

static size_t space_at_start(struct formula_span a) {
    if (a.n >= 2 && a.s[0] == '\\' && formula_is_in(a.s[1], ",;:!> ")) return 2;
    if (a.n >= 5 && memcmp(a.s, "\\quad", 5) == 0 && !isalpha((unsigned char)a.s[5])) return 5;
    return 0;
}

/* 0.333...: the dots belong to the number. */
static bool ends_in_decimal_dots(struct formula_span a) {
    size_t n = a.n;
    if (n < 3 || memcmp(a.s + n - 3, "...", 3) != 0) return false;
    for (n -= 3; n > 0 && isdigit((unsigned char)a.s[n - 1]);)
        n--;
    return n > 0 && n < a.n - 3 && a.s[n - 1] == '.';
}

/* Until nothing more comes off: what is at an edge may hide behind something else ("**$5$.**"). */
struct formula_span formula_strip(struct formula_span a) {
    static const char edge[] = " \t\r\n$*_`\"~";
    while (a.n > 0) {
        const char *end = a.s + a.n - 1;
        size_t n;
        if (formula_is_in(*a.s, edge) && !(*a.s == '_' && a.n > 1)) {
            a.s++;
            a.n--;
        } else if ((n = space_at_start(a)) > 0) {
            a.s += n;
            a.n -= n;
        } else if ((n = space_at_end(a)) > 0) {
            a.n -= n;
        } else if ((formula_is_in(*end, edge) || formula_is_in(*end, ".,;:")) &&
                   !is_escaped(a.s, a.n - 1) && !ends_in_decimal_dots(a)) {
            a.n--;
        } else if (a.n >= 4 && a.s[0] == '\\' && formula_is_in(a.s[1], "([") && end[-1] == '\\' &&
                   formula_is_in(*end, ")]")) {
            a.s += 2;
            a.n -= 4;
        } else {
            break;
        }
    }
    return a;
}
