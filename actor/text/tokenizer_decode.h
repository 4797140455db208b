/* tokenizer_decode.h - the decoder of tokenizer.json as a chain of stages that tokens are pushed
 * through one by one. */
#ifndef ACTOR_TEXT_TOKENIZER_DECODE_H
#define ACTOR_TEXT_TOKENIZER_DECODE_H

#include "actor/text/tokenizer_regex.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

enum tokenizer_decode_kind {
    TOKENIZER_DECODE_BYTE_LEVEL,
    TOKENIZER_DECODE_BYTE_FALLBACK,
    TOKENIZER_DECODE_FUSE,
    TOKENIZER_DECODE_STRIP,
    TOKENIZER_DECODE_REPLACE,
    TOKENIZER_DECODE_METASPACE,
    TOKENIZER_DECODE_SUFFIX, /* BPEDecoder: the suffix becomes a space, or nothing at the end */
    TOKENIZER_DECODE_SPACES  /* no decoder: tokens joined by spaces */
};

struct tokenizer_decode_step {
    enum tokenizer_decode_kind kind;
    struct tokenizer_regex *pattern; /* REPLACE, SUFFIX */
    char *text;                      /* REPLACE: content; STRIP, METASPACE: the character */
    size_t text_len;
    size_t start, stop; /* STRIP: how many at each end */
    bool prepended;     /* METASPACE: the first token loses its replacement characters */
};

struct tokenizer_decode {
    struct tokenizer_decode_step *v;
    size_t n, cap;
};
void tokenizer_decode_close(struct tokenizer_decode *d);

/* One text being decoded. Output that is certain is appended to *out. */
struct tokenizer_decode_run;
struct tokenizer_decode_run *tokenizer_decode_run_open(const struct tokenizer_decode *d,
                                                       struct buf *out);
void tokenizer_decode_run_close(struct tokenizer_decode_run **run);
MUST_CHECK int tokenizer_decode_run_add(struct tokenizer_decode_run *run, const char *token,
                                        size_t n);
/* Everything that is left; the run is then as new. */
MUST_CHECK int tokenizer_decode_run_end(struct tokenizer_decode_run *run);

#endif
