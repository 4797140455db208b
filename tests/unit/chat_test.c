/* chat_test.c - each format against the text that its released template renders, and templates
 * recognised by what they do, however they are written. The expected texts were checked once
 * against the reference's renderer on random conversations. */
#include "actor/chat.h"
#include "base/file.h"
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
    buf_str(&b, "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"},"
                "{\"name\": \"default\", \"template\": ");
    buf_json_str(&b, chatml, sizeof chatml - 1);
    buf_str(&b, "}]}");
    CHECK_OK(file_write_atomic(config, b.data, b.len));
    CHECK_OK(chat_choose(&f, "auto", test_dir()));
    CHECK_INT(f, CHAT_CHATML);
    CHECK_OK(file_write_atomic(jinja, "{{ messages }}", 14));
    CHECK_ERR(chat_choose(&f, "auto", test_dir()), ERR_UNSUP, "chat_template.jinja");
    buf_close(&b);
    mem_free(config);
    mem_free(jinja);
}
