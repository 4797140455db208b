/* mathword.c - tables of words by what they do. In front of a value a word must be known to be let
 * go: "half of 5" and "at least 5" are not 5. Behind a value a word is a noun unless it is known to
 * change it: there are too many nouns to know, and few words of the other kind. */
#include "reward/math/mathword.h"

#include "base/words.h"
#include "reward/math/mathunit.h"

#include <ctype.h>
#include <string.h>

enum { WORD_BYTES = 24, NUMBER_WORDS_MAX = 16 };

/* s[0..n) in lower case; empty if it is too long to be in a table. */
static const char *lower(char out[WORD_BYTES], const char *s, size_t n) {
    if (n >= WORD_BYTES) n = 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)tolower((unsigned char)s[i]);
    out[n] = 0;
    return out;
}

/* ---- behind a value ---- */

static const struct {
    const char *name;
    struct mathword does;
} behind[] = {
    {"and", {MATHWORD_SEPARATOR, 0, 0}},
    {"or", {MATHWORD_SEPARATOR, 0, 0}},
    {"hundred", {MATHWORD_SCALE, 100, 0}},
    {"thousand", {MATHWORD_SCALE, 1000, 0}},
    {"million", {MATHWORD_SCALE, 1000000, 0}},
    {"billion", {MATHWORD_SCALE, 1000000000, 0}},
    {"trillion", {MATHWORD_SCALE, 1000000000000, 0}},
    {"hundreds", {MATHWORD_SCALE, 100, 0}},
    {"thousands", {MATHWORD_SCALE, 1000, 0}},
    {"millions", {MATHWORD_SCALE, 1000000, 0}},
    {"billions", {MATHWORD_SCALE, 1000000000, 0}},
    {"mn", {MATHWORD_SCALE, 1000000, 0}},
    {"mln", {MATHWORD_SCALE, 1000000, 0}},
    {"bn", {MATHWORD_SCALE, 1000000000, 0}},
    {"bln", {MATHWORD_SCALE, 1000000000, 0}},
    {"lakh", {MATHWORD_SCALE, 100000, 0}},
    {"lakhs", {MATHWORD_SCALE, 100000, 0}},
    {"crore", {MATHWORD_SCALE, 10000000, 0}},
    {"crores", {MATHWORD_SCALE, 10000000, 0}},
    {"dozen", {MATHWORD_SCALE, 12, 0}},
    {"dozens", {MATHWORD_SCALE, 12, 0}},
    {"万", {MATHWORD_SCALE, 10000, 0}},
    {"亿", {MATHWORD_SCALE, 100000000, 0}},
    {"千", {MATHWORD_SCALE, 1000, 0}},
    {"百", {MATHWORD_SCALE, 100, 0}},
    {"half", {MATHWORD_PART, 2, 0}},
    {"halves", {MATHWORD_PART, 2, 0}},
    {"third", {MATHWORD_PART, 3, 0}},
    {"thirds", {MATHWORD_PART, 3, 0}},
    {"fourth", {MATHWORD_PART, 4, 0}},
    {"fourths", {MATHWORD_PART, 4, 0}},
    {"fifth", {MATHWORD_PART, 5, 0}},
    {"fifths", {MATHWORD_PART, 5, 0}},
    {"sixth", {MATHWORD_PART, 6, 0}},
    {"sixths", {MATHWORD_PART, 6, 0}},
    {"seventh", {MATHWORD_PART, 7, 0}},
    {"sevenths", {MATHWORD_PART, 7, 0}},
    {"eighth", {MATHWORD_PART, 8, 0}},
    {"eighths", {MATHWORD_PART, 8, 0}},
    {"ninth", {MATHWORD_PART, 9, 0}},
    {"ninths", {MATHWORD_PART, 9, 0}},
    {"tenth", {MATHWORD_PART, 10, 0}},
    {"tenths", {MATHWORD_PART, 10, 0}},
    {"hundredth", {MATHWORD_PART, 100, 0}},
    {"hundredths", {MATHWORD_PART, 100, 0}},
    {"thousandth", {MATHWORD_PART, 1000, 0}},
    {"thousandths", {MATHWORD_PART, 1000, 0}},
    {"millionth", {MATHWORD_PART, 1000000, 0}},
    {"millionths", {MATHWORD_PART, 1000000, 0}},
    {"percent", {MATHWORD_PERCENT, 0, 0}},
    {"pct", {MATHWORD_PERCENT, 0, 0}},
    {"percentage", {MATHWORD_PERCENT, 0, 0}},
    {"squared", {MATHWORD_POWER, 2, 0}},
    {"cubed", {MATHWORD_POWER, 3, 0}},
    {"plus", {MATHWORD_INFIX, 0, '+'}},
    {"minus", {MATHWORD_INFIX, 0, '-'}},
    {"times", {MATHWORD_INFIX, 0, '*'}},
    {"over", {MATHWORD_INFIX, 0, '/'}},
    {"to", {MATHWORD_INFIX, 0, ':'}},
    {"is", {MATHWORD_EQUALS, 0, 0}},
    {"are", {MATHWORD_EQUALS, 0, 0}},
    {"equals", {MATHWORD_EQUALS, 0, 0}},
    {"equal", {MATHWORD_EQUALS, 0, 0}},
};

/* What makes something else of the value before it: comparisons, denials, conditions, quantities
 * of it. Counts are no such thing: "5 more apples", "5 odd numbers". */
static const char *const changes[] = {
    "not",        "no",          "never",       "none",      "neither",    "nor",
    "cannot",     "isn't",       "aren't",      "wasn't",    "don't",      "doesn't",
    "false",      "wrong",       "incorrect",   "undefined", "impossible", "invalid",
    "except",     "excluding",   "without",     "but",       "than",       "least",
    "most",       "maximum",     "minimum",     "max",       "under",      "below",
    "beyond",     "between",     "through",     "until",     "till",       "up",
    "at",         "if",          "when",        "whenever",  "unless",     "where",
    "whose",      "while",       "given",       "assuming",  "provided",   "divided",
    "multiplied", "added",       "subtracted",  "increased", "decreased",  "reduced",
    "raised",     "power",       "modulo",      "mod",       "remainder",  "factorial",
    "choose",     "short",       "inclusive",   "exclusive", "onwards",    "onward",
    "upwards",    "thereabouts", "approaching", "nearly",    "almost",     "ish",
    "any",        "minus",       "plus",        "over",      "versus",     "vs",
    "otherwise",  "base",        "bc",          "bce",       "divides",    "以上",
    "以下",       "以内",        "多",          NULL};

struct mathword mathword_behind(const char *s, size_t n) {
    char word[WORD_BYTES];
    const char *w = lower(word, s, n);
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++)
        if (strcmp(behind[i].name, w) == 0) return behind[i].does;
    if (words_have_text(changes, w)) return (struct mathword){MATHWORD_CHANGE, 0, 0};
    return (struct mathword){MATHWORD_NOUN, 0, 0};
}

/* ---- short words ---- */

/* Of three letters; shorter ones only beside another word. */
static const char *const three[] = {
    "all", "and", "any", "are", "bag", "bat", "bed", "bee", "box", "boy", "bus", "but", "can",
    "car", "cat", "cow", "cup", "day", "die", "dog", "egg", "end", "ten", "two", "one", "six",
    "few", "for", "fox", "gas", "get", "had", "has", "hat", "hen", "her", "him", "his", "hot",
    "how", "ice", "ink", "its", "jar", "job", "key", "kid", "lap", "leg", "let", "low", "man",
    "map", "men", "new", "not", "now", "nut", "odd", "off", "old", "our", "out", "own", "pad",
    "pan", "pen", "per", "pie", "pig", "pin", "pot", "put", "red", "row", "run", "see", "set",
    "she", "sum", "the", "tie", "tip", "top", "toy", "try", "use", "via", "was", "way", "web",
    "who", "why", "win", "yes", "yet", "you", "ans", "pcs", "pct", "mln", "bln", "non", NULL};
static const char *const two[] = {"of", "to", "in", "is", "it", "at", "as", "by", "we",
                                  "be", "an", "on", "or", "so", "no", "up", "if", "do",
                                  "my", "he", "us", "me", "mn", "bn", NULL};
/* Words whatever stands beside them. */
static const char *const always[] = {"of", "is", "or", "in", "to", NULL};

bool mathword_is_short(const char *s, size_t n, bool beside) {
    char word[WORD_BYTES];
    const char *w = lower(word, s, n);
    bool vowel = strpbrk(w, "aeiouy") != NULL;
    if (words_have_text(always, w) || words_have_text(three, w)) return true;
    return beside && (words_have_text(two, w) || (n == 3 && vowel));
}

/* ---- in front of a value ---- */

static const char *const fillers[] = {
    "a",         "an",       "the",       "of",      "to",           "it",
    "that",      "this",     "so",        "thus",    "hence",        "therefore",
    "then",      "finally",  "answer",    "answers", "ans",          "result",
    "results",   "solution", "solutions", "final",   "correct",      "total",
    "value",     "values",   "number",    "amount",  "about",        "approximately",
    "approx",    "roughly",  "around",    "circa",   "ca",           "exactly",
    "precisely", "just",     "only",      "simply",  "equal",        "equals",
    "positive",  "plus",     "we",        "you",     "there",        "either",
    "both",      "my",       "our",       "your",    "its",          "in",
    "all",       "together", "day",       "page",    "year",         "step",
    "level",     "stage",    "round",     "row",     "column",       "line",
    "room",      "question", "problem",   "chapter", "grade",        "week",
    "month",     "case",     "figure",    "no",      "nr",           "option",
    "choice",    "item",     "place",     "section", "respectively", "namely",
    "i.e",       "ie",       "let",       "with",    "for",          "up",
    NULL};
/* Some of those only help others: alone they announce nothing or something else ("all 5", "up to
 * 5", "of 5"). */
static const char *const helpers[] = {"of", "to",  "in",   "all", "together",
                                      "up", "for", "with", NULL};
static const char *const copulas[] = {"is",     "are",   "was", "were", "be",      "been",
                                      "equals", "gives", "get", "gets", "becomes", "yields",
                                      "obtain", "have",  "has", "find", "as",      NULL};
static const char *const denials[] = {
    "not",      "no",       "never",      "none",      "neither", "nor",    "cannot", "can't",
    "isn't",    "aren't",   "wasn't",     "don't",     "doesn't", "false",  "wrong",  "incorrect",
    "except",   "without",  "unless",     "if",        "nothing", "nobody", "hardly", "unlikely",
    "opposite", "negation", "reciprocal", "excluding", NULL};
static const char *const negatives[] = {"minus", "negative", NULL};

bool mathword_names(const struct mathword_part *w, size_t n) {
    char word[WORD_BYTES];
    for (size_t i = 0; i < n; i++)
        if (words_have_text(denials, lower(word, w[i].s, w[i].n))) return false;
    return true;
}

/* Words up to the last copula ("the answer is") may be any that deny nothing; behind it only those
 * that leave a value as it is. A helper alone announces nothing: "the". */
bool mathword_announces(const struct mathword_part *w, size_t n, bool *negative) {
    char word[WORD_BYTES];
    size_t from = 0;
    bool helped = false;
    *negative = false;
    for (size_t i = 0; i < n; i++)
        if (words_have_text(copulas, lower(word, w[i].s, w[i].n))) from = i + 1;
    if (!mathword_names(w, from)) return false;
    if (n > from && words_have_text(negatives, lower(word, w[n - 1].s, w[n - 1].n))) {
        *negative = true;
        n--;
    }
    for (size_t i = from; i < n; i++) {
        const char *x = lower(word, w[i].s, w[i].n);
        bool helper = words_have_text(helpers, x), currency = mathunit_is_currency(w[i].s, w[i].n);
        if (!(currency || words_have_text(fillers, x)) || (helper && i == 0 && n == 1))
            return false;
        helped = helped || !helper;
    }
    return helped || from > 0 || n == 0 || *negative;
}

/* ---- numbers in words ---- */

static const char *const small[] = {
    "zero",     "one",     "two",     "three",     "four",     "five",     "six",
    "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", NULL};
static const char *const tens[] = {"twenty",  "thirty", "forty",  "fifty", "sixty",
                                   "seventy", "eighty", "ninety", NULL};

/* The words with those that hyphens join taken apart. */
struct number_words {
    struct mathword_part part[NUMBER_WORDS_MAX];
    size_t origin[NUMBER_WORDS_MAX]; /* 1 + index of the word it is the end of, 0 inside one */
    size_t n;
};

static void split_words(struct number_words *out, const struct mathword_part *w, size_t n) {
    out->n = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at <= w[i].n && out->n < NUMBER_WORDS_MAX;) {
            const char *hyphen = memchr(w[i].s + at, '-', w[i].n - at);
            size_t end = hyphen ? (size_t)(hyphen - w[i].s) : w[i].n;
            out->part[out->n] = (struct mathword_part){w[i].s + at, end - at};
            out->origin[out->n++] = end == w[i].n ? i + 1 : 0;
            at = end + 1;
        }
}

static int index_of(const char *const *list, struct mathword_part p) {
    char word[WORD_BYTES];
    const char *w = lower(word, p.s, p.n);
    for (int i = 0; list[i]; i++)
        if (strcmp(list[i], w) == 0) return i;
    return -1;
}

static bool is_known_word(const struct number_words *w, size_t at, const char *name) {
    return at < w->n && w->part[at].n == strlen(name) &&
           strncasecmp(w->part[at].s, name, w->part[at].n) == 0;
}

/* Below a hundred: "seven", "twenty", "twenty one". Words read, 0 for none. */
static size_t read_small(const struct number_words *w, size_t at, int64_t *value) {
    int i, unit;
    if (at >= w->n) return 0;
    if ((i = index_of(small, w->part[at])) >= 0) {
        *value = i;
        return 1;
    }
    if ((i = index_of(tens, w->part[at])) < 0) return 0;
    *value = 10 * (i + 2);
    unit = at + 1 < w->n ? index_of(small, w->part[at + 1]) : -1;
    if (unit < 1 || unit > 9) return 1;
    *value += unit;
    return 2;
}

/* A whole number at `at`. Words read, 0 for none. */
static size_t read_whole(const struct number_words *w, size_t at, int64_t *value) {
    size_t from = at, n;
    int64_t total = 0, group = 0, part;
    bool any = false;
    for (;;) {
        bool joined = any && is_known_word(w, at, "and");
        if ((n = read_small(w, at + joined, &part)) > 0 && group % 100 == 0 &&
            (!joined || group + total > 0) && (group > 0 || !any || total > 0)) {
            group += part;
            at += n + joined;
            any = true;
            if (!is_known_word(w, at, "hundred") && !is_known_word(w, at, "thousand") &&
                !is_known_word(w, at, "million") && !is_known_word(w, at, "billion") &&
                !is_known_word(w, at, "and"))
                break;
            continue;
        }
        struct mathword scale =
            at < w->n ? mathword_behind(w->part[at].s, w->part[at].n) : (struct mathword){0};
        bool article = !any && (is_known_word(w, at, "a")) && at + 1 < w->n;
        if (article) scale = mathword_behind(w->part[at + 1].s, w->part[at + 1].n);
        if (scale.behind != MATHWORD_SCALE || (scale.factor < 100 && !article) ||
            total + group > 1000000000)
            break;
        if (!any && !article) break;
        if (article) group = 1;
        at += article ? 2 : 1;
        any = true;
        if (scale.factor <= 100) {
            group *= scale.factor;
        } else {
            total += group * scale.factor;
            group = 0;
        }
    }
    *value = total + group;
    return any ? at - from : 0;
}

/* The number whose ordinal p is, "twelfths", "twentieth"; 0 if it is none. */
static int64_t ordinal(struct mathword_part p) {
    static const char *const irregular[][2] = {
        {"fif", "five"}, {"eigh", "eight"}, {"nin", "nine"}, {"twelf", "twelve"}};
    char stem[WORD_BYTES];
    size_t n = strlen(lower(stem, p.s, p.n));
    n -= n > 0 && stem[n - 1] == 's';
    if (n < 5 || memcmp(stem + n - 2, "th", 2) != 0) return 0;
    stem[n -= 2] = 0;
    if (memcmp(stem + n - 2, "ie", 2) == 0) stem[n -= 1] = 0, stem[n - 1] = 'y';
    const char *name = stem;
    for (size_t i = 0; i < sizeof irregular / sizeof irregular[0]; i++)
        if (strcmp(stem, irregular[i][0]) == 0) name = irregular[i][1];
    struct mathword_part cardinal = {name, strlen(name)};
    int i = index_of(small, cardinal);
    if (i > 2) return i;
    return (i = index_of(tens, cardinal)) >= 0 ? 10 * (i + 2) : 0;
}

/* A fraction's denominator in words; 0 if it is none. "second" is a unit of time. */
static int64_t denominator(const struct number_words *w, size_t at) {
    if (at >= w->n) return 0;
    if (is_known_word(w, at, "quarter") || is_known_word(w, at, "quarters")) return 4;
    struct mathword part = mathword_behind(w->part[at].s, w->part[at].n);
    if (part.behind == MATHWORD_PART) return part.factor;
    return ordinal(w->part[at]);
}

/* "a half", "one third", "three quarters": a fraction at `at`. Words read. */
static size_t read_part(const struct number_words *w, size_t at, int64_t *num, int64_t *den) {
    int64_t count = 1;
    size_t n =
        is_known_word(w, at, "a") || is_known_word(w, at, "an") ? 1 : read_small(w, at, &count);
    int64_t d = denominator(w, at + n);
    bool alone = n == 0 && !is_known_word(w, at, "half"); /* "third" is a place, not a part */
    if (d == 0 || alone) return 0;
    *num = count;
    *den = d;
    return n + 1;
}

size_t mathword_number(const struct mathword_part *w, size_t n, int64_t *num, int64_t *den) {
    struct number_words words;
    int64_t whole = 0, a = 0, b = 1;
    split_words(&words, w, n);
    size_t at = read_part(&words, 0, &a, &b), m;
    if (at == 0) {
        at = read_whole(&words, 0, &whole);
        if (at == 0) return 0;
        if (is_known_word(&words, at, "and") && (m = read_part(&words, at + 1, &a, &b)) > 0)
            at += 1 + m;
    }
    while (at > 0 && words.origin[at - 1] == 0)
        at--;
    if (at == 0) return 0;
    *num = whole * b + a;
    *den = b;
    return words.origin[at - 1];
}
