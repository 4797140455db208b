/* runlog_writer_test.c - events written by the thread: all of them, in order, whole; what is
 * committed can be read at once; a write that fails ends it with its text. */
#include "rollout/log/runlog_writer.h"

#include "base/file.h"
#include "base/mem.h"
#include "rollout/log/runlog.h"
#include "tests/test.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { EVENTS = 200, BIG = 2 << 20 };

static void give(struct runlog_writer *w, struct kv_batch **b, uint64_t i, bool sync) {
    char key[16];
    int n = snprintf(key, sizeof key, "k%" PRIu64, i % 10);
    kv_batch_put(*b, "newest", 6, &i, sizeof i);
    kv_batch_put(*b, key, (size_t)n, &i, sizeof i);
    CHECK_OK(runlog_writer_give(w, b, sync));
    CHECK(kv_batch_count(*b) == 0);
    CHECK(runlog_writer_given(w) == i);
}

static uint64_t number(struct kv *k, const char *key) {
    char *value = NULL;
    size_t bytes = 0;
    uint64_t x = 0;
    CHECK_OK(kv_get(k, key, strlen(key), &value, &bytes));
    if (bytes == sizeof x) memcpy(&x, value, sizeof x);
    mem_free(value);
    return x;
}

static bool readable(int fd, int ms) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

TEST(runlog_writer_writes_all_in_order) {
    char *dir = file_join(test_dir(), "kv");
    struct kv *k = NULL;
    struct runlog_writer *w = NULL;
    uint64_t written = 0;
    CHECK_OK(kv_open(&k, dir, true));
    CHECK_OK(runlog_writer_open(&w, k));
    struct kv_batch *b = kv_batch_open();
    CHECK(runlog_writer_given(w) == 0 && !readable(runlog_writer_fd(w), 0));
    give(w, &b, 1, false);
    CHECK(readable(runlog_writer_fd(w), -1)); /* a loop that waits is woken */
    CHECK_OK(runlog_writer_written(w, &written));
    CHECK(written == 1 && !readable(runlog_writer_fd(w), 0));
    for (uint64_t i = 2; i <= EVENTS; i++) {
        give(w, &b, i, i % 50 == 0);
        CHECK_OK(runlog_writer_written(w, &written));
        CHECK(written + RUNLOG_WRITER_QUEUE + 1 >= i); /* the queue is short */
    }
    CHECK_OK(runlog_writer_wait(w, EVENTS - 3));
    CHECK(number(k, "newest") >= EVENTS - 3);
    runlog_writer_close(&w); /* writes what is left */
    CHECK(number(k, "newest") == EVENTS && number(k, "k3") == EVENTS - 7);
    kv_batch_close(&b);
    kv_close(&k);
    mem_free(dir);
}

/* As on a full disk: what is larger cannot be written from here on. */
static void fill_disk(void) {
    struct rlimit l = {1 << 20, 1 << 20};
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &l) == 0);
}

TEST(runlog_writer_ends_with_the_first_failure) {
    char *dir = file_join(test_dir(), "kv"), *big = mem_zalloc(BIG);
    struct kv *k = NULL;
    struct runlog_writer *w = NULL;
    uint64_t written = 0;
    CHECK_OK(kv_open(&k, dir, true));
    CHECK_OK(runlog_writer_open(&w, k));
    struct kv_batch *b = kv_batch_open();
    give(w, &b, 1, true);
    CHECK_OK(runlog_writer_wait(w, 1));
    fill_disk();
    kv_batch_put(b, "big", 3, big, BIG);
    CHECK_OK(runlog_writer_give(w, &b, true)); /* taken; that it fails is told later */
    CHECK_ERR(runlog_writer_wait(w, 2), ERR_IO, "cannot write to");
    CHECK_ERR(runlog_writer_written(w, &written), ERR_IO, "File too large");
    kv_batch_put(b, "more", 4, "x", 1);
    CHECK_ERR(runlog_writer_give(w, &b, false), ERR_IO, "File too large");
    CHECK(kv_batch_count(b) == 1); /* not taken */
    runlog_writer_close(&w);
    CHECK(number(k, "newest") == 1);
    kv_batch_close(&b);
    kv_close(&k);
    mem_free(big);
    mem_free(dir);
}

/* What a commit handed over is seen by every way of reading, as if it had been written. */
TEST(runlog_writer_is_not_noticed_by_readers) {
    char *dir = file_join(test_dir(), "log");
    struct runlog_meta meta = {.seed = 1};
    struct runlog *l = NULL;
    int32_t ids[64] = {1, 2};
    float logprob[64] = {0};
    int64_t version[64] = {0};
    CHECK_OK(runlog_open(&l, dir, &meta));
    CHECK_OK(runlog_write_behind(l));
    for (uint64_t i = 0; i < 300; i++) {
        struct runlog_record r = {0};
        struct runlog_score s = {.id = i, .reason = "", .total = (double)i};
        struct runlog_traj t = {.id = i,
                                .n_response = 64,
                                .rollout = "r",
                                .response = ids,
                                .logprob = logprob,
                                .version = version};
        uint64_t written = 0, event = runlog_event(l);
        CHECK_OK(runlog_put_partial(l, &t, 0));
        CHECK_OK(runlog_put_score(l, &s));
        CHECK(runlog_event(l) == event + 1);
        CHECK_OK(runlog_commit(l, false));
        CHECK(runlog_event(l) == event + 1);
        if (i % 3 == 0) CHECK_OK(runlog_get(l, RUNLOG_SCORE, i, &r));
        if (i % 3 == 0) CHECK(r.u.score.total == (double)i);
        runlog_free(&r);
        if (i % 3 == 1) CHECK_OK(runlog_get_partial(l, i, &r));
        runlog_free(&r);
        if (i % 3 == 2) CHECK_OK(runlog_drop_partials(l, i));
        if (i % 3 == 2) CHECK_OK(runlog_commit(l, false));
        if (i % 3 == 2) CHECK_ERR(runlog_get_partial(l, i, &r), ERR_NOTFOUND, "no key P/");
        if (i % 50 > 0) continue;
        CHECK_OK(runlog_wait(l));
        CHECK_OK(runlog_written(l, &written));
        CHECK(written == runlog_event(l));
    }
    runlog_close(&l);
    mem_free(dir);
}
