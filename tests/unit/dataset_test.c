/* dataset_test.c - rows of each kind, errors that name file, line and key, order by epoch. */
#include "actor/dataset.h"
#include "actor/tasks.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

static int open_text(struct dataset **d, const char *text, const char *prompt, const char *answer) {
    char *path = file_join(test_dir(), "d.jsonl");
    CHECK_OK(file_write_atomic(path, text, strlen(text)));
    struct dataset_config cfg = {
        .path = path, .prompt = prompt, .answer = answer, .template_ = "Q: {prompt}\nA:"};
    int rc = dataset_open(d, &cfg);
    mem_free(path);
    return rc;
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
    CHECK_OK(open_text(&d,
                       "{\"prompt\": [{\"role\": \"user\", \"content\": \"hi\"}], "
                       "\"reward_model\": {\"ground_truth\": \"7\"}}",
                       "prompt", "reward_model.ground_truth"));
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
              "d.jsonl line 2: the row has no key \"q\"");
    CHECK_ERR(open_text(&d, "{\"q\": \"1\"}\n", "q", "a"), ERR_CORRUPT, "no key \"a\"");
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
