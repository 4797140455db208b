/* chat_format.h - the chat formats that Weir knows. */
#ifndef ACTOR_TEXT_CHAT_FORMAT_H
#define ACTOR_TEXT_CHAT_FORMAT_H

/* Within a family, versions of the template differ in what they add by themselves. */
enum chat_format {
    CHAT_PLAIN,
    CHAT_CHATML, /* no default system prompt (Qwen3-2507, Qwen1.5, ...) */
    CHAT_QWEN2,  /* ChatML with each model's default system prompt */
    CHAT_QWEN25,
    CHAT_QWEN25_MATH,
    CHAT_SMOLLM2,
    CHAT_QWEN3,          /* thinking is dropped from earlier turns of the assistant */
    CHAT_QWEN3_NO_THINK, /* the same with enable_thinking: false: an empty thinking is prompted */
    CHAT_QWEN3_THINKING, /* Thinking-2507: the thinking is opened in the prompt */
    CHAT_QWEN3_INSTRUCT, /* Instruct-2507: no thinking of its own */
    CHAT_LLAMA3,
    CHAT_LLAMA31,          /* always a system turn with the template's own date */
    CHAT_MISTRAL,          /* v3: [INST] text[/INST] */
    CHAT_MISTRAL_TRIM,     /* v3, the assistant's text trimmed */
    CHAT_MISTRAL_V1,       /* [INST] text [/INST] */
    CHAT_MISTRAL_TEKKEN,   /* [INST]text[/INST] */
    CHAT_DEEPSEEK_R1,      /* the thinking is opened in the prompt */
    CHAT_DEEPSEEK_R1_OPEN, /* as first released: the model opens it */
    CHAT_FORMATS           /* number of formats */
};

#endif
