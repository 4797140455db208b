/* tokenizer_tables.h - Unicode sets as the reference has them (tokenizer_tables.c is generated) and
 * the questions asked of them. Ranges are sorted. */
#ifndef ACTOR_TEXT_TOKENIZER_TABLES_H
#define ACTOR_TEXT_TOKENIZER_TABLES_H

#include <stdbool.h>
#include <stdint.h>

struct tokenizer_tables_range {
    uint32_t first, last;
};
struct tokenizer_tables_named { /* name: general category ("Lu") or script ("Han") */
    uint32_t first, last;
    const char *name;
};
struct tokenizer_tables_lower { /* first, first + step, ... last */
    uint32_t first, last, step;
    uint32_t lower;  /* of first */
    uint32_t second; /* 0: lower case is one code point */
};

extern const struct tokenizer_tables_named tokenizer_tables_category[], tokenizer_tables_script[];
extern const struct tokenizer_tables_range tokenizer_tables_onig_word[], tokenizer_tables_word[],
    tokenizer_tables_numeric[], tokenizer_tables_punctuation[], tokenizer_tables_unnormalized[];
extern const struct tokenizer_tables_lower tokenizer_tables_lower[];
extern const int tokenizer_tables_category_n, tokenizer_tables_script_n,
    tokenizer_tables_onig_word_n, tokenizer_tables_word_n, tokenizer_tables_numeric_n,
    tokenizer_tables_punctuation_n, tokenizer_tables_unnormalized_n, tokenizer_tables_lower_n;

/* In tokenizer_unicode.c. */
bool tokenizer_unicode_is_space(uint32_t cp);
bool tokenizer_unicode_is_word(uint32_t cp); /* \w of the reference outside Oniguruma */
bool tokenizer_unicode_is_numeric(uint32_t cp);
bool tokenizer_unicode_is_punctuation(uint32_t cp);
bool tokenizer_unicode_is_unnormalized(uint32_t cp);
int tokenizer_unicode_lower(uint32_t cp, uint32_t out[2]); /* number of code points, 1 or 2 */

#endif
