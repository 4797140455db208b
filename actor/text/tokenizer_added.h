/* tokenizer_added.h - added_tokens of tokenizer.json: texts that are found before anything else
 * looks at the input, and become one id. */
#ifndef ACTOR_TEXT_TOKENIZER_ADDED_H
#define ACTOR_TEXT_TOKENIZER_ADDED_H

#include "actor/text/tokenizer_bpe.h"
#include "actor/text/tokenizer_guard.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer_added_token {
    char *content;    /* as in the file */
    char *normalized; /* NULL: as content; only where `normalize` */
    size_t content_len, normalized_len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalize, special;
    bool skipped; /* decoding without special tokens leaves it out */
};

struct tokenizer_added {
    struct tokenizer_added_token *v;
    size_t n;
    struct tokenizer_vocab index; /* of contents: the "id" is the place in v */
    int32_t *by_id;               /* [by_id_n] index of the token with id by_id_first + i, -1 */
    int32_t *sorted[2];           /* indices by text: [0] matched before normalization, [1] after */
    size_t sorted_n[2];
    uint32_t first[2][257]; /* where in sorted the texts with a first byte start */
    int32_t by_id_first, by_id_n;
};

/* Room for n tokens with `bytes` of content in all. */
void tokenizer_added_init(struct tokenizer_added *a, size_t n, size_t bytes);
/* Takes t, whose content must be new; returns its place. */
MUST_CHECK int tokenizer_added_take(struct tokenizer_added *a, struct tokenizer_added_token t,
                                    const char *name);
/* After all tokens are in v: builds the search. ERR_CORRUPT for two tokens of one set with one
 * text; name is the file's. */
MUST_CHECK int tokenizer_added_ready(struct tokenizer_added *a, const char *name);
void tokenizer_added_close(struct tokenizer_added *a);
/* NULL if id is not an added token. */
const struct tokenizer_added_token *tokenizer_added_get(const struct tokenizer_added *a,
                                                        int32_t id);
/* By exact content; NULL if there is none. */
const struct tokenizer_added_token *tokenizer_added_find(const struct tokenizer_added *a,
                                                         const char *s, size_t n);
/* Text used when decoding. */
const char *tokenizer_added_text(const struct tokenizer_added_token *t, size_t *n);

/* Pieces of a text between and at added tokens; empty ones are left out. */
struct tokenizer_added_piece {
    size_t start, end;
    int32_t id; /* -1: text */
};
struct tokenizer_added_pieces {
    struct tokenizer_added_piece *v;
    size_t n, cap;
};
/* set: 0 before normalization, 1 after. s stands at byte `at` of the text that guard (NULL: none)
 * speaks of. Replaces *out. */
void tokenizer_added_split(const struct tokenizer_added *a, int set, const char *s, size_t n,
                           const struct tokenizer_guard *guard, size_t at,
                           struct tokenizer_added_pieces *out);
bool tokenizer_added_guarded(const struct tokenizer_guard *g,
                             const struct tokenizer_added_token *t);

#endif
