/* mathfold.c - one pass over the code points of the NFC form. What a character means is looked for
 * in this order:
 *
 *   1. raised and lowered runs (by the type of their compatibility mapping): x^{...}, x_{...};
 *   2. digits with a mark of repetition: \overline{...};
 *   3. the table of mathematical signs, where compatibility mappings would lose the meaning
 *      (blackboard letters, ellipsis, primes) or know nothing (operators, relations, roots);
 *   4. the compatibility mapping (NFKC): full width, ligatures, vulgar fractions, mathematical
 *      alphanumerics, squared units;
 *   5. the general category: spaces, dashes, quotes, brackets, currencies, digits of any script,
 *      characters that cannot be seen.
 *
 * Letters are left to stand: a word may be of any script. */
#include "reward/math/mathfold.h"

#include "base/mem.h"
#include "base/textfold.h"
#include "base/utf8.h"

#include <ctype.h>
#include <string.h>
#include <utf8proc.h>

enum { PIECES_MAX = 32 }; /* code points of the longest compatibility mapping, and room */

struct sign {
    uint32_t from;
    const char *to;
};

/* Greek letters are at GREEK + index, capitals at GREEK_CAPITAL. */
enum { GREEK = 0x3B1, GREEK_CAPITAL = 0x391, GREEK_LETTERS = 25 };
static const char *const greek[GREEK_LETTERS] = {
    "\\alpha ", "\\beta ", "\\gamma ", "\\delta ",    "\\epsilon ", "\\zeta ", "\\eta ",
    "\\theta ", "\\iota ", "\\kappa ", "\\lambda ",   "\\mu ",      "\\nu ",   "\\xi ",
    "o",        "\\pi ",   "\\rho ",   "\\varsigma ", "\\sigma ",   "\\tau ",  "\\upsilon ",
    "\\phi ",   "\\chi ",  "\\psi ",   "\\omega "};
static const char *const greek_capital[GREEK_LETTERS] = {
    "A",        "B",     "\\Gamma ", "\\Delta ",  "E",        "Z", "H",
    "\\Theta ", "I",     "K",        "\\Lambda ", "M",        "N", "\\Xi ",
    "O",        "\\Pi ", "P",        "",          "\\Sigma ", "T", "\\Upsilon ",
    "\\Phi ",   "X",     "\\Psi ",   "\\Omega "};

static const struct sign signs[] = {
    /* letters that are signs */
    {0x03D1, "\\vartheta "},
    {0x03D5, "\\phi "},
    {0x03D6, "\\varpi "},
    {0x03F1, "\\varrho "},
    {0x03F5, "\\epsilon "},
    {0x03B5, "\\epsilon "},
    {0x03F0, "\\varkappa "},
    {0x2102, "\\mathbb{C}"},
    {0x210D, "\\mathbb{H}"},
    {0x2115, "\\mathbb{N}"},
    {0x2119, "\\mathbb{P}"},
    {0x211A, "\\mathbb{Q}"},
    {0x211D, "\\mathbb{R}"},
    {0x2124, "\\mathbb{Z}"},
    {0x210E, "h"},
    {0x210F, "\\hbar "},
    {0x2113, "\\ell "},
    {0x2135, "\\aleph "},
    {0x2118, "\\wp "},
    {0x0131, "\\imath "},
    {0x2107, "e"},
    {0x00B5, "\\micro "},
    /* products, quotients, sums */
    {0x00D7, "*"},
    {0x2715, "*"},
    {0x2716, "*"},
    {0x2A09, "*"},
    {0x2A2F, "*"},
    {0x22C5, "*"},
    {0x2219, "*"},
    {0x00B7, "*"},
    {0x2022, "*"},
    {0x2027, "*"},
    {0x30FB, "*"},
    {0x2217, "*"},
    {0x204E, "*"},
    {0x2731, "*"},
    {0x2062, "*"},
    {0x25CF, "*"},
    {0x22C6, "*"},
    {0x00F7, "/"},
    {0x2797, "/"},
    {0x2215, "/"},
    {0x2044, "/"},
    {0x29F8, "/"},
    {0x2212, "-"},
    {0x2796, "-"},
    {0x02D7, "-"},
    {0x2043, "-"},
    {0x2795, "+"},
    {0x02D6, "+"},
    {0x00B1, "\\pm "},
    {0x2213, "\\mp "},
    {0x2064, " "},
    {0x2063, ","},
    {0x2061, " "},
    /* roots; the reader finds what they cover */
    {0x221A, "\\surd "},
    {0x221B, "\\surd[3] "},
    {0x221C, "\\surd[4] "},
    /* relations */
    {0x2264, "\\le "},
    {0x2266, "\\le "},
    {0x2A7D, "\\le "},
    {0x2265, "\\ge "},
    {0x2267, "\\ge "},
    {0x2A7E, "\\ge "},
    {0x2260, "\\ne "},
    {0x2248, "\\approx "},
    {0x2243, "\\approx "},
    {0x2245, "\\approx "},
    {0x2252, "\\approx "},
    {0x223C, "\\sim "},
    {0x2261, "\\equiv "},
    {0x2236, ":"},
    {0x2237, "::"},
    {0x2254, "="},
    {0x221D, "\\propto "},
    {0x2225, "\\parallel "},
    {0x22A5, "\\perp "},
    {0x226A, "\\ll "},
    {0x226B, "\\gg "},
    /* sets and logic */
    {0x222A, "\\cup "},
    {0x2229, "\\cap "},
    {0x22C3, "\\bigcup "},
    {0x22C2, "\\bigcap "},
    {0x2208, "\\in "},
    {0x220A, "\\in "},
    {0x2209, "\\notin "},
    {0x220B, "\\ni "},
    {0x2205, "\\emptyset "},
    {0x2300, "\\emptyset "},
    {0x29B0, "\\emptyset "},
    {0x2216, "\\setminus "},
    {0x29F5, "\\setminus "},
    {0x2282, "\\subset "},
    {0x2286, "\\subseteq "},
    {0x2283, "\\supset "},
    {0x2287, "\\supseteq "},
    {0x2284, "\\not\\subset "},
    {0x2288, "\\not\\subseteq "},
    {0x2200, "\\forall "},
    {0x2203, "\\exists "},
    {0x2227, "\\land "},
    {0x2228, "\\lor "},
    {0x00AC, "\\lnot "},
    {0x2234, "\\therefore "},
    {0x2235, "\\because "},
    {0x2295, "\\oplus "},
    {0x2297, "\\otimes "},
    {0x2218, "\\circ "},
    /* arrows */
    {0x2192, "\\to "},
    {0x2190, "\\leftarrow "},
    {0x21D2, "\\Rightarrow "},
    {0x21D0, "\\Leftarrow "},
    {0x21D4, "\\Leftrightarrow "},
    {0x2194, "\\leftrightarrow "},
    {0x21A6, "\\mapsto "},
    {0x27F9, "\\Rightarrow "},
    {0x27F6, "\\to "},
    /* analysis, geometry */
    {0x221E, "\\infty "},
    {0x2211, "\\sum "},
    {0x220F, "\\prod "},
    {0x222B, "\\int "},
    {0x2202, "\\partial "},
    {0x2207, "\\nabla "},
    {0x2206, "\\Delta "},
    {0x2220, "\\angle "},
    {0x25B3, "\\triangle "},
    {0x25A1, "\\square "},
    {0x22EF, "\\cdots "},
    {0x2026, "\\ldots "},
    {0x22EE, "\\vdots "},
    {0x22F1, "\\ddots "},
    {0x2032, "'"},
    {0x2033, "''"},
    {0x2034, "'''"},
    {0x2057, "''''"},
    {0x02B9, "'"},
    {0x02BA, "''"},
    {0x00B4, "'"},
    {0x02BC, "'"},
    /* degrees, and what stands for them */
    {0x00B0, "\\degree "},
    {0x02DA, "\\degree "},
    {0x00BA, "\\degree "},
    {0x2103, "\\degree C"},
    {0x2109, "\\degree F"},
    /* brackets and bars */
    {0x27E8, "\\langle "},
    {0x27E9, "\\rangle "},
    {0x2329, "\\langle "},
    {0x232A, "\\rangle "},
    {0x3008, "\\langle "},
    {0x3009, "\\rangle "},
    {0x230A, "\\lfloor "},
    {0x230B, "\\rfloor "},
    {0x2308, "\\lceil "},
    {0x2309, "\\rceil "},
    {0x2223, "|"},
    {0x2758, "|"},
    {0x01C0, "|"},
    {0x2016, "\\|"},
    {0xFF5B, "\\{"},
    {0xFF5D, "\\}"},
    {0xFE5B, "\\{"},
    {0xFE5C, "\\}"},
    {0xFF3B, "["},
    {0xFF3D, "]"},
    {0x27E6, "["},
    {0x27E7, "]"},
    {0xFF3C, "\\setminus "},
    /* punctuation of other scripts */
    {0x3001, ","},
    {0x3002, "."},
    {0xFF0E, "."},
    {0xFF61, "."},
    {0x060C, ","},
    {0x061B, ";"},
    {0x066A, "%"},
    {0x066B, "."},
    {0x066C, ","},
    {0x0964, "."},
    {0x2024, "."},
    {0x2052, "-"},
    {0x20E3, ""}, /* the key around a digit */
};

static const char *sign_of(uint32_t cp) {
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (signs[i].from == cp) return signs[i].to;
    if (cp >= GREEK && cp < GREEK + GREEK_LETTERS) return greek[cp - GREEK];
    if (cp >= GREEK_CAPITAL && cp < GREEK_CAPITAL + GREEK_LETTERS)
        return greek_capital[cp - GREEK_CAPITAL];
    return NULL;
}

struct folder {
    struct buf *out;
    const char *at, *end;
    int quotes; /* single quotes that are open */
};

/* The code point at s and its bytes; an invalid byte is one, 0xFFFFFFFF. */
static uint32_t peek(const struct folder *f, const char *s, size_t *bytes) {
    uint32_t cp = 0;
    int n = s < f->end ? utf8_decode(s, (size_t)(f->end - s), &cp) : 0;
    *bytes = n > 0 ? (size_t)n : s < f->end;
    return n > 0 ? cp : UINT32_MAX;
}

static unsigned char mapping_of(uint32_t cp) {
    if (cp == UINT32_MAX) return 0;
    return (unsigned char)utf8proc_get_property((utf8proc_int32_t)cp)->decomp_type;
}

static utf8proc_category_t category_of(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

/* The digits of a script are ten in a row, from zero. */
static int digit_of(uint32_t cp) {
    int value = 0;
    while (value < 9 && category_of(cp - (uint32_t)value - 1) == UTF8PROC_CATEGORY_ND)
        value++;
    return value;
}

static void add_folded(struct folder *f, const char *s) {
    buf_add(f->out, s, strlen(s));
}

static void add_code_point(struct folder *f, uint32_t cp) {
    char bytes[4];
    buf_add(f->out, bytes, (size_t)utf8_encode(cp, bytes));
}

/* A closing single quote without an opening one is a prime. */
static void add_quote(struct folder *f, uint32_t cp) {
    bool single = cp >= 0x2018 && cp <= 0x201B;
    if (!single) return;
    if (cp != 0x2019)
        f->quotes++;
    else if (f->quotes > 0)
        f->quotes--;
    else
        add_folded(f, "'");
}

/* The last resort: what kind of character it is. */
static void add_by_category(struct folder *f, uint32_t cp) {
    bool selector = (cp >= 0xFE00 && cp <= 0xFE0F) || (cp >= 0xE0100 && cp <= 0xE01EF);
    if (selector) return;
    char digit = 0;
    switch (category_of(cp)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: add_folded(f, "\\,"); return;
    case UTF8PROC_CATEGORY_PD: add_folded(f, "-"); return;
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_SC: return;
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF: add_quote(f, cp); return;
    case UTF8PROC_CATEGORY_PS:
        if (cp == 0x201A || cp == 0x201E) return; /* quotes that open low */
        add_folded(f, "(");
        return;
    case UTF8PROC_CATEGORY_PE: add_folded(f, ")"); return;
    case UTF8PROC_CATEGORY_ND:
        digit = (char)('0' + digit_of(cp));
        buf_add(f->out, &digit, 1);
        return;
    default: add_code_point(f, cp);
    }
}

/* A letter of the north that stands alone is the empty set. */
static bool is_empty_set(const struct folder *f, uint32_t cp, size_t bytes) {
    const struct buf *b = f->out;
    size_t n;
    uint32_t next = peek(f, f->at + bytes, &n);
    bool left = b->len > 0 && ((unsigned char)b->data[b->len - 1] >= 0x80 ||
                               isalpha((unsigned char)b->data[b->len - 1]));
    bool right = n > 0 && (next >= 0x80 || isalpha((int)next));
    return (cp == 0xD8 || cp == 0xF8) && !left && !right;
}

/* A small mu between a number and the symbol of a unit is "micro". */
static bool is_micro(const struct folder *f, uint32_t cp, size_t bytes) {
    const struct buf *b = f->out;
    size_t n = b->len, m, k;
    uint32_t unit = peek(f, f->at + bytes, &m), after = peek(f, f->at + bytes + m, &k);
    while (n > 0 && strchr(" \\,~", b->data[n - 1]))
        n--;
    return cp == 0x3BC && n > 0 && isdigit((unsigned char)b->data[n - 1]) && m == 1 &&
           strchr("mgsLlFHAVWNJC", (int)unit) && (k == 0 || after >= 0x80 || !isalpha((int)after));
}

/* One code point that is neither raised nor lowered. */
static void add_sign(struct folder *f, uint32_t cp);

static bool is_ascii_digit(uint32_t cp) {
    return cp >= '0' && cp <= '9';
}

/* The compatibility mapping, whose code points are signs again. A fraction is \frac; digits behind
 * the letters of a squared unit (a "square metre" of one character) are its power. */
static bool add_mapping(struct folder *f, uint32_t cp) {
    utf8proc_int32_t piece[PIECES_MAX];
    int boundary = 0;
    unsigned char type = mapping_of(cp);
    if (type == 0) return false;
    utf8proc_ssize_t n = utf8proc_decompose_char(
        (utf8proc_int32_t)cp, piece, PIECES_MAX,
        (utf8proc_option_t)(UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE), &boundary);
    if (n <= 0 || n > PIECES_MAX || (n == 1 && (uint32_t)piece[0] == cp)) return false;
    bool square = type == UTF8PROC_DECOMP_TYPE_SQUARE;
    if (type == UTF8PROC_DECOMP_TYPE_FRACTION) add_folded(f, "\\frac{");
    if (square) add_folded(f, "\\mathrm{");
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        uint32_t c = (uint32_t)piece[i];
        if (c == 0x2044 && type == UTF8PROC_DECOMP_TYPE_FRACTION)
            add_folded(f, "}{");
        else if (square && i > 0 && is_ascii_digit(c) && !is_ascii_digit((uint32_t)piece[i - 1]))
            add_folded(f, "^"), add_sign(f, c);
        else
            add_sign(f, c);
    }
    if (type == UTF8PROC_DECOMP_TYPE_FRACTION || square) add_folded(f, "}");
    return true;
}

static void add_sign(struct folder *f, uint32_t cp) {
    if (cp < 0x80) {
        add_code_point(f, cp);
        return;
    }
    const char *to = sign_of(cp);
    if (!to && cp >= 0x1D538 && cp <= 0x1D550) { /* the blackboard capitals without a place of
                                                    their own among the letterlike signs */
        char letter = (char)('A' + (cp - 0x1D538));
        add_folded(f, "\\mathbb{");
        buf_add(f->out, &letter, 1);
        to = "}";
    }
    bool blank = category_of(cp) == UTF8PROC_CATEGORY_ZS; /* of any width */
    if (to)
        add_folded(f, to);
    else if (blank || !add_mapping(f, cp))
        add_by_category(f, cp);
}

static bool is_raised(uint32_t cp) {
    bool sign = cp == 0xBA || cp == 0xAA || cp == 0x2122 || cp == 0x2120;
    return mapping_of(cp) == UTF8PROC_DECOMP_TYPE_SUPER && !sign;
}

static bool is_lowered(uint32_t cp) {
    return mapping_of(cp) == UTF8PROC_DECOMP_TYPE_SUB;
}

/* Whether the mapping of cp is one decimal digit. */
static bool is_small_digit(uint32_t cp) {
    utf8proc_int32_t piece[PIECES_MAX];
    int boundary = 0;
    return utf8proc_decompose_char((utf8proc_int32_t)cp, piece, PIECES_MAX,
                                   (utf8proc_option_t)(UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE),
                                   &boundary) == 1 &&
           is_ascii_digit((uint32_t)piece[0]);
}

/* Bytes of the run at s whose characters all pass; *digits: they all are. */
static size_t script_run_length(const struct folder *f, const char *s, bool (*pass)(uint32_t),
                                bool *digits) {
    const char *from = s;
    size_t n;
    *digits = true;
    for (uint32_t cp; cp = peek(f, s, &n), n > 0 && pass(cp); s += n)
        *digits = *digits && is_small_digit(cp);
    return (size_t)(s - from);
}

static void add_run(struct folder *f, size_t bytes) {
    for (const char *end = f->at + bytes; f->at < end;) {
        size_t n;
        uint32_t cp = peek(f, f->at, &n);
        if (!add_mapping(f, cp)) add_by_category(f, cp);
        f->at += n;
    }
}

/* Raised and lowered runs: powers and indices, a fraction of small digits, the degree of a root. */
static bool fold_small(struct folder *f) {
    bool raised_digits, lowered_digits, lowered;
    size_t n = script_run_length(f, f->at, is_raised, &raised_digits), m, slash;
    lowered = n == 0;
    if (lowered) n = script_run_length(f, f->at, is_lowered, &lowered_digits);
    if (n == 0) return false;
    uint32_t next = peek(f, f->at + n, &slash);
    if (!lowered && raised_digits && (next == 0x2044 || next == 0x2215 || next == '/') &&
        (m = script_run_length(f, f->at + n + slash, is_lowered, &lowered_digits)) > 0 &&
        lowered_digits) {
        add_folded(f, "\\frac{");
        add_run(f, n);
        f->at += slash;
        add_folded(f, "}{");
        add_run(f, m);
        add_folded(f, "}");
        return true;
    }
    if (!lowered && raised_digits && next == 0x221A) {
        add_folded(f, "\\surd[");
        add_run(f, n);
        f->at += slash;
        add_folded(f, "] ");
        return true;
    }
    add_folded(f, lowered ? "_{" : "^{");
    add_run(f, n);
    add_folded(f, "}");
    return true;
}

/* A line or a dot over a digit: it belongs to the cycle of a repeating decimal. */
static bool is_cycle_mark(uint32_t cp) {
    return cp == 0x304 || cp == 0x305 || cp == 0x307;
}

/* Digits with such marks at f->at; with dots, the digits between two of them belong too. */
static bool fold_cycle(struct folder *f) {
    const char *s = f->at, *end = s;
    size_t n, m;
    bool dots = false;
    for (uint32_t cp; cp = peek(f, s, &n), n > 0 && is_ascii_digit(cp);) {
        uint32_t mark = peek(f, s + n, &m);
        bool marked = m > 0 && is_cycle_mark(mark);
        if (s == f->at && !marked) return false;
        dots = dots || mark == 0x307;
        if (!marked && !dots) break;
        s += n + (marked ? m : 0);
        if (marked) end = s;
    }
    if (end == f->at) return false;
    add_folded(f, "\\overline{");
    for (; f->at < end; f->at++)
        if (is_ascii_digit((unsigned char)*f->at)) buf_add(f->out, f->at, 1);
    add_folded(f, "}");
    return true;
}

/* A stroke through the relation before it. */
static bool fold_stroke(struct folder *f) {
    static const struct {
        const char *relation, *negated;
    } stroke[] = {{"=\xcc\xb8", "\\ne "}, {"\xe2\x88\x88\xcc\xb8", "\\notin "}};
    for (size_t i = 0; i < sizeof stroke / sizeof stroke[0]; i++) {
        size_t n = strlen(stroke[i].relation);
        if ((size_t)(f->end - f->at) < n || memcmp(f->at, stroke[i].relation, n) != 0) continue;
        add_folded(f, stroke[i].negated);
        f->at += n;
        return true;
    }
    return false;
}

void mathfold(struct buf *out, const char *text) {
    size_t bytes;
    char *composed = textfold(text, strlen(text), false, &bytes);
    struct folder f = {.out = out, .at = composed, .end = composed + bytes};
    while (f.at < f.end) {
        size_t n;
        if (fold_stroke(&f) || fold_cycle(&f) || fold_small(&f)) continue;
        uint32_t cp = peek(&f, f.at, &n);
        if (cp == UINT32_MAX)
            buf_add(out, f.at, n);
        else if (is_micro(&f, cp, n))
            add_folded(&f, "\\micro ");
        else if (is_empty_set(&f, cp, n))
            add_folded(&f, "\\emptyset ");
        else
            add_sign(&f, cp);
        f.at += n;
    }
    buf_str(out, "");
    mem_free(composed);
}
