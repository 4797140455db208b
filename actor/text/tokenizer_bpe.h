/* tokenizer_bpe.h - the model of tokenizer.json: a vocabulary of strings and a ranked table of
 * merges. Filled by tokenizer_json.c, read-only afterwards. */
#ifndef ACTOR_TEXT_TOKENIZER_BPE_H
#define ACTOR_TEXT_TOKENIZER_BPE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TOKENIZER_IDS_MAX = 1 << 22,      /* ids are below this */
    TOKENIZER_TOKEN_BYTES_MAX = 65536 /* text of one token */
};

struct tokenizer_vocab {
    char *text;      /* all token texts, one after another, each followed by a NUL */
    uint32_t *start; /* [size] offset in text, UINT32_MAX where no token has the id */
    uint32_t *len;   /* [size] */
    int32_t *slot;   /* open addressing by text: id, -1 empty */
    uint32_t mask;
    size_t used;
    int32_t size;  /* largest id + 1 */
    int32_t count; /* tokens */
};

/* Room for ids 0..size-1 and bytes of text in all. */
void tokenizer_bpe_vocab_init(struct tokenizer_vocab *v, int32_t size, size_t tokens, size_t bytes);
void tokenizer_bpe_vocab_close(struct tokenizer_vocab *v);
/* ERR_CORRUPT if the id or the text is there already; name is the file's. */
MUST_CHECK int tokenizer_bpe_vocab_add(struct tokenizer_vocab *v, const char *s, size_t n,
                                       int32_t id, const char *name);
int32_t tokenizer_bpe_vocab_find(const struct tokenizer_vocab *v, const char *s, size_t n);
/* NULL where no token has the id. */
const char *tokenizer_bpe_vocab_text(const struct tokenizer_vocab *v, int32_t id, size_t *n);

struct tokenizer_merge {
    int32_t left, right; /* left -1: empty slot */
    uint32_t rank;
    int32_t merged;
};

struct tokenizer_bpe {
    struct tokenizer_vocab vocab;
    struct tokenizer_merge *merges; /* open addressing by (left, right) */
    uint32_t merges_mask;
    int32_t *char_id;            /* [65536] id of the one-character token, -1 */
    int32_t byte_id[256];        /* "<0xNN>", -1 */
    char *prefix, *suffix, *unk; /* NULL: none */
    size_t prefix_len, suffix_len, unk_len;
    bool ignore_merges, byte_fallback, fuse_unk;
    char *name; /* of the file, for errors */
};

void tokenizer_bpe_merges_init(struct tokenizer_bpe *m, size_t n);
/* A pair given twice keeps its later rank, as in the reference. */
void tokenizer_bpe_merges_add(struct tokenizer_bpe *m, int32_t left, int32_t right, uint32_t rank,
                              int32_t merged);
void tokenizer_bpe_ready(struct tokenizer_bpe *m); /* after vocabulary, merges and options */
void tokenizer_bpe_close(struct tokenizer_bpe *m);

struct tokenizer_ids {
    int32_t *v;
    size_t n, cap;
};
void tokenizer_bpe_ids_add(struct tokenizer_ids *ids, int32_t id);

struct tokenizer_word; /* workspace of one encoding thread */
struct tokenizer_word *tokenizer_bpe_word_open(void);
void tokenizer_bpe_word_close(struct tokenizer_word **w);
/* Appends the ids of one pre-token, valid UTF-8. ERR_CORRUPT if an unknown character needs an unk
 * token that the vocabulary lacks. */
MUST_CHECK int tokenizer_bpe_encode(const struct tokenizer_bpe *m, struct tokenizer_word *w,
                                    const char *s, size_t n, struct tokenizer_ids *out);

#endif
