/* chat_test.c - each format against the text that its released template renders, and templates
 * recognised by what they do, however they are written. The expected texts were checked once
 * against the reference's renderer on random conversations. */
#include "actor/text/chat.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "tests/test.h"

#define SYSTEM                                                                                     \
    { "system", "Be brief." }
#define USER                                                                                       \
    { "user", " Hi\n" }
#define ASSISTANT                                                                                  \
    { "assistant", "<think>\nhm\n</think>\n\nHello " }
#define AGAIN                                                                                      \
    { "user", "Bye" }

static void check(const char *name, const struct chat_message *m, size_t n, bool generate,
                  const char *want) {
    struct buf b = {0};
    enum chat_format f;
    CHECK_OK(chat_choose(&f, name, "."));
    CHECK_OK(chat_render(&b, f, m, n, generate));
    CHECK_STR(b.data, want);
    buf_close(&b);
}

TEST(chatml_family) {
    struct chat_message m[] = {SYSTEM, USER, ASSISTANT, AGAIN};
    check("qwen", m, 4, true,
          "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"
          "<|im_start|>assistant\n<think>\nhm\n</think>\n\nHello <|im_end|>\n"
          "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
    check("qwen3", m, 4, true,
          "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"
          "<|im_start|>assistant\nHello <|im_end|>\n"
          "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
    check("qwen3", m + 1, 2, false,
          "<|im_start|>user\n Hi\n<|im_end|>\n"
          "<|im_start|>assistant\n<think>\nhm\n</think>\n\nHello <|im_end|>\n");
    check("chatml", m + 3, 1, false, "<|im_start|>user\nBye<|im_end|>\n");
    check("qwen2.5", m + 3, 1, true,
          "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
          "<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
}

TEST(llama3_family) {
    struct chat_message m[] = {SYSTEM, USER, {"assistant", "\tHello "}, AGAIN};
    check("llama3", m, 4, true,
          "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
          "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
          "<|start_header_id|>assistant<|end_header_id|>\n\n");
    check("llama3.1", m + 3, 1, false,
          "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
          "Today Date: 26 Jul 2024\n\n<|eot_id|>"
          "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>");
}

TEST(mistral_family) {
    struct chat_message m[] = {SYSTEM, USER, {"assistant", " Hello"}, AGAIN};
    check("mistral", m, 4, true, "[INST]  Hi\n[/INST]  Hello</s>[INST] Be brief.\n\nBye[/INST]");
    check("mistral-trim", m + 1, 2, false, "[INST]  Hi\n[/INST] Hello</s>");
    check("mistral-v1", m, 4, true,
          " [INST] Be brief.\n\n Hi\n [/INST]  Hello</s> [INST] Bye [/INST]");
    check("mistral-tekken", m, 4, true,
          "[INST] Hi\n[/INST] Hello</s>[INST]Be brief.\n\nBye[/INST]");
    struct buf b = {0};
    CHECK_ERR(chat_render(&b, CHAT_MISTRAL, m + 2, 2, true), ERR_CONFIG, "message 0 has the role");
    buf_close(&b);
}

/* Of Qwen3's templates: with enable_thinking: false an empty thinking is closed in the prompt,
 * Thinking-2507 opens one, Instruct-2507 keeps only what is there. */
TEST(qwen3_templates) {
    struct chat_message m[] = {AGAIN, {"assistant", "yes"}};
    check("qwen3", m, 1, true, "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
    check("qwen3-no-think", m, 1, true,
          "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    check("qwen3-thinking", m, 1, true,
          "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\n");
    check("qwen3-thinking", m, 2, false,
          "<|im_start|>user\nBye<|im_end|>\n"
          "<|im_start|>assistant\n<think>\n\n</think>\n\nyes<|im_end|>\n");
    check("qwen3-instruct", m, 2, false,
          "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n");
    enum chat_format f = CHAT_QWEN3, other = CHAT_LLAMA3;
    CHECK_OK(chat_set_thinking(&f, false));
    CHECK_INT(f, CHAT_QWEN3_NO_THINK);
    CHECK_OK(chat_set_thinking(&f, true));
    CHECK_INT(f, CHAT_QWEN3);
    CHECK_ERR(chat_set_thinking(&other, true), ERR_CONFIG, "no argument of the chat format llama3");
}

#define BOS                                                                                        \
    "<\xEF\xBD\x9C"                                                                                \
    "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"
#define EOS                                                                                        \
    "<\xEF\xBD\x9C"                                                                                \
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"
#define DS_USER "<\xEF\xBD\x9CUser\xEF\xBD\x9C>"
#define DS_ASSISTANT                                                                               \
    "<\xEF\xBD\x9C"                                                                                \
    "Assistant\xEF\xBD\x9C>"

/* bos is part of the text; of several system messages the last one stands, in front. */
TEST(deepseek_family) {
    struct chat_message m[] = {SYSTEM, USER, ASSISTANT, AGAIN, {"system", "Late."}};
    check("deepseek-r1", m, 4, true,
          BOS "Be brief." DS_USER " Hi\n" DS_ASSISTANT "\n\nHello " EOS DS_USER "Bye" DS_ASSISTANT
              "<think>\n");
    check("deepseek-r1-open", m + 3, 2, true, BOS "Late." DS_USER "Bye" DS_ASSISTANT);
    check("deepseek-r1", m + 1, 2, false, BOS DS_USER " Hi\n" DS_ASSISTANT "\n\nHello " EOS);
    CHECK(!chat_wants_special(CHAT_DEEPSEEK_R1) && !chat_end_of_turn(CHAT_DEEPSEEK_R1));
    CHECK_STR(chat_token(CHAT_DEEPSEEK_R1, 1), DS_USER);
    CHECK(!chat_token(CHAT_DEEPSEEK_R1, 4) && !chat_token(CHAT_PLAIN, 0));
    CHECK_STR(chat_token(CHAT_MISTRAL, 0), "[INST]");
    CHECK_STR(chat_token(CHAT_MISTRAL_V1, 0), "</s>"); /* there, [INST] is letters */
}

/* Marks say where the words of the messages stand, whatever the format cuts off them. */
TEST(marks_are_where_the_contents_are) {
    struct chat_message m[] = {SYSTEM, USER, ASSISTANT, AGAIN};
    for (int f = 0; f < CHAT_FORMATS; f++) {
        struct buf b = {0};
        struct chat_marks marks = {0};
        size_t seen = 0;
        CHECK_OK(chat_render_marked(&b, (enum chat_format)f, m, 4, true, &marks));
        CHECK(marks.n >= 4);
        for (size_t i = 0; i < marks.n; i++) {
            const struct chat_mark *k = &marks.v[i];
            CHECK(k->start < k->end && (i == 0 || k->start >= marks.v[i - 1].end));
            CHECK(memcmp(b.data + k->start, k->from, k->end - k->start) == 0);
            for (int j = 0; j < 4; j++)
                if (k->from >= m[j].content && k->from < m[j].content + strlen(m[j].content))
                    seen |= 1u << j;
        }
        CHECK_INT(seen, 15);
        buf_close(&b);
        mem_free(marks.v);
    }
}

TEST(plain_and_errors) {
    struct chat_message m[] = {SYSTEM, AGAIN, {"tool", "x"}};
    struct buf b = {0};
    enum chat_format f;
    check("plain", m, 2, true, "Be brief.\n\nBye");
    CHECK_ERR(chat_render(&b, CHAT_CHATML, m, 3, true), ERR_CONFIG, "\"tool\"");
    CHECK_ERR(chat_render(&b, CHAT_CHATML, m, 0, true), ERR_CONFIG, "at least one");
    CHECK_ERR(chat_choose(&f, "gemma", "."), ERR_CONFIG, "llama3.1");
    CHECK(!chat_end_of_turn(CHAT_MISTRAL) && !chat_end_of_turn(CHAT_PLAIN));
    CHECK_STR(chat_end_of_turn(CHAT_QWEN3), "<|im_end|>");
    CHECK_STR(chat_end_of_turn(CHAT_LLAMA31), "<|eot_id|>");
    CHECK(chat_wants_special(CHAT_LLAMA3) && !chat_wants_special(CHAT_QWEN25));
}

static const char chatml[] =
    "{%- for m in messages %}{{- '<|im_start|>' + message['role'] + '\n' + message.content +\n"
    "  \"<|im_end|>\" + '\\n' -}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}";

TEST(templates_are_recognised) {
    enum chat_format f;
    CHECK_OK(chat_recognise(&f, chatml, sizeof chatml - 1, "T"));
    CHECK_INT(f, CHAT_CHATML);
    char *with =
        mem_printf("{{'<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'}}%s", chatml);
    CHECK_OK(chat_recognise(&f, with, strlen(with), "T"));
    CHECK_INT(f, CHAT_QWEN2);
    mem_free(with);
    static const char *const unknown[] = {
        "{{'<|im_start|>system\nYou are somebody.<|im_end|>\n'}}%s", "{{ bos_token }}%s",
        "{%% if enable_thinking %%}{%% endif %%}%s"};
    for (size_t i = 0; i < 3; i++) {
        struct buf b = {0};
        const char *hole = strstr(unknown[i], "%s");
        buf_add(&b, unknown[i], (size_t)(hole - unknown[i]));
        buf_str(&b, chatml);
        CHECK_ERR(chat_recognise(&f, b.data, b.len, "T"), ERR_UNSUP, "plain, chatml");
        buf_close(&b);
    }
    static const char llama[] =
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content']"
        " | trim + '<|eot_id|>' }}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}";
    CHECK_OK(chat_recognise(&f, llama, sizeof llama - 1, "T"));
    CHECK_INT(f, CHAT_LLAMA3);
    CHECK_ERR(chat_recognise(&f, "", 0, "T"), ERR_UNSUP, "T: ");
}

/* What of a template decides, in the order in which it does; a template with another part in one
 * place is another format, or none. */
TEST(reasoning_templates_are_recognised) {
    static const char history[] =
        "{% set ns = namespace(last_query_index=messages|length - 1) %}"
        "{{ '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}"
        "{% if loop.index0 > ns.last_query_index %}%s"
        "{{ '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + "
        "content.lstrip('\n') }}{% endif %}%s";
    static const char both[] = "{% if loop.last or (not loop.last and reasoning_content) %}";
    static const char only[] = "{% if reasoning_content %}";
    static const char plain[] = "{{ '<|im_start|>assistant\n' }}";
    static const char kwarg[] = "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined "
                                "and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}";
    static const char opened[] = "{{ '<|im_start|>assistant\n<think>\n' }}";
    static const struct {
        const char *keeps, *end;
        int want;
    } cases[] = {{both, kwarg, CHAT_QWEN3},
                 {both, opened, CHAT_QWEN3_THINKING},
                 {only, plain, CHAT_QWEN3_INSTRUCT},
                 {both, plain, -1},
                 {only, kwarg, -1},
                 {only, opened, -1}};
    enum chat_format f;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *one = strstr(history, "%s"), *two = strstr(one + 1, "%s");
        char *t = mem_printf("%.*s%s%.*s%s", (int)(one - history), history, cases[i].keeps,
                             (int)(two - one - 2), one + 2, cases[i].end);
        int rc = chat_recognise(&f, t, strlen(t), "T");
        CHECK_INT(rc < 0 ? -1 : (int)f, cases[i].want);
        mem_free(t);
    }
    static const char deepseek[] =
        "{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}"
        "{{bos_token}}{{ns.system_prompt}}{{'" DS_USER "' + message['content']}}"
        "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}"
        "{{'" DS_ASSISTANT "' + content + '" EOS "'}}{{'" DS_ASSISTANT "%s'}}";
    static const char *const ends[] = {"<think>\\n", "", "<think>"};
    static const int want[] = {CHAT_DEEPSEEK_R1, CHAT_DEEPSEEK_R1_OPEN, -1};
    for (size_t i = 0; i < 3; i++) {
        const char *hole = strstr(deepseek, "%s");
        char *t = mem_printf("%.*s%s%s", (int)(hole - deepseek), deepseek, ends[i], hole + 2);
        int rc = chat_recognise(&f, t, strlen(t), "T");
        CHECK_INT(rc < 0 ? -1 : (int)f, want[i]);
        mem_free(t);
    }
}

/* chat_template.jinja wins over tokenizer_config.json; neither means plain. */
TEST(auto_reads_the_folder) {
    enum chat_format f;
    char *config = file_join(test_dir(), "tokenizer_config.json");
    char *jinja = file_join(test_dir(), "chat_template.jinja");
    CHECK_OK(chat_choose(&f, "auto", test_dir()));
    CHECK_INT(f, CHAT_PLAIN);
    CHECK_OK(file_write_atomic(config, "{\"bos_token\": null}", 19));
    CHECK_OK(chat_choose(&f, "auto", test_dir()));
    CHECK_INT(f, CHAT_PLAIN);
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_LINE);
    json_write_object(&w, NULL);
    json_write_array(&w, "chat_template");
    json_write_object(&w, NULL);
    json_write_str(&w, "name", "tool_use");
    json_write_str(&w, "template", "x");
    json_write_end(&w);
    json_write_object(&w, NULL);
    json_write_str(&w, "name", "default");
    json_write_str(&w, "template", chatml);
    json_write_end(&w);
    json_write_end(&w);
    json_write_end(&w);
    CHECK_OK(file_write_atomic(config, b.data, b.len));
    CHECK_OK(chat_choose(&f, "auto", test_dir()));
    CHECK_INT(f, CHAT_CHATML);
    CHECK_OK(file_write_atomic(jinja, "{{ messages }}", 14));
    CHECK_ERR(chat_choose(&f, "auto", test_dir()), ERR_UNSUP, "chat_template.jinja");
    buf_close(&b);
    mem_free(config);
    mem_free(jinja);
}
