/* tokenizer.h - tokenizer.json of the Hugging Face tokenizers library: byte-level BPE (GPT-2, Llama
 * 3, Qwen) and sentencepiece-style BPE with byte fallback (Llama 2, Mistral). Same ids as the
 * reference on any text. Read-only after opening: any number of threads may use one. */
#ifndef ACTOR_TEXT_TOKENIZER_H
#define ACTOR_TEXT_TOKENIZER_H

#include "actor/text/tokenizer_guard.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Reads DIR/tokenizer.json (and DIR/tokenizer_config.json for bos/eos/pad, if there). Components
 * that the reference has and Weir has not are an error that names them. */
MUST_CHECK int tokenizer_open(struct tokenizer **out, const char *dir);
/* The same from a text in memory; name is used in errors. No bos and eos are known. */
MUST_CHECK int tokenizer_open_text(struct tokenizer **out, const char *json, size_t bytes,
                                   const char *name);
void tokenizer_close(struct tokenizer **t);

/* text is any bytes; invalid UTF-8 is ERR_CORRUPT with the offset. special: apply the
 * post-processor's template (bos, eos), and in any case added tokens in the text are recognised, as
 * in the reference. *ids freed with mem_free. */
MUST_CHECK int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes,
                                bool special, int32_t **ids, size_t *n);
/* The same, but within the spans special tokens, and those with the ids of `also`, are text like
 * any other: what a data set says cannot end a turn. ERR_UNSUP if a span holds one that
 * tokenizer.json matches in normalized text only, where the spans are lost. */
MUST_CHECK int tokenizer_encode_guarded(const struct tokenizer *t, const char *text, size_t bytes,
                                        bool special, const struct tokenizer_guard *guard,
                                        int32_t **ids, size_t *n);
/* Id of a token that the spans hold and the guard would make text; -1 if there is none. */
int32_t tokenizer_find_guarded(const struct tokenizer *t, const char *text,
                               const struct tokenizer_guard *guard);
/* No text of so many bytes has more ids than this, frame included; SIZE_MAX: not known without
 * encoding it. */
size_t tokenizer_most(const struct tokenizer *t, const char *text, size_t bytes);
/* *text freed with mem_free, NUL-terminated (the text itself may hold NULs). skip_special: leave
 * special tokens out. Ids from tokenizer_size on (padding of an embedding table) have no text;
 * negative ones are ERR_CONFIG. Incomplete UTF-8 becomes U+FFFD as in the
 * reference. */
MUST_CHECK int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                                bool skip_special, char **text, size_t *bytes);
int32_t tokenizer_size(const struct tokenizer *t); /* largest id + 1 */
int32_t tokenizer_id(const struct tokenizer *t,
                     const char *token); /* exact token text, -1 if absent */
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
int32_t tokenizer_bos(const struct tokenizer *t); /* -1: none known */
int32_t tokenizer_eos(const struct tokenizer *t);

/* Streaming decode of one response: each call gives the text that became certain with this token,
 * never half a code point. Special tokens give nothing. flush gives what is left. *text points into
 * the stream, valid until the next call. */
struct tokenizer_stream;
struct tokenizer_stream *tokenizer_stream_open(const struct tokenizer *t);
void tokenizer_stream_close(struct tokenizer_stream **s);
MUST_CHECK int tokenizer_stream_add(struct tokenizer_stream *s, int32_t id, const char **text,
                                    size_t *bytes);
MUST_CHECK int tokenizer_stream_flush(struct tokenizer_stream *s, const char **text, size_t *bytes);

#endif
