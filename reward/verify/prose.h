/* prose.h - a response as a sequence of words, formulas, punctuation and ends of lines, so that an
 * answer is looked for among them and not among bytes. Markdown is read for what it means
 * (emphasis, headings, lists, code) and dropped. */
#ifndef REWARD_VERIFY_PROSE_H
#define REWARD_VERIFY_PROSE_H

#include "base/arena.h"
#include "reward/verify/formula.h"

enum { PROSE_BYTES = 1 << 15 }; /* only so much of the end of a response is read */

enum prose_kind {
    PROSE_END,     /* behind the last token */
    PROSE_WORD,    /* letters, maybe with an apostrophe */
    PROSE_FORMULA, /* between delimiters; s[0..n) is what they hold */
    PROSE_BARE,    /* a formula or number without delimiters */
    PROSE_PUNCT,   /* one of . , ; : ? ! ( ) = - | > and what else is none of the others; of
                    * several languages, as their ASCII counterpart */
    PROSE_LINE     /* end of a line, or of a heading's mark (punct '#') or a list's (punct '-') */
};

struct prose_token {
    enum prose_kind kind;
    char punct;  /* PUNCT; LINE: 0, 'B' for a blank line, '#', '-' */
    bool strong; /* inside **...** */
    const char *s;
    size_t n;
};

struct prose {
    struct prose_token *token; /* n of them and an END */
    size_t n;
};

void prose_read(struct prose *out, struct arena *arena, const char *text);

/* Whether t is the word, which is in lower case, in any case. */
bool prose_is(const struct prose_token *t, const char *word);
/* Whether t is one of these punctuation marks. */
bool prose_is_punct(const struct prose_token *t, const char *which);
/* Whether t is one of the words of a list that ends with NULL. */
bool prose_is_one_of(const struct prose_token *t, const char *const *words);

#endif
