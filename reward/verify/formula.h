/* formula.h - where formulas begin and end in a response: between delimiters, or bare among words
 * ("so 3x + 4 = 7."). Nothing here knows what a formula is worth. */
#ifndef REWARD_VERIFY_FORMULA_H
#define REWARD_VERIFY_FORMULA_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Whether c is one of the characters of set; the end of a text is none. */
static inline bool formula_is_in(char c, const char *set) {
    return c && strchr(set, c);
}

struct formula_span {
    const char *s; /* NULL: none */
    size_t n;
};

/* The bytes of the formula that is opened at s by $, $$, \(, \[ or \begin{...}; 0 if none is. A
 * dollar sign before money opens none. *inside: without the delimiters, environments whole. */
size_t formula_delimited(struct formula_span *inside, const char *s);

/* The bytes of the formula that stands at s without delimiters; 0 if s is a word or punctuation.
 * text: where the response begins, to see what stands before s. */
size_t formula_bare(const char *text, const char *s);

/* The bytes up to and with the brace that closes the one at s; 0 if none does. */
size_t formula_group(const char *s);

/* The part that says what the formula comes to: behind the last "=" of a chain (a = b = 5) or of a
 * calculation (3 + 4 = 7), behind an implication, of the last line of several. The whole formula
 * where it states something else, such as y = 2x + 3. */
struct formula_span formula_result(struct formula_span f);

/* Without white space, spacing commands, emphasis, dollar signs, \( \) and a full stop around it.
 * An escape is never cut: \% and \} stay, "\," goes whole. */
struct formula_span formula_strip(struct formula_span a);

/* Whether it only names something: x, ABC, f(x), \triangle ABC. */
bool formula_is_name(struct formula_span f);

#endif
