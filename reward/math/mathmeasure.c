/* mathmeasure.c - the grammar of units: factors with powers, side by side or joined. A unit that is
 * one bare letter is none at the beginning, where "5 m" is as likely a product; behind "/" or
 * another unit it is. */
#include "reward/math/mathmeasure.h"

#include "reward/math/mathunit.h"
#include "reward/math/mathword.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

typedef const struct mathlex_token *token;

size_t mathmeasure_exponent(token t) {
    if (!mathlex_is(t, '^')) return 0;
    bool group = mathlex_is(&t[1], '{');
    size_t n = 1 + group;
    n += mathlex_is(&t[n], '-') || mathlex_is(&t[n], '+');
    if (t[n].kind != MATHLEX_NUMBER) return 0;
    n++;
    if (!group) return n;
    return mathlex_is(&t[n], '}') ? n + 1 : 0;
}

bool mathmeasure_is_unit(token t) {
    bool product = t->face == MATHLEX_BARE && t->punct == MATHLEX_LETTERS;
    if (t->kind != MATHLEX_TEXT || product) return false;
    enum mathunit_face face = t->face != MATHLEX_BARE ? MATHUNIT_UPRIGHT
                              : t->space              ? MATHUNIT_SPACED
                                                      : MATHUNIT_GLUED;
    return mathunit_is(t->s, t->n, face);
}

/* A unit by one letter, bare: part of a product or quotient of units only. */
static bool is_unit_letter(token t) {
    return t->kind == MATHLEX_TEXT && t->face == MATHLEX_BARE && t->n == 1 &&
           mathunit_is_letter(*t->s);
}

size_t mathmeasure_special(token t) {
    bool micro = t->kind == MATHLEX_SYMBOL && (mathlex_says(t, "micro") || mathlex_says(t, "mu"));
    bool upright = t[1].kind == MATHLEX_TEXT &&
                   (t[1].face != MATHLEX_BARE || mathlex_says(t, "micro")) && t[1].n <= 3 &&
                   mathunit_is(t[1].s, t[1].n, MATHUNIT_UPRIGHT);
    if (micro && upright) return 2;
    bool ohm = t->kind == MATHLEX_SYMBOL && t->n == 5 && memcmp(t->s, "Omega", 5) == 0;
    if (ohm) return 1;
    bool prefix = t->kind == MATHLEX_TEXT && t->n == 1 && strchr("kMGm", *t->s);
    if (prefix && t[1].kind == MATHLEX_SYMBOL && t[1].n == 5 && memcmp(t[1].s, "Omega", 5) == 0)
        return 2;
    bool angstrom = t->kind == MATHLEX_SYMBOL && (mathlex_says(t, "AA") || mathlex_says(t, "mho"));
    return angstrom;
}

/* A unit in brackets. */
static size_t unit_group_length(token t, bool letters) {
    char close = mathlex_is(t, '{') ? '}' : ')';
    size_t n = mathlex_is(t, '{') || mathlex_is(t, '(') ? mathmeasure_length(t + 1, letters) : 0;
    return n > 0 && mathlex_is(&t[1 + n], close) ? n + 2 : 0;
}

/* One factor of a unit at t with its power: a name, a degree, a quotient or a group of units. */
static size_t factor_length(token t, bool letters) {
    size_t n = mathmeasure_special(t), m;
    if (n == 0 && t->kind == MATHLEX_COMMAND && mathlex_says(t, "frac")) {
        n = unit_group_length(&t[1], true);
        m = n > 0 ? unit_group_length(&t[1 + n], true) : 0;
        bool known = false; /* \frac{V}{R} is of variables */
        for (size_t i = 0; i < n + m; i++)
            known = known || mathmeasure_is_unit(&t[1 + i]);
        return m > 0 && known ? 1 + n + m : 0;
    }
    if (n == 0) n = unit_group_length(t, letters);
    if (n == 0 && (mathmeasure_is_unit(t) || (letters && is_unit_letter(t)))) n = 1;
    if (n == 0) return 0;
    n += mathmeasure_exponent(&t[n]);
    struct mathword power = {0};
    if (t[n].kind == MATHLEX_TEXT) power = mathword_behind(t[n].s, t[n].n);
    return n + (power.behind == MATHWORD_POWER);
}

/* Factors side by side, or joined by "/", "*" or "per". */
size_t mathmeasure_length(token t, bool letters) {
    size_t n = factor_length(t, letters), m;
    while (n > 0 && n < MATHLEX_TOKENS) {
        bool per = t[n].kind == MATHLEX_TEXT && mathlex_says(&t[n], "per");
        bool hyphen = mathlex_is(&t[n], '-') && !t[n].space && !t[n + 1].space;
        bool joint = per || hyphen || mathlex_is(&t[n], '/') || mathlex_is(&t[n], '*');
        m = factor_length(t + n + joint, joint || t[n].face == MATHLEX_BARE);
        if (!joint && m > 0 && is_unit_letter(&t[n]) && !mathmeasure_is_unit(&t[n])) m = 0;
        if (m == 0) return n;
        n += joint + m;
    }
    return n;
}

size_t mathmeasure_letters(token t) {
    static const char ends[] = ",;)]}=<>|%";
    if (!is_unit_letter(t) || !t->space) return 0;
    size_t n = 1 + mathmeasure_exponent(&t[1]);
    token under = &t[n + 1];
    bool product = mathlex_is(&t[n], '*') && isupper((unsigned char)*t->s);
    bool quotient = mathlex_is(&t[n], '/') &&
                    (!is_unit_letter(under) || mathunit_is_quotient(*t->s, *under->s));
    token next = mathlex_is(&t[n], '*') ? under : &t[n]; /* m s^{-2} */
    bool power =
        is_unit_letter(next) && mathlex_is(&next[1], '^') &&
        (mathlex_is(&next[2], '-') || (mathlex_is(&next[2], '{') && mathlex_is(&next[3], '-')));
    bool joined = (quotient || product) && factor_length(under, true) > 0;
    if (!joined && !(power && mathmeasure_exponent(&next[1]) > 0)) return 0;
    n = power ? (size_t)(next - t) + 1 + mathmeasure_exponent(&next[1])
              : mathmeasure_length(t, true);
    bool end = t[n].kind == MATHLEX_END || t[n].kind == MATHLEX_TEXT ||
               (t[n].kind == MATHLEX_PUNCT && t[n].punct && strchr(ends, t[n].punct));
    return end ? n : 0;
}

size_t mathmeasure_remark(token t) {
    size_t n = 1;
    if (!mathlex_is(t, '(')) return 0;
    bool any = false;
    for (; mathlex_is(&t[n], '-') || t[n].kind == MATHLEX_TEXT; n++) {
        bool word = t[n].kind == MATHLEX_TEXT && t[n].punct == MATHLEX_WORD;
        any = any || word;
        if (word && mathword_behind(t[n].s, t[n].n).behind != MATHWORD_NOUN) return 0;
    }
    return any && mathlex_is(&t[n], ')') ? n + 1 : 0;
}
