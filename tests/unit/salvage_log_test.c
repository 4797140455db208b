/* salvage_log_test.c - a log whose newest writes are partly lost shows older records of some groups
 * beside newer ones of batches; what is made of it must be a state that a run can be in. */
#include "deploy/replay/salvage_log.h"

#include "base/file.h"
#include "base/mem.h"
#include "rollout/log/runlog_identity.h"
#include "tests/test.h"

static const char recipe_text[] =
    "name: test\n"
    "model: {path: recipes/tiny, chat: plain}\n"
    "data: {train: {path: 'builtin:addition', limit: 9}}\n"
    "rollout: {group_size: 2, max_new_tokens: 4, max_prompt_tokens: 16}\n"
    "reward: [{type: exact}]\n"
    "trainer: {steps: 9, batch: {groups: 2}, staleness: {max: 1}}\n";

static struct runlog *open_log(const struct recipe *r, const char *name) {
    struct runlog *log = NULL;
    struct runlog_meta meta;
    char *dir = file_join(test_dir(), name), *path = file_join(test_dir(), "recipe.yaml");
    CHECK_OK(file_write_atomic(path, recipe_text, sizeof recipe_text - 1));
    mem_free(path);
    CHECK_OK(runlog_identity(&meta, test_dir(), r));
    CHECK_OK(runlog_open(&log, dir, &meta));
    mem_free(dir);
    return log;
}

static void put_group(struct runlog *log, uint64_t g, int64_t floor, enum groups_state state,
                      int64_t step) {
    static const int32_t ids[2] = {7, 8};
    static const float logprob[2] = {-1, -2};
    const int64_t version[2] = {floor, floor};
    struct runlog_group group = {.id = g,
                                 .row = g,
                                 .slot = (int64_t)g,
                                 .floor = floor,
                                 .step = step,
                                 .state = state,
                                 .prompt = "1+1=",
                                 .n_prompt = 4,
                                 .answer = "2"};
    CHECK_OK(runlog_put_group(log, &group));
    for (uint64_t i = 0; i < 2; i++) {
        struct runlog_traj t = {.id = 2 * g + i,
                                .group = g,
                                .n_prompt = 2,
                                .n_response = 2,
                                .finish = 1,
                                .rollout = "rollout-1",
                                .prompt = ids,
                                .response = ids,
                                .logprob = logprob,
                                .version = version};
        struct runlog_score score = {.id = t.id, .reason = "", .total = (double)i};
        CHECK_OK(runlog_put_traj(log, &t));
        CHECK_OK(runlog_put_score(log, &score));
    }
}

static void put_batch(struct runlog *log, int64_t step, uint64_t group) {
    const uint64_t ids[4] = {2 * group, 2 * group + 1, 2 * group + 2, 2 * group + 3};
    uint64_t before = (uint64_t)step + 1, after = before + 1;
    struct runlog_batch b = {.step = step,
                             .n = 4,
                             .ids = ids,
                             .done = true,
                             .before = {before, before},
                             .after = {after, after}};
    CHECK_OK(runlog_put_batch(log, &b));
}

static void check_group(struct runlog *log, uint64_t g, enum groups_state state,
                        enum groups_reason reason, int64_t step) {
    struct runlog_record r = {0};
    CHECK_OK(runlog_get(log, RUNLOG_GROUP, g, &r));
    CHECK_INT(r.u.group.state, state);
    CHECK_INT(r.u.group.reason, reason);
    CHECK_INT(r.u.group.step, step);
    runlog_free(&r);
}

TEST(salvage_log_mends_older_records) {
    static const int64_t checkpoint[1] = {0};
    struct salvage_log s = {.checkpoint = checkpoint, .n_checkpoints = 1};
    struct recipe *r = NULL;
    CHECK_OK(recipe_parse(&r, recipe_text, sizeof recipe_text - 1, "recipe", NULL, 0));
    struct runlog *from = open_log(r, "log"), *to = open_log(r, "new");
    put_group(from, 0, 0, GROUPS_TRAINED, 0);
    put_group(from, 1, 0, GROUPS_TRAINED, 0);
    put_group(from, 2, 1, GROUPS_RUNNING, -1); /* trained by step 1: the newer record is lost */
    put_group(from, 3, 1, GROUPS_RUNNING, -1);
    put_group(from, 4, 2, GROUPS_TRAINED, 2);
    put_group(from, 5, 2, GROUPS_TRAINED, 2);
    put_group(from, 6, 1, GROUPS_RUNNING, -1); /* could be trained until step 2 */
    put_group(from, 7, 2, GROUPS_RUNNING, -1);
    for (int64_t step = 0; step < 3; step++)
        put_batch(from, step, 2 * (uint64_t)step);
    CHECK_OK(runlog_commit(from, true));
    CHECK_OK(salvage_log(&s, from, to, r));
    CHECK_INT(s.done, 3);
    CHECK_INT(s.given_up, 1);
    check_group(to, 0, GROUPS_TRAINED, GROUPS_KEPT, 0);
    check_group(to, 2, GROUPS_TRAINED, GROUPS_KEPT, 1);
    check_group(to, 3, GROUPS_TRAINED, GROUPS_KEPT, 1);
    check_group(to, 5, GROUPS_TRAINED, GROUPS_KEPT, 2);
    check_group(to, 6, GROUPS_REJECTED, GROUPS_LOST, -1);
    check_group(to, 7, GROUPS_RUNNING, GROUPS_KEPT, -1);
    buf_close(&s.names);
    runlog_close(&from);
    runlog_close(&to);
    recipe_close(&r);
}
