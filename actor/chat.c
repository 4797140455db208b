/* chat.c - chat formats, see chat.h.
 *
 * Released models carry their format as a Jinja program. Interpreting Jinja for half a dozen
 * programs that all concatenate strings would be a language inside a trainer; so the programs are
 * known here by what they do, and a template is recognised by the expressions that do it, after
 * quotes, blanks and ways of writing the same thing are levelled. A template is accepted only if
 * all of its format's expressions are there and none that would change the text: a near miss is an
 * error, because a model trained on a slightly wrong prompt looks fine and learns the wrong thing.
 *
 * Decisions: a default system prompt (Qwen2, Qwen2.5, SmolLM2) is added exactly where the model's
 * own template adds it. Llama 3.2's template prints today's date where it can; a run must not
 * depend on the day, so the date is the template's own fallback. */
#include "actor/chat.h"

#include "base/file.h"
#include "base/filetype.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

enum { TEMPLATE_MAX = 1 << 20, CONFIG_MAX = 16 << 20 };

enum family { PLAIN, CHATML, LLAMA3, MISTRAL };

static const struct format {
    const char *name;
    enum family family;
    const char *system; /* ChatML: default system prompt */
} formats[CHAT_FORMATS] = {
    [CHAT_PLAIN] = {"plain", PLAIN, NULL},
    [CHAT_CHATML] = {"chatml", CHATML, NULL},
    [CHAT_QWEN2] = {"qwen2", CHATML, "You are a helpful assistant."},
    [CHAT_QWEN25] = {"qwen2.5", CHATML,
                     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    [CHAT_QWEN25_MATH] = {"qwen2.5-math", CHATML,
                          "Please reason step by step, and put your final answer within "
                          "\\boxed{}."},
    [CHAT_SMOLLM2] = {"smollm2", CHATML,
                      "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    [CHAT_QWEN3] = {"qwen3", CHATML, NULL},
    [CHAT_LLAMA3] = {"llama3", LLAMA3, NULL},
    [CHAT_LLAMA31] = {"llama3.1", LLAMA3, NULL},
    [CHAT_MISTRAL] = {"mistral", MISTRAL, NULL},
    [CHAT_MISTRAL_TRIM] = {"mistral-trim", MISTRAL, NULL},
    [CHAT_MISTRAL_V1] = {"mistral-v1", MISTRAL, NULL},
    [CHAT_MISTRAL_TEKKEN] = {"mistral-tekken", MISTRAL, NULL},
};

const char *chat_name(enum chat_format f) {
    return formats[f].name;
}

bool chat_wants_special(enum chat_format f) {
    return formats[f].family != CHATML;
}

const char *chat_end_of_turn(enum chat_format f) {
    if (formats[f].family == CHATML) return "<|im_end|>";
    return formats[f].family == LLAMA3 ? "<|eot_id|>" : NULL;
}

/* --- Recognising a template --- */

/* The template with the blanks of its statements gone, all strings in double quotes with line ends
 * written \n, and item access written as attributes. */
static void level(struct buf *out, const char *s, size_t n) {
    bool code = false;
    char quote = '\0';
    for (size_t i = 0; i < n; i++) {
        char c = s[i], next = i + 1 < n ? s[i + 1] : '\0';
        if (quote) {
            if (c == '\\' && next) {
                buf_add(out, s + i++, 2);
            } else if (c == quote) {
                quote = '\0';
                buf_add(out, "\"", 1);
            } else {
                buf_add(out, c == '\n' ? "\\n" : s + i, c == '\n' ? 2 : 1);
            }
            continue;
        }
        if (c == '{' && (next == '{' || next == '%' || next == '#')) code = next != '#';
        if ((c == '}' || c == '%') && next == '}') code = false;
        if (c == ' ' || c == '\n' || c == '\t' || c == '\r') continue;
        if (c == '-' && (next == '%' || next == '}' || (i > 0 && strchr("{%", s[i - 1])))) continue;
        if (code && (c == '"' || c == '\'')) {
            quote = c;
            buf_add(out, "\"", 1);
            continue;
        }
        buf_add(out, &c, 1);
    }
}

static void replace_all(struct buf *b, const char *from, const char *to) {
    struct buf out = {0};
    const char *p = b->data, *hit;
    while ((hit = strstr(p, from))) {
        buf_add(&out, p, (size_t)(hit - p));
        buf_str(&out, to);
        p = hit + strlen(from);
    }
    buf_str(&out, p);
    buf_close(b);
    *b = out;
}

static bool has(const struct buf *t, const char *part) {
    return strstr(t->data, part) != NULL;
}

static bool has_all(const struct buf *t, const char *const *parts) {
    for (; *parts; parts++)
        if (!has(t, *parts)) return false;
    return true;
}

static bool has_any(const struct buf *t, const char *const *parts) {
    for (; *parts; parts++)
        if (has(t, *parts)) return true;
    return false;
}

/* ChatML templates: which default system prompt stands in the text; -1 an unknown one. */
static int chatml_format(const struct buf *t) {
    static const char open[] = "\"<|im_start|>system\\n";
    int found = CHAT_CHATML;
    for (const char *p = t->data; (p = strstr(p, open));) {
        p += sizeof open - 1;
        if (*p == '"') continue; /* the conversation's own system turn */
        int f = CHAT_FORMATS;
        while (--f >= 0) {
            size_t n = formats[f].system ? strlen(formats[f].system) : 0;
            if (!n) continue;
            if (strncmp(p, formats[f].system, n) == 0 && strncmp(p + n, "<|im_end|>\\n\"", 13) == 0)
                break;
        }
        if (f < 0 || (found != CHAT_CHATML && found != f)) return -1;
        found = f;
    }
    return found;
}

static int recognise_chatml(const struct buf *t) {
    static const char *const turns[] = {
        "\"<|im_start|>\"+message.role+\"\\n\"+message.content+\"<|im_end|>\"+\"\\n\"",
        "\"<|im_start|>\"+message.role+\"\\n\"+message.content+\"<|im_end|>\\n\"",
        "\"<|im_start|>\"+message.role+\"\\n\"+content+\"<|im_end|>\"+\"\\n\"", NULL};
    static const char *const thinking[] = {
        "last_query_index=messages|length-1",
        "ifloop.lastor(notloop.lastandreasoning_content)",
        "\"\\n<think>\\n\"+reasoning_content.strip(\"\\n\")+\"\\n</think>\\n\\n\"+content.lstrip("
        "\"\\n\")",
        "ifenable_thinkingisdefinedandenable_thinkingisfalse%}{{\"<think>\\n\\n</think>\\n\\n\"}}",
        "{{\"<|im_start|>assistant\\n\"}}",
        NULL};
    static const char *const other[] = {"think",      "|trim",   "bos_token",
                                        "<|im_sep|>", ".strip(", NULL};
    if (!has_any(t, turns) || !has(t, "\"<|im_start|>assistant\\n\"}}")) return -1;
    if (has_all(t, thinking)) return chatml_format(t) == CHAT_CHATML ? CHAT_QWEN3 : -1;
    return has_any(t, other) ? -1 : chatml_format(t);
}

static int recognise_llama3(const struct buf *t) {
    static const char *const parts[] = {"\"<|start_header_id|>\"+message.role+"
                                        "\"<|end_header_id|>\\n\\n\"+message.content|trim+"
                                        "\"<|eot_id|>\"",
                                        "\"<|start_header_id|>assistant<|end_header_id|>\\n\\n\"}}",
                                        NULL};
    static const char *const dated[] = {"{{\"Cutting Knowledge Date: December 2023\\n\"}}",
                                        "{{\"Today Date: \"+date_string+\"\\n\\n\"}}",
                                        "date_string=\"26 Jul 2024\"", "{{system_message}}", NULL};
    if (!has_all(t, parts)) return -1;
    if (has_all(t, dated)) return CHAT_LLAMA31;
    return has(t, "header_id|>system") || has(t, "Knowledge Date") ? -1 : CHAT_LLAMA3;
}

static int recognise_mistral(const struct buf *t) {
    static const char *const last = "loop.lastandsystem_messageisdefined";
    static const char *const v1[] = {"loop.firstandsystem_messageisdefined",
                                     "\" [INST] \"+system_message+\"\\n\\n\"+message.content+"
                                     "\" [/INST]\"",
                                     "\" [INST] \"+message.content+\" [/INST]\"",
                                     "\" \"+message.content+eos_token", NULL};
    static const char *const v3[] = {"\"[INST] \"+system_message+\"\\n\\n\"+message.content+"
                                     "\"[/INST]\"",
                                     "\"[INST] \"+message.content+\"[/INST]\"", NULL};
    static const char *const tekken[] = {"\"[INST]\"+system_message+\"\\n\\n\"+message.content+"
                                         "\"[/INST]\"",
                                         "\"[INST]\"+message.content+\"[/INST]\"",
                                         "{{message.content+eos_token}}", NULL};
    if (has(t, "[SYSTEM_PROMPT]") || has(t, "<<SYS>>")) return -1;
    if (has_all(t, v1)) return CHAT_MISTRAL_V1;
    if (!has(t, last)) return -1;
    if (has_all(t, tekken)) return CHAT_MISTRAL_TEKKEN;
    if (!has_all(t, v3)) return -1;
    if (has(t, "\" \"+message.content|trim+eos_token")) return CHAT_MISTRAL_TRIM;
    return has(t, "\" \"+message.content+eos_token") ? CHAT_MISTRAL : -1;
}

static void list_names(struct buf *out) {
    for (int f = 0; f < CHAT_FORMATS; f++)
        buf_printf(out, "%s%s", f ? ", " : "", formats[f].name);
}

int chat_recognise(enum chat_format *out, const char *jinja, size_t n, const char *where) {
    struct buf t = {0}, names = {0};
    level(&t, jinja, n);
    buf_add(&t, "", 0);
    replace_all(&t, "[\"role\"]", ".role");
    replace_all(&t, "[\"content\"]", ".content");
    int f = recognise_chatml(&t);
    if (f < 0) f = recognise_llama3(&t);
    if (f < 0) f = recognise_mistral(&t);
    buf_close(&t);
    if (f >= 0) {
        *out = (enum chat_format)f;
        return 0;
    }
    list_names(&names);
    int rc = FAIL(ERR_UNSUP,
                  "%s: the chat template is none of the known ones; name the format it is nearest "
                  "to: %s",
                  where, names.data);
    buf_close(&names);
    return rc;
}

/* The template of tokenizer_config.json: a string, or the one named "default" of a list. */
static const struct json *config_template(const struct json *config) {
    const struct json *v = json_get(config, "chat_template");
    for (const struct json *e = json_is(v, JSON_ARRAY) ? json_first(v) : NULL; e;
         e = json_next(e)) {
        const char *name = json_str(json_get(e, "name"));
        if (name && strcmp(name, "default") == 0) return json_get(e, "template");
    }
    return v;
}

static int choose_config(enum chat_format *out, const char *path) {
    struct json_doc *doc;
    TRY(json_parse_file_as(&doc, path, CONFIG_MAX, JSON_NUL));
    const struct json *v = config_template(json_root(doc));
    int rc = 0;
    if (json_type(v) == JSON_NULL)
        *out = CHAT_PLAIN;
    else if (json_str(v))
        rc = chat_recognise(out, json_str(v), json_len(v), path);
    else
        rc = FAIL(ERR_CORRUPT, "%s: chat_template has no template named default", path);
    json_close(&doc);
    return rc;
}

static int choose_auto(enum chat_format *out, const char *dir) {
    char *jinja = file_join(dir, "chat_template.jinja"), *text = NULL;
    char *config = file_join(dir, "tokenizer_config.json");
    size_t n = 0;
    int rc = 0;
    if (file_exists(jinja)) {
        rc = file_read(&text, &n, jinja, TEMPLATE_MAX);
        if (rc == 0)
            rc = filetype_explain(chat_recognise(out, text, n, jinja), text, n, jinja,
                                  FILETYPE_JINJA);
    } else if (file_exists(config)) {
        rc = choose_config(out, config);
    } else {
        *out = CHAT_PLAIN;
    }
    mem_free(text);
    mem_free(jinja);
    mem_free(config);
    return rc;
}

int chat_choose(enum chat_format *out, const char *name, const char *dir) {
    if (strcmp(name, "auto") == 0) return choose_auto(out, dir);
    if (strcmp(name, "qwen") == 0) name = "chatml";
    for (int f = 0; f < CHAT_FORMATS; f++)
        if (strcmp(name, formats[f].name) == 0) {
            *out = (enum chat_format)f;
            return 0;
        }
    struct buf names = {0};
    list_names(&names);
    int rc = FAIL(ERR_CONFIG, "chat format \"%s\" is unknown; there are auto, qwen, %s", name,
                  names.data);
    buf_close(&names);
    return rc;
}

/* --- Rendering --- */

struct text {
    const char *s;
    size_t n;
};

static struct text whole(const char *s) {
    return (struct text){s, strlen(s)};
}

/* What Python's str.strip() takes for a blank. */
static bool is_blank(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static struct text trim(struct text t) {
    uint32_t cp;
    int len;
    while (t.n && (len = utf8_decode(t.s, t.n, &cp)) > 0 && is_blank(cp)) {
        t.s += len;
        t.n -= (size_t)len;
    }
    while (t.n) {
        size_t at = t.n - 1;
        while (at > 0 && ((unsigned char)t.s[at] & 0xC0) == 0x80)
            at--;
        if (utf8_decode(t.s + at, t.n - at, &cp) <= 0 || !is_blank(cp)) break;
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

static void add(struct buf *out, struct text t) {
    buf_add(out, t.s, t.n);
}

static void chatml_turn(struct buf *out, const char *role, struct text content) {
    buf_printf(out, "<|im_start|>%s\n", role);
    add(out, content);
    buf_str(out, "<|im_end|>\n");
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
static void qwen3_assistant(struct buf *out, const char *content, bool after_question, bool last) {
    struct text reasoning = {"", 0}, text = whole(content);
    const char *end = strstr(content, "</think>");
    if (end) {
        struct text head =
            strip_newlines((struct text){content, (size_t)(end - content)}, false, true);
        reasoning = strip_newlines(after_last(head, "<think>"), true, false);
        text = strip_newlines(after_last(whole(end), "</think>"), true, false);
    }
    buf_str(out, "<|im_start|>assistant\n");
    if (after_question && (last || reasoning.n)) {
        buf_str(out, "<think>\n");
        add(out, strip_newlines(reasoning, true, true));
        buf_str(out, "\n</think>\n\n");
        text = strip_newlines(text, true, false);
    }
    add(out, text);
    buf_str(out, "<|im_end|>\n");
}

static void render_chatml(struct buf *out, enum chat_format f, const struct chat_message *m,
                          size_t n, bool generate) {
    size_t question = f == CHAT_QWEN3 ? last_question(m, n) : 0;
    if (formats[f].system && strcmp(m[0].role, "system") != 0)
        chatml_turn(out, "system", whole(formats[f].system));
    for (size_t i = 0; i < n; i++) {
        if (f == CHAT_QWEN3 && strcmp(m[i].role, "assistant") == 0)
            qwen3_assistant(out, m[i].content, i > question, i + 1 == n);
        else
            chatml_turn(out, m[i].role, whole(m[i].content));
    }
    if (generate) buf_str(out, "<|im_start|>assistant\n");
}

static void llama3_header(struct buf *out, const char *role) {
    buf_printf(out, "<|start_header_id|>%s<|end_header_id|>\n\n", role);
}

static void render_llama3(struct buf *out, enum chat_format f, const struct chat_message *m,
                          size_t n, bool generate) {
    size_t i = 0;
    if (f == CHAT_LLAMA31) {
        llama3_header(out, "system");
        buf_str(out, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
        if (strcmp(m[0].role, "system") == 0) add(out, trim(whole(m[i++].content)));
        buf_str(out, "<|eot_id|>");
    }
    for (; i < n; i++) {
        llama3_header(out, m[i].role);
        add(out, trim(whole(m[i].content)));
        buf_str(out, "<|eot_id|>");
    }
    if (generate) llama3_header(out, "assistant");
}

/* The system text goes into a user turn: the first in v1, the last (and only if it ends the
 * conversation) later. */
static int render_mistral(struct buf *out, enum chat_format f, const struct chat_message *m,
                          size_t n) {
    const char *system = strcmp(m[0].role, "system") == 0 ? m[0].content : NULL;
    size_t first = system ? 1 : 0;
    bool v1 = f == CHAT_MISTRAL_V1, tekken = f == CHAT_MISTRAL_TEKKEN;
    for (size_t i = first; i < n; i++)
        if (strcmp(m[i].role, (i - first) % 2 ? "assistant" : "user") != 0)
            return FAIL(ERR_CONFIG,
                        "message %zu has the role %s: after an optional system message, %s needs "
                        "user and assistant in turn",
                        i, m[i].role, formats[f].name);
    for (size_t i = first; i < n; i++) {
        if ((i - first) % 2) {
            struct text t = whole(m[i].content);
            if (!tekken) buf_str(out, " ");
            add(out, f == CHAT_MISTRAL_TRIM ? trim(t) : t);
            buf_str(out, "</s>");
            continue;
        }
        buf_str(out, v1 ? " [INST] " : tekken ? "[INST]" : "[INST] ");
        if (system && (v1 ? i == first : i + 1 == n)) buf_printf(out, "%s\n\n", system);
        buf_str(out, m[i].content);
        buf_str(out, v1 ? " [/INST]" : "[/INST]");
    }
    return 0;
}

static void render_plain(struct buf *out, const struct chat_message *m, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%s", i ? "\n\n" : "", m[i].content);
}

int chat_render(struct buf *out, enum chat_format f, const struct chat_message *messages, size_t n,
                bool generate) {
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
    switch (formats[f].family) {
    case PLAIN: render_plain(out, messages, n); break;
    case CHATML: render_chatml(out, f, messages, n, generate); break;
    case LLAMA3: render_llama3(out, f, messages, n, generate); break;
    case MISTRAL: return render_mistral(out, f, messages, n);
    }
    return 0;
}
