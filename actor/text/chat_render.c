/* chat_render.c - the text of a conversation in each chat format, see chat.h. Everything that comes
 * from a message goes through add_text(), which notes where it stands: special tokens inside it can
 * then be told from the format's own. */
#include "actor/text/chat.h"
#include "actor/text/chat_family.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

struct page {
    struct buf *out;
    struct chat_marks *marks; /* NULL: not wanted */
};

struct text {
    const char *s;
    size_t n;
};

static struct text text_of(const char *s) {
    return (struct text){s, strlen(s)};
}

/* What Python's str.strip() takes for a blank. */
static bool is_blank_text(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static struct text trim_text(struct text t) {
    uint32_t cp;
    int len;
    while (t.n && (len = utf8_decode(t.s, t.n, &cp)) > 0 && is_blank_text(cp)) {
        t.s += len;
        t.n -= (size_t)len;
    }
    while (t.n) {
        size_t at = t.n - 1;
        while (at > 0 && ((unsigned char)t.s[at] & 0xC0) == 0x80)
            at--;
        if (utf8_decode(t.s + at, t.n - at, &cp) <= 0 || !is_blank_text(cp)) break;
        t.n = at;
    }
    return t;
}

static struct text strip_newlines(struct text t, bool left, bool right) {
    while (left && t.n && *t.s == '\n') {
        t.s++;
        t.n--;
    }
    while (right && t.n && t.s[t.n - 1] == '\n')
        t.n--;
    return t;
}

static void add_literal(struct page *p, const char *s) {
    buf_str(p->out, s);
}

/* Text of a message. */
static void add_text(struct page *p, struct text t) {
    size_t start = p->out->len;
    struct chat_marks *m = p->marks;
    buf_add(p->out, t.s, t.n);
    if (!m || t.n == 0) return;
    mem_grow(&m->v, &m->cap, m->n + 1, sizeof *m->v);
    m->v[m->n++] = (struct chat_mark){start, p->out->len, t.s};
}

static void chatml_turn(struct page *p, const char *role, struct text content) {
    buf_printf(p->out, "<|im_start|>%s\n", role);
    add_text(p, content);
    add_literal(p, "<|im_end|>\n");
}

/* Index of the last question: the last user turn that is no wrapped tool response. */
static size_t last_question(const struct chat_message *m, size_t n) {
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    for (size_t i = n; i-- > 0;) {
        size_t len = strlen(m[i].content);
        bool response = strncmp(m[i].content, open, sizeof open - 1) == 0 &&
                        len >= sizeof close - 1 &&
                        strcmp(m[i].content + len - (sizeof close - 1), close) == 0;
        if (strcmp(m[i].role, "user") == 0 && !response) return i;
    }
    return n - 1;
}

/* What comes after the last mark; all of it if there is none. */
static struct text after_last(struct text t, const char *mark) {
    size_t n = strlen(mark);
    for (size_t i = t.n >= n ? t.n - n + 1 : 0; i-- > 0;)
        if (memcmp(t.s + i, mark, n) == 0) return (struct text){t.s + i + n, t.n - i - n};
    return t;
}

/* Qwen3: thinking stays only in turns after the last question. */
static void qwen3_assistant(struct page *p, const char *content, bool after_question, bool thinks) {
    struct text reasoning = {"", 0}, text = text_of(content);
    const char *end = strstr(content, "</think>");
    if (end) {
        struct text head =
            strip_newlines((struct text){content, (size_t)(end - content)}, false, true);
        reasoning = strip_newlines(after_last(head, "<think>"), true, false);
        text = strip_newlines(after_last(text_of(end), "</think>"), true, false);
    }
    add_literal(p, "<|im_start|>assistant\n");
    if (after_question && (thinks || reasoning.n)) {
        add_literal(p, "<think>\n");
        add_text(p, strip_newlines(reasoning, true, true));
        add_literal(p, "\n</think>\n\n");
        text = strip_newlines(text, true, false);
    }
    add_text(p, text);
    add_literal(p, "<|im_end|>\n");
}

static void render_chatml(struct page *p, enum chat_format f, const struct chat_message *m,
                          size_t n, bool generate) {
    bool thinks = f == CHAT_QWEN3 || f == CHAT_QWEN3_NO_THINK || f == CHAT_QWEN3_THINKING;
    bool qwen3 = thinks || f == CHAT_QWEN3_INSTRUCT;
    size_t question = qwen3 ? last_question(m, n) : 0;
    if (chat_formats[f].system && strcmp(m[0].role, "system") != 0)
        chatml_turn(p, "system", text_of(chat_formats[f].system));
    for (size_t i = 0; i < n; i++) {
        if (qwen3 && strcmp(m[i].role, "assistant") == 0)
            qwen3_assistant(p, m[i].content, i > question, thinks && i + 1 == n);
        else
            chatml_turn(p, m[i].role, text_of(m[i].content));
    }
    if (!generate) return;
    add_literal(p, "<|im_start|>assistant\n");
    if (f == CHAT_QWEN3_NO_THINK) add_literal(p, "<think>\n\n</think>\n\n");
    if (f == CHAT_QWEN3_THINKING) add_literal(p, "<think>\n");
}

static void llama3_header(struct page *p, const char *role) {
    buf_printf(p->out, "<|start_header_id|>%s<|end_header_id|>\n\n", role);
}

static void render_llama3(struct page *p, enum chat_format f, const struct chat_message *m,
                          size_t n, bool generate) {
    size_t i = 0;
    if (f == CHAT_LLAMA31) {
        llama3_header(p, "system");
        add_literal(p, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (strcmp(m[0].role, "system") == 0) add_text(p, trim_text(text_of(m[i++].content)));
        add_literal(p, "<|eot_id|>");
    }
    for (; i < n; i++) {
        llama3_header(p, m[i].role);
        add_text(p, trim_text(text_of(m[i].content)));
        add_literal(p, "<|eot_id|>");
    }
    if (generate) llama3_header(p, "assistant");
}

/* The system text goes into a user turn: the first in v1, the last (and only if it ends the
 * conversation) later. */
static int render_mistral(struct page *p, enum chat_format f, const struct chat_message *m,
                          size_t n) {
    const char *system = strcmp(m[0].role, "system") == 0 ? m[0].content : NULL;
    size_t first = system ? 1 : 0;
    bool v1 = f == CHAT_MISTRAL_V1, tekken = f == CHAT_MISTRAL_TEKKEN;
    for (size_t i = first; i < n; i++)
        if (strcmp(m[i].role, (i - first) % 2 ? "assistant" : "user") != 0)
            return FAIL(ERR_CONFIG,
                        "message %zu has the role %s: after an optional system message, %s needs "
                        "user and assistant in turn",
                        i, m[i].role, chat_formats[f].name);
    for (size_t i = first; i < n; i++) {
        if ((i - first) % 2) {
            struct text t = text_of(m[i].content);
            if (!tekken) add_literal(p, " ");
            add_text(p, f == CHAT_MISTRAL_TRIM ? trim_text(t) : t);
            add_literal(p, "</s>");
            continue;
        }
        add_literal(p, v1 ? " [INST] " : tekken ? "[INST]" : "[INST] ");
        if (system && (v1 ? i == first : i + 1 == n)) {
            add_text(p, text_of(system));
            add_literal(p, "\n\n");
        }
        add_text(p, text_of(m[i].content));
        add_literal(p, v1 ? " [/INST]" : "[/INST]");
    }
    return 0;
}

/* All system messages give their place to the last of them, which stands first. */
static void render_deepseek(struct page *p, enum chat_format f, const struct chat_message *m,
                            size_t n, bool generate) {
    const char *system = "";
    for (size_t i = 0; i < n; i++)
        if (strcmp(m[i].role, "system") == 0) system = m[i].content;
    add_literal(p, CHAT_DEEPSEEK_BOS);
    add_text(p, text_of(system));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(m[i].role, "user") == 0) {
            add_literal(p, CHAT_DEEPSEEK_USER);
            add_text(p, text_of(m[i].content));
        } else if (strcmp(m[i].role, "assistant") == 0) {
            add_literal(p, CHAT_DEEPSEEK_ASSISTANT);
            add_text(p, after_last(text_of(m[i].content), "</think>"));
            add_literal(p, CHAT_DEEPSEEK_EOS);
        }
    }
    if (generate) add_literal(p, CHAT_DEEPSEEK_ASSISTANT);
    if (generate && f == CHAT_DEEPSEEK_R1) add_literal(p, "<think>\n");
}

static void render_plain(struct page *p, const struct chat_message *m, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i) add_literal(p, "\n\n");
        add_text(p, text_of(m[i].content));
    }
}

int chat_render_marked(struct buf *out, enum chat_format f, const struct chat_message *messages,
                       size_t n, bool generate, struct chat_marks *marks) {
    struct page p = {out, marks};
    if (n == 0) return FAIL(ERR_CONFIG, "a conversation needs at least one message");
    for (size_t i = 0; i < n; i++) {
        const char *role = messages[i].role;
        if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
            strcmp(role, "assistant") != 0)
            return FAIL(ERR_CONFIG,
                        "message %zu has the role \"%s\", known are system, user, "
                        "assistant",
                        i, role);
    }
    switch (chat_formats[f].family) {
    case CHAT_FAMILY_PLAIN: render_plain(&p, messages, n); break;
    case CHAT_FAMILY_CHATML: render_chatml(&p, f, messages, n, generate); break;
    case CHAT_FAMILY_LLAMA3: render_llama3(&p, f, messages, n, generate); break;
    case CHAT_FAMILY_MISTRAL: return render_mistral(&p, f, messages, n);
    case CHAT_FAMILY_DEEPSEEK: render_deepseek(&p, f, messages, n, generate); break;
    }
    return 0;
}

int chat_render(struct buf *out, enum chat_format f, const struct chat_message *messages, size_t n,
                bool generate) {
    return chat_render_marked(out, f, messages, n, generate, NULL);
}
