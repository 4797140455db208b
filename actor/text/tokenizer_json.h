/* tokenizer_json.h - tokenizer.json read into its parts. */
#ifndef ACTOR_TEXT_TOKENIZER_JSON_H
#define ACTOR_TEXT_TOKENIZER_JSON_H

#include "actor/text/tokenizer_added.h"
#include "actor/text/tokenizer_bpe.h"
#include "actor/text/tokenizer_decode.h"
#include "actor/text/tokenizer_norm.h"
#include "actor/text/tokenizer_split.h"

struct tokenizer_json {
    struct tokenizer_bpe bpe;
    struct tokenizer_added added;
    struct tokenizer_norm norm;
    struct tokenizer_split split;
    struct tokenizer_decode decode;
    int32_t *frame; /* post-processor: ids around the text, -1 the text itself; NULL: none */
    size_t frame_n;
    int32_t size; /* largest id + 1 */
};

/* Errors name `name` (the file) and the field. ERR_UNSUP names a component that Weir lacks. On
 * failure *out is empty. */
MUST_CHECK int tokenizer_json_read(struct tokenizer_json *out, const char *text, size_t n,
                                   const char *name);
void tokenizer_json_close(struct tokenizer_json *t);

struct json;
/* The steps of the components that are lists; in tokenizer_steps.c. */
MUST_CHECK int tokenizer_steps_norm(struct tokenizer_norm *out, const struct json *v,
                                    const char *where);
MUST_CHECK int tokenizer_steps_split(struct tokenizer_split *out, const struct json *v,
                                     const char *where);
MUST_CHECK int tokenizer_steps_decode(struct tokenizer_decode *out, const struct json *v,
                                      const char *where);

#endif
