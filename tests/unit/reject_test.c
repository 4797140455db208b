/* reject_test.c - a run that cannot go on because of a trajectory goes on without its group: the
 * log before and after, and a manager that begins with it. */
#include "deploy/replay/reject.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "rollout/log/runlog.h"
#include "rollout/log/runlog_identity.h"
#include "rollout/manager/manager.h"
#include "rollout/setup/setup_policy.h"
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char recipe_text[] =
    "name: test\n"
    "model: {path: recipes/tiny, chat: plain}\n"
    "data: {train: {path: 'builtin:addition', limit: 9}}\n"
    "rollout: {group_size: 2, max_new_tokens: 4, max_prompt_tokens: 16}\n"
    "reward: [{type: exact}]\n"
    "trainer: {steps: 4, batch: {groups: 2}, staleness: {max: 1}}\n";

static struct runlog *open_log(void) {
    struct recipe *r = NULL;
    struct runlog *log = NULL;
    char *path = file_join(test_dir(), "recipe.yaml"), *dir = file_join(test_dir(), "log");
    CHECK_OK(file_write_atomic(path, recipe_text, sizeof recipe_text - 1));
    CHECK_OK(recipe_load(&r, path, NULL, 0));
    struct runlog_meta meta;
    CHECK_OK(runlog_identity(&meta, test_dir(), r));
    CHECK_OK(runlog_open(&log, dir, &meta));
    recipe_close(&r);
    mem_free(path);
    mem_free(dir);
    return log;
}

/* Row g of the data set, as the manager renders it. */
static void put_group(struct runlog *log, uint64_t g, enum groups_state state, int64_t step) {
    struct recipe *r = NULL;
    struct dataset *data = NULL;
    char *text = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    struct tokenizer *tokenizer = NULL;
    CHECK_OK(recipe_parse(&r, recipe_text, sizeof recipe_text - 1, "recipe", NULL, 0));
    CHECK_OK(setup_dataset(&data, &r->data.train, "data.train", r->seed));
    CHECK_OK(tokenizer_open(&tokenizer, r->model.path));
    CHECK_OK(dataset_render(data, g, CHAT_PLAIN, tokenizer, &text, &ids, &n));
    struct runlog_group group = {.id = g,
                                 .row = g,
                                 .slot = (int64_t)g,
                                 .step = step,
                                 .state = state,
                                 .prompt = text,
                                 .n_prompt = strlen(text),
                                 .answer = "1"};
    CHECK_OK(runlog_put_group(log, &group));
    for (uint64_t i = 0; i < 2; i++) {
        static const int32_t bad[2] = {7, 100000}; /* no vocabulary is that large here */
        static const float logprob[2] = {-1, -2};
        static const int64_t version[2] = {0, 0};
        struct runlog_traj t = {.id = 2 * g + i,
                                .group = g,
                                .n_prompt = (int32_t)n,
                                .n_response = 2,
                                .finish = 1,
                                .rollout = "rollout-1",
                                .prompt = ids,
                                .response = bad,
                                .logprob = logprob,
                                .version = version};
        struct runlog_score score = {.id = t.id, .reason = "", .total = (double)i};
        CHECK_OK(runlog_put_traj(log, &t));
        CHECK_OK(runlog_put_score(log, &score));
    }
    mem_free(text);
    mem_free(ids);
    tokenizer_close(&tokenizer);
    dataset_close(&data);
    recipe_close(&r);
}

/* Groups 0 and 1 are batch 0, group 2 waits. */
static void make_run(bool done, bool used) {
    static const uint64_t ids[4] = {0, 1, 2, 3};
    struct runlog *log = open_log();
    struct runlog_batch batch = {
        .n = 4, .ids = ids, .done = done, .before = {1, 1}, .after = {2, 2}};
    struct runlog_weights next = {1, {2, 2}, "rollout-1"};
    struct runlog_report report = {.json = "{}", .bytes = 2};
    for (uint64_t g = 0; g < 3; g++)
        put_group(log, g, g < 2 ? GROUPS_TRAINED : GROUPS_RUNNING, g < 2 ? 0 : -1);
    CHECK_OK(runlog_put_batch(log, &batch));
    if (done) CHECK_OK(runlog_put_report(log, &report));
    if (used) CHECK_OK(runlog_put_weights(log, &next));
    CHECK_OK(runlog_commit(log, true));
    runlog_close(&log);
}

static void check_group(struct runlog *log, uint64_t g, enum groups_state state,
                        enum groups_reason reason) {
    struct runlog_record r = {0};
    CHECK_OK(runlog_get(log, RUNLOG_GROUP, g, &r));
    CHECK_INT(r.u.group.state, state);
    CHECK_INT(r.u.group.reason, reason);
    CHECK_INT(r.u.group.step, -1);
    runlog_free(&r);
}

/* A manager takes the log as its state. */
static void check_manager(const char *ready) {
    char *path = file_join(test_dir(), "stderr"), *text = NULL;
    size_t bytes;
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || dup2(fd, 2) != 2) _exit(1);
        log_open(LOG_INFO, "manager");
        int rc = manager_service(test_dir());
        if (rc < 0) log_write(LOG_ERROR, LOG_MANAGER, "%s", err_text());
        fflush(NULL);
        _exit(err_exit_code(rc)); /* this process had the store open: its library would not end */
    }
    for (;;) {
        bool over = waitpid(pid, &status, WNOHANG) == pid;
        if (file_exists(path)) CHECK_OK(file_read(&text, &bytes, path, 1 << 20));
        if (text && strstr(text, ready)) break;
        if (over) test_fail(__FILE__, __LINE__, "the manager ended: %s", text ? text : "");
        mem_free(text);
        text = NULL;
        clock_sleep_us(20000);
    }
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WEXITSTATUS(status) != err_exit_code(ERR_STOPPED)) {
        CHECK_OK(file_read(&text, &bytes, path, 1 << 20));
        test_fail(__FILE__, __LINE__, "status %d: %s", status, text);
    }
    mem_free(text);
    mem_free(path);
}

TEST(reject_takes_a_batch_back) {
    struct reject_report r;
    make_run(false, false);
    CHECK_OK(reject_group(&r, test_dir(), 3));
    CHECK(r.group == 1 && r.first == 2 && r.last == 3 && r.batch == 0);
    struct runlog *log = open_log();
    struct runlog_record batch = {0};
    CHECK_ERR(runlog_get(log, RUNLOG_BATCH, 0, &batch), ERR_NOTFOUND, "B/0");
    check_group(log, 0, GROUPS_RUNNING, GROUPS_KEPT);
    check_group(log, 1, GROUPS_REJECTED, GROUPS_MANUAL);
    check_group(log, 2, GROUPS_RUNNING, GROUPS_KEPT);
    runlog_close(&log);
    check_manager("ready step=0 of=4 groups=3 running=0 finished=2");
    CHECK_OK(reject_group(&r, test_dir(), 4)); /* of no batch */
    CHECK(r.group == 2 && r.batch == -1);
    CHECK_ERR(reject_group(&r, test_dir(), 5), ERR_CONFIG,
              "trajectory 5 of group 2: it was rejected before: manual");
    CHECK_ERR(reject_group(&r, test_dir(), 99), ERR_NOTFOUND, "no such trajectory");
    check_manager("ready step=0 of=4 groups=3 running=0 finished=1");
}

TEST(reject_leaves_what_was_trained) {
    struct reject_report r;
    make_run(true, false);
    CHECK_ERR(reject_group(&r, test_dir(), 0), ERR_CONFIG, "it was trained by step 1");
    struct runlog *log = open_log();
    struct runlog_record g = {0};
    CHECK_OK(runlog_get(log, RUNLOG_GROUP, 0, &g));
    CHECK_INT(g.u.group.state, GROUPS_TRAINED);
    runlog_free(&g);
    runlog_close(&log);
}

TEST(reject_leaves_a_step_that_others_saw) {
    struct reject_report r;
    make_run(false, true);
    CHECK_ERR(reject_group(&r, test_dir(), 0), ERR_CONFIG, "rollout-1 generated by version 1");
}
