/* mathlex_token.h - the tokens of a written answer: numbers, symbols, commands, punctuation. */
#ifndef REWARD_MATH_MATHLEX_TOKEN_H
#define REWARD_MATH_MATHLEX_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

enum { MATHLEX_TOKENS = 512, MATHLEX_BYTES = 2000 };

enum mathlex_kind {
    MATHLEX_END,
    MATHLEX_NUMBER,  /* s[0..n): decimal, maybe with thousands and an exponent; "0." before the
                        mark of a cycle (0.\overline{3}) */
    MATHLEX_SYMBOL,  /* a letter, or a command's name that means nothing else here */
    MATHLEX_COMMAND, /* frac, sqrt, a function's name, begin or end (s: the environment) */
    MATHLEX_PUNCT,   /* one of ASCII's, or an enum mathlex_punct; a comma that was the word "and"
                        or "or" has it in s */
    MATHLEX_TEXT     /* words; mathlex_read leaves them out */
};

enum mathlex_punct {
    MATHLEX_LE = 'L',
    MATHLEX_GE = 'G',
    MATHLEX_NE = 'N',
    MATHLEX_IN = 'I',
    MATHLEX_UNION = 'U',
    MATHLEX_SET_OPEN = 'S',
    MATHLEX_SET_CLOSE = 'T',
    MATHLEX_PLUS_MINUS = 'P',
    MATHLEX_ROW = 'R',
    MATHLEX_EMPTY = 'E',
    MATHLEX_BEGIN = 'B',
    MATHLEX_FINISH = 'F',
    MATHLEX_APPROX = 'A',
    MATHLEX_EQUIV = 'Q',
    MATHLEX_DEGREE = 'D',
    MATHLEX_NORM = 'V', /* \| */
    MATHLEX_MINUS_PLUS = 'M',
    MATHLEX_INTERSECT = 'X',
    MATHLEX_WITHOUT = 'W', /* set difference */
    MATHLEX_TO = 'O',
    MATHLEX_FLOOR_OPEN = 'f',
    MATHLEX_FLOOR_CLOSE = 'g',
    MATHLEX_CEIL_OPEN = 'c',
    MATHLEX_CEIL_CLOSE = 'd',
    MATHLEX_AM = 'a', /* behind a time of day */
    MATHLEX_PM = 'p'
};

/* How a TEXT was written, and, in its punct, what it was found to be; mathparse sees no TEXT. */
enum mathlex_face { MATHLEX_BARE, MATHLEX_WORDS, MATHLEX_UPRIGHT }; /* ab, \text{ab}, \mathrm{ab} */
enum mathlex_class { MATHLEX_WORD = 'w', MATHLEX_LETTERS = 'l', MATHLEX_FUNCTION = 'f' };

struct mathlex_token {
    enum mathlex_kind kind;
    char punct;
    bool space;  /* white space before it */
    bool commas; /* NUMBER: commas in it are thousands */
    enum mathlex_face face;
    const char *s;
    size_t n;
};

/* Whether s[0..n) names a function: sin, gcd, max. */
bool mathlex_is_function(const char *s, size_t n);
/* Whether t is this sign; whether it is this word, in any case. */
bool mathlex_is(const struct mathlex_token *t, char punct);
bool mathlex_says(const struct mathlex_token *t, const char *name);
/* The sign that says the same with its sides exchanged. */
char mathlex_mirrored(char relation);

#endif
