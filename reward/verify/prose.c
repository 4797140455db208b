/* prose.c - one pass over the end of a response. At each place the first that fits is taken: end of
 * line with the Markdown of the next one, delimited formula, bare formula, word, punctuation. The
 * order matters: "$5" is money only because it opens no formula, "x = 5" a formula only because x
 * is no longer word. */
#include "reward/verify/prose.h"

#include "base/utf8.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

struct reader {
    const char *text, *s;
    struct prose_token *token;
    size_t n;
    bool strong;
};

static void emit_prose(struct reader *r, enum prose_kind kind, char punct, const char *s,
                       size_t n) {
    r->token[r->n++] = (struct prose_token){kind, punct, r->strong, s, n};
}

/* Punctuation of other scripts as ASCII; ' ' for marks that mean nothing here, 0 for letters. */
static char unicode_punct(uint32_t cp) {
    switch (cp) {
    case 0x3002:
    case 0xff0e:
    case 0xff61:
    case 0x964: return '.';
    case 0xff0c:
    case 0x3001:
    case 0x60c: return ',';
    case 0xff1a: return ':';
    case 0xff1b: return ';';
    case 0xff1f:
    case 0x61f: return '?';
    case 0xff01: return '!';
    case 0xff08:
    case 0x3010: return '(';
    case 0xff09:
    case 0x3011: return ')';
    case 0xff1d: return '=';
    case 0x2013:
    case 0x2014:
    case 0x2192:
    case 0x21d2: return '-';
    case 0x2234: return ','; /* therefore */
    default: break;
    }
    bool mark = (cp >= 0x80 && cp < 0xc0 && cp != 0xaa && cp != 0xb5 && cp != 0xba) ||
                (cp >= 0x2000 && cp < 0x2070) || (cp >= 0x20a0 && cp < 0x2100) ||
                (cp >= 0x2190 && cp < 0x2c00) || (cp >= 0x3003 && cp < 0x3021) || cp == 0xfeff ||
                cp == 0xfe0f || (cp >= 0x1f000 && cp < 0x20000);
    return mark ? ' ' : 0;
}

/* Letters of one word: of the Latin kind together, of a script without spaces apart from them. */
static size_t word_length(const char *s) {
    size_t n = 0;
    bool wide = false;
    for (;;) {
        uint32_t cp = (unsigned char)s[n];
        int len = cp < 0x80 ? (int)(cp != 0) : utf8_decode(s + n, strnlen(s + n, 4), &cp);
        if (len <= 0) return n;
        bool apostrophe =
            n > 0 && (cp == '\'' || cp == 0x2019) && isalpha((unsigned char)s[n + (size_t)len]);
        bool sign = cp >= 0xff01 && cp <= 0xff20; /* digits and signs of full width */
        bool letter = cp < 0x80 ? isalpha((int)cp) != 0 : !sign && unicode_punct(cp) == 0;
        if (!letter && !apostrophe) return n;
        if (n == 0) wide = cp >= 0x2e80;
        if (letter && wide != (cp >= 0x2e80)) return n;
        n += (size_t)len;
    }
}

/* Bytes of a tag such as <br> or </answer> at s. */
static size_t tag_length(const char *s) {
    size_t n = s[1] == '/' ? 2 : 1;
    if (*s != '<' || !isalpha((unsigned char)s[n])) return 0;
    n += strcspn(s + n, "<>\n");
    return s[n] == '>' && n < 40 ? n + 1 : 0;
}

/* Bytes of a list's mark at the head of a line: "- ", "* ", "3. ", "3) ". A number alone in its
 * line is no mark. */
static size_t list_mark(const char *s) {
    size_t n = strspn(s, "0123456789");
    bool number = n > 0 && n <= 2 && (s[n] == '.' || s[n] == ')');
    if (!number && !(n == 0 && *s && formula_is_in(*s, "-*+>"))) return 0;
    n++;
    size_t gap = strspn(s + n, " \t");
    return gap > 0 && s[n + gap] && s[n + gap] != '\n' ? n + gap : 0;
}

/* Bytes of a fence's line at s, of a whole block if it holds a program: its numbers are no
 * statements. */
static size_t code_length(const char *s) {
    static const char *const text[] = {"",    "text",   "math",      "latex",
                                       "tex", "output", "plaintext", "markdown"};
    size_t n = strspn(s, "`"), m = strcspn(s + n, " \t\r\n");
    const char *end = strstr(s + n, "```");
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        if (strlen(text[i]) == m && strncasecmp(s + n, text[i], m) == 0) end = NULL;
    return end ? (size_t)(end + 3 - s) : n + strcspn(s + n, "\n");
}

/* White space and Markdown from the end of a line (or the beginning of the text) on. */
static void read_line_head(struct reader *r, bool first) {
    const char *s = r->s;
    size_t breaks = 0, n;
    for (; isspace((unsigned char)*s); s++)
        breaks += *s == '\n';
    if (!first) emit_prose(r, PROSE_LINE, breaks > 1 ? 'B' : 0, r->s, (size_t)(s - r->s));
    if (breaks > 1) r->strong = false; /* emphasis does not go on behind a blank line */
    if ((n = strspn(s, "#")) > 0 && n <= 6) {
        emit_prose(r, PROSE_LINE, '#', s, n);
        s += n + strspn(s + n, " \t");
    }
    if (strncmp(s, "```", 3) == 0) {
        s += code_length(s);
    } else if ((n = list_mark(s)) > 0) {
        emit_prose(r, PROSE_LINE, '-', s, n);
        s += n;
    }
    r->s = s;
}

/* Bytes of what is no prose at s: GSM8K's calculations "<<3+4=7>>" and drawings. */
static size_t annotation(const char *s) {
    static const char *const form[][2] = {{"<<", ">>"}, {"[asy]", "[/asy]"}};
    for (size_t i = 0; i < 2; i++) {
        if (strncmp(s, form[i][0], strlen(form[i][0])) != 0) continue;
        const char *end = strstr(s, form[i][1]), *line = strchr(s, '\n');
        if (end && (i == 1 || !line || end < line)) return (size_t)(end - s) + strlen(form[i][1]);
    }
    return 0;
}

/* Emphasis, code marks, escapes and what else only shapes the text; bytes, 0 if it is none. */
static size_t skip(struct reader *r) {
    const char *s = r->s;
    size_t n;
    if ((n = annotation(s)) > 0) return n;
    if (strncmp(s, "**", 2) == 0 || strncmp(s, "__", 2) == 0) {
        r->strong = !r->strong;
        return 2;
    }
    if (isspace((unsigned char)*s) || formula_is_in(*s, "*_`\"~$&{}")) return 1;
    if (*s == '\\') { /* a command that is part of no formula: \text{the answer is} */
        n = 1;
        while (isalpha((unsigned char)s[n]))
            n++;
        return n > 1 || !s[1] ? n : 2;
    }
    n = tag_length(s);
    if (n > 0 && strncasecmp(s, "<br", 3) == 0) emit_prose(r, PROSE_LINE, 0, s, n);
    return n;
}

/* "$x = 5.$" ends its sentence, "$x = 5,$" its clause. */
static void end_of_formula(struct reader *r, struct formula_span f) {
    while (f.n > 0 && isspace((unsigned char)f.s[f.n - 1]))
        f.n--;
    if (f.n > 1 && f.s[f.n - 1] == '.' && f.s[f.n - 2] != '\\' && f.s[f.n - 2] != '.')
        emit_prose(r, PROSE_PUNCT, '.', f.s + f.n - 1, 1);
    else if (f.n > 1 && f.s[f.n - 1] == ',' && f.s[f.n - 2] != '\\')
        emit_prose(r, PROSE_PUNCT, ',', f.s + f.n - 1, 1);
}

static void read_prose_token(struct reader *r) {
    struct formula_span inside;
    uint32_t cp = 0;
    size_t n = formula_delimited(&inside, r->s);
    if (n > 0 && memmem(inside.s, inside.n, "nswer", 5)) {
        r->s += inside.s - r->s; /* "$\\text{The answer is } 5$" is prose */
        return;
    }
    if (n > 0) {
        emit_prose(r, PROSE_FORMULA, 0, inside.s, inside.n);
        end_of_formula(r, inside);
    } else if (annotation(r->s) == 0 && tag_length(r->s) == 0 &&
               (n = formula_bare(r->text, r->s)) > 0) {
        emit_prose(r, PROSE_BARE, 0, r->s, n);
    } else if ((n = skip(r)) > 0) {
        /* nothing */
    } else if ((n = word_length(r->s)) > 0) {
        emit_prose(r, PROSE_WORD, 0, r->s, n);
    } else if ((unsigned char)*r->s < 0x80) {
        emit_prose(r, PROSE_PUNCT, *r->s, r->s, n = 1);
    } else {
        int len = utf8_decode(r->s, strnlen(r->s, 4), &cp);
        char punct = len > 0 ? unicode_punct(cp) : ' ';
        n = len > 0 ? (size_t)len : 1;
        if (punct != ' ') emit_prose(r, PROSE_PUNCT, punct, r->s, n);
    }
    r->s += n;
}

void prose_read(struct prose *out, struct arena *arena, const char *text) {
    size_t n = strlen(text);
    if (n > PROSE_BYTES) { /* from the head of a line, where no formula is open by all odds */
        text += n - PROSE_BYTES;
        const char *line = strstr(text, "\n\n");
        if (!line) line = strchr(text, '\n');
        if (line) text = line + 1;
        n = strlen(text);
    }
    /* each token takes a byte or more, but for the END */
    struct reader r = {.text = text, .s = text};
    r.token = arena_alloc(arena, (n + 8) * sizeof *r.token);
    read_line_head(&r, true);
    while (*r.s) {
        if (*r.s == '\n')
            read_line_head(&r, false);
        else
            read_prose_token(&r);
    }
    emit_prose(&r, PROSE_END, 0, r.s, 0);
    *out = (struct prose){r.token, r.n - 1};
}

bool prose_is(const struct prose_token *t, const char *word) {
    return t->kind == PROSE_WORD && strlen(word) == t->n && strncasecmp(t->s, word, t->n) == 0;
}

bool prose_is_punct(const struct prose_token *t, const char *which) {
    return t->kind == PROSE_PUNCT && formula_is_in(t->punct, which);
}

bool prose_is_one_of(const struct prose_token *t, const char *const *words) {
    for (; *words; words++)
        if (prose_is(t, *words)) return true;
    return false;
}
