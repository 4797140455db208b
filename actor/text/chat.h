/* chat.h - chat formats: messages -> the prompt text of a model family. Named in the recipe, or
 * recognised from the chat_template text of tokenizer_config.json; an unknown template is an error
 * that lists the known formats. */
#ifndef ACTOR_TEXT_CHAT_H
#define ACTOR_TEXT_CHAT_H

#include "actor/text/chat_format.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct chat_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* NUL-terminated UTF-8 */
};

/* name: "plain", "chatml" (or "qwen"), "qwen2", "qwen2.5", "qwen2.5-math", "smollm2", "qwen3",
 * "qwen3-no-think", "qwen3-thinking", "qwen3-instruct", "llama3", "llama3.1", "mistral",
 * "mistral-trim", "mistral-v1", "mistral-tekken", "deepseek-r1", "deepseek-r1-open"; or "auto":
 * from DIR/chat_template.jinja or, without it, DIR/tokenizer_config.json; plain where neither has a
 * template. ERR_CONFIG for an unknown name, ERR_UNSUP for an unknown template; both list the
 * formats. */
MUST_CHECK int chat_choose(enum chat_format *out, const char *name, const char *dir);
const char *chat_name(enum chat_format f);
/* The format of a template's text; ERR_UNSUP if it is none of the known; where is for the error. */
MUST_CHECK int chat_recognise(enum chat_format *out, const char *jinja, size_t n,
                              const char *where);
/* Appends the rendered prompt; generate: end with the opening of the assistant's turn. Does not add
 * bos where the tokenizer's post-processor does. The result is encoded with special =
 * chat_wants_special(). ERR_CONFIG names an unknown role or an order the format cannot express. */
MUST_CHECK int chat_render(struct buf *out, enum chat_format f, const struct chat_message *messages,
                           size_t n, bool generate);
/* The same; *marks gets, in order, where parts of the messages' contents stand in what is appended.
 */
struct chat_mark {
    size_t start, end; /* bytes of *out */
    const char *from;  /* the byte of the content that stands at start */
};
struct chat_marks { /* mem_free(v) */
    struct chat_mark *v;
    size_t n, cap;
};
MUST_CHECK int chat_render_marked(struct buf *out, enum chat_format f,
                                  const struct chat_message *messages, size_t n, bool generate,
                                  struct chat_marks *marks);
/* The i-th special token that the format is made of, NULL after the last. A tokenizer that lacks
 * one would spell it in letters. */
const char *chat_token(enum chat_format f, size_t i);
/* The template's argument enable_thinking; ERR_CONFIG if the format has none. */
MUST_CHECK int chat_set_thinking(enum chat_format *f, bool thinking);
/* Whether the rendered text is encoded with special tokens added */
bool chat_wants_special(enum chat_format f);
/* Token text that ends the assistant's turn ("<|im_end|>", "<|eot_id|>"), NULL where eos does. */
const char *chat_end_of_turn(enum chat_format f);

#endif
