/* resumable_test.c - a log belongs to the recipe beside it: one that a former version made is known
 * by the recipe's text, and a recipe that was changed by hand is refused. */
#include "deploy/supervise/resumable.h"

#include "base/file.h"
#include "base/mem.h"
#include "deploy/supervise/rundir.h"
#include "proto/recipe/recipe_change.h"
#include "rollout/log/runlog.h"
#include "tests/test.h"

#include <string.h>

static const char text[] = "model: {path: recipes/tiny, chat: plain}\n"
                           "data: {train: {path: 'builtin:addition', limit: 9}}\n"
                           "trainer: {steps: 4}\n";

static void write_recipe(const char *content) {
    char *path = file_join(test_dir(), "recipe.yaml");
    CHECK_OK(file_write_atomic(path, content, strlen(content)));
    mem_free(path);
}

/* A log as versions made it that hashed the recipe's whole text. */
static void make_log(void) {
    struct runlog *log = NULL;
    char *dir = file_join(test_dir(), "log");
    struct runlog_meta meta = {.seed = 1, .recipe = hash_bytes(text, strlen(text))};
    CHECK_OK(runlog_open(&log, dir, &meta));
    runlog_close(&log);
    mem_free(dir);
}

static struct hash log_recipe(void) {
    struct runlog *log = NULL;
    char *dir = file_join(test_dir(), "log");
    CHECK_OK(runlog_open_readonly(&log, dir));
    struct hash h = runlog_meta(log).recipe;
    runlog_close(&log);
    mem_free(dir);
    return h;
}

TEST(resumable_adopts_an_older_log) {
    struct recipe *r = NULL;
    struct hash identity;
    write_recipe(text);
    CHECK_OK(rundir_recipe(&r, test_dir()));
    CHECK_OK(resumable_adopt(test_dir(), r, false)); /* no log yet */
    make_log();
    CHECK_OK(recipe_identity(&identity, r));
    CHECK_OK(resumable_adopt(test_dir(), r, false));
    CHECK(!hash_equal(log_recipe(), identity)); /* a dry run writes nothing */
    CHECK_OK(resumable_adopt(test_dir(), r, true));
    CHECK(hash_equal(log_recipe(), identity));
    recipe_close(&r);
    write_recipe("# The run is extended.\nmodel: {path: recipes/tiny, chat: plain}\n"
                 "data: {train: {path: 'builtin:addition', limit: 9}}\ntrainer: {steps: 8}\n");
    CHECK_OK(rundir_recipe(&r, test_dir()));
    CHECK_OK(resumable_adopt(test_dir(), r, true));
    recipe_close(&r);
    write_recipe("model: {path: recipes/tiny, chat: plain}\n"
                 "data: {train: {path: 'builtin:addition', limit: 8}}\ntrainer: {steps: 8}\n");
    CHECK_OK(rundir_recipe(&r, test_dir()));
    CHECK_ERR(resumable_adopt(test_dir(), r, false), ERR_MISMATCH, "changed by hand");
    recipe_close(&r);
}

TEST(recipe_of_a_run_is_whole) {
    struct recipe *r = NULL;
    write_recipe("");
    CHECK_ERR(rundir_recipe(&r, test_dir()), ERR_CORRUPT, "model.path is missing");
    write_recipe("model: {path: recipes/tiny}\n");
    CHECK_ERR(rundir_recipe(&r, test_dir()), ERR_CORRUPT, "data.train.path is missing");
}
