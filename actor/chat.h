/* chat.h - chat formats: messages -> the prompt text of a model family. Named in the recipe, or
 * recognised from the chat_template text of tokenizer_config.json; an unknown template is an error
 * that lists the known formats. */
#ifndef ACTOR_CHAT_H
#define ACTOR_CHAT_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

/* Within a family, versions of the template differ in what they add by themselves. */
enum chat_format {
    CHAT_PLAIN,
    CHAT_CHATML, /* no default system prompt (Qwen3-2507, Qwen1.5, ...) */
    CHAT_QWEN2,  /* ChatML with each model's default system prompt */
    CHAT_QWEN25,
    CHAT_QWEN25_MATH,
    CHAT_SMOLLM2,
    CHAT_QWEN3, /* thinking is dropped from earlier turns of the assistant */
    CHAT_LLAMA3,
    CHAT_LLAMA31,        /* always a system turn with the template's own date */
    CHAT_MISTRAL,        /* v3: [INST] text[/INST] */
    CHAT_MISTRAL_TRIM,   /* v3, the assistant's text trimmed */
    CHAT_MISTRAL_V1,     /* [INST] text [/INST] */
    CHAT_MISTRAL_TEKKEN, /* [INST]text[/INST] */
    CHAT_FORMATS         /* number of formats */
};

struct chat_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* NUL-terminated UTF-8 */
};

/* name: "plain", "chatml" (or "qwen"), "qwen2", "qwen2.5", "qwen2.5-math", "smollm2", "qwen3",
 * "llama3", "llama3.1", "mistral", "mistral-trim", "mistral-v1", "mistral-tekken"; or "auto": from
 * DIR/chat_template.jinja or, without it, DIR/tokenizer_config.json; plain where neither has a
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
bool chat_wants_special(
    enum chat_format f); /* whether the rendered text is encoded with special tokens added */
/* Token text that ends the assistant's turn ("<|im_end|>", "<|eot_id|>"), NULL where eos does. */
const char *chat_end_of_turn(enum chat_format f);

#endif
