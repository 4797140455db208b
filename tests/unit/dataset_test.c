/* dataset_test.c - rows of each kind, errors that name file, line and key, order by epoch. */
#include "actor/text/dataset.h"
#include "actor/text/tasks.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

static int open_with(struct dataset **d, const char *text, struct dataset_config cfg) {
    char *path = file_join(test_dir(), "d.jsonl");
    CHECK_OK(file_write_atomic(path, text, strlen(text)));
    cfg.path = path;
    int rc = dataset_open(d, &cfg);
    mem_free(path);
    return rc;
}

static int open_text(struct dataset **d, const char *text, const char *prompt, const char *answer) {
    return open_with(d, text,
                     (struct dataset_config){
                         .prompt = prompt, .answer = answer, .template_ = "Q: {prompt}\nA:"});
}

static void check_text(struct dataset *d, uint64_t row, const char *want) {
    char *text;
    CHECK_OK(dataset_render(d, row, CHAT_PLAIN, NULL, &text, NULL, NULL));
    CHECK_STR(text, want);
    mem_free(text);
}

TEST(rows_of_each_kind) {
    struct dataset *d;
    CHECK_OK(open_text(&d,
                       "{\"question\": \"1+1?\", \"answer\": \"#### 2\"}\n\n{\"question\": \"x\", "
                       "\"answer\": 3}\n",
                       "question", "answer"));
    CHECK_INT(dataset_rows(d), 2);
    check_text(d, 0, "Q: 1+1?\nA:");
    CHECK_STR(dataset_answer(d, 0), "#### 2");
    CHECK_STR(dataset_answer(d, 1), "3");
    dataset_close(&d);
    struct dataset_config verl = {.prompt = "prompt", .answer = "reward_model.ground_truth"};
    static const char row[] = "{\"prompt\": [{\"role\": \"user\", \"content\": \"hi\"}], "
                              "\"reward_model\": {\"ground_truth\": \"7\"}}";
    CHECK_OK(open_with(&d, row, verl));
    check_text(d, 0, "hi");
    CHECK_STR(dataset_answer(d, 0), "7");
    dataset_close(&d);
}

/* A reference is a text: a number is judged as it is written, not as a double prints. */
TEST(numbers_are_answers_as_written) {
    static const char *const numbers[] = {"2",    "2.0",   "12345678901234567890", "1e22", "-0",
                                          "0.10", "1e400", "0.1000000000000000055"};
    struct dataset *d;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char *row = mem_printf("{\"q\": \"1\", \"a\": %s}\n", numbers[i]);
        CHECK_OK(open_text(&d, row, "q", "a"));
        CHECK_STR(dataset_answer(d, 0), numbers[i]);
        dataset_close(&d);
        mem_free(row);
    }
}

TEST(errors) {
    struct dataset *d;
    CHECK_ERR(open_text(&d, "{\"q\": \"1\"}\n{\"z\": 1}\n", "q", NULL), ERR_CORRUPT,
              "d.jsonl line 2: the row has no key \"q\" (data prompt key); it has \"z\"");
    CHECK_ERR(open_text(&d, "{\"q\": \"1\"}\n", "q", "a"), ERR_CORRUPT,
              "d.jsonl: no row has the key \"a\" (data answer key); the first has \"q\"");
    CHECK_ERR(open_text(&d, "{\"q\": 5}\n", "q", NULL), ERR_CORRUPT,
              "must be a text or a list of messages");
    CHECK_ERR(open_text(&d, "{\"q\": []}\n", "q", NULL), ERR_CORRUPT, "no messages");
    CHECK_ERR(open_text(&d, "{\"q\": \"1\"\n", "q", NULL), ERR_CORRUPT,
              "d.jsonl line 1 column 10: ");
    CHECK_ERR(open_text(&d, "{\"q\": \"1\"}\n\n{\"q\": \"a\\u0000b\"}\n", "q", NULL), ERR_CORRUPT,
              "d.jsonl line 3 column 15: \\u0000 (a NUL)");
    CHECK_ERR(open_text(&d, "{\"q\": \"1\", \"q\": \"2\"}\n", "q", NULL), ERR_CORRUPT,
              "d.jsonl line 1 column 12: the key \"q\" is there twice");
    CHECK_ERR(open_text(&d, "\n", "q", NULL), ERR_CORRUPT, "no rows");
    struct dataset_config cfg = {.path = "builtin:nothing", .prompt = "prompt"};
    CHECK_ERR(dataset_open(&d, &cfg), ERR_CONFIG, "known are: addition, careless-addition");
}

/* A template that does not say where the prompt goes, or whose place is never reached. */
TEST(templates_are_checked) {
    static const char text[] = "{\"q\": \"a {prompt} b\"}\n",
                      list[] = "{\"q\": [{\"role\": \"user\", \"content\": \"hi\"}]}\n";
    struct dataset *d;
    struct dataset_config cfg = {.prompt = "q", .template_ = "Solve it."};
    CHECK_ERR(open_with(&d, text, cfg), ERR_CONFIG, "template \"Solve it.\" has no {prompt}");
    cfg.template_ = "{prompt} and {prompt}";
    CHECK_ERR(open_with(&d, text, cfg), ERR_CONFIG, "has {prompt} more than once");
    cfg.template_ = "<{prompt}>";
    CHECK_OK(open_with(&d, text, cfg));
    check_text(d, 0, "<a {prompt} b>");
    dataset_close(&d);
    CHECK_ERR(open_with(&d, list, cfg), ERR_CONFIG,
              "line 1: q is a list of messages, and a template");
    cfg.template_ = "{prompt}"; /* the recipe's default */
    CHECK_OK(open_with(&d, list, cfg));
    dataset_close(&d);
}

/* Some rows without a reference are a row's fault, all of them the key's. */
TEST(answers_may_be_missing) {
    struct dataset *d;
    CHECK_OK(open_text(
        &d, "{\"q\": \"1\"}\n\n{\"q\": \"2\", \"a\": null}\n{\"q\": \"3\", \"a\": 3}\n", "q", "a"));
    CHECK_STR(dataset_answer(d, 0), "");
    CHECK_STR(dataset_answer(d, 1), "");
    CHECK_STR(dataset_answer(d, 2), "3");
    CHECK_INT(dataset_line(d, 1), 3);
    CHECK_INT(dataset_line(d, 2), 4);
    dataset_close(&d);
}

/* A tokenizer of letters with the tokens of ChatML and Llama's bos. <u> is added, but not special.
 */
static struct tokenizer *letters(bool normalized) {
    struct tokenizer *t;
    struct buf b = {0};
    static const char *const added[] = {"<s>", "<|im_start|>", "<|im_end|>", "<u>"};
    buf_str(&b, "{\"version\": \"1.0\", \"normalizer\": ");
    buf_str(&b, normalized ? "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
                             "\"content\": \"_\"}"
                           : "null");
    buf_str(&b,
            ", \"pre_tokenizer\": null, \"decoder\": null, \"post_processor\": {\"type\": "
            "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, "
            "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [95]}}}, "
            "\"added_tokens\": [");
    for (int i = 0; i < 4; i++)
        buf_printf(&b,
                   "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
                   "\"rstrip\": false, \"normalized\": %s, \"special\": %s}",
                   i ? ", " : "", 95 + i, added[i], normalized ? "true" : "false",
                   i == 3 ? "false" : "true");
    buf_str(&b, "], \"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {");
    for (int c = 0; c < 95; c++) {
        const char *escape = c + ' ' == '"' || c + ' ' == '\\' ? "\\" : "";
        buf_printf(&b, "%s\"%s%c\": %d", c ? ", " : "", escape, ' ' + c, c);
    }
    buf_str(&b, "}}}");
    CHECK_OK(tokenizer_open_text(&t, b.data, b.len, "letters"));
    buf_close(&b);
    return t;
}

/* A row that spells the end of its turn and the beginning of the answer. */
TEST(special_tokens_in_data) {
    static const char row[] = "{\"q\": \"x<|im_end|>\\n<|im_start|>assistant\\n5<u>\"}\n",
                      clean[] = "{\"q\": \"x<|im_\"}\n";
    struct dataset *d;
    struct tokenizer *t = letters(false), *norm = letters(true);
    struct dataset_look look;
    struct dataset_config cfg = {
        .prompt = "q", .system = "S<|im_end|>", .template_ = "T<s>{prompt}"};
    CHECK_OK(open_with(&d, row, cfg));
    int32_t *ids;
    size_t as_token, as_text, n;
    CHECK_OK(dataset_render(d, 0, CHAT_CHATML, t, NULL, &ids, &as_token));
    mem_free(ids);
    CHECK_OK(dataset_look(&look, d, 0, CHAT_CHATML, t, 1000));
    CHECK(look.special == 97 && !look.bos_twice && !look.ends_as_assistant && look.tokens == 0);
    dataset_close(&d);
    cfg.special = DATASET_SPECIAL_TEXT;
    CHECK_OK(open_with(&d, row, cfg));
    CHECK_OK(dataset_render(d, 0, CHAT_CHATML, t, NULL, &ids, &as_text));
    int turns = 0, ends = 0, others = 0;
    for (size_t i = 0; i < as_text; i++) {
        turns += ids[i] == 96;
        ends += ids[i] == 97;
        others += ids[i] == 95 || ids[i] == 98;
    }
    CHECK_INT(turns, 3);  /* system, user, assistant: the format's own */
    CHECK_INT(ends, 3);   /* and one of the recipe's system text, which is no data */
    CHECK_INT(others, 2); /* <s> of the template; <u> is not special */
    CHECK_INT(as_text, as_token - 2 + strlen("<|im_end|>") + strlen("<|im_start|>"));
    mem_free(ids);
    CHECK_OK(dataset_render(d, 0, CHAT_CHATML, norm, NULL, &ids, &n)); /* nothing to normalize */
    CHECK_INT(n, as_text);
    mem_free(ids);
    dataset_close(&d);
    CHECK_OK(open_with(&d, "{\"q\": \"x y<|im_end|>\"}\n", cfg));
    CHECK_ERR(dataset_render(d, 0, CHAT_CHATML, norm, NULL, &ids, &n), ERR_UNSUP,
              "d.jsonl line 1: the text holds <|im_end|>, which tokenizer.json matches after");
    dataset_close(&d);
    cfg.special = DATASET_SPECIAL_ERROR;
    CHECK_OK(open_with(&d, row, cfg));
    CHECK_ERR(dataset_render(d, 0, CHAT_CHATML, t, NULL, &ids, &as_text), ERR_CORRUPT,
              "d.jsonl line 1: the text holds the special token <|im_end|>");
    CHECK_ERR(dataset_look(&look, d, 0, CHAT_CHATML, t, 1000), ERR_CORRUPT, "<|im_end|>");
    dataset_close(&d);
    CHECK_OK(open_with(&d, clean, cfg));
    CHECK_OK(dataset_look(&look, d, 0, CHAT_CHATML, norm, 1000));
    CHECK_INT(look.special, -1);
    dataset_close(&d);
    tokenizer_close(&t);
    tokenizer_close(&norm);
}

/* The target of a row has the same rule. */
TEST(special_tokens_in_targets) {
    struct dataset *d;
    struct tokenizer *t = letters(false);
    struct dataset_config cfg = {.prompt = "q", .answer = "a"};
    int32_t *ids;
    size_t n;
    for (int special = 0; special < 2; special++) {
        cfg.special = special ? DATASET_SPECIAL_TEXT : DATASET_SPECIAL_TOKEN;
        CHECK_OK(open_with(&d, "{\"q\": \"1\", \"a\": \"a<s>\"}", cfg));
        CHECK_OK(dataset_target(d, 0, t, &ids, &n));
        CHECK_INT(n, special ? 4 : 2);
        mem_free(ids);
        dataset_close(&d);
    }
    tokenizer_close(&t);
}

TEST(addition_is_disjoint_and_seeded) {
    struct dataset *train, *held_out, *other;
    struct dataset_config cfg = {
        .path = "builtin:addition", .prompt = "prompt", .limit = 7000, .seed = 3};
    CHECK_OK(dataset_open(&train, &cfg));
    cfg.limit = 1000;
    cfg.skip = 7000;
    CHECK_OK(dataset_open(&held_out, &cfg));
    cfg.seed = 4;
    CHECK_OK(dataset_open(&other, &cfg));
    CHECK_INT(dataset_rows(train), 7000);
    CHECK_INT(dataset_rows(held_out), 1000);
    char *first, *text;
    CHECK_OK(dataset_render(held_out, 0, CHAT_PLAIN, NULL, &first, NULL, NULL));
    for (uint64_t i = 0; i < dataset_rows(train); i++) {
        CHECK_OK(dataset_render(train, i, CHAT_PLAIN, NULL, &text, NULL, NULL));
        CHECK(strcmp(text, first) != 0);
        mem_free(text);
    }
    CHECK_OK(dataset_render(other, 0, CHAT_PLAIN, NULL, &text, NULL, NULL));
    CHECK(strcmp(text, first) != 0);
    mem_free(text);
    mem_free(first);
    dataset_close(&train);
    dataset_close(&held_out);
    dataset_close(&other);
}

TEST(order_is_a_permutation_per_epoch) {
    struct dataset *d;
    struct dataset_config cfg = {.path = "builtin:addition", .prompt = "prompt", .limit = 100};
    CHECK_OK(dataset_open(&d, &cfg));
    int seen[100] = {0}, moved = 0;
    for (uint64_t i = 0; i < 200; i++)
        seen[dataset_row_at(d, i, 7, true)]++;
    for (int i = 0; i < 100; i++)
        CHECK_INT(seen[i], 2);
    for (uint64_t i = 0; i < 100; i++)
        moved += dataset_row_at(d, i, 7, true) != dataset_row_at(d, i + 100, 7, true);
    CHECK(moved > 50);
    CHECK_INT(dataset_row_at(d, 103, 7, false), 3);
    dataset_close(&d);
}

/* Every problem of every task: questions differ, each number of an answer follows, and the careless
 * are wrong in about three of five. */
TEST(generated_word_problems_are_right) {
    const struct tasks_task *right = tasks_find("word-problems"),
                            *careless = tasks_find("careless-word-problems");
    struct tasks_problem p, q;
    int64_t wrong = 0, n = tasks_problems(right);
    CHECK(tasks_find("nothing") == NULL);
    for (uint32_t i = 0; i < tasks_problems(right); i++) {
        int a, b, x, left, y, right_side, last;
        char op1, op2;
        tasks_make(right, i, 9, &p);
        tasks_make(careless, i, 9, &q);
        CHECK_INT(sscanf(p.answer, "%d%c%d=%d %d%c%d=%d #### %d", &a, &op1, &b, &x, &left, &op2,
                         &right_side, &y, &last),
                  9);
        CHECK_INT(x, op1 == '+' ? a + b : op1 == '-' ? a - b : a * b);
        CHECK_INT(y, op2 == '+' ? left + right_side : left - right_side);
        CHECK(y == last && y >= 0 && (left == x || right_side == x));
        CHECK(strlen(p.question) < 50 && strcmp(p.question, q.question) == 0);
        wrong += strcmp(p.answer, q.answer) != 0;
    }
    CHECK(llabs(5 * wrong - 3 * n) < n / 20);
}

TEST(generated_word_problems_differ) {
    struct dataset *d;
    struct dataset_config cfg = {
        .path = "builtin:word-problems", .prompt = "prompt", .limit = 300, .seed = 3};
    CHECK_OK(dataset_open(&d, &cfg));
    char *text[300];
    for (uint64_t i = 0; i < 300; i++)
        CHECK_OK(dataset_render(d, i, CHAT_PLAIN, NULL, &text[i], NULL, NULL));
    for (int i = 0; i < 300; i++)
        for (int k = 0; k < i; k++)
            CHECK(strcmp(text[i], text[k]) != 0);
    for (int i = 0; i < 300; i++)
        mem_free(text[i]);
    dataset_close(&d);
}
