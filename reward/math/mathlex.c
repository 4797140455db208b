/* mathlex.c - cuts a written answer into tokens. The text comes in plain ASCII and without looks
 * (mathfold, mathlooks); here numbers, commands, signs and runs of letters are told apart, and
 * inside \text{} and \mathrm{} runs of letters are marked as words or upright. What a run means, a
 * function, a unit, a word or a product of one-letter variables, depends on what stands around it:
 * mathphrase decides.
 *
 * The tables are the knowledge; the code around them only looks names up. */
#include "reward/math/mathlex.h"

#include "base/buf.h"
#include "base/utf8.h"
#include "base/words.h"
#include "reward/math/mathfold.h"
#include "reward/math/mathlooks.h"
#include "reward/math/mathphrase.h"

#include <ctype.h>
#include <string.h>
#include <utf8proc.h>

/* Folding writes some signs out: \theta for two bytes. */
enum { PLAIN_BYTES = 8 * MATHLEX_BYTES, GROUPS_MAX = 200 };

/* Commands that are one sign. */
static const struct {
    const char *name;
    char punct;
} signs[] = {
    {"times", '*'},
    {"cdot", '*'},
    {"ast", '*'},
    {"star", '*'},
    {"div", '/'},
    {"le", MATHLEX_LE},
    {"leq", MATHLEX_LE},
    {"leqslant", MATHLEX_LE},
    {"leqq", MATHLEX_LE},
    {"ge", MATHLEX_GE},
    {"geq", MATHLEX_GE},
    {"geqslant", MATHLEX_GE},
    {"geqq", MATHLEX_GE},
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
    {"Vert", MATHLEX_NORM},
    {"lVert", MATHLEX_NORM},
    {"rVert", MATHLEX_NORM},
    {"to", MATHLEX_TO},
    {"rightarrow", MATHLEX_TO},
    {"lfloor", MATHLEX_FLOOR_OPEN},
    {"rfloor", MATHLEX_FLOOR_CLOSE},
    {"lceil", MATHLEX_CEIL_OPEN},
    {"rceil", MATHLEX_CEIL_CLOSE},
};

struct lexer {
    struct mathlex_token *out;
    size_t n;
    int depth; /* of brackets */
    bool commas, space, bad;
    /* Each open brace: whether it is a text command's, which is no token, and the face inside. */
    struct {
        bool words;
        enum mathlex_face face;
    } group[GROUPS_MAX];
    size_t groups;
    enum mathlex_face face;
};

/* Appends a token; the last place is kept for the END. */
static void emit_token(struct lexer *l, enum mathlex_kind kind, char punct, const char *s,
                       size_t n) {
    if (l->n >= MATHLEX_TOKENS - 1) {
        l->bad = true;
        return;
    }
    bool commas = kind == MATHLEX_NUMBER && l->commas && l->depth == 0;
    l->out[l->n++] = (struct mathlex_token){kind, punct, l->space, commas, l->face, s, n};
    l->space = false;
}

/* Exactly three digits: what a thousands separator must stand before. */
static bool three_digits(const char *s) {
    return isdigit((unsigned char)s[0]) && isdigit((unsigned char)s[1]) &&
           isdigit((unsigned char)s[2]) && !isdigit((unsigned char)s[3]);
}

/* Whether the cycle of a repeating decimal is marked at s. */
static bool marks_cycle(const char *s) {
    return strncmp(s, "\\overline", 9) == 0 || strncmp(s, "\\bar", 4) == 0 ||
           (strncmp(s, "\\dot", 4) == 0 && s[4] != 's');
}

/* Digits at s with their thousands, fraction and exponent. */
static size_t length_of_number(const struct lexer *l, const char *s) {
    size_t n = strspn(s, "0123456789");
    if (l->commas && l->depth == 0 && n >= 1 && n <= 3)
        while (s[n] == ',' && three_digits(s + n + 1))
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

/* Bytes of a letter at s, of any script; inside a word marks on it count too. 0 for anything else.
 */
static size_t letter_length(const char *s, bool inside) {
    uint32_t cp;
    if ((unsigned char)*s < 0x80) return isalpha((unsigned char)*s) != 0;
    int n = utf8_decode(s, strnlen(s, 4), &cp);
    if (n <= 0) return 0;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    utf8proc_category_t end = inside ? UTF8PROC_CATEGORY_ME : UTF8PROC_CATEGORY_LO;
    return c >= UTF8PROC_CATEGORY_LU && c <= end ? (size_t)n : 0;
}

/* "p.m.", "a.m", "U.S.": single letters with full stops, as one word into out. Bytes read. */
static size_t abbreviation_length(const char *s) {
    static const char *const known[] = {"pm", "am", "us", "ie", NULL};
    if (!isalpha((unsigned char)s[0]) || s[1] != '.' || !isalpha((unsigned char)s[2]) ||
        isalpha((unsigned char)s[3]))
        return 0;
    char word[2] = {(char)tolower((unsigned char)s[0]), (char)tolower((unsigned char)s[2])};
    if (!words_have(known, word, 2)) return 0;
    return s[3] == '.' ? 4 : 3;
}

/* A run of letters without a backslash. In words an apostrophe or a hyphen between letters belongs
 * to the word. */
static size_t read_letters(struct lexer *l, const char *s) {
    static const char *const spelled[] = {"am", "pm", "us", "ie"};
    size_t n = abbreviation_length(s), m;
    if (n > 0) {
        for (size_t i = 0; i < 4; i++)
            if (tolower((unsigned char)s[0]) == spelled[i][0] &&
                tolower((unsigned char)s[2]) == spelled[i][1])
                emit_token(l, MATHLEX_TEXT, 0, spelled[i], 2);
        l->out[l->n - 1].face = MATHLEX_WORDS;
        return n;
    }
    if (strncmp(s, "o'clock", 7) == 0) n = 7;
    for (;;) {
        while ((m = letter_length(s + n, n > 0)) > 0)
            n += m;
        bool joint = l->face != MATHLEX_BARE && (s[n] == '\'' || s[n] == '-') &&
                     letter_length(s + n + 1, false) > 0;
        if (!joint) break;
        n++;
    }
    if (l->face == MATHLEX_BARE && n == 2 && memcmp(s, "pi", 2) == 0)
        emit_token(l, MATHLEX_SYMBOL, 0, s, n);
    else if (l->face == MATHLEX_BARE && n == 8 && memcmp(s, "infinity", 8) == 0)
        emit_token(l, MATHLEX_SYMBOL, 0, "infty", 5);
    else
        emit_token(l, MATHLEX_TEXT, 0, s, n);
    return n;
}

/* Bytes up to the brace that closes the one at s, both included; 0 if none does. */
static size_t braces_length(const char *s) {
    int depth = 0;
    for (size_t i = 0; s[i]; i++) {
        if (s[i] == '{') depth++;
        if (s[i] == '}' && --depth == 0) return i + 1;
    }
    return 0;
}

static void open_group(struct lexer *l, bool words, enum mathlex_face face) {
    if (l->groups == GROUPS_MAX) {
        l->bad = true;
        return;
    }
    l->group[l->groups].words = words;
    l->group[l->groups++].face = l->face;
    if (words) {
        l->face = face;
    } else {
        l->depth++;
        emit_token(l, MATHLEX_PUNCT, '{', "{", 1);
    }
}

static void close_group(struct lexer *l) {
    bool words = l->groups > 0 && l->group[--l->groups].words;
    if (words) {
        l->face = l->group[l->groups].face;
        l->space = true;
    } else {
        l->depth--;
        emit_token(l, MATHLEX_PUNCT, '}', "}", 1);
    }
}

/* \text or \mathrm behind its backslash: its group is words. Without a group it is dropped. */
static size_t lex_text(struct lexer *l, size_t n, const char *s, enum mathlex_face face) {
    size_t blanks = strspn(s + n, " ");
    if (s[n + blanks] != '{') return n;
    open_group(l, true, face);
    return n + blanks + 1;
}

/* Bytes of the name at s that only say how the letter is drawn: \varphi, \uppi. Texts in Unicode do
 * not tell the two apart. */
static size_t shape_length(const char *s, size_t n) {
    static const char *const letters[] = {
        "alpha",   "beta",   "gamma", "delta",   "epsilon", "zeta",  "eta",   "theta", "iota",
        "kappa",   "lambda", "mu",    "nu",      "xi",      "pi",    "rho",   "sigma", "tau",
        "upsilon", "phi",    "chi",   "psi",     "omega",   "Gamma", "Delta", "Theta", "Lambda",
        "Xi",      "Pi",     "Sigma", "Upsilon", "Phi",     "Psi",   "Omega", NULL};
    size_t m = n > 3 && memcmp(s, "var", 3) == 0 ? 3 : n > 2 && memcmp(s, "up", 2) == 0 ? 2 : 0;
    return m > 0 && words_have(letters, s + m, n - m) ? m : 0;
}

/* A command behind its backslash; s is its name. Bytes read. */
static size_t lex_command(struct lexer *l, const char *s) {
    size_t n = 0;
    while (isalpha((unsigned char)s[n]))
        n++;
    if (n == 0) {
        char c = *s == '{' ? MATHLEX_SET_OPEN : *s == '}' ? MATHLEX_SET_CLOSE : MATHLEX_ROW;
        if (*s == '|')
            c = MATHLEX_NORM;
        else if (*s != '{' && *s != '}' && *s != '\\')
            l->bad = true;
        l->depth += (*s == '{') - (*s == '}');
        emit_token(l, MATHLEX_PUNCT, c, s, 1);
        return *s != 0;
    }
    if (n == 4 && memcmp(s, "text", 4) == 0) return lex_text(l, n, s, MATHLEX_WORDS);
    if (n == 6 && memcmp(s, "mathrm", 6) == 0) return lex_text(l, n, s, MATHLEX_UPRIGHT);
    if ((n == 5 && memcmp(s, "begin", 5) == 0) || (n == 3 && memcmp(s, "end", 3) == 0)) {
        size_t m = s[n] == '{' ? braces_length(s + n) : 0;
        if (m == 0) l->bad = true;
        if (m > 0)
            emit_token(l, MATHLEX_PUNCT, n == 5 ? MATHLEX_BEGIN : MATHLEX_FINISH, s + n + 1, m - 2);
        bool columns = n == 5 && m == 7 && memcmp(s + n, "{array}", 7) == 0;
        size_t k = columns && s[n + m] == '{' ? braces_length(s + n + m) : 0;
        if (k > 0) emit_token(l, MATHLEX_PUNCT, '{', s, 1), emit_token(l, MATHLEX_PUNCT, '}', s, 1);
        return n + m + k; /* the columns' alignment is looks */
    }
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (strlen(signs[i].name) == n && memcmp(signs[i].name, s, n) == 0) {
            emit_token(l, MATHLEX_PUNCT, signs[i].punct, s, n);
            return n;
        }
    size_t shape = shape_length(s, n);
    emit_token(l, mathlex_is_function(s, n) ? MATHLEX_COMMAND : MATHLEX_SYMBOL, 0, s + shape,
               n - shape);
    return n;
}

/* One token; returns the bytes read, at least 1. A character that no answer holds makes the text
 * unreadable; among words it is punctuation. */
static size_t lex_token(struct lexer *l, const char *s) {
    size_t n = length_of_number(l, s);
    if (n > 0) {
        emit_token(l, MATHLEX_NUMBER, 0, s, n);
        return n;
    }
    if (letter_length(s, false) > 0) return read_letters(l, s);
    if (*s == '\\') return 1 + lex_command(l, s + 1);
    if (*s == '{') return open_group(l, false, l->face), 1;
    if (*s == '}') return close_group(l), 1;
    if (*s == '<' && s[1] == '=') {
        emit_token(l, MATHLEX_PUNCT, MATHLEX_LE, s, 2);
        return 2;
    }
    if (*s == '>' && s[1] == '=') {
        emit_token(l, MATHLEX_PUNCT, MATHLEX_GE, s, 2);
        return 2;
    }
    if (*s == ':' && s[1] == '=') {
        emit_token(l, MATHLEX_PUNCT, '=', s, 2);
        return 2;
    }
    bool known = strchr("+-*/^_()[]|,;=<>%!&:'", *s) != NULL;
    if (!known && (l->face == MATHLEX_BARE || (unsigned char)*s >= 0x80)) l->bad = true;
    if (strchr("([", *s)) l->depth++;
    if (strchr(")]", *s)) l->depth--;
    emit_token(l, MATHLEX_PUNCT, known ? *s : '?', s, 1);
    return 1;
}

/* The text as LaTeX in ASCII, without looks. */
static const char *plain_text(const char *text, struct arena *arena) {
    struct buf folded = {0}, plain = {0};
    mathfold(&folded, text);
    mathlooks(&plain, folded.data);
    const char *s = arena_strndup(arena, plain.data, plain.len);
    buf_close(&folded);
    buf_close(&plain);
    return s;
}

size_t mathlex_read(struct mathlex_token out[MATHLEX_TOKENS], bool *only_words, const char *text,
                    bool commas, struct arena *arena) {
    struct mathlex_token raw[MATHLEX_TOKENS + 4] = {0};
    struct lexer l = {.out = raw, .commas = commas};
    size_t n;
    if (strlen(text) > MATHLEX_BYTES) return 0;
    const char *s = plain_text(text, arena);
    if (strlen(s) > PLAIN_BYTES) return 0;
    while (*s && !l.bad) {
        if (isspace((unsigned char)*s)) {
            l.space = true;
            s++;
        } else if (strncmp(s, "...", 3) == 0) {
            emit_token(&l, MATHLEX_SYMBOL, 0, "dots", 4);
            s += 3;
        } else if (*s == '.' && !isdigit((unsigned char)s[1])) {
            s++; /* the end of a sentence */
        } else {
            s += lex_token(&l, s);
        }
    }
    if (l.bad) return 0;
    enum mathphrase_result result = mathphrase_resolve(out, &n, raw, l.n, arena);
    *only_words = result == MATHPHRASE_WORDS;
    return result == MATHPHRASE_UNREADABLE ? 0 : n + 1;
}
