/* mathlooks.c - what a command does to its arguments decides what is left of it, and one table
 * says it for each. The rest is in the order of the text: a group is rewritten inside its braces,
 * so that TeX's infix commands (3 \over 4) find both their operands.
 *
 * A command that the table does not know stays: it may mean something, and the reader decides. */
#include "reward/math/mathlooks.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { DEPTH_MAX = 64, OPTIONS = -1 };

enum effect {
    EFFECT_DROP,  /* the name goes, and `arguments` groups behind it, with [options] before them */
    EFFECT_SPACE, /* the same, and a space is left */
    EFFECT_TEXT,  /* it is \text */
    EFFECT_ROMAN, /* it is \mathrm */
    EFFECT_UPRIGHT,  /* all up to the end of the group is \mathrm */
    EFFECT_LENGTH,   /* a length follows: 3pt, -1.5em */
    EFFECT_LABELLED, /* the name goes, and the index or power behind its argument */
    EFFECT_REPLACE   /* by `to` */
};

struct command {
    const char *name;
    enum effect effect;
    int arguments;
    const char *to;
};

static const struct command commands[] = {
    /* spaces */
    {"quad", EFFECT_SPACE, 0, NULL},
    {"qquad", EFFECT_SPACE, 0, NULL},
    {"enspace", EFFECT_SPACE, 0, NULL},
    {"enskip", EFFECT_SPACE, 0, NULL},
    {"thinspace", EFFECT_SPACE, 0, NULL},
    {"medspace", EFFECT_SPACE, 0, NULL},
    {"thickspace", EFFECT_SPACE, 0, NULL},
    {"negthinspace", EFFECT_DROP, 0, NULL},
    {"negmedspace", EFFECT_DROP, 0, NULL},
    {"negthickspace", EFFECT_DROP, 0, NULL},
    {"nobreakspace", EFFECT_SPACE, 0, NULL},
    {"space", EFFECT_SPACE, 0, NULL},
    {"newline", EFFECT_SPACE, 0, NULL},
    {"linebreak", EFFECT_SPACE, 0, NULL},
    {"par", EFFECT_SPACE, 0, NULL},
    {"hfill", EFFECT_SPACE, 0, NULL},
    {"hfil", EFFECT_SPACE, 0, NULL},
    {"hspace", EFFECT_SPACE, 1, NULL},
    {"vspace", EFFECT_SPACE, 1, NULL},
    {"mspace", EFFECT_SPACE, 1, NULL},
    {"kern", EFFECT_LENGTH, 0, NULL},
    {"mkern", EFFECT_LENGTH, 0, NULL},
    {"hskip", EFFECT_LENGTH, 0, NULL},
    {"mskip", EFFECT_LENGTH, 0, NULL},
    {"vskip", EFFECT_LENGTH, 0, NULL},
    /* what is not seen, or says nothing of the value */
    {"phantom", EFFECT_DROP, 1, NULL},
    {"hphantom", EFFECT_DROP, 1, NULL},
    {"vphantom", EFFECT_DROP, 1, NULL},
    {"label", EFFECT_DROP, 1, NULL},
    {"tag", EFFECT_DROP, 1, NULL},
    {"rule", EFFECT_DROP, 2, NULL},
    {"strut", EFFECT_DROP, 0, NULL},
    {"mathstrut", EFFECT_DROP, 0, NULL},
    {"null", EFFECT_DROP, 0, NULL},
    {"relax", EFFECT_DROP, 0, NULL},
    {"nonumber", EFFECT_DROP, 0, NULL},
    {"notag", EFFECT_DROP, 0, NULL},
    {"noindent", EFFECT_DROP, 0, NULL},
    {"centering", EFFECT_DROP, 0, NULL},
    {"allowbreak", EFFECT_DROP, 0, NULL},
    {"nobreak", EFFECT_DROP, 0, NULL},
    {"protect", EFFECT_DROP, 0, NULL},
    {"unskip", EFFECT_DROP, 0, NULL},
    {"ignorespaces", EFFECT_DROP, 0, NULL},
    {"limits", EFFECT_DROP, 0, NULL},
    {"nolimits", EFFECT_DROP, 0, NULL},
    {"displaylimits", EFFECT_DROP, 0, NULL},
    /* colours, boxes */
    {"color", EFFECT_DROP, 1, NULL},
    {"textcolor", EFFECT_DROP, 1, NULL},
    {"colorbox", EFFECT_DROP, 1, NULL},
    {"fcolorbox", EFFECT_DROP, 2, NULL},
    {"boxed", EFFECT_DROP, 0, NULL},
    {"fbox", EFFECT_DROP, 0, NULL},
    {"framebox", EFFECT_DROP, OPTIONS, NULL},
    {"makebox", EFFECT_DROP, OPTIONS, NULL},
    {"raisebox", EFFECT_DROP, 1, NULL},
    {"scalebox", EFFECT_DROP, 1, NULL},
    {"resizebox", EFFECT_DROP, 2, NULL},
    {"underline", EFFECT_DROP, 0, NULL},
    {"uline", EFFECT_DROP, 0, NULL},
    {"uuline", EFFECT_DROP, 0, NULL},
    {"underbar", EFFECT_DROP, 0, NULL},
    {"hl", EFFECT_DROP, 0, NULL},
    {"smash", EFFECT_DROP, 0, NULL},
    {"rlap", EFFECT_DROP, 0, NULL},
    {"llap", EFFECT_DROP, 0, NULL},
    {"mathrlap", EFFECT_DROP, 0, NULL},
    {"mathllap", EFFECT_DROP, 0, NULL},
    {"mathclap", EFFECT_DROP, 0, NULL},
    {"ensuremath", EFFECT_DROP, 0, NULL},
    {"bbox", EFFECT_DROP, OPTIONS, NULL},
    {"ovalbox", EFFECT_DROP, 0, NULL},
    {"shadowbox", EFFECT_DROP, 0, NULL},
    {"doublebox", EFFECT_DROP, 0, NULL},
    {"circled", EFFECT_DROP, 0, NULL},
    {"textcircled", EFFECT_DROP, 0, NULL},
    {"enclose", EFFECT_DROP, 1, NULL},
    {"parbox", EFFECT_DROP, 1, NULL},
    {"rotatebox", EFFECT_DROP, 1, NULL},
    {"style", EFFECT_DROP, 1, NULL},
    {"class", EFFECT_DROP, 1, NULL},
    {"cssId", EFFECT_DROP, 1, NULL},
    {"href", EFFECT_DROP, 1, NULL},
    {"require", EFFECT_DROP, 1, NULL},
    {"cellcolor", EFFECT_DROP, 1, NULL},
    {"mathcolor", EFFECT_DROP, 1, NULL},
    {"underbrace", EFFECT_LABELLED, 0, NULL},
    {"overbrace", EFFECT_LABELLED, 0, NULL},
    {"qed", EFFECT_DROP, 0, NULL},
    {"qedhere", EFFECT_DROP, 0, NULL},
    {"blacksquare", EFFECT_DROP, 0, NULL},
    {"checkmark", EFFECT_DROP, 0, NULL},
    /* sizes and styles */
    {"tiny", EFFECT_DROP, 0, NULL},
    {"scriptsize", EFFECT_DROP, 0, NULL},
    {"footnotesize", EFFECT_DROP, 0, NULL},
    {"small", EFFECT_DROP, 0, NULL},
    {"normalsize", EFFECT_DROP, 0, NULL},
    {"large", EFFECT_DROP, 0, NULL},
    {"Large", EFFECT_DROP, 0, NULL},
    {"LARGE", EFFECT_DROP, 0, NULL},
    {"huge", EFFECT_DROP, 0, NULL},
    {"Huge", EFFECT_DROP, 0, NULL},
    {"fontsize", EFFECT_DROP, 2, NULL},
    {"selectfont", EFFECT_DROP, 0, NULL},
    {"displaystyle", EFFECT_DROP, 0, NULL},
    {"textstyle", EFFECT_DROP, 0, NULL},
    {"scriptstyle", EFFECT_DROP, 0, NULL},
    {"scriptscriptstyle", EFFECT_DROP, 0, NULL},
    /* faces of formulas */
    {"bm", EFFECT_DROP, 0, NULL},
    {"pmb", EFFECT_DROP, 0, NULL},
    {"boldmath", EFFECT_DROP, 0, NULL},
    {"boldsymbol", EFFECT_DROP, 0, NULL},
    {"symbf", EFFECT_DROP, 0, NULL},
    {"symup", EFFECT_DROP, 0, NULL},
    {"mathbf", EFFECT_DROP, 0, NULL},
    {"mathit", EFFECT_DROP, 0, NULL},
    {"mathsf", EFFECT_DROP, 0, NULL},
    {"mathtt", EFFECT_DROP, 0, NULL},
    {"mathcal", EFFECT_DROP, 0, NULL},
    {"mathscr", EFFECT_DROP, 0, NULL},
    {"mathfrak", EFFECT_DROP, 0, NULL},
    {"mathnormal", EFFECT_DROP, 0, NULL},
    {"mathop", EFFECT_DROP, 0, NULL},
    {"mathord", EFFECT_DROP, 0, NULL},
    {"mathrel", EFFECT_DROP, 0, NULL},
    {"mathbin", EFFECT_DROP, 0, NULL},
    {"mathopen", EFFECT_DROP, 0, NULL},
    {"mathclose", EFFECT_DROP, 0, NULL},
    {"mathpunct", EFFECT_DROP, 0, NULL},
    {"mathinner", EFFECT_DROP, 0, NULL},
    {"bf", EFFECT_DROP, 0, NULL},
    {"it", EFFECT_DROP, 0, NULL},
    {"sf", EFFECT_DROP, 0, NULL},
    {"tt", EFFECT_DROP, 0, NULL},
    {"sl", EFFECT_DROP, 0, NULL},
    {"sc", EFFECT_DROP, 0, NULL},
    {"em", EFFECT_DROP, 0, NULL},
    {"cal", EFFECT_DROP, 0, NULL},
    {"mit", EFFECT_DROP, 0, NULL},
    {"bfseries", EFFECT_DROP, 0, NULL},
    {"mdseries", EFFECT_DROP, 0, NULL},
    {"itshape", EFFECT_DROP, 0, NULL},
    {"upshape", EFFECT_DROP, 0, NULL},
    {"slshape", EFFECT_DROP, 0, NULL},
    {"scshape", EFFECT_DROP, 0, NULL},
    {"sffamily", EFFECT_DROP, 0, NULL},
    {"ttfamily", EFFECT_DROP, 0, NULL},
    {"normalfont", EFFECT_DROP, 0, NULL},
    {"rm", EFFECT_UPRIGHT, 0, NULL},
    {"rmfamily", EFFECT_UPRIGHT, 0, NULL},
    {"mathrm", EFFECT_ROMAN, 0, NULL},
    {"mathup", EFFECT_ROMAN, 0, NULL},
    {"mathbfup", EFFECT_ROMAN, 0, NULL},
    {"operatorname", EFFECT_ROMAN, 0, NULL},
    /* faces of words */
    {"text", EFFECT_TEXT, 0, NULL},
    {"textrm", EFFECT_TEXT, 0, NULL},
    {"textbf", EFFECT_TEXT, 0, NULL},
    {"textit", EFFECT_TEXT, 0, NULL},
    {"textsf", EFFECT_TEXT, 0, NULL},
    {"texttt", EFFECT_TEXT, 0, NULL},
    {"textsl", EFFECT_TEXT, 0, NULL},
    {"textsc", EFFECT_TEXT, 0, NULL},
    {"textup", EFFECT_TEXT, 0, NULL},
    {"textmd", EFFECT_TEXT, 0, NULL},
    {"textnormal", EFFECT_TEXT, 0, NULL},
    {"emph", EFFECT_TEXT, 0, NULL},
    {"mbox", EFFECT_TEXT, 0, NULL},
    {"hbox", EFFECT_TEXT, 0, NULL},
    {"vbox", EFFECT_TEXT, 0, NULL},
    /* brackets that grow */
    {"left", EFFECT_DROP, 0, NULL},
    {"right", EFFECT_DROP, 0, NULL},
    {"middle", EFFECT_DROP, 0, NULL},
    {"big", EFFECT_DROP, 0, NULL},
    {"Big", EFFECT_DROP, 0, NULL},
    {"bigg", EFFECT_DROP, 0, NULL},
    {"Bigg", EFFECT_DROP, 0, NULL},
    {"bigl", EFFECT_DROP, 0, NULL},
    {"bigr", EFFECT_DROP, 0, NULL},
    {"bigm", EFFECT_DROP, 0, NULL},
    {"Bigl", EFFECT_DROP, 0, NULL},
    {"Bigr", EFFECT_DROP, 0, NULL},
    {"Bigm", EFFECT_DROP, 0, NULL},
    {"biggl", EFFECT_DROP, 0, NULL},
    {"biggr", EFFECT_DROP, 0, NULL},
    {"Biggl", EFFECT_DROP, 0, NULL},
    {"Biggr", EFFECT_DROP, 0, NULL},
    /* other spellings */
    {"dfrac", EFFECT_REPLACE, 0, "\\frac"},
    {"tfrac", EFFECT_REPLACE, 0, "\\frac"},
    {"cfrac", EFFECT_REPLACE, 0, "\\frac"},
    {"sfrac", EFFECT_REPLACE, 0, "\\frac"},
    {"nicefrac", EFFECT_REPLACE, 0, "\\frac"},
    {"flatfrac", EFFECT_REPLACE, 0, "\\frac"},
    {"dbinom", EFFECT_REPLACE, 0, "\\binom"},
    {"tbinom", EFFECT_REPLACE, 0, "\\binom"},
    {"textdegree", EFFECT_REPLACE, 0, "\\degree "},
    {"celsius", EFFECT_REPLACE, 0, "\\degree C"},
    {"textpercent", EFFECT_REPLACE, 0, "%"},
    {"percent", EFFECT_REPLACE, 0, "%"},
    {"textdollar", EFFECT_REPLACE, 0, ""},
    {"texteuro", EFFECT_REPLACE, 0, ""},
    {"euro", EFFECT_REPLACE, 0, ""},
    {"pounds", EFFECT_REPLACE, 0, ""},
    {"textsterling", EFFECT_REPLACE, 0, ""},
    {"yen", EFFECT_REPLACE, 0, ""},
    {"textyen", EFFECT_REPLACE, 0, ""},
    {"textcent", EFFECT_REPLACE, 0, ""},
    {"cent", EFFECT_REPLACE, 0, ""},
    {"rupee", EFFECT_REPLACE, 0, ""},
    {"INR", EFFECT_REPLACE, 0, ""},
    {"textsuperscript", EFFECT_REPLACE, 0, "^"},
    {"textsubscript", EFFECT_REPLACE, 0, "_"},
    {"prime", EFFECT_REPLACE, 0, "'"},
    {"textmu", EFFECT_REPLACE, 0, "\\micro "},
    {"textminus", EFFECT_REPLACE, 0, "-"},
    {"textendash", EFFECT_REPLACE, 0, "-"},
    {"lparen", EFFECT_REPLACE, 0, "("},
    {"rparen", EFFECT_REPLACE, 0, ")"},
    {"slash", EFFECT_REPLACE, 0, "/"},
    {"textbackslash", EFFECT_REPLACE, 0, "\\setminus "},
    {"textasciitilde", EFFECT_SPACE, 0, NULL},
    {"lq", EFFECT_DROP, 0, NULL},
    {"rq", EFFECT_DROP, 0, NULL},
    {"textquotedblleft", EFFECT_DROP, 0, NULL},
    {"textquotedblright", EFFECT_DROP, 0, NULL},
    {"textquoteleft", EFFECT_DROP, 0, NULL},
    {"textquoteright", EFFECT_DROP, 0, NULL},
};

/* What is not a letter behind a backslash. */
static const struct {
    char name;
    const char *to;
} escapes[] = {{',', " "}, {';', " "},  {':', " "},  {'>', " "}, {' ', " "}, {'!', ""}, {'/', ""},
               {'-', ""},  {'@', ""},   {'%', "%"},  {'$', ""},  {'(', ""},  {')', ""}, {'[', ""},
               {']', ""},  {'\n', " "}, {'\t', " "}, {'_', "_"}, {'&', "&"}, {'#', "#"}};

/* The text that is rewritten, from s to end. */
struct rewriter {
    struct buf *out;
    const char *start;
    int depth;
};

static void rewrite(struct rewriter *r, const char *s, const char *end);
static void rewrite_group(struct rewriter *r, const char *s, const char *end);

static void add_looks(struct rewriter *r, const char *s) {
    buf_add(r->out, s, strlen(s));
}

static const char *skip_spaces(const char *s, const char *end) {
    while (s < end && isspace((unsigned char)*s))
        s++;
    return s;
}

/* Bytes up to the bracket that closes the one at s, both included; 0 if none does. */
static size_t bracket_length(const char *s, const char *end, char open, char close) {
    int depth = 0;
    for (const char *at = s; at < end; at++) {
        if (*at == '\\' && at + 1 < end)
            at++;
        else if (*at == open)
            depth++;
        else if (*at == close && --depth == 0)
            return (size_t)(at - s) + 1;
    }
    return 0;
}

/* Bytes of the command's name behind the backslash at s. */
static size_t name_length(const char *s, const char *end) {
    size_t n = 0;
    while (s + 1 + n < end && isalpha((unsigned char)s[1 + n]))
        n++;
    return n;
}

static bool is_command_at(const char *s, const char *end, const char *name) {
    size_t n = strlen(name);
    return s < end && *s == '\\' && name_length(s, end) == n && memcmp(s + 1, name, n) == 0;
}

/* Behind n groups or single characters, with options in brackets before them. */
static const char *skip_arguments(const char *s, const char *end, int n) {
    size_t options;
    if (n != 0 && s < end && *s == '*') s++;
    while (n == OPTIONS && s < end && *s == '[' && (options = bracket_length(s, end, '[', ']')) > 0)
        s += options;
    for (; n > 0; n--) {
        const char *at = skip_spaces(s, end);
        size_t m;
        while (at < end && *at == '[' && (m = bracket_length(at, end, '[', ']')) > 0)
            at = skip_spaces(at + m, end);
        if (at == end) return at;
        m = *at == '{' ? bracket_length(at, end, '{', '}') : 0;
        s = at + (m > 0 ? m : *at == '\\' ? 1 + name_length(at, end) : 1);
    }
    return s;
}

/* ---- digits ---- */

static bool three_digits_at(const char *s, const char *end) {
    if (end - s < 3) return false;
    for (int i = 0; i < 3; i++)
        if (!isdigit((unsigned char)s[i])) return false;
    return end - s == 3 || !isdigit((unsigned char)s[3]);
}

/* Bytes of a separator of thousands at s: one blank, spaces of LaTeX's, or one comma with anything
 * that takes its space away. A bare comma is none: it separates answers too. */
static size_t separator_length(const char *s, const char *end) {
    static const char *const spaces[] = {"\\,", "\\ ", "~", "\\thinspace", NULL};
    static const char *const tight[] = {
        "\\!", "{", "}", "\\negthinspace", "\\text{", "\\mathord{", "\\mathpunct{", NULL};
    int n_spaces = 0, n_tight = 0, n_commas = 0, depth = 0;
    const char *at = s;
    for (bool more = true; more;) {
        more = false;
        for (int k = 0; k < 2 && !more; k++)
            for (const char *const *w = k ? tight : spaces; *w && !more; w++) {
                size_t n = strlen(*w);
                if ((size_t)(end - at) < n || memcmp(at, *w, n) != 0) continue;
                depth += (*w)[n - 1] == '{';
                depth -= **w == '}';
                if (depth < 0) return 0;
                *(k ? &n_tight : &n_spaces) += 1;
                at += n;
                more = true;
            }
        if (!more && at < end && (*at == ',' || *at == ' ')) {
            n_commas += *at == ',';
            at++;
            more = true;
        }
    }
    bool comma = n_commas == 1 && n_tight > 0 && n_spaces == 0;
    bool space = n_commas == 0 && n_spaces == 1;
    bool blank = at == s + 1 && *s == ' ' && !(end - at > 3 && at[3] == '/'); /* 1 100/300 */
    return depth == 0 && (comma || space || blank) && three_digits_at(at, end) ? (size_t)(at - s)
                                                                               : 0;
}

/* At the bracket of a repeating decimal, 0.(3) or 0.1(6): behind it, with its cycle written out;
 * NULL if it is none. */
static const char *rewrite_cycle(struct rewriter *r, const char *s, const char *end) {
    size_t n = s < end && *s == '(' ? bracket_length(s, end, '(', ')') : 0;
    if (n < 3) return NULL;
    for (size_t i = 1; i + 1 < n; i++)
        if (!isdigit((unsigned char)s[i])) return NULL;
    add_looks(r, "\\overline{");
    buf_add(r->out, s + 1, n - 2);
    add_looks(r, "}");
    return s + n;
}

/* A run of digits with its groups of thousands; returns where it ends. */
static const char *rewrite_digits(struct rewriter *r, const char *s, const char *end) {
    const char *from = s;
    while (s < end && isdigit((unsigned char)*s))
        s++;
    buf_add(r->out, from, (size_t)(s - from));
    bool fraction = from > r->start && from[-1] == '.';
    size_t first = (size_t)(s - from), n;
    const char *point = !fraction && s < end && *s == '.' ? s + 1 : NULL, *after;
    if (fraction && (after = rewrite_cycle(r, s, end)) != NULL) return after;
    if (point && point < end && *point == '(') {
        size_t len = r->out->len;
        add_looks(r, ".");
        if ((after = rewrite_cycle(r, point, end)) != NULL) return after;
        r->out->len = len;
    }
    if (first == 0 || first > 3 || (fraction && first != 3)) return s;
    for (;;) {
        bool apostrophe = s < end && *s == '\'' && three_digits_at(s + 1, end);
        n = apostrophe ? 1 : separator_length(s, end);
        if (n == 0) return s;
        buf_add(r->out, s + n, 3);
        s += n + 3;
    }
}

/* ---- commands ---- */

/* Behind "\sqrt" of a sign or a word ("√12", "sqrt12"): all digits are meant, not TeX's first. */
static const char *rewrite_root(struct rewriter *r, const char *s, const char *end) {
    size_t n;
    add_looks(r, "\\sqrt");
    s = skip_spaces(s, end);
    if (s < end && *s == '[' && (n = bracket_length(s, end, '[', ']')) > 0) {
        buf_add(r->out, s, n);
        s = skip_spaces(s + n, end);
    }
    const char *from = s;
    while (s < end && (isdigit((unsigned char)*s) ||
                       (*s == '.' && s + 1 < end && isdigit((unsigned char)s[1]))))
        s++;
    if (s > from) {
        add_looks(r, "{");
        buf_add(r->out, from, (size_t)(s - from));
        add_looks(r, "}");
    } else {
        add_looks(r, " ");
    }
    return s;
}

/* A length such as "3pt" or "-0.5em" or a register; returns where it ends. */
static const char *skip_length(const char *s, const char *end) {
    s = skip_spaces(s, end);
    if (s < end && *s == '\\') return s + 1 + name_length(s, end);
    while (s < end && (isdigit((unsigned char)*s) || strchr("+-. ", *s)))
        s++;
    for (int i = 0; i < 2 && s < end && isalpha((unsigned char)*s); i++)
        s++;
    return s;
}

/* Behind the space below a row of a matrix, \\[2pt], if that is what the bracket at s holds. */
static const char *skip_row_space(const char *s, const char *end) {
    size_t n = bracket_length(s, end, '[', ']');
    return n > 3 && skip_length(s + 1, end) == s + n - 1 && isalpha((unsigned char)s[n - 2]) ? s + n
                                                                                             : s;
}

static const char *rewrite_rest(struct rewriter *r, const char *s, const char *end,
                                const char *command) {
    add_looks(r, command);
    add_looks(r, "{");
    rewrite(r, s, end);
    add_looks(r, "}");
    return end;
}

static const struct command *find_command(const char *s, size_t n) {
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strlen(commands[i].name) == n && memcmp(commands[i].name, s, n) == 0)
            return &commands[i];
    return NULL;
}

/* \not before a relation. */
static const char *rewrite_not(struct rewriter *r, const char *s, const char *end) {
    s = skip_spaces(s, end);
    if (s < end && *s == '=') return add_looks(r, "\\ne "), s + 1;
    if (is_command_at(s, end, "in")) return add_looks(r, "\\notin "), s + 3;
    return add_looks(r, "\\not "), s;
}

/* Environments that only place what is inside: one line of them is that line. */
static bool is_display(const char *s, size_t n) {
    static const char *const name[] = {"aligned",     "align", "align*", "gathered", "gather",
                                       "gather*",     "split", "center", "equation", "equation*",
                                       "displaymath", "math",  "large",  "Large",    "huge",
                                       "Huge",        "small", NULL};
    for (size_t i = 0; name[i]; i++)
        if (strlen(name[i]) == n && memcmp(name[i], s, n) == 0) return true;
    return false;
}

/* Behind the break of a row at s that goes on with the relation of the row before it, "\\\\ &= 5";
 * NULL if it does not. */
static const char *continued(const char *s, const char *end) {
    const char *at = skip_spaces(s + 2, end);
    if (at < end && *at == '&') at = skip_spaces(at + 1, end);
    bool relation = at < end && (*at == '=' || is_command_at(at, end, "approx"));
    return relation ? at : NULL;
}

/* Row breaks at the end break nothing. */
static const char *without_breaks(const char *s, const char *end) {
    for (const char *at = end;;) {
        size_t slashes = 0;
        while (at > s && isspace((unsigned char)at[-1]))
            at--;
        while (at > s && at[-1] == '\\')
            at--, slashes++;
        if (slashes < 2 || slashes % 2 == 1) return end;
        end = at;
    }
}

/* Behind the row break at s that continued() knows, NULL if none is. */
static const char *row_break(const char *s, const char *end) {
    return s + 1 < end && s[0] == '\\' && s[1] == '\\' ? continued(s, end) : NULL;
}

/* At \begin: the inside of a display of one line, without its marks of alignment. NULL if it is
 * none. */
static const char *rewrite_display(struct rewriter *r, const char *s, const char *end) {
    const char *name = s + sizeof "\\begin" - 1;
    size_t n = name < end && *name == '{' ? bracket_length(name, end, '{', '}') : 0;
    if (n < 3 || !is_display(name + 1, n - 2)) return NULL;
    const char *from = name + n, *to = NULL;
    for (const char *at = from; at + 4 + n <= end && !to; at++) {
        const char *next = skip_spaces(at + 2, end);
        bool last = next < end && is_command_at(next, end, "end");
        if (at[0] == '\\' && at[1] == '\\' && !last && !continued(at, end)) return NULL;
        if (memcmp(at, "\\end", 4) == 0 && memcmp(at + 4, name, n) == 0) to = at;
        if (memcmp(at, "\\begin", 6) == 0) return NULL;
    }
    if (!to) return NULL;
    const char *close = to;
    to = without_breaks(from, to);
    while (from < to) {
        const char *mark = from, *rest = NULL;
        while (mark < to && *mark != '&' && !(rest = row_break(mark, to)))
            mark++;
        rewrite(r, from, mark);
        from = rest ? rest : mark + 1;
    }
    return close + 4 + n;
}

/* The command at s; returns where it and what it takes away ends. */
static const char *rewrite_command(struct rewriter *r, const char *s, const char *end) {
    size_t n = name_length(s, end);
    const char *rest = s + 1 + n, *after;
    if (n == 0) {
        for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++)
            if (s + 1 < end && escapes[i].name == s[1]) return add_looks(r, escapes[i].to), s + 2;
        size_t bytes = s + 1 < end ? 2 : 1;
        buf_add(r->out, s, bytes);
        s += bytes;
        bool row = bytes == 2 && s[-1] == '\\';
        return row && s < end && *s == '[' ? skip_row_space(s, end) : s;
    }
    if (is_command_at(s, end, "surd")) return rewrite_root(r, rest, end);
    if (is_command_at(s, end, "not")) return rewrite_not(r, rest, end);
    if (is_command_at(s, end, "begin") && (after = rewrite_display(r, s, end)) != NULL)
        return after;
    const struct command *c = find_command(s + 1, n);
    if (!c) {
        buf_add(r->out, s, n + 1);
        return rest;
    }
    switch (c->effect) {
    case EFFECT_DROP:
    case EFFECT_SPACE:
        rest = skip_arguments(rest, end, c->arguments);
        if (rest < end && *rest == '*') rest++;
        bool bracket = strcmp(c->name, "left") == 0 || strcmp(c->name, "right") == 0;
        if (bracket && rest < end && *rest == '.') rest++;
        if (c->effect == EFFECT_SPACE) add_looks(r, " ");
        return rest;
    case EFFECT_TEXT: return add_looks(r, "\\text"), rest;
    case EFFECT_ROMAN: return add_looks(r, "\\mathrm"), rest + (rest < end && *rest == '*');
    case EFFECT_UPRIGHT: return rewrite_rest(r, rest, end, "\\mathrm");
    case EFFECT_LENGTH: return add_looks(r, " "), skip_length(rest, end);
    case EFFECT_LABELLED:
        after = skip_arguments(rest, end, 1);
        rewrite(r, rest, after);
        after = skip_spaces(after, end);
        return after < end && strchr("_^", *after) ? skip_arguments(after + 1, end, 1) : after;
    case EFFECT_REPLACE: return add_looks(r, c->to), rest;
    }
    return rest;
}

/* Bytes of a degree sign at s in one of its spellings; behind a value only. */
static size_t degree_length(const char *s, const char *end) {
    static const char *const form[] = {"^\\circ",      "^{\\circ}",      "^{\\degree}", "^\\degree",
                                       "^{\\text{o}}", "^{\\mathrm{o}}", "^{o}",        "^o",
                                       "\\circ",       "^{^\\circ}",     "^{ \\circ }", "^ \\circ",
                                       "^{\\ \\circ}"};
    for (size_t i = 0; i < sizeof form / sizeof form[0]; i++) {
        size_t n = strlen(form[i]);
        if ((size_t)(end - s) >= n && memcmp(s, form[i], n) == 0 &&
            !(isalpha((unsigned char)form[i][n - 1]) && s + n < end &&
              isalpha((unsigned char)s[n])))
            return n;
    }
    return 0;
}

static bool text_ends_value(const struct buf *b) {
    size_t n = b->len;
    while (n > 0 && (b->data[n - 1] == ' ' || b->data[n - 1] == '{' || b->data[n - 1] == '}'))
        n--; /* {}^\circ */
    return n > 0 && (isdigit((unsigned char)b->data[n - 1]) || strchr(")'", b->data[n - 1]));
}

/* ** is a power between operands ("x**2"), emphasis elsewhere. */
static const char *stars(const char *start, const char *s, const char *end) {
    bool left = s > start && (isalnum((unsigned char)s[-1]) || s[-1] == ')');
    bool right = s + 2 < end && (isalnum((unsigned char)s[2]) || s[2] == '(' || s[2] == '-');
    return left && right ? "^" : " ";
}

/* One character that is no command and no brace; returns what follows. */
static const char *rewrite_character(struct rewriter *r, const char *s, const char *end) {
    size_t n;
    if (isdigit((unsigned char)*s)) return rewrite_digits(r, s, end);
    if (*s == '*' && s + 1 < end && s[1] == '*')
        return add_looks(r, stars(r->start, s, end)), s + 2;
    if (*s == '~') return add_looks(r, " "), s + 1;
    if (*s == '$' || *s == '`' || *s == '"') return s + 1;
    if (*s == '^' && (n = degree_length(s, end)) > 0 &&
        (s[n - 1] != 'o' || text_ends_value(r->out)))
        return add_looks(r, "\\degree "), s + n;
    if (*s == '^') { /* f^{\prime} is f' */
        const char *at = s + 1, *close = NULL;
        if (at < end && *at == '{' && (n = bracket_length(at, end, '{', '}')) > 0) {
            close = at + n;
            at++;
        }
        const char *inside = at, *stop = close ? close - 1 : end;
        while (is_command_at(inside, stop, "prime"))
            inside = skip_spaces(inside + 6, stop), add_looks(r, "'");
        if (inside > at && (!close || inside == stop)) return close ? close : inside;
    }
    buf_add(r->out, s, 1);
    return s + 1;
}

/* A word "sqrt" that no backslash precedes. */
static bool is_bare_root(const char *start, const char *s, const char *end) {
    return end - s > 4 && memcmp(s, "sqrt", 4) == 0 &&
           (s == start || (s[-1] != '\\' && !isalpha((unsigned char)s[-1]))) &&
           !isalpha((unsigned char)s[4]);
}

static void rewrite_plain(struct rewriter *r, const char *s, const char *end) {
    while (s < end) {
        size_t n;
        if (*s == '{' && r->depth < DEPTH_MAX && (n = bracket_length(s, end, '{', '}')) > 0) {
            rewrite_group(r, s + 1, s + n - 1);
            s += n;
        } else if (is_command_at(s, end, "circ") && text_ends_value(r->out)) {
            add_looks(r, "\\degree ");
            s += 5;
        } else if (is_bare_root(r->start, s, end)) {
            s = rewrite_root(r, s + 4, end);
        } else if (*s == '\\') {
            s = rewrite_command(r, s, end);
        } else {
            s = rewrite_character(r, s, end);
        }
    }
}

static const char *const infix[][2] = {{"over", "\\frac{"}, {"choose", "\\binom{"}};

/* The first infix command of the range that no braces hold; which one in *kind. NULL for none. */
static const char *find_infix(const char *s, const char *end, size_t *kind) {
    int depth = 0;
    for (const char *at = s; at < end; at++) {
        depth += *at == '{' && (at == s || at[-1] != '\\');
        depth -= *at == '}' && (at == s || at[-1] != '\\');
        for (*kind = 0; *kind < 2 && depth == 0; ++*kind)
            if (is_command_at(at, end, infix[*kind][0])) return at;
    }
    return NULL;
}

/* The inside of a group with its braces. A fraction behind a digit, 2{1 \over 2}, goes without, so
 * that it is seen to be a mixed number. */
static void rewrite_group(struct rewriter *r, const char *s, const char *end) {
    size_t kind, n = r->out->len;
    bool mixed = n > 0 && isdigit((unsigned char)r->out->data[n - 1]) && find_infix(s, end, &kind);
    if (!mixed) add_looks(r, "{");
    rewrite(r, s, end);
    if (!mixed) add_looks(r, "}");
}

/* TeX's infix fractions are of all that stands between the braces around them. */
static void rewrite(struct rewriter *r, const char *s, const char *end) {
    size_t kind;
    const char *at = NULL;
    if (++r->depth < DEPTH_MAX) at = find_infix(s, end, &kind);
    if (at) {
        add_looks(r, infix[kind][1]);
        rewrite(r, s, at);
        add_looks(r, "}{");
        rewrite(r, at + 1 + strlen(infix[kind][0]), end);
        add_looks(r, "}");
    } else {
        rewrite_plain(r, s, end);
    }
    r->depth--;
}

void mathlooks(struct buf *out, const char *text) {
    struct rewriter r = {.out = out, .start = text};
    rewrite(&r, text, without_breaks(text, text + strlen(text)));
    buf_str(out, "");
}
