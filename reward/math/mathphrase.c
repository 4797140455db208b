/* mathphrase.c - one pass over the tokens, which knows whether a value has just ended.
 *
 * Behind a value, a word is a unit or a noun and is left out with its power, unless it is known to
 * do something: "thousand" multiplies, "percent" is %, "minus" is a sign, "at most" makes the
 * answer unreadable. Units go on behind "/", "*" and "per". No operand may follow a word that was
 * left out: "5 feet 3" is not 53.
 *
 * In front of a value, words must be known to announce it ("the answer is", "about"), to be its
 * sign ("minus") or to be a number ("twenty one"). In front of an equals sign they are a name, and
 * where no value is near they are one item of a list: symbols of their own, compared as they stand.
 *
 * A bare run of letters is a word if it is long, known, or beside other words; else it is a product
 * of variables. */
#include "reward/math/mathphrase.h"

#include "reward/math/mathmeasure.h"
#include "reward/math/mathunit.h"
#include "reward/math/mathword.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PHRASE_WORDS_MAX = 40, LONG_WORD = 4, SYMBOL_BYTES_MAX = 60 };

typedef const struct mathlex_token *token;

struct resolver {
    token raw; /* up to an END */
    size_t i, n;
    struct mathlex_token *out;
    size_t m;
    struct arena *arena;
    int bars; /* that are open */
    bool bad;
    bool variable; /* the value so far holds letters */
    bool dropped;  /* a unit or noun was just left out */
    bool strict;   /* only units may be left out, no other nouns */
};

static bool is_class(token t, enum mathlex_class c) {
    return t->kind == MATHLEX_TEXT && t->punct == (char)c;
}

static bool is_word(token t) {
    return is_class(t, MATHLEX_WORD);
}

/* ---- what a run of letters is ---- */

static bool is_ascii_letters(token t) {
    for (size_t i = 0; i < t->n; i++)
        if (!isalpha((unsigned char)t->s[i])) return false;
    return true;
}

/* "abcd" right behind a number: in the order of the alphabet, as products are written. */
static bool is_ordered(token t) {
    for (size_t i = 1; i < t->n; i++)
        if (t->s[i - 1] >= t->s[i]) return false;
    return true;
}

/* Whether the bare run at i is a unit: by its name, and because it stands behind a number, a
 * bracket or another unit. "mg" elsewhere is a product. */
static bool is_measure(const struct mathlex_token *raw, size_t i) {
    token t = &raw[i], last = i > 0 ? &raw[i - 1] : NULL;
    if (!mathunit_is(t->s, t->n, i > 0 && t->space ? MATHUNIT_SPACED : MATHUNIT_GLUED))
        return false;
    if (t->n >= LONG_WORD) return true;
    if (!last || last->kind == MATHLEX_SYMBOL || last->kind == MATHLEX_COMMAND) return false;
    bool hyphen = mathlex_is(last, '-') && !last->space && !t->space;
    if (mathlex_is(last, '/') || mathlex_is(last, '*') || hyphen)
        return i > 1 &&
               (raw[i - 2].kind == MATHLEX_TEXT || (i > 2 && mathlex_is(&raw[i - 3], '^')));
    if (mathlex_is(last, '(')) return i > 1 && mathlex_is(&raw[i - 2], '/');  /* J/(kg K) */
    if (mathlex_is(last, '{') && i > 2 && raw[i - 2].kind == MATHLEX_COMMAND) /* 5 \frac{km}{h} */
        return mathlex_says(&raw[i - 2], "frac") && !mathlex_says(t, "mg") &&
               (raw[i - 3].kind == MATHLEX_NUMBER || mathlex_is(&raw[i - 3], '}'));
    if (mathlex_is(last, '{')) return i > 1 && raw[i - 2].kind == MATHLEX_NUMBER; /* 5 {eV} */
    if (last->kind == MATHLEX_PUNCT)
        return (t->space || !mathlex_says(t, "mg")) && last->punct &&
               (strchr("})%!", last->punct) || mathlex_is(last, MATHLEX_DEGREE));
    return last->kind == MATHLEX_NUMBER || !is_class(last, MATHLEX_LETTERS);
}

/* Functions that are words in a sentence: "the sum is". */
static bool is_noun_too(token t) {
    return mathlex_says(t, "sum") || mathlex_says(t, "max") || mathlex_says(t, "min") ||
           mathlex_says(t, "mod") || mathlex_says(t, "int") || mathlex_says(t, "lim");
}

static enum mathlex_class class_of(const struct mathlex_token *raw, size_t i, bool beside) {
    token t = &raw[i];
    bool glued = i > 0 && !t->space && raw[i - 1].kind == MATHLEX_NUMBER;
    if (mathlex_is_function(t->s, t->n))
        return beside && is_noun_too(t) ? MATHLEX_WORD : MATHLEX_FUNCTION;
    if (t->face != MATHLEX_BARE || !is_ascii_letters(t)) return MATHLEX_WORD;
    if (t->n == 1) {
        bool article = beside && !glued && raw[i + 1].kind == MATHLEX_TEXT && raw[i + 1].n > 1;
        return article && *t->s == 'a' ? MATHLEX_WORD : MATHLEX_LETTERS;
    }
    bool currency = mathunit_is_currency(t->s, t->n) && raw[i + 1].kind == MATHLEX_NUMBER;
    if (currency || is_measure(raw, i)) return MATHLEX_WORD;
    if (t->n >= LONG_WORD) return glued && is_ordered(t) ? MATHLEX_LETTERS : MATHLEX_WORD;
    return !glued && mathword_is_short(t->s, t->n, beside) ? MATHLEX_WORD : MATHLEX_LETTERS;
}

/* Twice, so that a word makes its neighbours words. */
static void classify(struct mathlex_token *raw, size_t n) {
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < n; i++) {
            if (raw[i].kind != MATHLEX_TEXT) continue;
            bool left = i > 0 && raw[i].space && is_word(&raw[i - 1]) &&
                        mathword_behind(raw[i - 1].s, raw[i - 1].n).behind == MATHWORD_NOUN;
            bool right = raw[i + 1].space && is_word(&raw[i + 1]);
            raw[i].punct = (char)class_of(raw, i, round > 0 && (left || right));
        }
}

/* ---- writing tokens ---- */

static void emit(struct resolver *r, struct mathlex_token t) {
    if (r->m >= MATHLEX_TOKENS - 1) {
        r->bad = true;
        return;
    }
    r->out[r->m++] = t;
}

static void put_punct(struct resolver *r, char punct, const char *s) {
    emit(r, (struct mathlex_token){.kind = MATHLEX_PUNCT, .punct = punct, .s = s, .n = strlen(s)});
}

static void put_name(struct resolver *r, enum mathlex_kind kind, const char *s, size_t n) {
    emit(r, (struct mathlex_token){.kind = kind, .s = s, .n = n});
}

static void put_value(struct resolver *r, int64_t value) {
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, value);
    put_name(r, MATHLEX_NUMBER, arena_strndup(r->arena, text, (size_t)n), (size_t)n);
}

static void put_fraction(struct resolver *r, int64_t num, int64_t den) {
    put_name(r, MATHLEX_COMMAND, "frac", 4);
    put_punct(r, '{', "{");
    put_value(r, num);
    put_punct(r, '}', "}");
    put_punct(r, '{', "{");
    put_value(r, den);
    put_punct(r, '}', "}");
}

/* A product of one-letter variables. */
static void put_letters(struct resolver *r, token t) {
    for (size_t i = 0; i < t->n; i++) {
        struct mathlex_token one = {.kind = MATHLEX_SYMBOL, .s = t->s + i, .n = 1};
        one.space = i == 0 && t->space;
        emit(r, one);
    }
    r->variable = true;
}

/* The words t[0..n) as one symbol: small letters, one blank between them. One letter is itself. */
static void put_words(struct resolver *r, token t, size_t n) {
    char name[SYMBOL_BYTES_MAX + 1];
    size_t len = 0;
    for (size_t k = 0; k < n; k++) {
        if (len + t[k].n + 1 > SYMBOL_BYTES_MAX) {
            r->bad = true;
            return;
        }
        if (k > 0) name[len++] = ' ';
        for (size_t i = 0; i < t[k].n; i++)
            name[len++] =
                n == 1 && t[k].n == 1 ? t[k].s[i] : (char)tolower((unsigned char)t[k].s[i]);
    }
    put_name(r, MATHLEX_SYMBOL, arena_strndup(r->arena, name, len), len);
    r->variable = true;
}

/* ---- where a value ends ---- */

static token last(const struct resolver *r) {
    static const struct mathlex_token none;
    return r->m > 0 ? &r->out[r->m - 1] : &none;
}

static bool token_ends_value(const struct resolver *r) {
    static const char closing[] = {')',
                                   ']',
                                   '}',
                                   '%',
                                   '!',
                                   '\'',
                                   MATHLEX_SET_CLOSE,
                                   MATHLEX_EMPTY,
                                   MATHLEX_DEGREE,
                                   MATHLEX_FINISH,
                                   MATHLEX_FLOOR_CLOSE,
                                   MATHLEX_CEIL_CLOSE,
                                   MATHLEX_AM,
                                   MATHLEX_PM,
                                   0};
    token t = last(r);
    if (t->kind == MATHLEX_NUMBER || t->kind == MATHLEX_SYMBOL) return true;
    if (t->kind != MATHLEX_PUNCT || !t->punct) return false;
    return strchr(closing, t->punct) || (t->punct == '|' && r->bars % 2 == 0);
}

/* Whether a value could begin at t. */
static bool starts_operand(token t) {
    static const char opening[] = {'(',
                                   '[',
                                   '{',
                                   MATHLEX_SET_OPEN,
                                   MATHLEX_EMPTY,
                                   MATHLEX_BEGIN,
                                   MATHLEX_FLOOR_OPEN,
                                   MATHLEX_CEIL_OPEN,
                                   0};
    if (t->kind == MATHLEX_PUNCT) return t->punct && strchr(opening, t->punct);
    return t->kind == MATHLEX_NUMBER || t->kind == MATHLEX_SYMBOL || t->kind == MATHLEX_COMMAND ||
           is_class(t, MATHLEX_LETTERS) || is_class(t, MATHLEX_FUNCTION);
}

/* The same, or a sign before it. */
static bool starts_value(token t) {
    return starts_operand(t) || mathlex_is(t, '-') || mathlex_is(t, '+') || mathlex_is(t, '|') ||
           mathlex_is(t, MATHLEX_PLUS_MINUS) || mathlex_is(t, MATHLEX_MINUS_PLUS);
}

static bool is_separator(token t) {
    return mathlex_is(t, ',') || mathlex_is(t, ';') || t->kind == MATHLEX_END;
}

/* ---- behind a value: units, nouns, and words that do something ---- */

/* Whether the name before the words is more than a variable: \triangle, \angle. */
static bool is_behind_name(const struct resolver *r) {
    token t = last(r);
    return t->kind == MATHLEX_SYMBOL && t->n > 1 && !mathlex_says(t, "pi") &&
           !mathlex_says(t, "infty") && t->s[0] != ' ' && isalpha((unsigned char)t->s[0]);
}

/* The suffix of an ordinal right behind its number: 1st, 2nd, 3rd, 4th. */
static bool is_ordinal(token number, token t) {
    if (number->kind != MATHLEX_NUMBER || t->kind != MATHLEX_TEXT || t->n != 2) return false;
    char digit = number->s[number->n - 1];
    bool teen = number->n > 1 && number->s[number->n - 2] == '1';
    const char *suffix = teen || !strchr("123", digit) ? "th"
                         : digit == '1'                ? "st"
                         : digit == '2'                ? "nd"
                                                       : "rd";
    return mathlex_says(t, suffix);
}

/* Tokens of the raised suffix of an ordinal at t: ^{\text{th}}, ^{th}. Behind a letter, "n^{th}",
 * any suffix. */
static size_t raised_ordinal_length(const struct resolver *r, token t) {
    size_t n = 1, depth = 0;
    if (!mathlex_is(t, '^')) return 0;
    while (mathlex_is(&t[n], '{') && depth < 4)
        n++, depth++;
    bool letter = last(r)->kind == MATHLEX_SYMBOL && mathlex_says(&t[n], "th");
    if (t[n].kind != MATHLEX_TEXT || !(is_ordinal(last(r), &t[n]) || letter)) return 0;
    n++;
    for (; depth > 0; depth--, n++)
        if (!mathlex_is(&t[n], '}')) return 0;
    return n;
}

/* " and a half" behind a whole number: the words behind "and" that are a part of one. */
static size_t half_length(const struct resolver *r, int64_t *num, int64_t *den) {
    struct mathword_part w[3];
    size_t n = 0;
    token t = &r->raw[r->i + 1];
    if (last(r)->kind != MATHLEX_NUMBER || !mathlex_says(&r->raw[r->i], "and")) return 0;
    for (; n < 3 && is_word(&t[n]); n++)
        w[n] = (struct mathword_part){t[n].s, t[n].n};
    if (n < 3 && is_class(&t[0], MATHLEX_LETTERS) && mathlex_says(&t[0], "a") && is_word(&t[1])) {
        w[0] = (struct mathword_part){t[0].s, t[0].n};
        w[1] = (struct mathword_part){t[1].s, t[1].n};
        n = 2;
    }
    size_t used = mathword_number(w, n, num, den);
    return used > 0 && *num < *den ? used : 0;
}

static void skip_unit(struct resolver *r, size_t n) {
    r->i += n;
    r->dropped = true;
}

/* A word that does something to the value before it. False if it is a noun. */
static bool apply_word(struct resolver *r, struct mathword does) {
    token next = &r->raw[r->i + 1];
    int64_t num, den;
    size_t n;
    switch (does.behind) {
    case MATHWORD_NOUN: return false;
    case MATHWORD_SEPARATOR:
        if ((n = half_length(r, &num, &den)) > 0) {
            put_fraction(r, num, den);
            r->i += 1 + n;
            return true;
        }
        put_punct(r, ',', r->raw[r->i].s);
        r->out[r->m - 1].n = r->raw[r->i].n;
        r->variable = false;
        break;
    case MATHWORD_SCALE:
        put_punct(r, '*', "*");
        put_value(r, does.factor);
        break;
    case MATHWORD_PART:
        put_punct(r, '/', "/");
        put_value(r, does.factor);
        break;
    case MATHWORD_PERCENT:
        if (next->kind == MATHLEX_TEXT &&
            (mathlex_says(next, "points") || mathlex_says(next, "point")))
            r->i++;
        put_punct(r, '%', "%");
        break;
    case MATHWORD_POWER:
        put_punct(r, '^', "^");
        put_value(r, does.factor);
        break;
    case MATHWORD_INFIX:
        if (!starts_operand(next)) return does.sign != '*' ? (r->bad = true) : false;
        put_punct(r, does.sign, "+");
        break;
    case MATHWORD_EQUALS:
        while (next->kind == MATHLEX_TEXT &&
               (mathlex_says(next, "to") || mathlex_says(next, "equal") ||
                mathlex_says(next, "equals")))
            next = &r->raw[++r->i + 1];
        if (!starts_value(next) && !is_word(next)) return r->bad = true;
        if (is_word(next) && mathword_behind(next->s, next->n).behind == MATHWORD_CHANGE)
            return r->bad = true;
        if (is_word(next) && !r->variable) return false; /* "5 is the answer" */
        put_punct(r, '=', "=");
        r->variable = false;
        break;
    case MATHWORD_CHANGE: r->bad = true; break;
    }
    r->i++;
    r->dropped = false;
    return true;
}

/* "out of", "divided by", "per cent": of two words. */
static bool apply_pair(struct resolver *r) {
    static const struct {
        const char *first, *second;
        struct mathword does;
    } pairs[] = {{"out", "of", {MATHWORD_INFIX, 0, '/'}},
                 {"divided", "by", {MATHWORD_INFIX, 0, '/'}},
                 {"multiplied", "by", {MATHWORD_INFIX, 0, '*'}},
                 {"per", "cent", {MATHWORD_PERCENT, 0, 0}}};
    token t = &r->raw[r->i];
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        if (!mathlex_says(t, pairs[k].first) || t[1].kind != MATHLEX_TEXT ||
            !mathlex_says(&t[1], pairs[k].second))
            continue;
        r->i++;
        return apply_word(r, pairs[k].does);
    }
    return false;
}

/* A TEXT behind a value. */
static void resolve_behind(struct resolver *r) {
    token t = &r->raw[r->i];
    size_t n;
    n = !t->space && is_ordinal(last(r), t) ? 1 : mathmeasure_letters(t);
    bool named =
        is_behind_name(r) && !(t->space && t->face == MATHLEX_WORDS && mathmeasure_is_unit(t));
    bool call =
        is_class(t, MATHLEX_FUNCTION) && (mathlex_is(&t[1], '(') || !t->space); /* min(a, b) */
    bool unit = mathmeasure_is_unit(t) || mathmeasure_special(t) > 0;
    if (n == 0 && !named && !call && unit) n = mathmeasure_length(t, false);
    if (n > 0) {
        if (n == 1 && mathlex_says(t, "am")) put_punct(r, MATHLEX_AM, "am");
        if (n == 1 && mathlex_says(t, "pm")) put_punct(r, MATHLEX_PM, "pm");
        skip_unit(r, n);
        return;
    }
    if (is_class(t, MATHLEX_FUNCTION)) {
        put_name(r, MATHLEX_COMMAND, t->s, t->n);
        r->i++;
        return;
    }
    if (is_class(t, MATHLEX_LETTERS)) {
        if (r->dropped) r->bad = true;
        put_letters(r, t);
        r->i++;
        return;
    }
    if (apply_pair(r)) return;
    if (apply_word(r, mathword_behind(t->s, t->n))) return;
    if (r->bad) return;
    bool letter = t->n == 1 && t->face == MATHLEX_UPRIGHT; /* \mathrm{e} */
    if (!r->dropped && (letter || named)) {
        put_words(r, t, 1);
        r->i++;
        return;
    }
    if (r->variable || r->strict) r->bad = true;
    skip_unit(r, 1 + mathmeasure_exponent(&t[1]));
}

/* ---- in front of a value ---- */

/* The words from r->i on; how many. */
static size_t gather_tokens(const struct resolver *r, struct mathword_part w[PHRASE_WORDS_MAX]) {
    size_t n = 0;
    for (; n < PHRASE_WORDS_MAX && is_word(&r->raw[r->i + n]); n++)
        w[n] = (struct mathword_part){r->raw[r->i + n].s, r->raw[r->i + n].n};
    return n;
}

/* Hyphens between bare number words, "twenty-one". */
static size_t gather_number(const struct resolver *r, struct mathword_part w[PHRASE_WORDS_MAX],
                            size_t tokens[PHRASE_WORDS_MAX]) {
    size_t n = 0;
    for (size_t i = r->i; n < PHRASE_WORDS_MAX;) {
        token t = &r->raw[i];
        bool hyphen = n > 0 && mathlex_is(t, '-') && !t->space && is_word(&t[1]) && !t[1].space;
        bool article = is_class(t, MATHLEX_LETTERS) && mathlex_says(t, "a") && is_word(&t[1]);
        if (!hyphen && !article && !is_word(t)) break;
        i += hyphen;
        w[n] = (struct mathword_part){r->raw[i].s, r->raw[i].n};
        tokens[n++] = ++i - r->i;
    }
    return n;
}

static bool resolve_number(struct resolver *r) {
    struct mathword_part w[PHRASE_WORDS_MAX];
    size_t tokens[PHRASE_WORDS_MAX];
    int64_t num, den;
    size_t n = mathword_number(w, gather_number(r, w, tokens), &num, &den);
    if (n == 0) return false;
    if (den == 1)
        put_value(r, num);
    else
        put_fraction(r, num, den);
    r->i += tokens[n - 1];
    return true;
}

static bool is_relation(token t) {
    static const char relations[] = {'=',           '<',        '>',        MATHLEX_LE,
                                     MATHLEX_GE,    MATHLEX_NE, MATHLEX_IN, MATHLEX_APPROX,
                                     MATHLEX_EQUIV, 0};
    return t->kind == MATHLEX_PUNCT && t->punct && strchr(relations, t->punct);
}

/* A number in words behind k words that announce it. False, and nothing read, if there is none. */
static bool resolve_announced(struct resolver *r, size_t k, bool negative) {
    size_t i = r->i, m = r->m;
    r->i += k;
    if (negative) put_punct(r, '-', "-");
    if (resolve_number(r)) return true;
    r->i = i;
    r->m = m;
    return false;
}

/* Whether t is a unit that is all of a denominator below a number: \frac{5 km}{h}. */
static bool is_denominator(const struct resolver *r, token t) {
    size_t n = mathmeasure_length(t, true);
    bool number = false;
    for (size_t i = 0; i < r->m; i++)
        number = number || r->out[i].kind == MATHLEX_NUMBER;
    return number && n > 0 && mathlex_is(&t[n], '}') && mathlex_is(last(r), '{') && r->m > 1 &&
           mathlex_is(last(r) - 1, '}');
}

/* Words where a value should begin. */
static void resolve_front(struct resolver *r) {
    struct mathword_part w[PHRASE_WORDS_MAX];
    token t = &r->raw[r->i];
    bool begins = r->m == 0 || mathlex_is(last(r), ',') || mathlex_is(last(r), ';'), negative;
    bool index = mathlex_is(last(r), '_') ||
                 (mathlex_is(last(r), '{') && r->m > 1 && mathlex_is(last(r) - 1, '_'));
    if (is_class(t, MATHLEX_FUNCTION)) { /* v_{max} is a name */
        put_name(r, index ? MATHLEX_SYMBOL : MATHLEX_COMMAND, t->s, t->n);
        r->i++;
        return;
    }
    if (is_class(t, MATHLEX_LETTERS)) {
        put_letters(r, t);
        r->i++;
        return;
    }
    if (mathlex_is(last(r), ',') && (mathlex_says(t, "and") || mathlex_says(t, "or"))) {
        r->i++; /* ", and" */
        return;
    }
    if (resolve_number(r)) return;
    size_t n = gather_tokens(r, w);
    token next = &t[n];
    if (begins && mathlex_is(next, ':') && (starts_value(&next[1]) || is_word(&next[1]))) {
        if (!mathword_names(w, n)) r->bad = true;
        r->i += n + 1;
        return;
    }
    if (begins && n == 1 && mathlex_is(next, ',') && mathword_announces(w, n, &negative) &&
        !negative) {
        r->i += 2; /* "So, 5" */
        return;
    }
    for (size_t k = n - 1; k > 0 && k < n; k--) /* "minus five", "about two thirds" */
        if (mathword_announces(w, k, &negative) && resolve_announced(r, k, negative)) return;
    if (n > 1 && w[n - 1].n == 1 && mathword_announces(w, n - 1, &negative)) { /* "option B" */
        put_words(r, &t[n - 1], 1);
        r->i += n;
        return;
    }
    if (is_denominator(r, t)) {
        put_value(r, 1);
        r->i += mathmeasure_length(t, true);
        return;
    }
    bool operand = starts_value(next) && !mathlex_is(next, '|');
    if (n == 1 && t->n == 1 && t->face != MATHLEX_BARE) operand = false; /* \mathrm{d}x */
    if (n == 1 && t->face == MATHLEX_UPRIGHT && (starts_operand(next) || mathlex_is(next, '_')))
        operand = false; /* \mathrm{Var}(X) */
    if (!operand) {
        if (is_relation(next) && !mathword_names(w, n)) r->bad = true;
        put_words(r, t, n);
        r->i += n;
        return;
    }
    r->bad = r->bad || !mathword_announces(w, n, &negative);
    if (negative) put_punct(r, '-', "-");
    r->i += n;
}

/* ---- the pass ---- */

/* Signs that announce: = 5, \approx 5, \therefore 5. */
static bool is_opener(token t) {
    static const char *const names[] = {"therefore", "Rightarrow", "implies",        "sim",
                                        "cong",      "doteq",      "Longrightarrow", NULL};
    if (mathlex_is(t, '=') || mathlex_is(t, MATHLEX_APPROX) || mathlex_is(t, MATHLEX_TO))
        return true;
    for (size_t i = 0; names[i]; i++)
        if (t->kind == MATHLEX_SYMBOL && mathlex_says(t, names[i])) return true;
    return false;
}

/* 5\degree 30' 15'': the parts of a degree are added. Tokens behind the degree sign. */
static size_t put_minutes(struct resolver *r) {
    token t = &r->raw[r->i + 1];
    int part = 60;
    size_t n = 0;
    if (last(r)->kind != MATHLEX_NUMBER || t->kind != MATHLEX_NUMBER || !mathlex_is(&t[1], '\''))
        return 0;
    struct mathlex_token degrees = r->out[--r->m];
    put_punct(r, '(', "(");
    emit(r, degrees);
    while (t[n].kind == MATHLEX_NUMBER && mathlex_is(&t[n + 1], '\'') && part <= 3600) {
        put_punct(r, '+', "+");
        emit(r, t[n]);
        put_punct(r, '/', "/");
        put_value(r, part);
        n += 2;
        while (mathlex_is(&t[n], '\''))
            n++;
        part *= 60;
    }
    put_punct(r, ')', ")");
    return n;
}

/* The degree sign, which names a scale of temperature too. */
static void resolve_degree(struct resolver *r) {
    size_t minutes = put_minutes(r);
    emit(r, r->raw[r->i]);
    r->i += 1 + minutes;
    token t = &r->raw[r->i];
    bool scale = t->kind == MATHLEX_TEXT && t->n == 1 && strchr("CFK", *t->s);
    if (scale && !starts_operand(&t[1])) skip_unit(r, 1);
}

/* Whether the next group is the second argument of a fraction. */
static bool expects_argument(const struct resolver *r) {
    size_t i = r->m, depth = 0;
    if (!mathlex_is(last(r), '}')) return false;
    while (i > 0) {
        token t = &r->out[--i];
        depth += mathlex_is(t, '}');
        if (mathlex_is(t, '{') && --depth == 0) break;
    }
    return i > 0 && r->out[i - 1].kind == MATHLEX_COMMAND && mathlex_says(&r->out[i - 1], "frac");
}

/* Units that begin with a sign: "/ s", "* cm", "-inch"; a group or quotient of units; what is
 * behind a unit only. False if it is none of those. */
static bool resolve_unit_sign(struct resolver *r) {
    token t = &r->raw[r->i];
    if (mathlex_is(t, '{') && expects_argument(r)) return false;
    size_t n = raised_ordinal_length(r, t);
    if (n == 0) n = mathmeasure_remark(t);
    if (n == 0 && mathmeasure_special(t) > 0 && !r->variable) {
        n = mathmeasure_length(t, false);
        if (starts_operand(&t[n])) n = 0;
    }
    if (n == 0 && (mathlex_is(t, '{') || mathlex_is(t, '(') ||
                   (t->kind == MATHLEX_COMMAND && mathlex_says(t, "frac"))))
        n = mathlex_is(t, '(') && !r->dropped && t[1].face == MATHLEX_BARE
                ? 0
                : mathmeasure_length(t, false);
    bool joint = mathlex_is(t, '/') || mathlex_is(t, '*');
    if (n == 0 && joint && (mathmeasure_is_unit(&t[1]) || r->dropped)) {
        size_t m = mathmeasure_length(t + 1, r->dropped);
        bool noun = mathlex_is(t, '/') && is_word(&t[1]) && !r->variable && !r->strict &&
                    mathword_behind(t[1].s, t[1].n).behind == MATHWORD_NOUN;
        n = m > 0 ? 1 + m : noun ? 2 + mathmeasure_exponent(&t[2]) : 0;
    }
    bool noun = mathlex_is(t, '/') && is_word(&t[1]) && !r->variable && !r->strict &&
                mathword_behind(t[1].s, t[1].n).behind == MATHWORD_NOUN;
    if (n == 0 && noun) n = 2 + mathmeasure_exponent(&t[2]);
    bool hyphen = mathlex_is(t, '-') && !t->space && is_word(&t[1]) && !t[1].space;
    if (n == 0 && hyphen && last(r)->kind == MATHLEX_NUMBER) {
        r->i++;
        resolve_behind(r);
        return true;
    }
    if (n == 0 && mathlex_is(t, '\'') && last(r)->kind == MATHLEX_NUMBER) { /* minutes, feet */
        while (mathlex_is(&t[n], '\''))
            n++;
        if (!is_separator(&t[n])) n = 0;
    }
    if (n == 0 && r->dropped && (mathlex_is(t, '!') || mathlex_is(t, '?'))) n = 1;
    if (n > 0) skip_unit(r, n);
    return n > 0;
}

static void resolve_token(struct resolver *r) {
    token t = &r->raw[r->i];
    bool value = token_ends_value(r);
    if (value && mathlex_is(t, MATHLEX_DEGREE)) {
        resolve_degree(r);
        return;
    }
    if (value && t->kind != MATHLEX_TEXT && resolve_unit_sign(r)) return;
    if (value && t->kind == MATHLEX_TEXT &&
        (mathlex_says(t, "degrees") || mathlex_says(t, "degree"))) {
        put_punct(r, MATHLEX_DEGREE, "degree"); /* counts in an argument of a function */
        r->i++;
        return;
    }
    if (t->kind == MATHLEX_TEXT) {
        if (value || r->dropped)
            resolve_behind(r);
        else
            resolve_front(r);
        return;
    }
    if (!value && is_opener(t) && is_separator(last(r)) && !is_separator(&t[1])) {
        r->i++;
        return;
    }
    if (r->dropped && starts_operand(t)) r->bad = true;
    if (mathlex_is(t, '|')) r->bars++;
    if (t->kind == MATHLEX_SYMBOL && !mathlex_says(t, "pi")) r->variable = true;
    if (is_separator(t) || is_relation(t)) r->variable = false;
    emit(r, *t);
    r->dropped = false;
    r->i++;
}

/* ---- the whole ---- */

/* A single letter, \text{(B)}, is a value. */
static bool is_only_words(const struct mathlex_token *raw, size_t n) {
    bool words = false;
    for (size_t i = 0; i < n; i++) {
        if (is_word(&raw[i]))
            words = words || raw[i].n > 1;
        else if (raw[i].kind != MATHLEX_PUNCT || raw[i].punct == MATHLEX_EMPTY)
            return false;
    }
    return words;
}

static bool is_operator(token t) {
    return is_relation(t) || (t->kind == MATHLEX_PUNCT && t->punct && strchr("+-*/", t->punct));
}

/* Braces that hold nothing but words, or nothing, go, unless they are an argument. Quotes around it
 * all go. */
static size_t unwrap(struct mathlex_token *raw, size_t n) {
    size_t m = 0;
    bool quoted = n > 2 && mathlex_is(&raw[0], '\'') && mathlex_is(&raw[n - 1], '\'');
    for (size_t i = quoted; i < n - quoted; i++) {
        size_t k = i + 1;
        bool argument =
            m > 0 && (mathlex_is(&raw[m - 1], '^') || mathlex_is(&raw[m - 1], '_') ||
                      mathlex_is(&raw[m - 1], '}') || mathlex_is(&raw[m - 1], MATHLEX_BEGIN) ||
                      raw[m - 1].kind == MATHLEX_COMMAND);
        if (mathlex_is(&raw[i], '{') && !argument) {
            while (raw[k].kind == MATHLEX_TEXT)
                k++;
            if (k == i + 1 && is_operator(&raw[k])) k++; /* \mathrel{=} */
            if (mathlex_is(&raw[k], '}') &&
                (k == i + 1 || raw[i + 1].kind == MATHLEX_PUNCT || is_word(&raw[i + 1]))) {
                memmove(&raw[m], &raw[i + 1], (k - i - 1) * sizeof *raw);
                if (k > i + 1) raw[m].space = true;
                m += k - i - 1;
                i = k;
                continue;
            }
        }
        raw[m++] = raw[i];
    }
    memset(&raw[m], 0, (n - m) * sizeof *raw);
    return m;
}

/* Braces around an equation, {x=5}, are only braces. */
static size_t unbrace(struct mathlex_token *raw, size_t n) {
    bool equation = false;
    size_t depth = 0, end = 0;
    if (n < 3 || !mathlex_is(&raw[0], '{')) return n;
    for (size_t i = 0; i < n && end == 0; i++) {
        depth += mathlex_is(&raw[i], '{');
        depth -= mathlex_is(&raw[i], '}');
        equation = equation || is_relation(&raw[i]);
        if (depth == 0) end = i;
    }
    if (!equation || end != n - 1) return n;
    memmove(raw, raw + 1, (n - 2) * sizeof *raw);
    memset(raw + n - 2, 0, 2 * sizeof *raw);
    return unbrace(raw, n - 2);
}

static enum mathphrase_result resolve(struct resolver *r) {
    while (r->i < r->n && !r->bad)
        resolve_token(r);
    size_t n = r->m < MATHLEX_TOKENS ? r->m : MATHLEX_TOKENS - 1;
    memset(&r->out[n], 0, sizeof *r->out * (MATHLEX_TOKENS - n));
    return r->bad ? MATHPHRASE_UNREADABLE : MATHPHRASE_READ;
}

/* Words, letters and whole numbers that are told apart as text alone: "Quadrant I", "at least 5",
 * "x is odd". No sign may be lost in that. */
static bool is_sentence_of_tokens(const struct mathlex_token *raw, size_t n) {
    bool word = false;
    for (size_t i = 0; i < n; i++) {
        token t = &raw[i];
        word = word || is_word(t);
        bool whole = t->kind == MATHLEX_NUMBER && strspn(t->s, "0123456789") >= t->n;
        bool hyphen = mathlex_is(t, '-') && !mathlex_is(&t[1], '-') && t[1].kind == MATHLEX_TEXT;
        bool mark = t->kind == MATHLEX_PUNCT && t->punct && strchr("(),:'?!", t->punct);
        if (t->kind != MATHLEX_TEXT && !whole && !hyphen && !mark) return false;
    }
    return word;
}

/* Whether words came to a value: numbers, or one letter ("answer: B"). */
static bool is_value_token(const struct resolver *r) {
    bool number = false;
    if (r->m == 1 && r->out[0].kind == MATHLEX_SYMBOL && r->out[0].n == 1) return true;
    if (r->m == 3 && mathlex_is(&r->out[0], '(') && r->out[1].kind == MATHLEX_SYMBOL &&
        mathlex_is(&r->out[2], ')'))
        return r->out[1].n == 1; /* "choice (B)" */
    for (size_t i = 0; i < r->m; i++) {
        number = number || r->out[i].kind == MATHLEX_NUMBER;
        if (r->out[i].kind == MATHLEX_SYMBOL) return false;
    }
    return number;
}

enum mathphrase_result mathphrase_resolve(struct mathlex_token out[MATHLEX_TOKENS], size_t *m,
                                          struct mathlex_token *raw, size_t n,
                                          struct arena *arena) {
    classify(raw, n);
    n = unbrace(raw, unwrap(raw, n));
    struct resolver r = {.raw = raw, .n = n, .out = out, .arena = arena};
    bool words = is_only_words(raw, n);
    r.strict = words; /* "two lines" is not "two points" */
    enum mathphrase_result result = resolve(&r);
    *m = r.m;
    if (result == MATHPHRASE_UNREADABLE)
        words = words || is_sentence_of_tokens(raw, n);
    else if (!words || is_value_token(&r))
        return result;
    if (!words) return result;
    *m = 0;
    memset(out, 0, sizeof *out * MATHLEX_TOKENS);
    return MATHPHRASE_WORDS;
}
