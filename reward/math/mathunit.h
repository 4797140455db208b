/* mathunit.h - which names are units of measure: symbols with their prefixes, words, currencies. */
#ifndef REWARD_MATH_MATHUNIT_H
#define REWARD_MATH_MATHUNIT_H

#include <stdbool.h>
#include <stddef.h>

/* How a name was written decides which symbols it can be. */
enum mathunit_face {
    MATHUNIT_UPRIGHT, /* \text{m}, \mathrm{mA}: every symbol */
    MATHUNIT_SPACED,  /* "5 kN": no single letter, no small letters that read as a product (ab) */
    MATHUNIT_GLUED    /* "5kg": only what is hardly ever a product of variables */
};

/* Whether s[0..n) is a unit, of one word: "km", "kilometers", "USD", "square". */
bool mathunit_is(const char *s, size_t n, enum mathunit_face face);
/* Whether it is a symbol of one letter: a unit where it is part of a product or quotient (m/s). */
bool mathunit_is_letter(char c);
/* Whether over/under of bare letters is a unit, m/s or g/L; most quotients of letters are not. */
bool mathunit_is_quotient(char over, char under);
/* "USD", "Rs": stands before its number as well as behind it. */
bool mathunit_is_currency(const char *s, size_t n);

#endif
