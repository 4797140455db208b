/* chat_family.h - what chat.c (which format) and chat_render.c (its text) share. */
#ifndef ACTOR_TEXT_CHAT_FAMILY_H
#define ACTOR_TEXT_CHAT_FAMILY_H

#include "actor/text/chat_format.h"

enum chat_family {
    CHAT_FAMILY_PLAIN,
    CHAT_FAMILY_CHATML,
    CHAT_FAMILY_LLAMA3,
    CHAT_FAMILY_MISTRAL,
    CHAT_FAMILY_DEEPSEEK
};

struct chat_format_info {
    const char *name;
    enum chat_family family;
    const char *system; /* ChatML: default system prompt */
};

extern const struct chat_format_info chat_formats[CHAT_FORMATS];

#define CHAT_DEEPSEEK_BOS                                                                          \
    "<\xEF\xBD\x9C"                                                                                \
    "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"
#define CHAT_DEEPSEEK_EOS                                                                          \
    "<\xEF\xBD\x9C"                                                                                \
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"
#define CHAT_DEEPSEEK_USER "<\xEF\xBD\x9CUser\xEF\xBD\x9C>"
#define CHAT_DEEPSEEK_ASSISTANT                                                                    \
    "<\xEF\xBD\x9C"                                                                                \
    "Assistant\xEF\xBD\x9C>"

#endif
