/* runlog_test.c - records come back as they were written, events are atomic, damage is named. */
#include "rollout/log/runlog.h"

#include "base/file.h"
#include "base/kv.h"
#include "base/mem.h"
#include "tests/test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct runlog_meta meta = {.format = RUNLOG_FORMAT, .seed = 7, .recipe = {1, 2}};

static char *log_dir(void) {
    return file_join(test_dir(), "log");
}

static void put_traj(struct runlog *l, uint64_t id, int32_t n) {
    int32_t prompt[3] = {5, 6, 7}, response[64];
    float logprob[64];
    int64_t version[64];
    for (int i = 0; i < 64; i++) {
        response[i] = i + (int32_t)id;
        logprob[i] = -0.5F * (float)i;
        version[i] = i / 8;
    }
    struct runlog_traj t = {.id = id,
                            .group = id / 2,
                            .n_prompt = 3,
                            .n_response = n,
                            .finish = 2,
                            .rollout = "rollout-1",
                            .started = 11,
                            .finished = 12,
                            .step = 9,
                            .prompt = prompt,
                            .response = response,
                            .logprob = logprob,
                            .version = version};
    CHECK_OK(runlog_put_traj(l, &t));
}

static void put_chunk(struct runlog *l, uint64_t id, int32_t offset, int32_t n) {
    int32_t response[64];
    float logprob[64] = {0};
    int64_t version[64] = {0};
    for (int i = 0; i < n; i++)
        response[i] = offset + i;
    struct runlog_traj t = {.id = id,
                            .group = id / 2,
                            .n_response = n,
                            .rollout = "r",
                            .response = response,
                            .logprob = logprob,
                            .version = version};
    CHECK_OK(runlog_put_partial(l, &t, offset));
}

static void put_all(struct runlog *l) {
    uint64_t ids[2] = {4, 5};
    struct runlog_group g = {.id = 2,
                             .row = 9,
                             .epoch = 1,
                             .slot = 3,
                             .floor = 1,
                             .step = -1,
                             .state = GROUPS_REJECTED,
                             .reason = GROUPS_STALE,
                             .before = 8,
                             .greedy = 15,
                             .alpha = 2.5,
                             .beta = 1.0 / 3,
                             .prompt = "what?",
                             .n_prompt = 5,
                             .answer = "42",
                             .n_answer = 2};
    struct runlog_score s = {.id = 4, .error = 0, .reason = "ok", .total = 1.5, .n = 2};
    s.name[0] = "math";
    s.value[0] = 1.0;
    s.name[1] = "format";
    s.value[1] = 5.0;
    struct runlog_batch b = {.step = 3, .staleness_max = 2, .n = 2, .ids = ids};
    b.before = (struct hash){1, 2};
    b.after = (struct hash){3, 4};
    b.done = b.skipped = true;
    struct runlog_report r = {3, "{\"step\":3}", 10}, e = {4, "{}", 2};
    CHECK_OK(runlog_put_group(l, &g));
    put_traj(l, 4, 20);
    CHECK_OK(runlog_put_score(l, &s));
    CHECK_OK(runlog_put_batch(l, &b));
    CHECK_OK(runlog_put_report(l, &r));
    CHECK_OK(runlog_put_eval(l, &e));
    struct runlog_weights w = {7, {5, 6}, "rollout-1"};
    CHECK_OK(runlog_put_weights(l, &w));
}

static void check_all(struct runlog *l) {
    struct runlog_record r = {0};
    CHECK_OK(runlog_get(l, RUNLOG_GROUP, 2, &r));
    CHECK(r.u.group.row == 9 && r.u.group.epoch == 1 && r.u.group.slot == 3);
    CHECK(r.u.group.floor == 1 && r.u.group.step == -1 && r.u.group.before == 8);
    CHECK_INT(r.u.group.greedy, 15);
    CHECK(r.u.group.alpha == 2.5 && r.u.group.beta == 1.0 / 3);
    CHECK(r.u.group.state == GROUPS_REJECTED && r.u.group.reason == GROUPS_STALE);
    CHECK_STR(r.u.group.prompt, "what?");
    CHECK_STR(r.u.group.answer, "42");
    runlog_free(&r);
    CHECK_OK(runlog_get(l, RUNLOG_TRAJ, 4, &r));
    CHECK(r.u.traj.n_prompt == 3 && r.u.traj.n_response == 20 && r.u.traj.finish == 2);
    CHECK(r.u.traj.step == 9 && r.u.traj.started == 11 && r.u.traj.finished == 12 &&
          r.u.traj.group == 2);
    CHECK_STR(r.u.traj.rollout, "rollout-1");
    CHECK(r.u.traj.prompt[2] == 7 && r.u.traj.response[19] == 23);
    CHECK(r.u.traj.logprob[19] == -9.5F && r.u.traj.version[19] == 2);
    runlog_free(&r);
    CHECK_OK(runlog_get(l, RUNLOG_SCORE, 4, &r));
    CHECK(r.u.score.total == 1.5 && r.u.score.n == 2 && r.u.score.value[1] == 5.0);
    CHECK_STR(r.u.score.name[1], "format");
    runlog_free(&r);
    CHECK_OK(runlog_get(l, RUNLOG_BATCH, 3, &r));
    CHECK(r.u.batch.n == 2 && r.u.batch.ids[1] == 5 && r.u.batch.staleness_max == 2);
    CHECK(r.u.batch.done && r.u.batch.skipped && r.u.batch.after.lo == 4);
    runlog_free(&r);
    CHECK_OK(runlog_get(l, RUNLOG_REPORT, 3, &r));
    CHECK_STR(r.u.report.json, "{\"step\":3}");
    runlog_free(&r);
    CHECK_OK(runlog_get(l, RUNLOG_EVAL, 4, &r));
    CHECK_STR(r.u.report.json, "{}");
    runlog_free(&r);
    CHECK_OK(runlog_get(l, RUNLOG_WEIGHTS, 7, &r));
    CHECK(r.u.weights.version == 7 && r.u.weights.hash.lo == 6 && r.u.weights.hash.hi == 5);
    CHECK_STR(r.u.weights.rollout, "rollout-1");
    runlog_free(&r);
    CHECK_ERR(runlog_get(l, RUNLOG_EVAL, 5, &r), ERR_NOTFOUND, "E/5");
}

TEST(runlog_round_trip) {
    char *dir = log_dir();
    struct runlog *l = NULL, *reader = NULL;
    CHECK_ERR(runlog_open_readonly(&reader, dir), ERR_NOTFOUND, "no log");
    CHECK_OK(runlog_open(&l, dir, &meta));
    put_all(l);
    struct runlog_record r = {0};
    CHECK_ERR(runlog_get(l, RUNLOG_GROUP, 2, &r), ERR_NOTFOUND, "G/2"); /* not committed yet */
    CHECK_OK(runlog_commit(l, true));
    check_all(l);
    CHECK_OK(runlog_open_readonly(&reader, dir)); /* beside the writer */
    check_all(reader);
    CHECK_INT(runlog_meta(reader).seed, 7);
    runlog_close(&reader);
    runlog_close(&l);
    CHECK_OK(runlog_open(&l, dir, &meta));
    check_all(l);
    runlog_close(&l);
    struct runlog_meta other = meta;
    other.seed = 8;
    CHECK_ERR(runlog_open(&l, dir, &other), ERR_MISMATCH, "seed 7");
    other = meta;
    other.recipe.lo++;
    CHECK_ERR(runlog_open(&l, dir, &other), ERR_MISMATCH, "another recipe");
    mem_free(dir);
}

TEST(runlog_partials) {
    char *dir = log_dir();
    struct runlog *l = NULL;
    struct runlog_record r = {0};
    CHECK_OK(runlog_open(&l, dir, &meta));
    CHECK_ERR(runlog_get_partial(l, 4, &r), ERR_NOTFOUND, "P/4");
    put_chunk(l, 4, 0, 3);
    put_chunk(l, 4, 3, 5);
    put_chunk(l, 4, 8, 1);
    put_chunk(l, 5, 0, 2);
    put_chunk(l, 6, 2, 2);
    CHECK_OK(runlog_commit(l, false));
    CHECK_OK(runlog_get_partial(l, 4, &r));
    CHECK_INT(r.u.traj.n_response, 9);
    for (int i = 0; i < 9; i++)
        CHECK_INT(r.u.traj.response[i], i);
    CHECK_INT(r.u.traj.finish, 0);
    runlog_free(&r);
    CHECK_ERR(runlog_get_partial(l, 6, &r), ERR_CORRUPT, "P/6");
    put_chunk(l, 4, 9, 1); /* not committed when the others are searched for */
    put_traj(l, 4, 9);
    CHECK_OK(runlog_drop_partials(l, 4)); /* exactly its own */
    runlog_drop_partial(l, 4, 9);
    CHECK_OK(runlog_commit(l, false));
    CHECK_ERR(runlog_get_partial(l, 4, &r), ERR_NOTFOUND, "P/4");
    CHECK_OK(runlog_get_partial(l, 5, &r));
    runlog_free(&r);
    runlog_close(&l);
    mem_free(dir);
}

TEST(runlog_scans_in_order) {
    char *dir = log_dir();
    struct runlog *l = NULL;
    struct runlog_scan *s = NULL;
    const struct runlog_record *r = NULL;
    CHECK_OK(runlog_open(&l, dir, &meta));
    for (uint64_t i = 0; i < 600; i += 2)
        put_traj(l, i * 77 % 601, 4);
    CHECK_OK(runlog_commit(l, false));
    CHECK_OK(runlog_scan_open(&s, l, RUNLOG_TRAJ, 300));
    int64_t last = 299;
    while (runlog_scan_next(s, &r) == 1) {
        CHECK((int64_t)r->u.traj.id > last);
        last = (int64_t)r->u.traj.id;
    }
    CHECK(last > 590);
    CHECK_INT(runlog_scan_next(s, &r), 0);
    runlog_scan_close(&s);
    runlog_close(&l);
    mem_free(dir);
}

static void damage(const char *dir, const char *key, size_t n_key, size_t at) {
    struct kv *k = NULL;
    char *value = NULL;
    size_t bytes = 0;
    CHECK_OK(kv_open(&k, dir, false));
    CHECK_OK(kv_get(k, key, n_key, &value, &bytes));
    value[at] ^= 1;
    struct kv_batch *b = kv_batch_open();
    kv_batch_put(b, key, n_key, value, bytes);
    CHECK_OK(kv_write(k, b, false));
    kv_batch_close(&b);
    mem_free(value);
    kv_close(&k);
}

TEST(runlog_names_damage) {
    char *dir = log_dir();
    struct runlog *l = NULL;
    struct runlog_record r = {0};
    CHECK_OK(runlog_open(&l, dir, &meta));
    put_all(l);
    CHECK_OK(runlog_commit(l, true));
    runlog_close(&l);
    static const char key[9] = {'T', 0, 0, 0, 0, 0, 0, 0, 4};
    for (size_t at = 0; at < 300; at += 23) {
        damage(dir, key, sizeof key, at);
        CHECK_OK(runlog_open(&l, dir, &meta));
        CHECK_ERR(runlog_get(l, RUNLOG_TRAJ, 4, &r), ERR_CORRUPT, "key T/4");
        runlog_close(&l);
        damage(dir, key, sizeof key, at);
    }
    damage(dir, "Mrun", 4, 0);
    CHECK_ERR(runlog_open(&l, dir, &meta), ERR_CORRUPT, "M/run");
    CHECK(!l);
    mem_free(dir);
}

/* Unsynced events survive kill -9, whole. */
TEST(runlog_survives_kill) {
    char *dir = log_dir();
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct runlog *w = NULL;
        CHECK_OK(runlog_open(&w, dir, &meta));
        for (int32_t i = 0;; i++) {
            put_chunk(w, 8, i, 1);
            put_chunk(w, 9, i, 1);
            CHECK_OK(runlog_commit(w, false));
            if (i == 200) CHECK(write(ready[1], "x", 1) == 1);
        }
    }
    char c;
    CHECK(read(ready[0], &c, 1) == 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    struct runlog *l = NULL;
    struct runlog_record a = {0}, b = {0};
    CHECK_OK(runlog_open(&l, dir, &meta));
    CHECK_OK(runlog_get_partial(l, 8, &a));
    CHECK_OK(runlog_get_partial(l, 9, &b));
    CHECK(a.u.traj.n_response > 200);
    CHECK_INT(a.u.traj.n_response, b.u.traj.n_response);
    runlog_free(&a);
    runlog_free(&b);
    runlog_close(&l);
    mem_free(dir);
}
