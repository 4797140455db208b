/* manager_weights_test.c - the content of versions: trainer and rollouts must agree, in any order,
 * also with what an earlier manager wrote down. */
#include "base/file.h"
#include "base/mem.h"
#include "rollout/manager/manager_weights.h"
#include "tests/test.h"

static const struct hash ours = {1, 2}, other = {3, 4};

static void open_manager(struct manager *m, struct recipe *r) {
    char *dir = file_join(test_dir(), "log");
    struct runlog_meta meta = {.seed = 1};
    *m = (struct manager){.recipe = r};
    r->trainer.steps = 4;
    CHECK_OK(runlog_open(&m->log, dir, &meta));
    manager_weights_open(m);
    CHECK_OK(manager_weights_restore(m));
    mem_free(dir);
}

static void close_manager(struct manager *m) {
    CHECK_OK(runlog_commit(m->log, false));
    runlog_close(&m->log);
    manager_weights_close(m);
}

TEST(manager_weights_of_trainer_and_rollouts) {
    struct recipe r = {0};
    struct manager m;
    int64_t known[3] = {2, 2, 2}, gap[2] = {2, 1};
    open_manager(&m, &r);
    CHECK(!manager_weights_known(&m, known, 3));
    CHECK_OK(manager_weights_published(&m, 2, ours));
    CHECK(!manager_weights_known(&m, known, 3)); /* no rollout said that it is what it has */
    CHECK_OK(manager_weights_loaded(&m, 2, ours, "rollout-1"));
    CHECK(manager_weights_known(&m, known, 3) && !manager_weights_known(&m, gap, 2));
    CHECK_ERR(manager_weights_loaded(&m, 2, other, "rollout-2"), ERR_MISMATCH,
              "version 2 of the weights: rollout-2 generates by 00000000000000030000000000000004, "
              "but the trainer published 00000000000000010000000000000002");
    CHECK_OK(manager_weights_loaded(&m, 3, other, "rollout-2"));
    CHECK_ERR(manager_weights_loaded(&m, 3, ours, "rollout-1"), ERR_MISMATCH,
              "but rollouts have 00000000000000030000000000000004");
    CHECK_ERR(manager_weights_published(&m, 3, ours), ERR_MISMATCH,
              "the trainer published 00000000000000010000000000000002, but rollouts have 0");
    CHECK_OK(manager_weights_published(&m, 3, other));
    close_manager(&m);
    open_manager(&m, &r); /* what rollouts said is in the log */
    CHECK(manager_weights_known(&m, known, 3) && !manager_weights_known(&m, gap, 2));
    CHECK_ERR(manager_weights_published(&m, 2, other), ERR_MISMATCH, "version 2");
    close_manager(&m);
}

TEST(manager_weights_refuse_a_version_that_cannot_be) {
    struct recipe r = {0};
    struct manager m;
    struct runlog_weights far = {5, ours, "rollout-1"};
    open_manager(&m, &r);
    CHECK_OK(runlog_put_weights(m.log, &far));
    CHECK_OK(runlog_commit(m.log, false));
    CHECK_ERR(manager_weights_restore(&m), ERR_CORRUPT, "key W/5: the run has no such version");
    close_manager(&m);
}
