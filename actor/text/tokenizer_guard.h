/* tokenizer_guard.h - ranges of a text in which special tokens are only text. */
#ifndef ACTOR_TEXT_TOKENIZER_GUARD_H
#define ACTOR_TEXT_TOKENIZER_GUARD_H

#include <stddef.h>
#include <stdint.h>

struct tokenizer_span {
    size_t start, end; /* bytes of the text */
};

struct tokenizer_guard {
    const struct tokenizer_span *span;
    size_t n;
    const int32_t *also; /* ids that are only text there too */
    size_t n_also;
};

#endif
