/* chat.h - chat formats: messages -> the prompt text of a model family. Named in the recipe, or
 * recognised from the chat_template text of tokenizer_config.json; an unknown template is an error
 * that lists the known formats. */
#ifndef ACTOR_CHAT_H
#define ACTOR_CHAT_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

enum chat_format { CHAT_PLAIN, CHAT_CHATML, CHAT_LLAMA3, CHAT_MISTRAL };

struct chat_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* NUL-terminated UTF-8 */
};

/* name: "plain", "chatml" (or "qwen"), "llama3", "mistral", or "auto": from
 * DIR/tokenizer_config.json or DIR/chat_template.jinja; plain where neither has a template. */
MUST_CHECK int chat_choose(enum chat_format *out, const char *name, const char *dir);
const char *chat_name(enum chat_format f);
/* Appends the rendered prompt; generate: end with the opening of the assistant's turn. Does not add
 * bos where the tokenizer's post-processor does. The result is encoded with special =
 * chat_wants_special(). ERR_CONFIG names an unknown role or an order the format cannot express. */
MUST_CHECK int chat_render(struct buf *out, enum chat_format f, const struct chat_message *messages,
                           size_t n, bool generate);
bool chat_wants_special(
    enum chat_format f); /* whether the rendered text is encoded with special tokens added */
/* Token text that ends the assistant's turn ("<|im_end|>", "<|eot_id|>"), NULL where eos does. */
const char *chat_end_of_turn(enum chat_format f);

#endif
