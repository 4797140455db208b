/* statement.c - the rules look at structure: what stands in formulas is never taken apart, a value
 * ends where the sentence goes on ("7, which is prime"); a value that is denied ("not 7") is none;
 * several values joined by "or" or "and" are one answer of several; words that change a value ("at
 * least 5") stay with it, and what such an answer is worth is for mathparse to say.
 *
 * Without a statement the last sentence counts, and in it the value that stands where results
 * stand. Preferred is one behind "is" or "=", then one that is only mentioned, last one that states
 * a time or a purpose ("for 3 weeks"). The words are tables; a language is a few more words in
 * them. */
#include "reward/verify/statement.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* ---- words ---- */

/* Announce an answer, with what may stand between them and the link. */
static const char *const announcing[] = {"answer",
                                         "answers",
                                         "respuesta",
                                         "r\xc3\xa9ponse",
                                         "antwort",
                                         "risposta",
                                         "resposta",
                                         "antwoord",
                                         "svar",
                                         "odpowied\xc5\xba",
                                         "jawaban",
                                         "cevap",
                                         "\xd0\xbe\xd1\x82\xd0\xb2\xd0\xb5\xd1\x82",
                                         "\xd0\x9e\xd1\x82\xd0\xb2\xd0\xb5\xd1\x82",
                                         NULL};
static const char *const qualifying[] = {
    "to",        "for",     "of",     "in",      "as",     "we",    "that",   "which",
    "will",      "would",   "should", "must",    "can",    "could", "might",  "may",
    "choice",    "option",  "here",   "when",    "on",     "at",    "from",   "then",
    "thus",      "value",   "given",  "de",      "del",    "zu",    "finale", "final",
    "correcta",  "correct", "hence",  "rounded", "simply", "with",  "by",     "therefore",
    "expressed", "i",       "does",   "do",      NULL};
static const char *const links[] = {"is",
                                    "are",
                                    "be",
                                    "equals",
                                    "was",
                                    "becomes",
                                    "es",
                                    "son",
                                    "est",
                                    "sont",
                                    "ist",
                                    "lautet",
                                    "\xc3\xa9",
                                    "\xc3\xa8",
                                    "adalah",
                                    "to",
                                    "zijn",
                                    "\xc3\xa4r",
                                    "\xd1\x8d\xd1\x82\xd0\xbe",
                                    NULL};
/* Stand between a link and the value and do not change it. */
static const char *const filling[] = {
    "equal",         "equals", "to",     "be",       "simply",    "just",    "exactly",
    "approximately", "about",  "around", "roughly",  "therefore", "thus",    "hence",
    "then",          "indeed", "given",  "by",       "as",        "follows", "clearly",
    "now",           "still",  "always", "actually", "in",        "fact",    "definitely",
    "the",           "number", "value",  "a",        "an",        "only",    "also",
    "either",        "is",     "are",    "total",    "of",        NULL};
/* Say what an answer is like and not which: "this answer is unique". */
static const char *const judging[] = {"unique",  "correct",   "clear",      "reasonable",
                                      "valid",   "right",     "consistent", "wrong",
                                      "obvious", "incorrect", "confirmed",  NULL};
static const char *const denying[] = {"not",   "cannot", "never", "neither", "nor", "isnt",
                                      "arent", "nicht",  "kein",  "ne",      NULL};
/* Change the value behind them. */
static const char *const changing[] = {
    "minus",      "negative",  "plus",      "least",   "most",      "less",    "fewer",
    "more",       "greater",   "larger",    "smaller", "below",     "above",   "under",
    "over",       "exceeding", "half",      "third",   "quarter",   "double",  "twice",
    "triple",     "thrice",    "square",    "cube",    "root",      "squared", "logarithm",
    "reciprocal", "inverse",   "factorial", "except",  "excluding", "between", "multiple",
    "divisible",  "nearly",    "almost",    "within",  "opposite",  NULL};
static const char *const scaling[] = {"hundred", "thousand", "million", "billion", "trillion",
                                      "dozen",   "percent",  "squared", "cubed",   "factorial",
                                      "times",   "over",     NULL};
static const char *const joining[] = {"and", "or", "und", "oder", "y", "o", "et", "ou", NULL};
static const char *const hedging[] = {"maybe", "perhaps", "possibly", "also", "even", "the", NULL};
static const char *const concluding[] = {
    "therefore",  "thus",    "so",       "hence", "finally",  "consequently", "altogether", "total",
    "conclusion", "overall", "conclude", "only",  "solution", "solutions",    "result",     NULL};
static const char *const stating[] = {
    "is",      "are",     "be",      "was",     "were",     "equals",  "equal",    "equaling",
    "gives",   "give",    "get",     "gets",    "got",      "yields",  "yield",    "obtain",
    "obtains", "becomes", "find",    "totals",  "es",       "son",     "est",      "sont",
    "ist",     "sind",    "giving",  "getting", "yielding", "leaving", "conclude", "have",
    "has",     "had",     "exactly", NULL};
static const char *const resulting[] = {"cost",   "costs",  "pay",   "pays",   "paid",  "earn",
                                        "earns",  "earned", "spend", "spends", "spent", "weigh",
                                        "weighs", "total",  "owes",  "saves",  "save",  NULL};
static const char *const naming[] = {"step",   "steps",   "equation", "case",     "example",
                                     "option", "part",    "figure",   "problem",  "question",
                                     "method", "section", "theorem",  "exercise", "line",
                                     "case",   "choice",  "eq",       NULL};

static bool is_value_word(const struct prose_token *t) {
    return t->kind == PROSE_BARE || (t->kind == PROSE_FORMULA && t->n > 0);
}

bool statement_wide_denial(const struct prose_token *t) {
    static const char *const words[] = {"\xe4\xb8\x8d", "\xe9\x9d\x9e", "\xe5\xb9\xb6\xe9\x9d\x9e",
                                        NULL};
    static const char *const verbs[] = {
        "", "\xe6\x98\xaf", "\xe9\x80\x89", "\xe7\xad\x89\xe4\xba\x8e", "\xe4\xb8\xba", NULL};
    if (t->kind != PROSE_WORD) return false;
    for (size_t i = 0; words[i]; i++)
        for (size_t k = 0; verbs[k]; k++) {
            size_t n = strlen(words[i]), m = strlen(verbs[k]);
            if (t->n >= n + m && memcmp(t->s + t->n - m, verbs[k], m) == 0 &&
                memcmp(t->s + t->n - m - n, words[i], n) == 0)
                return true;
        }
    return false;
}

static bool denies(const struct prose_token *t) {
    if (t->kind != PROSE_WORD) return false;
    bool short_not = t->n > 3 && strncasecmp(t->s + t->n - 2, "'t", 2) == 0; /* isn't */
    bool curly_not = t->n > 5 && memcmp(t->s + t->n - 4, "\xe2\x80\x99t", 4) == 0;
    return short_not || curly_not || prose_is_one_of(t, denying) || statement_wide_denial(t);
}

bool statement_denied(const struct prose *p, size_t t) {
    for (size_t back = 0; t > 0 && back < 5; back++) {
        const struct prose_token *w = &p->token[--t];
        if (denies(w)) return true;
        bool than = t > 0 && ((prose_is(w, "than") && prose_is(w - 1, "rather")) ||
                              (prose_is(w, "than") && prose_is(w - 1, "other")) ||
                              (prose_is(w, "of") && prose_is(w - 1, "instead")));
        if (than) return true;
        if (!prose_is_one_of(w, filling)) return false;
    }
    return false;
}

/* A full stop behind an abbreviation ends nothing. */
static bool ends_stated_sentence(const struct prose *p, size_t t) {
    static const char *const abbreviations[] = {"vs",  "approx", "eq", "fig", "mr",
                                                "mrs", "dr",     "st", "no",  NULL};
    const struct prose_token *w = &p->token[t];
    if (w->kind == PROSE_LINE) return true;
    return prose_is_punct(w, ".?!") &&
           !(t > 0 && w->punct == '.' && prose_is_one_of(w - 1, abbreviations));
}

/* The end of the sentence that t is in. */
static size_t sentence_end(const struct prose *p, size_t t) {
    while (t < p->n && !ends_stated_sentence(p, t))
        t++;
    return t;
}

/* Whether t is a word that fills; an article is one before a word only: "A" may be the answer. */
static bool fills(const struct prose_token *t) {
    if (prose_is(t, "a")) return *t->s == 'a' && t[1].kind == PROSE_WORD;
    return prose_is_one_of(t, filling);
}

/* Behind the marks and words between a link and the value. */
static size_t skip_filling(const struct prose *p, size_t t) {
    size_t from = t;
    while (t < p->n && t < from + 40 &&
           (prose_is_punct(&p->token[t], ":-=,(>|;") || p->token[t].kind == PROSE_LINE ||
            fills(&p->token[t])))
        t++;
    return t;
}

/* ---- statements ---- */

/* Bytes of the word for answer, and of the link, in scripts without spaces, at the end of t: the
 * value begins behind them. *linked: a link was there. 0: t has no such word. */
static size_t wide_announcement(const struct prose_token *t, bool *linked) {
    static const char *const words[] = {"\xe7\xad\x94\xe6\xa1\x88", "\xe7\xad\x94\xe3\x81\x88",
                                        "\xec\xa0\x95\xeb\x8b\xb5", "\xe6\xad\xa3\xe8\xa7\xa3",
                                        "\xe6\x95\x85\xe9\x80\x89", NULL};
    static const char *const link[] = {"\xe6\x98\xaf",
                                       "\xe4\xb8\xba",
                                       "\xe7\x82\xba",
                                       "\xe5\xba\x94",
                                       "\xe8\xaf\xa5",
                                       "\xe9\x80\x89",
                                       "\xe7\xad\x89",
                                       "\xe4\xba\x8e",
                                       "\xe3\x81\xaf",
                                       "\xec\x9d\x80",
                                       NULL};
    if (t->kind != PROSE_WORD) return 0;
    for (size_t i = 0; words[i]; i++) {
        const char *s = memmem(t->s, t->n, words[i], strlen(words[i]));
        if (!s) continue;
        size_t at = (size_t)(s - t->s) + strlen(words[i]);
        *linked = i == 4; /* "therefore choose" links itself */
        for (size_t k = 0; link[k]; k++) {
            if (at + 3 > t->n || memcmp(t->s + at, link[k], 3) != 0) continue;
            *linked = true;
            at += 3;
            k = (size_t)-1;
        }
        return at;
    }
    return 0;
}

/* Behind the link that follows the announcing word at t, 0 if no link does or it is denied. Words
 * may stand between ("the answer to part (a) is"), but "to answer this, ..." is no announcement. */
static size_t link_behind(const struct prose *p, size_t t) {
    size_t first = t + 1, i = first;
    if (t > 0 && (prose_is(&p->token[t - 1], "to") || prose_is(&p->token[t - 1], "not"))) return 0;
    for (; i < p->n && i < first + 14; i++) {
        const struct prose_token *w = &p->token[i];
        if (denies(w)) return 0;
        if (w->kind == PROSE_LINE || prose_is_punct(w, ".?!;")) return 0;
        if (prose_is_punct(w, ":=")) return i + 1;
        if (prose_is_punct(w, "-") && i == first) return i + 1;
        bool to_link = prose_is(w, "to") && i == first; /* Polish "to" is a link, English is none */
        if (!to_link && prose_is_one_of(w, links)) return i + 1;
        bool may_go_on =
            prose_is_one_of(w, qualifying) || prose_is_punct(w, ",(") || w->kind == PROSE_FORMULA;
        if (i == first && !may_go_on) return 0;
    }
    return 0;
}

/* A heading or line that ends with the announcing word at t ("#### Final Answer"). */
static bool ends_line(const struct prose *p, size_t t) {
    size_t from = t;
    while (from > 0 && p->token[from - 1].kind != PROSE_LINE)
        from--;
    return p->token[t + 1].kind == PROSE_LINE && t - from <= 4;
}

/* Whether a value stands anywhere from t on. */
static bool has_value(const struct prose *p, size_t t, size_t end) {
    for (; t < end; t++)
        if (is_value_word(&p->token[t])) return true;
    return false;
}

/* Where the answer begins that is announced at t, 0 if none is. */
static size_t stated_at(const struct prose *p, size_t t) {
    bool linked = false;
    size_t wide = wide_announcement(&p->token[t], &linked), v = 0;
    if (wide > 0 && (wide < p->token[t].n || linked)) {
        v = t + (wide == p->token[t].n);
    } else if (wide > 0 || prose_is_one_of(&p->token[t], announcing)) {
        v = link_behind(p, t);
        if (v == 0 && ends_line(p, t)) v = t + 1;
    }
    if (v == 0) return 0;
    size_t value = skip_filling(p, v), end = sentence_end(p, value);
    if (value >= p->n) return 0;
    const struct prose_token *w = &p->token[value];
    if (denies(w) || prose_is_punct(w, ".?!") || prose_is_one_of(w, judging)) return 0;
    if (prose_is_punct(&p->token[end], "?")) return 0; /* "could the answer be 7?" */
    bool section = w->kind == PROSE_WORD && !prose_is_one_of(w, changing) &&
                   (prose_is_punct(&p->token[v - 1], ":") || p->token[v].kind == PROSE_LINE);
    if (section && has_value(p, end, p->n)) return 0; /* "Answer: We first add ..." */
    return value;
}

/* "7 is the answer" */
static size_t stated_before(const struct prose *p, size_t t) {
    size_t v = t;
    if (!prose_is(&p->token[t], "answer")) return 0;
    while (v > 0 && (prose_is(&p->token[v - 1], "final") || prose_is(&p->token[v - 1], "correct") ||
                     prose_is(&p->token[v - 1], "the") || prose_is(&p->token[v - 1], "our")))
        v--;
    bool is = v > 1 && v < t && prose_is(&p->token[v - 1], "is") && is_value_word(&p->token[v - 2]);
    return is ? v - 2 : 0;
}

size_t statement_begin(const struct prose *p) {
    for (size_t t = p->n; t-- > 0;) {
        size_t v = stated_at(p, t);
        if (v > 0) return v;
        v = stated_before(p, t);
        if (v > 0 && !statement_denied(p, v)) return v;
    }
    return p->n;
}

/* ---- values ---- */

/* Tokens of one answer: a value, or several joined by commas, "and" and "or". */
struct group {
    size_t from, to;
};

/* Behind the words between a value and the next one that is joined to it, 0 if none is. A unit may
 * stand before "and" and "or": "7 apples or 8". */
static size_t join_tokens(const struct prose *p, size_t t) {
    size_t i = t;
    while (i < t + 2 && p->token[i].kind == PROSE_WORD && !prose_is_one_of(&p->token[i], joining))
        i++;
    if (i > t && !prose_is_one_of(&p->token[i], joining)) return 0;
    size_t j = i;
    if (prose_is_punct(&p->token[j], ",")) j++;
    if (prose_is_one_of(&p->token[j], joining)) j++;
    if (j > i && prose_is_one_of(&p->token[j], hedging)) j++;
    return j > i && is_value_word(&p->token[j]) ? j : 0;
}

static struct group group_at(const struct prose *p, size_t t) {
    struct group g = {t, t + 1};
    size_t next;
    while (g.to < p->n && (next = join_tokens(p, g.to)) > 0)
        g.to = next + 1;
    bool scaled = prose_is_one_of(&p->token[g.to], scaling);
    if (scaled) g.to += is_value_word(&p->token[g.to + 1]) ? 2 : 1; /* "5 million", "3 times 4" */
    if (prose_is(&p->token[g.to], "am") || prose_is(&p->token[g.to], "pm")) g.to++; /* 5:30 PM */
    bool range = prose_is(&p->token[g.to], "to") && is_value_word(&p->token[g.to + 1]) &&
                 !(t > 0 && prose_is(&p->token[t - 1], "from"));
    if (range && g.to == t + 1) g.to += 2; /* "3 to 4" */
    return g;
}

/* With the words before it that change its value. */
static struct group with_changes(const struct prose *p, struct group g) {
    size_t t = g.from;
    while (t > 0) {
        const struct prose_token *w = &p->token[t - 1];
        if (prose_is_one_of(w, changing))
            g.from = t - 1;
        else if (!(prose_is(w, "than") || prose_is(w, "of") || prose_is(w, "the") ||
                   prose_is(w, "by") || prose_is(w, "or")))
            break;
        t--;
    }
    bool changed = prose_is_one_of(&p->token[g.from], changing);
    if (changed && g.from > 0 && prose_is(&p->token[g.from - 1], "at")) g.from--;
    return g;
}

static size_t comma_at(char *out, size_t used) {
    if (used > 0 && out[used - 1] != ',') out[used++] = ',';
    return used;
}

/* A line of an aligned formula without its alignment marks. */
static char *without_marks(struct arena *arena, struct formula_span f) {
    char *out = arena_strndup(arena, f.s, f.n);
    size_t used = 0;
    if (memmem(f.s, f.n, "\\begin", 6)) return out;
    for (size_t i = 0; i < f.n; i++)
        if (out[i] != '&' || (i > 0 && out[i - 1] == '\\')) out[used++] = out[i];
    out[used] = 0;
    return out;
}

/* The group as text: a formula alone as what it comes to, several things with spaces between. */
static const char *text_of(struct arena *arena, const struct prose *p, struct group g) {
    if (g.to == g.from + 1) {
        struct formula_span f = {p->token[g.from].s, p->token[g.from].n};
        return without_marks(arena, formula_strip(formula_result(formula_strip(f))));
    }
    size_t n = 1, used = 0;
    for (size_t t = g.from; t < g.to; t++)
        n += p->token[t].n + 1;
    char *out = arena_alloc(arena, n);
    for (size_t t = g.from; t < g.to; t++) {
        const struct prose_token *w = &p->token[t];
        if (prose_is_one_of(w, hedging)) continue;
        if (w->kind == PROSE_PUNCT || prose_is_one_of(w, joining)) { /* ", and" is one comma */
            used = comma_at(out, used);
            continue;
        }
        struct formula_span f = formula_strip((struct formula_span){w->s, w->n});
        if (used > 0) out[used++] = ' ';
        memcpy(out + used, f.s, f.n);
        used += f.n;
    }
    out[used] = 0;
    return out;
}

/* ---- what a sentence comes to ---- */

enum standing {
    STANDING_NONE,
    STANDING_NAME,         /* "where $x$ is positive" */
    STANDING_CIRCUMSTANCE, /* "in 2 weeks", "to dig 30 holes" */
    STANDING_MENTIONED,
    STANDING_STATED, /* behind "is", "=", ":" and the like, or an equation */
    STANDING_SUBJECT /* "12 is the number of ..." */
};

/* A formula that its next one goes on with: "$1 + 2 =$ $3$". */
static bool ends_open(const struct prose_token *t) {
    size_t n = t->n;
    while (n > 0 && isspace((unsigned char)t->s[n - 1]))
        n--;
    return t->kind == PROSE_FORMULA && n > 0 && t->s[n - 1] == '=';
}

static bool is_equation_text(const struct prose_token *t) {
    for (size_t i = 1; i + 1 < t->n; i++)
        if (t->s[i] == '=' && !formula_is_in(t->s[i - 1], "<>!:")) return !ends_open(t);
    return false;
}

/* Whether the value at t says when, how long, for how many or to what end ("to dig 30 holes"). What
 * must be done is what is asked for: "she needs to sell 8". */
static bool is_circumstance(const struct prose *p, size_t t, size_t start) {
    static const char *const article[] = {"the", "a",     "an",   "first", "last",  "next",
                                          "all", "every", "each", "these", "those", "her",
                                          "his", "their", "its",  "total", "of",    NULL};
    static const char *const before[] = {
        "in",     "for",  "after", "over",  "by",    "during",  "on",      "at",    "from", "with",
        "within", "per",  "than",  "into",  "out",   "under",   "between", "among", "if",   "when",
        "every",  "each", "given", "using", "since", "because", "to",      NULL};
    static const char *const must[] = {"need", "needs", "needed", "has",   "have", "had",
                                       "able", "going", "want",   "wants", "used", NULL};
    while (t > start && prose_is_one_of(&p->token[t - 1], article))
        t--;
    if (t > start && prose_is_one_of(&p->token[t - 1], before)) return true;
    bool infinitive = t > start + 1 && prose_is(&p->token[t - 2], "to");
    return infinitive && !(t > start + 2 && prose_is_one_of(&p->token[t - 3], must));
}

/* How a value stands in its sentence, which begins at start. */
static enum standing standing(const struct prose *p, struct group g, size_t start) {
    const struct prose_token *first = &p->token[g.from], *behind = &p->token[g.to];
    size_t t = g.from;
    while (t > start && prose_is_one_of(&p->token[t - 1], filling) &&
           !prose_is_one_of(&p->token[t - 1], stating))
        t--;
    const struct prose_token *before = t > start ? &p->token[t - 1] : NULL;
    if (before && prose_is_one_of(before, naming)) return STANDING_NONE;
    if (prose_is(first, "divisible") || prose_is(first, "multiple")) return STANDING_CIRCUMSTANCE;
    if (prose_is_punct(behind, "-") && behind[1].kind == PROSE_WORD &&
        behind[1].s == behind->s + behind->n && behind->s == behind[-1].s + behind[-1].n)
        return STANDING_NONE; /* "a 5-day week" */
    bool subject =
        prose_is(behind, "is") && (prose_is(behind + 1, "the") || prose_is(behind + 1, "our"));
    if (subject && is_value_word(&p->token[g.to - 1])) return STANDING_SUBJECT;
    if (before &&
        (prose_is_one_of(before, stating) || prose_is_punct(before, "=:") || ends_open(before)))
        return STANDING_STATED;
    if (is_equation_text(&p->token[g.to - 1])) return STANDING_STATED;
    if (first->kind == PROSE_FORMULA && formula_is_name((struct formula_span){first->s, first->n}))
        return STANDING_NAME;
    if (first->kind == PROSE_BARE && is_circumstance(p, g.from, start))
        return STANDING_CIRCUMSTANCE;
    bool total = g.from > start + 1 && prose_is(first - 2, "total") && prose_is(first - 1, "of");
    bool object = g.from > start && prose_is_one_of(first - 1, resulting);
    return total || object ? STANDING_STATED : STANDING_MENTIONED;
}

struct candidate {
    struct group group;
    enum standing standing;
};

/* Whether the sentence goes on to its conclusion at t: ", so he has 7". */
static bool begins_clause(const struct prose *p, size_t t) {
    static const char *const words[] = {"so",     "thus",    "hence",   "therefore",
                                        "giving", "leaving", "meaning", "making",
                                        "which",  "then",    NULL};
    return t > 0 && prose_is_one_of(&p->token[t], words) &&
           (prose_is_punct(&p->token[t - 1], ",") || prose_is(&p->token[t], "so"));
}

/* Of values that are joined but are equations of different things only the last one. */
static struct group last_equation(const struct prose *p, struct group g) {
    const struct prose_token *a = &p->token[g.from], *b = &p->token[g.to - 1];
    if (a == b || !is_value_word(b) || !is_equation_text(b)) return g;
    size_t n = 0;
    while (n < a->n && n < b->n && a->s[n] == b->s[n] && a->s[n] != '=')
        n++;
    bool same = n > 0 && n < a->n && n < b->n && a->s[n] == '=' && b->s[n] == '=';
    return same ? g : (struct group){g.to - 1, g.to};
}

/* Whether the value at t is what the clause is about: "the 5 springs create 72 fish". */
static bool begins(const struct prose *p, size_t from, size_t t) {
    while (t > from &&
           (p->token[t - 1].kind != PROSE_WORD || prose_is(&p->token[t - 1], "the") ||
            prose_is(&p->token[t - 1], "a") || prose_is(&p->token[t - 1], "an") ||
            prose_is(&p->token[t - 1], "all") || prose_is_one_of(&p->token[t - 1], concluding)))
        t--;
    return t == from;
}

/* The value of the clause [from, to): of those that stand best the last, but of numbers that are
 * only mentioned the first ("he needs 4 hours to dig 30 holes") that is no subject. */
static struct candidate best_of_clause(const struct prose *p, size_t from, size_t to) {
    static const char *const restricting[] = {"where", "since", "because", NULL};
    struct candidate best = {0};
    bool yields = false; /* the best so far is a subject */
    for (size_t t = from; t < to;) {
        if (best.standing >= STANDING_MENTIONED && prose_is_one_of(&p->token[t], restricting))
            break;
        if (!is_value_word(&p->token[t])) {
            t++;
            continue;
        }
        struct group g = group_at(p, t), whole = with_changes(p, last_equation(p, g));
        enum standing s =
            statement_denied(p, whole.from) ? STANDING_NONE : standing(p, whole, from);
        bool first = p->token[t].kind == PROSE_BARE && s <= STANDING_MENTIONED && !yields;
        if (s != STANDING_NONE && (first ? s > best.standing : s >= best.standing)) {
            best = (struct candidate){whole, s};
            yields = begins(p, from, t);
        }
        t = g.to;
    }
    return best;
}

/* The value that the tokens [from, to) come to, clause by clause from the end. */
static struct candidate best_of(const struct prose *p, size_t from, size_t to) {
    struct candidate best = {0};
    for (size_t end = to, t = to; t-- > from;) {
        if (t > from && !begins_clause(p, t)) continue;
        struct candidate c = best_of_clause(p, t, end);
        if (c.standing > best.standing) best = c;
        if (best.standing >= STANDING_MENTIONED) break;
        end = t;
    }
    return best;
}

/* Whether the sentence [from, to) begins with "therefore" and the like. */
static bool draws_conclusion(const struct prose *p, size_t from, size_t to) {
    for (size_t t = from; t < to && t < from + 4; t++)
        if (prose_is_one_of(&p->token[t], concluding)) return true;
    return false;
}

/* Whether the sentence [from, to) draws a conclusion, is emphasized or is nothing but its value. */
static bool concludes(const struct prose *p, size_t from, size_t to, struct candidate c) {
    if (c.standing == STANDING_STATED || p->token[c.group.from].strong) return true;
    if (c.group.to - c.group.from == to - from) return true;
    return draws_conclusion(p, from, to);
}

/* What is said beside the matter ("Note: ...") or to the reader ("I hope this helps"). */
static bool is_aside(const struct prose *p, size_t from) {
    static const char *const notes[] = {"note",         "remark",   "check",
                                        "verification", "checking", NULL};
    const struct prose_token *w = &p->token[from + prose_is(&p->token[from], "i")];
    if (prose_is_one_of(w, notes)) return prose_is_punct(w + 1, ":");
    return prose_is(w, "hope") || prose_is(w, "please") ||
           (prose_is(w, "let") && prose_is(w + 1, "me")) ||
           (prose_is(w, "feel") && prose_is(w + 1, "free"));
}

/* Where the text begins to check its result, p->n if it does not, or concludes again behind it: the
 * values of a check are no results. */
static size_t checked_from(const struct prose *p) {
    static const char *const words[] = {"verification", "verify",    "checking",
                                        "check",        "verifying", NULL};
    size_t from = p->n;
    for (size_t t = 0; t < p->n; t++) {
        if (t > 0 && !ends_stated_sentence(p, t - 1)) continue;
        if (prose_is_one_of(&p->token[t + prose_is(&p->token[t], "let's")], words))
            from = t;
        else if (p->token[t].punct == '#' || draws_conclusion(p, t, sentence_end(p, t)))
            from = p->n;
    }
    return from;
}

static bool has_formula(const struct prose *p, struct group g) {
    for (size_t t = g.from; t < g.to; t++)
        if (p->token[t].kind == PROSE_FORMULA) return true;
    return false;
}

/* The last value that the text comes to, sentence by sentence from the end; a question says
 * nothing. A number that the last sentence only mentions ("this took 3 steps") yields to a formula
 * before it, an aside or a name alone ("where $x$ is positive") to anything. */
static struct group last_value(const struct prose *p) {
    struct group weak = {0, 0}, weaker = weak;
    size_t check = checked_from(p);
    for (size_t to = p->n; to > 0;) {
        size_t from = to;
        while (from > 0 && !ends_stated_sentence(p, from - 1))
            from--;
        struct candidate c = {0};
        if (!prose_is_punct(&p->token[to], "?")) c = best_of(p, from, to);
        bool formula = has_formula(p, c.group);
        if (c.standing == STANDING_NAME ||
            (c.standing != STANDING_NONE && (is_aside(p, from) || from >= check))) {
            if (weaker.to == 0) weaker = c.group;
        } else if (c.standing != STANDING_NONE) {
            if (formula || (weak.to == 0 && concludes(p, from, to, c))) return c.group;
            if (weak.to == 0) weak = c.group;
        }
        to = from > 0 ? from - 1 : 0;
    }
    return weak.to > 0 ? weak : weaker;
}

/* ---- the answer ---- */

/* Words as an answer ("The answer is Evelyn, because ..."): to where the sentence goes on. */
static const char *words_at(struct arena *arena, const struct prose *p, size_t t) {
    static const char *const going_on[] = {"because", "since", "as",   "which", "where",
                                           "who",     "so",    "when", "for",   NULL};
    size_t end = sentence_end(p, t), i = t + 1;
    while (i < end && !prose_is_punct(&p->token[i], "();") &&
           !prose_is_one_of(&p->token[i], going_on))
        i++;
    const struct prose_token *last = &p->token[i - 1];
    struct formula_span a = {p->token[t].s, (size_t)(last->s + last->n - p->token[t].s)};
    a = formula_strip(a);
    return a.n > 0 ? arena_strndup(arena, a.s, a.n) : NULL;
}

/* The answer that the statement at t gives. */
static const char *stated(struct arena *arena, const struct prose *p, size_t t) {
    size_t end = sentence_end(p, t);
    bool name = p->token[t].kind == PROSE_FORMULA &&
                formula_is_name((struct formula_span){p->token[t].s, p->token[t].n});
    if (name &&
        (prose_is_punct(&p->token[t + 1], "=:") || prose_is_one_of(&p->token[t + 1], links))) {
        size_t v = skip_filling(p, t + 2); /* "$x$ is 5" */
        if (is_value_word(&p->token[v])) t = v;
    }
    if (is_value_word(&p->token[t])) return text_of(arena, p, with_changes(p, group_at(p, t)));
    size_t v = t, reason = t; /* what only explains a name holds no answer */
    while (reason < end && !prose_is(&p->token[reason], "because") &&
           !prose_is(&p->token[reason], "since"))
        reason++;
    while (v < end && (prose_is_one_of(&p->token[v], changing) || prose_is(&p->token[v], "than") ||
                       prose_is(&p->token[v], "of") || prose_is(&p->token[v], "at")))
        v++;
    if (v > t && is_value_word(&p->token[v])) {
        struct group g = group_at(p, v);
        g.from = t;
        return text_of(arena, p, g);
    }
    struct candidate c = best_of(p, t, isupper((unsigned char)*p->token[t].s) ? reason : end);
    if (c.standing > STANDING_NAME) return text_of(arena, p, c.group);
    return words_at(arena, p, t);
}

/* The name that the last sentence ends with, if it has no values: "So the winner is Evelyn." */
static const char *named(struct arena *arena, const struct prose *p) {
    size_t to = p->n, t;
    while (to > 0 && ends_stated_sentence(p, to - 1))
        to--;
    for (t = to; t > 0 && t + 3 > to && !prose_is_one_of(&p->token[t - 1], links); t--)
        if (p->token[t - 1].kind != PROSE_WORD) return NULL;
    bool name = t > 0 && t < to && prose_is_one_of(&p->token[t - 1], links) &&
                isupper((unsigned char)*p->token[t].s) && !prose_is_punct(&p->token[to], "?");
    if (!name || statement_denied(p, t)) return NULL;
    for (size_t i = t; i > 0 && !ends_stated_sentence(p, i - 1); i--)
        if (is_value_word(&p->token[i - 1])) return NULL;
    return words_at(arena, p, t);
}

const char *statement_answer(struct arena *arena, const struct prose *p) {
    size_t t = statement_begin(p);
    if (t < p->n) return stated(arena, p, t);
    const char *name = named(arena, p);
    struct group g = name ? (struct group){0} : last_value(p);
    return g.to > g.from ? text_of(arena, p, g) : name;
}
