/* tokenizer_onig.c - from an Oniguruma pattern to a PCRE2 pattern with the same matches.
 *
 * Both backtrack, both prefer the first alternative, so only the atoms differ: \s has U+180E in
 * PCRE2, \w is another set, \h and \v mean other things, {n,m}+ is a repeated repeat and not
 * possessive, ^ and $ know lines, and the two libraries are of different Unicode versions (what is
 * newer in the reference is added to each class from tokenizer_tables.c). So every atom is parsed
 * and written anew; what is not understood is ERR_UNSUP with its position, never passed through.
 *
 * Measured over all code points, PCRE2 10.42 (Unicode 14) lacks 10,294 characters that the
 * reference's Oniguruma (Unicode 16) knows, and differs otherwise in one category of one character
 * (U+1171E, Mn to Mc); so \p{Mn}, \p{C} and \p{Cn}, which would need something taken away, are
 * unsupported, and every other general category and the scripts listed below are exact.
 *
 * Under (?i) only ASCII is accepted, without the pairs to which one character folds (ss, st, ff,
 * fi, fl): there Oniguruma matches one character against two, PCRE2 does not. */
#include "actor/text/tokenizer_regex.h"
#include "actor/text/tokenizer_tables.h"
#include "base/buf.h"
#include "base/utf8.h"

#include <string.h>

enum { DEPTH_MAX = 64, NAME_MAX_BYTES = 40 };

struct tr {
    struct buf *out;
    const char *start, *p, *end, *where;
    size_t atom;       /* where in out the last atom starts; SIZE_MAX: nothing to repeat */
    uint32_t last;     /* last literal, for the pairs under (?i); 0: none */
    int depth, unions; /* of groups; of classes in a class */
    struct {
        size_t at; /* where in out the group starts */
        bool caseless, look;
    } group[DEPTH_MAX];
};

static const char word_class[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

static int unsup(const struct tr *t, const char *what) {
    return FAIL(ERR_UNSUP, "%s: character %zu of the regular expression: %s is not supported",
                t->where, (size_t)(t->p - t->start), what);
}

static int broken(const struct tr *t, const char *what) {
    return FAIL(ERR_CORRUPT, "%s: character %zu of the regular expression: %s", t->where,
                (size_t)(t->p - t->start), what);
}

static bool next_is(const struct tr *t, const char *s) {
    size_t n = strlen(s);
    return (size_t)(t->end - t->p) >= n && memcmp(t->p, s, n) == 0;
}

static bool take_if(struct tr *t, const char *s) {
    if (!next_is(t, s)) return false;
    t->p += strlen(s);
    return true;
}

static bool is_alnum(uint32_t c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static void emit_range(struct buf *b, uint32_t first, uint32_t last) {
    buf_printf(b, first == last ? "\\x{%X}" : "\\x{%X}-\\x{%X}", first, last);
}

static void emit_space(struct buf *b, bool negated) {
    uint32_t from = 0;
    for (uint32_t cp = 0; cp <= 0x3001; cp++) {
        bool space = tokenizer_unicode_is_space(cp);
        if (space && !negated) emit_range(b, cp, cp);
        if (space && negated && cp > from) emit_range(b, from, cp - 1);
        if (space) from = cp + 1;
    }
    if (negated) emit_range(b, from, 0x10FFFF);
}

/* Alone, \w and \b ask a table for Latin-1, which calls superscripts and fractions words; the
 * ranges that stand for \w in a class do not. */
static void emit_word(struct buf *b, bool in_class) {
    buf_str(b, word_class);
    for (int i = 0; i < tokenizer_tables_onig_word_n; i++) {
        struct tokenizer_tables_range r = tokenizer_tables_onig_word[i];
        if (!in_class || r.first > 0xFF) emit_range(b, r.first, r.last);
    }
}

/* A general category or one of their first letters ("L"), with what is newer than PCRE2. */
static void emit_category(struct buf *b, const char *name) {
    buf_printf(b, "\\p{%s}", name);
    size_t n = strlen(name);
    for (int i = 0; i < tokenizer_tables_category_n; i++) {
        const struct tokenizer_tables_named *r = &tokenizer_tables_category[i];
        if (memcmp(r->name, name, n) == 0) emit_range(b, r->first, r->last);
    }
}

static void emit_script(struct buf *b, const char *name) {
    buf_printf(b, "\\p{sc:%s}", name);
    for (int i = 0; i < tokenizer_tables_script_n; i++) {
        const struct tokenizer_tables_named *r = &tokenizer_tables_script[i];
        if (strcmp(r->name, name) == 0) emit_range(b, r->first, r->last);
    }
}

static const struct {
    const char *key, *name; /* key: lower case, without spaces, hyphens and underscores */
} categories[] = {
    {"l", "L"},   {"letter", "L"},
    {"m", "M"},   {"mark", "M"},
    {"n", "N"},   {"number", "N"},
    {"p", "P"},   {"punctuation", "P"},
    {"s", "S"},   {"symbol", "S"},
    {"z", "Z"},   {"separator", "Z"},
    {"lu", "Lu"}, {"uppercaseletter", "Lu"},
    {"ll", "Ll"}, {"lowercaseletter", "Ll"},
    {"lt", "Lt"}, {"titlecaseletter", "Lt"},
    {"lm", "Lm"}, {"modifierletter", "Lm"},
    {"lo", "Lo"}, {"otherletter", "Lo"},
    {"mc", "Mc"}, {"spacingmark", "Mc"},
    {"me", "Me"}, {"enclosingmark", "Me"},
    {"nd", "Nd"}, {"decimalnumber", "Nd"},
    {"nl", "Nl"}, {"letternumber", "Nl"},
    {"no", "No"}, {"othernumber", "No"},
    {"pc", "Pc"}, {"connectorpunctuation", "Pc"},
    {"pd", "Pd"}, {"dashpunctuation", "Pd"},
    {"ps", "Ps"}, {"openpunctuation", "Ps"},
    {"pe", "Pe"}, {"closepunctuation", "Pe"},
    {"pi", "Pi"}, {"initialpunctuation", "Pi"},
    {"pf", "Pf"}, {"finalpunctuation", "Pf"},
    {"po", "Po"}, {"otherpunctuation", "Po"},
    {"sm", "Sm"}, {"mathsymbol", "Sm"},
    {"sc", "Sc"}, {"currencysymbol", "Sc"},
    {"sk", "Sk"}, {"modifiersymbol", "Sk"},
    {"so", "So"}, {"othersymbol", "So"},
    {"zs", "Zs"}, {"spaceseparator", "Zs"},
    {"zl", "Zl"}, {"lineseparator", "Zl"},
    {"zp", "Zp"}, {"paragraphseparator", "Zp"},
    {"cc", "Cc"}, {"control", "Cc"},
    {"cf", "Cf"}, {"format", "Cf"},
    {"co", "Co"}, {"privateuse", "Co"},
};

/* At the '{' of \p{...}: the set goes to b, *negated is flipped by ^. */
static int property(struct tr *t, struct buf *b, bool *negated) {
    static const char *const scripts[] = {"Han",    "Hiragana", "Katakana",  "Hangul",
                                          "Latin",  "Cyrillic", "Greek",     "Arabic",
                                          "Hebrew", "Thai",     "Devanagari"};
    char key[NAME_MAX_BYTES];
    size_t n = 0;
    if (!take_if(t, "{")) return unsup(t, "\\p without braces");
    if (take_if(t, "^")) *negated = !*negated;
    for (; t->p < t->end && *t->p != '}'; t->p++) {
        char c = *t->p;
        if (c == ' ' || c == '_' || c == '-') continue;
        if (!is_alnum((unsigned char)c) || n + 1 >= sizeof key) return unsup(t, "this property");
        key[n++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    key[n] = '\0';
    if (!take_if(t, "}")) return broken(t, "\\p without its closing brace");
    for (size_t i = 0; i < sizeof categories / sizeof categories[0]; i++)
        if (strcmp(categories[i].key, key) == 0) {
            emit_category(b, categories[i].name);
            return 0;
        }
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++)
        if (strlen(scripts[i]) == n && strncasecmp(scripts[i], key, n) == 0) {
            emit_script(b, scripts[i]);
            return 0;
        }
    return unsup(t, "this property");
}

static bool hex(struct tr *t, int digits_min, int digits_max, uint32_t *out) {
    uint32_t v = 0;
    int n = 0;
    for (; n < digits_max && t->p < t->end; n++, t->p++) {
        char c = *t->p;
        if (c >= '0' && c <= '9')
            v = v * 16 + (uint32_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            v = v * 16 + (uint32_t)((c | 32) - 'a' + 10);
        else
            break;
    }
    *out = v;
    return n >= digits_min;
}

/* After a backslash, for an escape that means one code point. */
static int escaped_char(struct tr *t, uint32_t *cp) {
    static const char from[] = "nrtfvae", to[] = "\n\r\t\f\v\a\x1b";
    int len = utf8_decode(t->p, (size_t)(t->end - t->p), cp);
    if (len <= 0) return broken(t, "nothing after a backslash");
    const char *at = *cp && *cp < 0x80 ? strchr(from, (int)*cp) : NULL;
    if (at) {
        t->p++;
        *cp = (unsigned char)to[at - from];
        return 0;
    }
    if (take_if(t, "x{")) {
        if (!hex(t, 1, 6, cp) || !take_if(t, "}") || *cp > 0x10FFFF) return broken(t, "bad \\x{}");
        return 0;
    }
    if (take_if(t, "x")) {
        if (!hex(t, 2, 2, cp)) return broken(t, "bad \\x");
        return *cp < 0x80 ? 0 : unsup(t, "\\x of a byte that is no character");
    }
    if (take_if(t, "u")) return hex(t, 4, 4, cp) ? 0 : broken(t, "bad \\u");
    if (is_alnum(*cp)) return unsup(t, "this escape");
    t->p += len;
    return 0;
}

/* After a backslash, for an escape that means a set; 0 if it is none, 1 if it was written to b. */
static int escaped_set(struct tr *t, struct buf *b, bool *negated, bool in_class) {
    char c = t->p < t->end ? *t->p : '\0';
    if (c == '\0' || !strchr("sSdDwWhHpP", c)) return 0;
    bool caseless = t->group[t->depth].caseless;
    t->p++;
    *negated = c >= 'A' && c <= 'Z';
    switch (c | 32) {
    case 's':
        emit_space(b, *negated && in_class);
        if (in_class) *negated = false;
        return 1;
    case 'd': emit_category(b, "Nd"); return 1;
    case 'w': emit_word(b, in_class); break;
    case 'h': buf_str(b, "0-9A-Fa-f"); return 1;
    default: TRY(property(t, b, negated));
    }
    return caseless ? unsup(t, "a letter property under (?i)") : 1;
}

static int check_caseless(struct tr *t, uint32_t cp) {
    static const char *const pairs[] = {"ss", "st", "ff", "fi", "fl"};
    if (!t->group[t->depth].caseless) return 0;
    if (cp >= 0x80) return unsup(t, "a character beyond ASCII under (?i)");
    uint32_t low = is_alnum(cp) ? cp | 32 : cp;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (t->last == (uint32_t)pairs[i][0] && low == (uint32_t)pairs[i][1])
            return unsup(t, "a pair of letters that one character folds to, under (?i),");
    t->last = low;
    return 0;
}

static int class_char(struct tr *t, uint32_t *cp) {
    if (next_is(t, "&&")) return unsup(t, "a set operation");
    if (next_is(t, "[")) return unsup(t, "a range to a class");
    if (take_if(t, "\\")) return escaped_char(t, cp);
    int len = utf8_decode(t->p, (size_t)(t->end - t->p), cp);
    if (len <= 0) return broken(t, "a class without its end");
    t->p += len;
    return 0;
}

static int class_item(struct tr *t);

/* A class inside a class is a union with it, so that its brackets can go. */
static int class_union(struct tr *t) {
    if (next_is(t, "^")) return unsup(t, "a negated class inside a class");
    if (next_is(t, ":")) return unsup(t, "a class by name ([:name:])");
    if (next_is(t, "]")) return unsup(t, "] as the first character of a class");
    if (++t->unions > DEPTH_MAX) return unsup(t, "a class nested deeper than 64");
    do
        TRY(class_item(t));
    while (!take_if(t, "]"));
    t->unions--;
    return next_is(t, "-") && !next_is(t, "-]") ? unsup(t, "a range from a class") : 0;
}

/* One item of a class: a class, a set, a character or a range. */
static int class_item(struct tr *t) {
    bool negated = false;
    if (take_if(t, "[")) return class_union(t);
    if (next_is(t, "\\")) {
        t->p++;
        int got = escaped_set(t, t->out, &negated, true);
        if (got < 0) return got;
        if (negated) return unsup(t, "a negated set inside a class");
        if (got) {
            if (next_is(t, "-") && !next_is(t, "-]")) return unsup(t, "a range from a set");
            return 0;
        }
        t->p--;
    }
    uint32_t first, last;
    TRY(class_char(t, &first));
    last = first;
    if (next_is(t, "-") && !next_is(t, "-]")) {
        t->p++;
        TRY(class_char(t, &last));
        if (last < first) return broken(t, "a range that ends before it starts");
    }
    if (t->group[t->depth].caseless && last >= 0x80)
        return unsup(t, "a character beyond ASCII under (?i)");
    if ((first >= 0xD800 && first <= 0xDFFF) || (last >= 0xD800 && last <= 0xDFFF))
        return broken(t, "a surrogate");
    emit_range(t->out, first, last);
    return 0;
}

static int char_class(struct tr *t) {
    t->atom = t->out->len;
    t->last = 0;
    buf_str(t->out, take_if(t, "^") ? "[^" : "[");
    if (next_is(t, "]")) return unsup(t, "] as the first character of a class");
    do
        TRY(class_item(t));
    while (!take_if(t, "]"));
    buf_str(t->out, "]");
    return 0;
}

static int literal(struct tr *t, uint32_t cp) {
    if (cp >= 0xD800 && cp <= 0xDFFF) return broken(t, "a surrogate");
    TRY(check_caseless(t, cp));
    t->atom = t->out->len;
    if (is_alnum(cp))
        buf_printf(t->out, "%c", (int)cp);
    else
        emit_range(t->out, cp, cp);
    return 0;
}

static void word_boundary(struct buf *out, bool negated) {
    struct buf w = {0};
    emit_word(&w, false);
    const char *a = negated ? "=" : "!", *b = negated ? "!" : "=";
    buf_printf(out, "(?:(?<=[%s])(?%s[%s])|(?<![%s])(?%s[%s]))", w.data, a, w.data, w.data, b,
               w.data);
    buf_close(&w);
}

/* After a backslash: an anchor, a set, or one code point, in PCRE2's spelling. */
static int translate_escape(struct tr *t) {
    struct buf set = {0};
    bool negated = false;
    if (t->p < t->end && strchr("AzZbB", *t->p) && *t->p) {
        char c = *t->p++;
        t->atom = SIZE_MAX;
        t->last = 0;
        if ((c | 32) == 'b')
            word_boundary(t->out, c == 'B');
        else
            buf_printf(t->out, "\\%c", c);
        return 0;
    }
    int got = escaped_set(t, &set, &negated, false);
    if (got > 0) {
        t->atom = t->out->len;
        t->last = 0;
        buf_printf(t->out, negated ? "[^%s]" : "[%s]", set.data);
    }
    buf_close(&set);
    if (got) return got < 0 ? got : 0;
    uint32_t cp;
    TRY(escaped_char(t, &cp));
    return literal(t, cp);
}

static int group_open(struct tr *t) {
    static const struct {
        const char *from, *to;
        bool look;
        int caseless; /* -1: as outside */
    } kinds[] = {{"?:", "(?:", false, -1},  {"?=", "(?=", true, -1},    {"?!", "(?!", true, -1},
                 {"?<=", "(?<=", true, -1}, {"?<!", "(?<!", true, -1},  {"?>", "(?>", false, -1},
                 {"?i:", "(?i:", false, 1}, {"?-i:", "(?-i:", false, 0}};
    size_t at = t->out->len;
    bool caseless = t->group[t->depth].caseless, look = false;
    t->last = 0;
    t->atom = SIZE_MAX;
    if (next_is(t, "?i)") && t->p == t->start + 1) { /* at the start it holds for all */
        t->p += 3;
        t->group[0].caseless = true;
        buf_str(t->out, "(?i)");
        return 0;
    }
    size_t k = 0, n = sizeof kinds / sizeof kinds[0];
    while (k < n && !take_if(t, kinds[k].from))
        k++;
    if (k == n && next_is(t, "?")) return unsup(t, "this kind of group");
    if (k < n && kinds[k].caseless >= 0) caseless = kinds[k].caseless;
    if (k < n) look = kinds[k].look;
    buf_str(t->out, k < n ? kinds[k].to : "(?:"); /* nothing refers to captures */
    if (t->depth + 1 >= DEPTH_MAX) return unsup(t, "a group nested deeper than 63");
    t->depth++;
    t->group[t->depth].at = at;
    t->group[t->depth].caseless = caseless;
    t->group[t->depth].look = look;
    return 0;
}

static int group_close(struct tr *t) {
    if (t->depth == 0) return broken(t, "a ) without its (");
    buf_str(t->out, ")");
    t->atom = t->group[t->depth].look ? SIZE_MAX : t->group[t->depth].at;
    t->last = 0;
    t->depth--;
    return 0;
}

static bool read_number(const char **p, const char *end, long *out) {
    const char *s = *p;
    long v = 0;
    for (; *p < end && **p >= '0' && **p <= '9' && v < 1000000; (*p)++)
        v = v * 10 + (**p - '0');
    *out = v;
    return *p > s;
}

/* {n}, {n,}, {n,m}, {,m}; false if this brace is a literal one. */
static bool interval(struct tr *t, long *min, long *max) {
    const char *p = t->p + 1;
    bool lower = read_number(&p, t->end, min), comma = p < t->end && *p == ',';
    if (comma) p++;
    bool upper = comma && read_number(&p, t->end, max);
    if (p >= t->end || *p != '}' || (!lower && !upper)) return false;
    if (!lower) *min = 0;
    if (!comma) *max = *min;
    if (comma && !upper) *max = -1;
    t->p = p + 1;
    return true;
}

/* The atom becomes a group, so that what follows repeats the repeat. */
static void wrap_atom(struct tr *t) {
    buf_str(t->out, "(?:)");
    char *data = t->out->data;
    memmove(data + t->atom + 3, data + t->atom, t->out->len - 4 - t->atom);
    memcpy(data + t->atom, "(?:", 3);
    data[t->out->len - 1] = ')';
}

/* Oniguruma and PCRE2 differ behind an interval: there + and * repeat the interval, here they would
 * make it possessive, so the atom gets a group. What neither reads alike is refused. */
static int quantifier(struct tr *t) {
    long min = 0, max = -1;
    bool brace = *t->p == '{';
    if (brace && !interval(t, &min, &max)) {
        t->p++;
        return literal(t, '{');
    }
    if (t->atom == SIZE_MAX) return broken(t, "a quantifier with nothing to repeat");
    if (!brace) {
        buf_printf(t->out, "%c", *t->p++);
        if (take_if(t, "?"))
            buf_str(t->out, "?");
        else if (take_if(t, "+"))
            buf_str(t->out, "+");
    } else {
        if (max >= 0 && max < min) return unsup(t, "{n,m} with m below n");
        if (max == min)
            buf_printf(t->out, "{%ld}", min);
        else if (max < 0)
            buf_printf(t->out, "{%ld,}", min);
        else
            buf_printf(t->out, "{%ld,%ld}", min, max);
        if (next_is(t, "?") && min == max) return unsup(t, "{n}?");
        if (take_if(t, "?"))
            buf_str(t->out, "?");
        else if (next_is(t, "+") || next_is(t, "*")) {
            wrap_atom(t);
            buf_printf(t->out, "%c", *t->p++);
        }
    }
    long a, b;
    struct tr ahead = *t;
    char c = t->p < t->end ? *t->p : '\0';
    if (c == '*' || c == '+' || c == '?' || (c == '{' && interval(&ahead, &a, &b)))
        return unsup(t, "a quantifier after a quantifier");
    t->atom = SIZE_MAX;
    t->last = 0;
    return 0;
}

/* One element of the pattern. atom: where the last thing that can be repeated begins in out. */
static int step(struct tr *t) {
    uint32_t cp;
    switch (*t->p) {
    case '\\': t->p++; return translate_escape(t);
    case '[': t->p++; return char_class(t);
    case '(': t->p++; return group_open(t);
    case ')': t->p++; return group_close(t);
    case '*':
    case '+':
    case '?':
    case '{': return quantifier(t);
    case '|':
    case '^':
    case '$':
        buf_printf(t->out, "%c", *t->p++);
        t->atom = SIZE_MAX;
        t->last = 0;
        return 0;
    case '.':
        t->p++;
        t->atom = t->out->len;
        t->last = 0;
        buf_str(t->out, "[^\\n]");
        return 0;
    default: break;
    }
    int len = utf8_decode(t->p, (size_t)(t->end - t->p), &cp);
    if (len <= 0) return broken(t, "invalid UTF-8");
    t->p += len;
    return literal(t, cp);
}

int tokenizer_onig_translate(struct buf *out, const char *pattern, size_t n, const char *where) {
    struct tr t = {.out = out,
                   .start = pattern,
                   .p = pattern,
                   .end = pattern + n,
                   .where = where,
                   .atom = SIZE_MAX};
    while (t.p < t.end)
        TRY(step(&t));
    if (t.depth) return broken(&t, "a ( without its )");
    return 0;
}
