/* answer_tables_test.c - where in a response the final answer stands: tables of responses in
 * tests/data, each with the reference answer and the right value. The first line of a table names
 * the verifier; \\n in a response is a newline. */
#include "base/file.h"
#include "base/mem.h"
#include "reward/verify/verify.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

/* In place. */
static void unescape(char *s) {
    for (char *p; (p = strstr(s, "\\\\n")) != NULL; s = p + 1) {
        *p = '\n';
        memmove(p + 1, p + 3, strlen(p + 3) + 1);
    }
}

static void judge(const struct verify *v, const char *path, int line, char *response, char *answer,
                  int wanted) {
    struct verify_result r;
    unescape(response);
    verify_run(v, &(struct verify_input){.response = response, .answer = answer}, &r);
    int got = r.error ? r.error : (int)r.total;
    if (got != wanted)
        test_fail(__FILE__, __LINE__, "%s:%d: \"%s\" / \"%s\": %d, wanted %d: %s", path, line,
                  response, answer, got, wanted, r.reason);
}

static void run_table(const char *path, const char *type) {
    struct verify *v = NULL;
    char *data = NULL, *rest = NULL;
    size_t bytes;
    int line = 0, rows = 0;
    CHECK_OK(verify_open(&v, &(struct verify_spec){.type = type, .weight = 1}, 1));
    CHECK_OK(file_read(&data, &bytes, path, 1 << 20));
    for (char *row = strtok_r(data, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest)) {
        line++;
        if (*row == '#' && row[1] == ' ') continue; /* #### is a response */
        char *answer = strchr(row, '\t'), *value = answer ? strchr(answer + 1, '\t') : NULL;
        CHECK(value != NULL);
        *answer++ = 0;
        *value++ = 0;
        judge(v, path, line, row, answer, atoi(value));
        rows++;
    }
    CHECK(rows > 3);
    mem_free(data);
    verify_close(&v);
}

TEST(answer_tables_reasoning) {
    run_table("tests/data/reasoning.tsv", "math");
}

TEST(answer_tables_without_a_box) {
    run_table("tests/data/answers.tsv", "math");
}

TEST(answer_tables_choices) {
    run_table("tests/data/choices.tsv", "choice");
}

TEST(answer_tables_marks) {
    run_table("tests/data/marks.tsv", "gsm8k");
}
