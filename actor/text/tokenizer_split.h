/* tokenizer_split.h - the pre_tokenizer of tokenizer.json: a list of steps that cut a text into
 * pre-tokens, some of them also rewriting it. */
#ifndef ACTOR_TEXT_TOKENIZER_SPLIT_H
#define ACTOR_TEXT_TOKENIZER_SPLIT_H

#include "actor/text/tokenizer_norm.h"
#include "actor/text/tokenizer_regex.h"

enum tokenizer_split_kind {
    TOKENIZER_SPLIT_PATTERN, /* Split, and ByteLevel's regex */
    TOKENIZER_SPLIT_BYTE_LEVEL,
    TOKENIZER_SPLIT_METASPACE,
    TOKENIZER_SPLIT_DIGITS,
    TOKENIZER_SPLIT_PUNCTUATION,
    TOKENIZER_SPLIT_WHITESPACE,       /* words and runs of other non-spaces */
    TOKENIZER_SPLIT_WHITESPACE_SPLIT, /* runs of non-spaces */
    TOKENIZER_SPLIT_PREFIX_SPACE      /* ByteLevel's add_prefix_space */
};

enum tokenizer_split_behavior {
    TOKENIZER_SPLIT_ISOLATED,
    TOKENIZER_SPLIT_REMOVED,
    TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS,
    TOKENIZER_SPLIT_MERGED_WITH_NEXT,
    TOKENIZER_SPLIT_CONTIGUOUS
};

enum tokenizer_split_prepend {
    TOKENIZER_SPLIT_PREPEND_ALWAYS,
    TOKENIZER_SPLIT_PREPEND_FIRST,
    TOKENIZER_SPLIT_PREPEND_NEVER
};

struct tokenizer_split_step {
    enum tokenizer_split_kind kind;
    enum tokenizer_split_behavior behavior;
    struct tokenizer_regex *pattern; /* PATTERN */
    bool invert;
    char replacement[8]; /* METASPACE: one character */
    size_t replacement_len;
    enum tokenizer_split_prepend prepend;
    bool split;
};

struct tokenizer_split {
    struct tokenizer_split_step *v;
    size_t n, cap;
};
void tokenizer_split_close(struct tokenizer_split *sp);

/* Pre-tokens: stretches of text.b. origin: how many of its first bytes come from the start of the
 * input (tokenizer_norm.h). */
struct tokenizer_split_piece {
    size_t start, end, origin;
};
struct tokenizer_split_pieces {
    struct buf text;
    struct tokenizer_split_piece *v;
    size_t n, cap;
};
struct tokenizer_split_work {
    struct tokenizer_split_pieces pieces, next;
    struct tokenizer_cuts cuts;
};
void tokenizer_split_work_close(struct tokenizer_split_work *w);

/* Leaves the pre-tokens of s[0..n) in w->pieces. */
MUST_CHECK int tokenizer_split_apply(const struct tokenizer_split *sp,
                                     struct tokenizer_split_work *w,
                                     struct tokenizer_regex_scan *scan, const char *s, size_t n,
                                     size_t origin);

#endif
