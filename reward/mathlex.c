/* mathlex.c - in two passes. The first rewrites the text into plain ASCII: Unicode signs become
 * commands, decoration goes away. The second cuts tokens and decides what letters mean: a run of
 * letters is a function, a unit or word (four letters or more, or a known unit), or a product of
 * one-letter variables. Words are then dropped with their exponents, so that "5 cm^2" is 5; "and"
 * and "or" separate like a comma.
 *
 * The tables are the knowledge; the code around them is only longest-prefix search. */
#include "reward/mathlex.h"

#include "base/buf.h"

#include <ctype.h>
#include <string.h>

struct pair {
    const char *from, *to;
};

/* First match wins. */
static const struct pair rewrite[] = {
    {"\\\\", "\\\\"},
    {"\\%", "%"},
    {"\\$", ""},
    {"$", ""},
    {"\\(", ""},
    {"\\)", ""},
    {"\\[", ""},
    {"\\]", ""},
    {"^\\circ", "\\degree "},
    {"^{\\circ}", "\\degree "},
    {"^\\degree", "\\degree "},
    {"^{\\prime}", "'"},
    {"^\\prime", "'"},
    {"\\,", " "},
    {"\\;", " "},
    {"\\:", " "},
    {"\\!", ""},
    {"\\ ", " "},
    {"~", " "},
    {"`", ""},
    {"\"", ""},
    {"\xe2\x88\x92", "-"},
    {"\xe2\x80\x93", "-"},
    {"\xc3\x97", "*"},
    {"\xc2\xb7", "*"},
    {"\xe2\x8b\x85", "*"},
    {"\xc3\xb7", "/"},
    {"\xe2\x88\x9a", "\\sqrt "},
    {"\xcf\x80", "\\pi "},
    {"\xe2\x88\x9e", "\\infty "},
    {"\xc2\xb0", "\\degree "},
    {"\xe2\x89\xa4", "\\le "},
    {"\xe2\x89\xa5", "\\ge "},
    {"\xe2\x89\xa0", "\\ne "},
    {"\xe2\x88\xaa", "\\cup "},
    {"\xe2\x88\x88", "\\in "},
    {"\xc2\xb1", "\\pm "},
    {"\xc2\xb2", "^{2}"},
    {"\xc2\xb3", "^{3}"},
    {"\xc2\xbd", "\\frac{1}{2}"},
    {"\xc2\xbc", "\\frac{1}{4}"},
    {"\xc2\xbe", "\\frac{3}{4}"},
    {"\xc2\xa0", " "},
    {"\xe2\x82\xac", ""},
    {"\xc2\xa3", ""},
    {"\xc2\xa2", ""},
    {"\xe2\x85\x93", "\\frac{1}{3}"},
    {NULL, NULL},
};

/* Commands that are one sign. */
static const struct {
    const char *name;
    char punct;
} signs[] = {
    {"times", '*'},
    {"cdot", '*'},
    {"ast", '*'},
    {"div", '/'},
    {"le", MATHLEX_LE},
    {"leq", MATHLEX_LE},
    {"leqslant", MATHLEX_LE},
    {"ge", MATHLEX_GE},
    {"geq", MATHLEX_GE},
    {"geqslant", MATHLEX_GE},
    {"lt", '<'},
    {"gt", '>'},
    {"ne", MATHLEX_NE},
    {"neq", MATHLEX_NE},
    {"in", MATHLEX_IN},
    {"cup", MATHLEX_UNION},
    {"pm", MATHLEX_PLUS_MINUS},
    {"lvert", '|'},
    {"rvert", '|'},
    {"vert", '|'},
    {"mid", '|'},
    {"langle", '('},
    {"rangle", ')'},
    {"lbrace", MATHLEX_SET_OPEN},
    {"rbrace", MATHLEX_SET_CLOSE},
    {"emptyset", MATHLEX_EMPTY},
    {"varnothing", MATHLEX_EMPTY},
    {"lbrack", '['},
    {"rbrack", ']'},
    {"colon", ':'},
    {"bigcup", MATHLEX_UNION},
    {"approx", MATHLEX_APPROX},
    {"simeq", MATHLEX_APPROX},
    {"equiv", MATHLEX_EQUIV},
    {"degree", MATHLEX_DEGREE},
    {"mp", MATHLEX_MINUS_PLUS},
    {"cap", MATHLEX_INTERSECT},
    {"bigcap", MATHLEX_INTERSECT},
    {"setminus", MATHLEX_WITHOUT},
    {"backslash", MATHLEX_WITHOUT},
    {"to", MATHLEX_TO},
    {"rightarrow", MATHLEX_TO},
    {"lfloor", MATHLEX_FLOOR_OPEN},
    {"rfloor", MATHLEX_FLOOR_CLOSE},
    {"lceil", MATHLEX_CEIL_OPEN},
    {"rceil", MATHLEX_CEIL_CLOSE},
};

/* Commands that only change the looks; their argument is read as if it were bare. */
static const char *const skipped[] = {
    "left",       "right",      "big",    "Big",    "bigl",    "bigr",         "Bigl",
    "Bigr",       "bigg",       "Bigg",   "quad",   "qquad",   "displaystyle", "textstyle",
    "limits",     "boldsymbol", "mathbf", "mathit", "mathcal", "boxed",        "fbox",
    "ensuremath", "bf",         "rm",     "it",     NULL};

/* Commands whose argument is words. */
static const char *const texts[] = {"text",   "mbox",   "mathrm",       "textbf", "textrm",
                                    "textit", "textsf", "operatorname", "hbox",   NULL};

static const char *const functions[] = {
    "sin",  "cos",    "tan",    "cot",    "sec",    "csc",    "arcsin", "arccos", "arctan", "sinh",
    "cosh", "tanh",   "log",    "ln",     "exp",    "lg",     "sqrt",   "frac",   "binom",  "gcd",
    "lcm",  "max",    "min",    "deg",    "det",    "arccot", "arcsec", "arccsc", "coth",   "sech",
    "csch", "mod",    "bmod",   "pmod",   "floor",  "ceil",   "abs",    "sum",    "prod",   "int",
    "lim",  "dbinom", "tbinom", "arsinh", "arcosh", "artanh", "Re",     "Im",     NULL};

/* Short words that are no product of variables; from four letters on every word is one. */
static const char *const units[] = {"cm",  "mm",  "km",  "nm",  "kg",  "mg",  "lb",  "lbs", "oz",
                                    "ml",  "mL",  "ft",  "in",  "sq",  "yd",  "yds", "mi",  "hr",
                                    "hrs", "sec", "min", "mph", "kph", "rpm", "day", "am",  "pm",
                                    "AM",  "PM",  "per", "deg", "rad", "cup", "the", "is",  "are",
                                    "of",  "USD", "a.m", "way", "dm",  "ms",  NULL};

static bool is_one_of(const char *const *list, const char *s, size_t n) {
    for (; *list; list++)
        if (strlen(*list) == n && memcmp(*list, s, n) == 0) return true;
    return false;
}

/* Exactly three digits: what a thousands separator must stand before. */
static bool digits3(const char *s) {
    return isdigit((unsigned char)s[0]) && isdigit((unsigned char)s[1]) &&
           isdigit((unsigned char)s[2]) && !isdigit((unsigned char)s[3]);
}

/* Bytes of a LaTeX thousands separator at s: {,} ,\! \, and the spaces behind the second. */
static size_t thousands(const char *s) {
    static const char *const form[] = {"{,}", ",\\!", "\\,", NULL};
    for (size_t i = 0; form[i]; i++) {
        size_t n = strlen(form[i]);
        if (strncmp(s, form[i], n) != 0) continue;
        if (i == 1) n += strspn(s + n, " ");
        if (digits3(s + n)) return n;
    }
    return 0;
}

/* ** is a power between operands ("x**2"), emphasis elsewhere. */
static const char *stars(const char *text, const char *s) {
    bool left = s > text && (isalnum((unsigned char)s[-1]) || s[-1] == ')');
    return left && (isalnum((unsigned char)s[2]) || s[2] == '(' || s[2] == '-') ? "^" : " ";
}

/* The first pass: text in plain ASCII, as far as it means something here. */
static void clean(struct buf *out, const char *text) {
    for (const char *s = text; *s;) {
        const struct pair *p = rewrite;
        size_t n = s > text && isdigit((unsigned char)s[-1]) ? thousands(s) : 0;
        if (n > 0) {
            s += n;
            continue;
        }
        if (s[0] == '*' && s[1] == '*') {
            buf_str(out, stars(text, s));
            s += 2;
            continue;
        }
        while (p->from && strncmp(s, p->from, strlen(p->from)) != 0)
            p++;
        if (p->from)
            buf_str(out, p->to);
        else
            buf_add(out, s, 1);
        s += p->from ? strlen(p->from) : 1;
    }
    buf_str(out, "");
}

struct lexer {
    struct mathlex_token *out;
    size_t n;
    int depth; /* of brackets */
    bool commas, space, bad;
};

/* Appends a token; the last place is kept for the END. */
static void emit(struct lexer *l, enum mathlex_kind kind, char punct, const char *s, size_t n) {
    if (l->n >= MATHLEX_TOKENS - 1) {
        l->bad = true;
        return;
    }
    bool commas = kind == MATHLEX_NUMBER && l->commas && l->depth == 0;
    l->out[l->n++] = (struct mathlex_token){kind, punct, l->space, commas, s, n};
    l->space = false;
}

/* Whether the cycle of a repeating decimal is marked at s. */
static bool marks_cycle(const char *s) {
    return strncmp(s, "\\overline", 9) == 0 || strncmp(s, "\\bar", 4) == 0 ||
           strncmp(s, "\\dot{", 5) == 0;
}

/* Digits at s with their thousands, fraction and exponent. */
static size_t number_length(const struct lexer *l, const char *s) {
    size_t n = strspn(s, "0123456789");
    if (l->commas && l->depth == 0 && n >= 1 && n <= 3)
        while (s[n] == ',' && digits3(s + n + 1))
            n += 4;
    if (s[n] == '.' && isdigit((unsigned char)s[n + 1])) n += 1 + strspn(s + n + 1, "0123456789");
    if (n > 0 && s[n] == '.' && marks_cycle(s + n + 1)) n++;
    if (n > 0 && (s[n] == 'e' || s[n] == 'E')) {
        size_t m = n + 1 + (s[n + 1] == '-' || s[n + 1] == '+');
        size_t d = strspn(s + m, "0123456789");
        if (d > 0 && !isalpha((unsigned char)s[m + d])) n = m + d;
    }
    return n;
}

/* "degrees" behind a value is its sign: in an argument of a function it matters. */
static bool is_degrees(const struct lexer *l, const char *s, size_t n) {
    const struct mathlex_token *last = l->n > 0 ? &l->out[l->n - 1] : NULL;
    return ((n == 6 && memcmp(s, "degree", 6) == 0) || (n == 7 && memcmp(s, "degrees", 7) == 0)) &&
           last && (last->kind == MATHLEX_NUMBER || last->punct == ')' || last->punct == '}');
}

/* A run of letters without a backslash. */
static void read_letters(struct lexer *l, const char *s, size_t n) {
    if ((n == 3 && memcmp(s, "and", 3) == 0) || (n == 2 && memcmp(s, "or", 2) == 0))
        emit(l, MATHLEX_PUNCT, ',', s, 1);
    else if (n == 2 && memcmp(s, "pi", 2) == 0)
        emit(l, MATHLEX_SYMBOL, 0, s, n);
    else if (is_degrees(l, s, n))
        emit(l, MATHLEX_PUNCT, MATHLEX_DEGREE, s, n);
    else if (n > 1 && is_one_of(units, s, n))
        emit(l, MATHLEX_TEXT, 0, s, n);
    else if (is_one_of(functions, s, n))
        emit(l, MATHLEX_COMMAND, 0, s, n);
    else if (n == 8 && memcmp(s, "infinity", 8) == 0)
        emit(l, MATHLEX_SYMBOL, 0, "infty", 5);
    else if (n >= 4)
        emit(l, MATHLEX_TEXT, 0, s, n);
    else
        for (size_t i = 0; i < n; i++)
            emit(l, MATHLEX_SYMBOL, 0, s + i, 1);
}

/* Bytes up to the brace that closes the one at s, both included; 0 if none does. */
static size_t group_length(const char *s) {
    int depth = 0;
    for (size_t i = 0; s[i]; i++) {
        if (s[i] == '{') depth++;
        if (s[i] == '}' && --depth == 0) return i + 1;
    }
    return 0;
}

/* Whether a letter in upright type is a name, not a unit: e, i and the d of a differential always,
 * a capital where it does not follow a number. */
static bool is_letter_name(const struct lexer *l, char c) {
    if (strchr("eid", c)) return true;
    return isupper((unsigned char)c) && (l->n == 0 || l->out[l->n - 1].kind == MATHLEX_PUNCT) &&
           !(l->n > 0 && strchr(")}]", l->out[l->n - 1].punct));
}

/* \text{...}: words, unless it holds a digit or a bracket first; "and" and "or" separate. */
static size_t read_text(struct lexer *l, const char *s) {
    size_t n = *s == '{' ? group_length(s) : 0, start = 1, end;
    if (n == 0) return 0;
    end = n - 1;
    while (start < end && isspace((unsigned char)s[start]))
        start++;
    while (end > start && isspace((unsigned char)s[end - 1]))
        end--;
    if (s[start] == '(') return 0; /* \text{(B)} */
    for (size_t i = start; i < end; i++)
        if (isdigit((unsigned char)s[i])) return 0; /* the group is read as if bare */
    if (end == start + 1 && is_letter_name(l, s[start])) return 0; /* \mathrm{e} */
    bool unit = is_one_of(units, s + start, end - start) && s[n] != '(' && s[n] != '\\';
    if (!unit && is_one_of(functions, s + start, end - start)) { /* \operatorname{lcm} */
        emit(l, MATHLEX_COMMAND, 0, s + start, end - start);
        return n;
    }
    bool separator = (end - start == 3 && memcmp(s + start, "and", 3) == 0) ||
                     (end - start == 2 && memcmp(s + start, "or", 2) == 0);
    if (separator)
        emit(l, MATHLEX_PUNCT, ',', s + start, 1);
    else if (is_degrees(l, s + start, end - start))
        emit(l, MATHLEX_PUNCT, MATHLEX_DEGREE, s + start, end - start);
    else if (end > start)
        emit(l, MATHLEX_TEXT, 0, s + start, end - start);
    return n;
}

/* A command behind its backslash; s is its name. Bytes read. */
static size_t read_command(struct lexer *l, const char *s) {
    size_t n = 0;
    while (isalpha((unsigned char)s[n]))
        n++;
    if (n == 0) {
        char c = *s == '{' ? MATHLEX_SET_OPEN : *s == '}' ? MATHLEX_SET_CLOSE : MATHLEX_ROW;
        if (*s != '{' && *s != '}' && *s != '\\') l->bad = true;
        l->depth += (*s == '{') - (*s == '}');
        emit(l, MATHLEX_PUNCT, c, s, 1);
        return *s != 0;
    }
    if (is_one_of(skipped, s, n)) return n + (s[n] == '.' && (s[0] == 'l' || s[0] == 'r'));
    if (is_one_of(texts, s, n)) return n + read_text(l, s + n);
    if ((n == 5 && memcmp(s, "begin", 5) == 0) || (n == 3 && memcmp(s, "end", 3) == 0)) {
        size_t m = s[n] == '{' ? group_length(s + n) : 0;
        if (m == 0) l->bad = true;
        if (m > 0)
            emit(l, MATHLEX_PUNCT, n == 5 ? MATHLEX_BEGIN : MATHLEX_FINISH, s + n + 1, m - 2);
        return n + m;
    }
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (strlen(signs[i].name) == n && memcmp(signs[i].name, s, n) == 0) {
            emit(l, MATHLEX_PUNCT, signs[i].punct, s, n);
            return n;
        }
    if (n == 5 && memcmp(s + 1, "frac", 4) == 0) { /* dfrac, tfrac, cfrac */
        emit(l, MATHLEX_COMMAND, 0, s + 1, 4);
        return n;
    }
    emit(l, is_one_of(functions, s, n) ? MATHLEX_COMMAND : MATHLEX_SYMBOL, 0, s, n);
    return n;
}

/* One token of the second pass; returns the bytes read, at least 1. A character that no answer
 * holds makes the text unreadable. */
static size_t read_token(struct lexer *l, const char *s) {
    size_t n = number_length(l, s);
    if (n > 0) {
        emit(l, MATHLEX_NUMBER, 0, s, n);
        return n;
    }
    if (isalpha((unsigned char)*s)) {
        while (isalpha((unsigned char)s[n]))
            n++;
        read_letters(l, s, n);
        return n;
    }
    if (*s == '\\') return 1 + read_command(l, s + 1);
    if (*s == '<' && s[1] == '=') {
        emit(l, MATHLEX_PUNCT, MATHLEX_LE, s, 2);
        return 2;
    }
    if (*s == '>' && s[1] == '=') {
        emit(l, MATHLEX_PUNCT, MATHLEX_GE, s, 2);
        return 2;
    }
    if (!strchr("+-*/^_()[]{}|,;=<>%!&:'", *s)) l->bad = true;
    if (strchr("([{", *s)) l->depth++;
    if (strchr(")]}", *s)) l->depth--;
    emit(l, MATHLEX_PUNCT, *s, s, 1);
    return 1;
}

static bool is_punct(const struct mathlex_token *t, char c) {
    return t->kind == MATHLEX_PUNCT && t->punct == c;
}

/* Tokens of "^2" or "^{2}" at t. */
static size_t exponent_length(const struct mathlex_token *t) {
    if (!is_punct(t, '^')) return 0;
    if (t[1].kind == MATHLEX_NUMBER) return 2;
    return is_punct(&t[1], '{') && t[2].kind == MATHLEX_NUMBER && is_punct(&t[3], '}') ? 4 : 0;
}

/* Leaves out words and their exponents; whether nothing but words and punctuation was there. */
static bool drop_words(struct lexer *l) {
    bool words = false, other = false;
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (l->out[i].kind == MATHLEX_TEXT) {
            words = true;
            i += exponent_length(&l->out[i + 1]);
            continue;
        }
        other = other || l->out[i].kind != MATHLEX_PUNCT || l->out[i].punct == MATHLEX_EMPTY;
        l->out[n++] = l->out[i];
    }
    l->n = n;
    return words && !other;
}

size_t mathlex_read(struct mathlex_token out[MATHLEX_TOKENS], bool *only_words, const char *text,
                    bool commas, struct arena *arena) {
    struct lexer l = {.out = out, .commas = commas};
    struct buf b = {0};
    if (strlen(text) > MATHLEX_BYTES) return 0;
    clean(&b, text);
    const char *s = arena_strndup(arena, b.data ? b.data : "", b.len);
    buf_close(&b);
    while (*s && !l.bad) {
        if (isspace((unsigned char)*s)) {
            l.space = true;
            s++;
        } else if (strncmp(s, "...", 3) == 0) {
            emit(&l, MATHLEX_SYMBOL, 0, "dots", 4);
            s += 3;
        } else if (*s == '.' && !isdigit((unsigned char)s[1])) {
            s++; /* the end of a sentence */
        } else {
            s += read_token(&l, s);
        }
    }
    memset(&out[l.n], 0, sizeof out[0] * (MATHLEX_TOKENS - l.n)); /* ENDs, for looking ahead */
    *only_words = drop_words(&l);
    memset(&out[l.n], 0, sizeof out[0] * (MATHLEX_TOKENS - l.n));
    return l.bad ? 0 : l.n + 1;
}
