/* compare_test.c - malformed and odd metrics files are errors that name the line, or are read as
 * far as they are whole. What is printed: tests/e2e/retrain.sh. */
#include "base/file.h"
#include "base/mem.h"
#include "deploy/replay/compare.h"
#include "tests/test.h"

static char *run_with(const char *name, const char *metrics) {
    char *dir = file_join(test_dir(), name), *path = file_join(dir, "metrics.jsonl");
    CHECK_OK(file_mkdirs(dir));
    CHECK_OK(file_write_atomic(path, metrics, strlen(metrics)));
    mem_free(path);
    return dir;
}

static int compare_one(const char *metrics, const char *metric) {
    char *a = run_with("a", "{\"step\": 0, \"x/loss\": 1.5}\n"), *b = run_with("b", metrics);
    struct compare c = {.metric = {metric}, .n_metrics = metric ? 1 : 0, .json = true};
    CHECK_OK(compare_add(&c, a));
    CHECK_OK(compare_add(&c, b));
    int rc = compare_print(&c);
    mem_free(a);
    mem_free(b);
    return rc;
}

TEST(reads_what_is_whole) {
    CHECK_OK(compare_one("{\"step\": 3, \"x/loss\": 2}\n{\"eval/version\": 0, \"x/loss\": true}\n"
                         "{\"step\": 4, \"x/lo",
                         "x/loss"));
    CHECK_OK(compare_one("", "x/loss"));
    CHECK_OK(compare_one("{\"step\": 1, \"x/loss\": \"text\"}\n", "x/loss"));
}

TEST(names_what_is_wrong) {
    CHECK_ERR(compare_one("{\"step\": 3}\n{\"step\": \n", "x/loss"), ERR_CORRUPT, "line 2");
    CHECK_ERR(compare_one("{\"x/loss\": 3}\n", "x/loss"), ERR_CORRUPT, "neither \"step\"");
    CHECK_ERR(compare_one("[1]\n", "x/loss"), ERR_CORRUPT, "neither \"step\"");
    CHECK_ERR(compare_one("{\"step\": -1}\n", "x/loss"), ERR_CORRUPT, "allowed are 0 to");
    CHECK_ERR(compare_one("{\"step\": 99999999}\n", "x/loss"), ERR_CORRUPT, "allowed are 0 to");
    CHECK_ERR(compare_one("", "x/los"), ERR_NOTFOUND, "the nearest one is x/loss");
}

/* Without --metric: what the runs are for, where they have it. */
TEST(reward_and_evaluation_are_usual) {
    static const char metrics[] = "{\"step\": 0, \"reward/mean\": 1, \"actor/loss\": 2, "
                                  "\"gac/cosine\": null}\n{\"eval/version\": 0, "
                                  "\"eval/accuracy\": 0.5}\n";
    char *a = run_with("a", metrics), *b = run_with("b", "{\"step\": 0, \"reward/mean\": 2}\n");
    struct compare c = {.json = true}, only = {.json = true}, empty = {.json = true};
    CHECK_OK(compare_add(&c, a));
    CHECK_OK(compare_add(&c, b));
    CHECK_OK(compare_print(&c));
    CHECK_INT(c.n_metrics, 3);
    CHECK_STR(c.metric[0], "reward/mean");
    CHECK_STR(c.metric[1], "eval/accuracy");
    CHECK_STR(c.metric[2], "actor/loss");
    CHECK_OK(compare_add(&only, b));
    CHECK_OK(compare_print(&only));
    CHECK_INT(only.n_metrics, 1);
    mem_free(a);
    a = run_with("a", "");
    CHECK_OK(compare_add(&empty, a));
    CHECK_OK(compare_print(&empty));
    mem_free(a);
    mem_free(b);
}

TEST(a_run_once) {
    struct compare c = {0};
    static const char *const same[] = {"a/b", "a/b/", "a/b//"};
    for (int i = 0; i < 3; i++)
        CHECK_OK(compare_add(&c, same[i]));
    CHECK_INT(c.n_runs, 1);
    static const char *const more[] = {"a", "a/bc", "c", "d", "e", "f", "g"};
    for (int i = 0; i < 7; i++)
        CHECK_OK(compare_add(&c, more[i]));
    CHECK_ERR(compare_add(&c, "h"), ERR_CONFIG, "at most 8");
}
