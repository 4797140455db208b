/* tokenizer_norm.h - the normalizer of tokenizer.json: a list of steps from text to text. */
#ifndef ACTOR_TEXT_TOKENIZER_NORM_H
#define ACTOR_TEXT_TOKENIZER_NORM_H

#include "actor/text/tokenizer_regex.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tokenizer_norm_kind {
    TOKENIZER_NORM_NFC,
    TOKENIZER_NORM_NFD,
    TOKENIZER_NORM_NFKC,
    TOKENIZER_NORM_NFKD,
    TOKENIZER_NORM_LOWERCASE,
    TOKENIZER_NORM_STRIP,
    TOKENIZER_NORM_PREPEND,
    TOKENIZER_NORM_REPLACE,
    TOKENIZER_NORM_BYTE_LEVEL,
};

struct tokenizer_norm_step {
    enum tokenizer_norm_kind kind;
    struct tokenizer_regex *pattern; /* REPLACE */
    char *text;                      /* REPLACE: content; PREPEND: what */
    size_t text_len;
    bool left, right; /* STRIP */
};

struct tokenizer_norm {
    struct tokenizer_norm_step *v;
    size_t n, cap;
};

/* A text on its way, and how many of its first bytes come from the very start of the input: the
 * pre-tokenizer Metaspace with prepend_scheme "first" asks that of each piece. */
struct tokenizer_norm_text {
    struct buf b;
    size_t origin;
};

void tokenizer_norm_close(struct tokenizer_norm *nm);
/* In place; tmp and cuts are workspace. */
MUST_CHECK int tokenizer_norm_apply(const struct tokenizer_norm *nm, struct tokenizer_norm_text *t,
                                    struct buf *tmp, struct tokenizer_cuts *cuts,
                                    struct tokenizer_regex_scan *scan);

/* The visible character that stands for a byte in byte-level vocabularies, and back (-1: none). */
uint32_t tokenizer_norm_byte_char(unsigned char byte);
int tokenizer_norm_char_byte(uint32_t cp);
/* Appends s with each byte as its character. */
void tokenizer_norm_byte_level(struct buf *out, const char *s, size_t n);

#endif
