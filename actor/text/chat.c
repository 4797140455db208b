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
#include "actor/text/chat.h"

#include "actor/text/chat_family.h"
#include "base/file.h"
#include "base/filetype.h"
#include "base/json.h"
#include "base/mem.h"

#include <string.h>

enum { TEMPLATE_MAX = 1 << 20, CONFIG_MAX = 16 << 20 };

const struct chat_format_info chat_formats[CHAT_FORMATS] = {
    [CHAT_PLAIN] = {"plain", CHAT_FAMILY_PLAIN, NULL},
    [CHAT_CHATML] = {"chatml", CHAT_FAMILY_CHATML, NULL},
    [CHAT_QWEN2] = {"qwen2", CHAT_FAMILY_CHATML, "You are a helpful assistant."},
    [CHAT_QWEN25] = {"qwen2.5", CHAT_FAMILY_CHATML,
                     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    [CHAT_QWEN25_MATH] = {"qwen2.5-math", CHAT_FAMILY_CHATML,
                          "Please reason step by step, and put your final answer within "
                          "\\boxed{}."},
    [CHAT_SMOLLM2] = {"smollm2", CHAT_FAMILY_CHATML,
                      "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    [CHAT_QWEN3] = {"qwen3", CHAT_FAMILY_CHATML, NULL},
    [CHAT_QWEN3_NO_THINK] = {"qwen3-no-think", CHAT_FAMILY_CHATML, NULL},
    [CHAT_QWEN3_THINKING] = {"qwen3-thinking", CHAT_FAMILY_CHATML, NULL},
    [CHAT_QWEN3_INSTRUCT] = {"qwen3-instruct", CHAT_FAMILY_CHATML, NULL},
    [CHAT_LLAMA3] = {"llama3", CHAT_FAMILY_LLAMA3, NULL},
    [CHAT_LLAMA31] = {"llama3.1", CHAT_FAMILY_LLAMA3, NULL},
    [CHAT_MISTRAL] = {"mistral", CHAT_FAMILY_MISTRAL, NULL},
    [CHAT_MISTRAL_TRIM] = {"mistral-trim", CHAT_FAMILY_MISTRAL, NULL},
    [CHAT_MISTRAL_V1] = {"mistral-v1", CHAT_FAMILY_MISTRAL, NULL},
    [CHAT_MISTRAL_TEKKEN] = {"mistral-tekken", CHAT_FAMILY_MISTRAL, NULL},
    [CHAT_DEEPSEEK_R1] = {"deepseek-r1", CHAT_FAMILY_DEEPSEEK, NULL},
    [CHAT_DEEPSEEK_R1_OPEN] = {"deepseek-r1-open", CHAT_FAMILY_DEEPSEEK, NULL},
};

const char *chat_name(enum chat_format f) {
    return chat_formats[f].name;
}

/* ChatML has no bos; DeepSeek's template writes its own. */
bool chat_wants_special(enum chat_format f) {
    return chat_formats[f].family != CHAT_FAMILY_CHATML &&
           chat_formats[f].family != CHAT_FAMILY_DEEPSEEK;
}

const char *chat_end_of_turn(enum chat_format f) {
    if (chat_formats[f].family == CHAT_FAMILY_CHATML) return "<|im_end|>";
    return chat_formats[f].family == CHAT_FAMILY_LLAMA3 ? "<|eot_id|>" : NULL;
}

/* Mistral's [INST] became a token with v3; before, it is letters in the model's own format too. */
const char *chat_token(enum chat_format f, size_t i) {
    static const char *const chatml[] = {"<|im_start|>", "<|im_end|>", NULL};
    static const char *const llama3[] = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                                         NULL};
    static const char *const mistral[] = {"[INST]", "[/INST]", "</s>", NULL};
    static const char *const deepseek[] = {CHAT_DEEPSEEK_BOS, CHAT_DEEPSEEK_USER,
                                           CHAT_DEEPSEEK_ASSISTANT, CHAT_DEEPSEEK_EOS, NULL};
    const char *const *list = NULL;
    switch (chat_formats[f].family) {
    case CHAT_FAMILY_PLAIN: return NULL;
    case CHAT_FAMILY_CHATML: list = chatml; break;
    case CHAT_FAMILY_LLAMA3: list = llama3; break;
    case CHAT_FAMILY_MISTRAL: list = f == CHAT_MISTRAL_V1 ? mistral + 2 : mistral; break;
    case CHAT_FAMILY_DEEPSEEK: list = deepseek; break;
    }
    size_t n = 0;
    while (list[n])
        n++;
    return i < n ? list[i] : NULL;
}

int chat_set_thinking(enum chat_format *f, bool thinking) {
    if (*f != CHAT_QWEN3 && *f != CHAT_QWEN3_NO_THINK)
        return FAIL(ERR_CONFIG,
                    "enable_thinking is no argument of the chat format %s: its template always "
                    "writes the same; qwen3's has it",
                    chat_name(*f));
    *f = thinking ? CHAT_QWEN3 : CHAT_QWEN3_NO_THINK;
    return 0;
}

/* --- Recognising a template ----------------------------------------------------------------- */

/* The template with the blanks of its statements gone, all strings in double quotes with line ends
 * written \n, and item access written as attributes. */
static void normalize_template(struct buf *out, const char *s, size_t n) {
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

static bool template_has(const struct buf *t, const char *part) {
    return strstr(t->data, part) != NULL;
}

static bool has_all(const struct buf *t, const char *const *parts) {
    for (; *parts; parts++)
        if (!template_has(t, *parts)) return false;
    return true;
}

static bool has_any(const struct buf *t, const char *const *parts) {
    for (; *parts; parts++)
        if (template_has(t, *parts)) return true;
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
            size_t n = chat_formats[f].system ? strlen(chat_formats[f].system) : 0;
            if (!n) continue;
            if (strncmp(p, chat_formats[f].system, n) == 0 &&
                strncmp(p + n, "<|im_end|>\\n\"", 13) == 0)
                break;
        }
        if (f < 0 || (found != CHAT_CHATML && found != f)) return -1;
        found = f;
    }
    return found;
}

/* ChatML and Qwen3's three kinds of it, which differ in what becomes of an earlier turn's thinking.
 * A template that does anything else with a message is none of them. */
static int recognise_chatml(const struct buf *t) {
    static const char *const turns[] = {
        "\"<|im_start|>\"+message.role+\"\\n\"+message.content+\"<|im_end|>\"+\"\\n\"",
        "\"<|im_start|>\"+message.role+\"\\n\"+message.content+\"<|im_end|>\\n\"",
        "\"<|im_start|>\"+message.role+\"\\n\"+content+\"<|im_end|>\"+\"\\n\"", NULL};
    static const char *const thinking[] = {
        "last_query_index=messages|length-1", "ifloop.index0>ns.last_query_index",
        "\"\\n<think>\\n\"+reasoning_content.strip(\"\\n\")+\"\\n</think>\\n\\n\"+content.lstrip("
        "\"\\n\")",
        NULL};
    static const char *const either[] = {
        "ifenable_thinkingisdefinedandenable_thinkingisfalse%}{{\"<think>\\n\\n</think>\\n\\n\"}}",
        "{{\"<|im_start|>assistant\\n\"}}", NULL};
    static const char *const other[] = {"think",      "|trim",   "bos_token",
                                        "<|im_sep|>", ".strip(", NULL};
    static const char last_keeps[] = "ifloop.lastor(notloop.lastandreasoning_content)";
    bool opens = template_has(t, "\"<|im_start|>assistant\\n<think>\\n\"}}");
    if (!has_any(t, turns) || (!opens && !template_has(t, "\"<|im_start|>assistant\\n\"}}")))
        return -1;
    if (!has_all(t, thinking)) return opens || has_any(t, other) ? -1 : chatml_format(t);
    if (chatml_format(t) != CHAT_CHATML) return -1;
    if (!template_has(t, last_keeps))
        return template_has(t, "%}{%ifreasoning_content%}") && !opens &&
                       !template_has(t, "enable_thinking")
                   ? CHAT_QWEN3_INSTRUCT
                   : -1;
    if (opens) return template_has(t, "enable_thinking") ? -1 : CHAT_QWEN3_THINKING;
    return has_all(t, either) ? CHAT_QWEN3 : -1;
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
    return template_has(t, "header_id|>system") || template_has(t, "Knowledge Date") ? -1
                                                                                     : CHAT_LLAMA3;
}

/* Mistral's four versions write the same words with a blank more or less; a system message, which
 * the later ones put into the last turn, tells the first from the others. */
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
    if (template_has(t, "[SYSTEM_PROMPT]") || template_has(t, "<<SYS>>")) return -1;
    if (has_all(t, v1)) return CHAT_MISTRAL_V1;
    if (!template_has(t, last)) return -1;
    if (has_all(t, tekken)) return CHAT_MISTRAL_TEKKEN;
    if (!has_all(t, v3)) return -1;
    if (template_has(t, "\" \"+message.content|trim+eos_token")) return CHAT_MISTRAL_TRIM;
    return template_has(t, "\" \"+message.content+eos_token") ? CHAT_MISTRAL : -1;
}

/* DeepSeek-R1 and its distilled models: first without, later with the opening of the thinking. */
static int recognise_deepseek(const struct buf *t) {
    static const char *const parts[] = {
        "ifmessage.role==\"system\"%}{%setns.system_prompt=message.content%}",
        "{{bos_token}}{{ns.system_prompt}}",
        "{{\"" CHAT_DEEPSEEK_USER "\"+message.content}}",
        "if\"</think>\"incontent%}{%setcontent=content.split(\"</think>\")[-1]%}",
        "{{\"" CHAT_DEEPSEEK_ASSISTANT "\"+content+\"" CHAT_DEEPSEEK_EOS "\"}}",
        NULL};
    static const char *const other[] = {"is_first_sp", "enable_thinking", "thinking", "|trim",
                                        NULL};
    if (!has_all(t, parts) || has_any(t, other)) return -1;
    if (template_has(t, "{{\"" CHAT_DEEPSEEK_ASSISTANT "<think>\\n\"}}")) return CHAT_DEEPSEEK_R1;
    return template_has(t, "{{\"" CHAT_DEEPSEEK_ASSISTANT "\"}}") ? CHAT_DEEPSEEK_R1_OPEN : -1;
}

static void list_names(struct buf *out) {
    for (int f = 0; f < CHAT_FORMATS; f++)
        buf_printf(out, "%s%s", f ? ", " : "", chat_formats[f].name);
}

int chat_recognise(enum chat_format *out, const char *jinja, size_t n, const char *where) {
    struct buf t = {0}, names = {0};
    normalize_template(&t, jinja, n);
    buf_add(&t, "", 0);
    replace_all(&t, "[\"role\"]", ".role");
    replace_all(&t, "[\"content\"]", ".content");
    int f = recognise_chatml(&t);
    if (f < 0) f = recognise_llama3(&t);
    if (f < 0) f = recognise_mistral(&t);
    if (f < 0) f = recognise_deepseek(&t);
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

/* The folder's own template decides: the file, else the one in tokenizer_config.json; none: plain.
 */
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
        if (strcmp(name, chat_formats[f].name) == 0) {
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
