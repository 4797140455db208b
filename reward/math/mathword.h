/* mathword.h - what English words do to the value they stand beside, and numbers in words. */
#ifndef REWARD_MATH_MATHWORD_H
#define REWARD_MATH_MATHWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a word does behind a value. Every other word is a noun there, and changes nothing. */
enum mathword_behind {
    MATHWORD_NOUN,
    MATHWORD_SEPARATOR, /* and, or */
    MATHWORD_SCALE,     /* thousand, dozen: times `factor` */
    MATHWORD_PART,      /* hundredths, thirds: divided by `factor` */
    MATHWORD_PERCENT,   /* percent */
    MATHWORD_POWER,     /* squared, cubed */
    MATHWORD_INFIX,     /* plus, minus, over: `sign`, where an operand follows */
    MATHWORD_EQUALS,    /* is, equals: the same as = */
    MATHWORD_CHANGE     /* makes something else of the value: at most, less, not, if */
};

struct mathword {
    enum mathword_behind behind;
    int64_t factor; /* POWER: the exponent */
    char sign;      /* INFIX: one of + - * / : */
};

struct mathword mathword_behind(const char *s, size_t n);

/* Whether s[0..n) is a word although it is as short as a product of variables: "men", "all".
 * beside: it stands beside another word, so that "of" and "at" are words too. */
bool mathword_is_short(const char *s, size_t n, bool beside);

/* One word of a phrase, pointing into the text. */
struct mathword_part {
    const char *s;
    size_t n;
};

/* Whether the n words in front of a value only announce it: "the answer is", "about", "a total of",
 * "the area of the circle is". *negative: they end in "minus" or "negative". Unknown words that no
 * "is" follows announce nothing. */
bool mathword_announces(const struct mathword_part *w, size_t n, bool *negative);
/* Whether the words in front of a colon or an equals sign may name what stands behind it: they do
 * not deny it. */
bool mathword_names(const struct mathword_part *w, size_t n);

/* A number in words, "two hundred and five", "three quarters", "two and a half", "minus one": how
 * many of the n words it takes, 0 if they do not begin with one. Hyphens inside words are blanks.
 * The value is num/den, den > 0. */
size_t mathword_number(const struct mathword_part *w, size_t n, int64_t *num, int64_t *den);

#endif
