/* worker_pool_test.c - the pool with verifiers made to misbehave: they loop, sleep, crash, eat
 * memory, open files, die once. Each test ends with the same checks: no child, no descriptor left.
 */
#include "reward/worker_pool.h"

#include "base/clock.h"
#include "base/mem.h"
#include "reward/verify/verify_type.h"
#include "tests/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Shared with the workers. */
static struct shared {
    volatile int deaths;
    volatile pid_t worker, keeper;
} * shared;

/* The prompt says how to misbehave. */
static int misbehave(const void *state, const struct verify_input *in, double *value,
                     char *reason) {
    const char *how = in->prompt;
    (void)state, (void)reason;
    shared->worker = getpid();
    shared->keeper = getppid();
    *value = 1;
    if (strcmp(how, "loop") == 0)
        for (volatile int i = 0;; i++) {
        }
    if (strcmp(how, "sleep") == 0)
        for (;;)
            pause();
    if (strcmp(how, "nap") == 0) clock_sleep_us(100000);
    if (strcmp(how, "crash") == 0) abort();
    if (strcmp(how, "kill") == 0) raise(SIGKILL);
    if (strcmp(how, "exit") == 0) _exit(3);
    if (strcmp(how, "die once") == 0 && shared->deaths++ == 0) raise(SIGKILL);
    if (strcmp(how, "eat") == 0)
        for (;;)
            memset(mem_alloc(1 << 20), 1, 1 << 20);
    if (strcmp(how, "open") == 0) *value = open("/dev/null", O_RDONLY) >= 0;
    if (strcmp(how, "descriptors") == 0) {
        *value = 0; /* standard ones and the socket */
        for (int i = 0; i < 1000; i++)
            *value += fcntl(i, F_GETFD) >= 0;
    }
    if (strcmp(how, "length") == 0) *value = (double)(strlen(in->response) + strlen(in->answer));
    if (strcmp(how, "error") == 0) return FAIL(ERR_UNSUP, "asked for");
    return 0;
}

static const struct verify_type misbehave_type = {
    .name = "test-misbehave", .doc = "d", .run = misbehave};

static size_t count_fds(void) {
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;
    CHECK(d != NULL);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static size_t fds_before;

static struct verify *compile(struct verify_spec spec) {
    struct verify *v = NULL;
    spec.weight = 1;
    CHECK_OK(verify_open(&v, &spec, 1));
    return v;
}

static struct worker_pool *open_pool(struct worker_pool_config cfg) {
    struct worker_pool *w = NULL;
    verify_register(&misbehave_type);
    struct verify *v = compile((struct verify_spec){.type = "test-misbehave"});
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    fds_before = count_fds();
    CHECK_OK(worker_pool_open(&w, &cfg, v));
    verify_close(&v); /* the processes have their own */
    return w;
}

static void close_pool(struct worker_pool **w) {
    worker_pool_close(w);
    CHECK(*w == NULL);
    CHECK_INT(count_fds(), fds_before);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static void submit(struct worker_pool *w, uint64_t id, const char *how) {
    CHECK_OK(worker_pool_submit(w, id, &(struct verify_input){.prompt = how, .response = "r"}));
}

static void wait_step(struct worker_pool *w) {
    struct pollfd p = {.fd = worker_pool_fd(w), .events = POLLIN};
    uint64_t wake = worker_pool_wake_us(w), now = clock_us();
    uint64_t ms = wake == UINT64_MAX ? 10000 : wake <= now ? 0 : (wake - now) / 1000 + 1;
    poll(&p, 1, (int)ms);
    CHECK_OK(worker_pool_step(w, clock_us()));
}

static uint64_t take(struct worker_pool *w, struct verify_result *r) {
    uint64_t id;
    CHECK_OK(worker_pool_step(w, clock_us()));
    while (!worker_pool_take(w, &id, r))
        wait_step(w);
    return id;
}

/* Runs one job to its end. */
static int error_of(struct worker_pool *w, const char *how, const char *reason) {
    struct verify_result r;
    submit(w, 7, how);
    CHECK_INT(take(w, &r), 7);
    if (!strstr(r.reason, reason))
        test_fail(__FILE__, __LINE__, "%s: reason \"%s\" lacks \"%s\"", how, r.reason, reason);
    CHECK(r.error || r.total == 1);
    return r.error;
}

TEST(worker_pool_score_many_jobs) {
    struct worker_pool *w = open_pool((struct worker_pool_config){.n = 3, .jobs_max = 16});
    bool seen[300] = {false};
    uint64_t next = 0, id;
    struct verify_result r;
    for (int done = 0; done < 300;) {
        while (next < 300) {
            char text[400];
            memset(text, 'x', sizeof text);
            text[next] = 0;
            int rc = worker_pool_submit(
                w, next,
                &(struct verify_input){.prompt = "length", .response = text, .answer = "ab"});
            if (rc == ERR_AGAIN) break;
            CHECK_OK(rc);
            next++;
        }
        wait_step(w);
        while (worker_pool_take(w, &id, &r)) {
            CHECK(id < 300 && !seen[id]);
            seen[id] = true;
            CHECK_INT(r.error, 0);
            CHECK_STR(r.scores[0].name, "test-misbehave");
            CHECK_NEAR(r.total, (double)id + 2, 0);
            done++;
        }
    }
    struct worker_pool_stats s = worker_pool_stats(w);
    CHECK_INT(s.submitted, 300);
    CHECK_INT(s.finished, 300);
    CHECK_INT(s.error[0], 300);
    CHECK_INT(s.respawned, 0);
    close_pool(&w);
}

TEST(worker_pool_refuse_when_full) {
    struct worker_pool *w = open_pool((struct worker_pool_config){.n = 1, .jobs_max = 3});
    struct verify_result r;
    uint64_t id;
    for (uint64_t i = 0; i < 3; i++)
        submit(w, i, "");
    CHECK_INT(worker_pool_submit(w, 9, &(struct verify_input){0}), ERR_AGAIN);
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_INT(take(w, &r), i); /* one worker: in order */
        submit(w, i + 10, "");
    }
    for (uint64_t i = 0; i < 3; i++)
        take(w, &r);
    CHECK(!worker_pool_take(w, &id, &r));
    close_pool(&w);
}

TEST(worker_pool_end_in_the_middle) {
    struct worker_pool *w = open_pool((struct worker_pool_config){.n = 2, .jobs_max = 8});
    for (uint64_t i = 0; i < 6; i++)
        submit(w, i, "sleep");
    while (!shared->worker) { /* until one is really at it */
        CHECK_OK(worker_pool_step(w, clock_us()));
        clock_sleep_us(1000);
    }
    close_pool(&w);
}

TEST(worker_pool_survive_misbehaviour) {
    struct worker_pool *w =
        open_pool((struct worker_pool_config){.n = 1, .cpu_ms = 50, .wall_ms = 60000});
    CHECK_INT(error_of(w, "", ""), 0);
    CHECK_INT(error_of(w, "loop", "more than 50 ms of CPU"), ERR_TIMEOUT);
    CHECK_INT(error_of(w, "", ""), 0);
    CHECK_INT(error_of(w, "crash", "signal 6"), ERR_CLOSED);
    CHECK_INT(error_of(w, "kill", "signal 9"), ERR_CLOSED);
    CHECK_INT(error_of(w, "exit", "exit status 3"), ERR_CLOSED);
    CHECK_INT(error_of(w, "error", "test-misbehave: asked for"), ERR_UNSUP);
    CHECK_INT(error_of(w, "die once", ""), 0);
    CHECK_INT(shared->deaths, 2);
    struct worker_pool_stats s = worker_pool_stats(w);
    CHECK_INT(s.error[0], 3);
    CHECK_INT(s.error[-ERR_TIMEOUT], 1);
    CHECK_INT(s.error[-ERR_CLOSED], 3);
    CHECK_INT(s.error[-ERR_UNSUP], 1);
    CHECK_INT(s.respawned, 1 + 3 * 2 + 1);
    close_pool(&w);
}

/* A worker has a run of jobs when one fails: that one is guilty, the others get their scores. */
TEST(worker_pool_share_no_guilt) {
    enum { JOBS = 96 };
    struct worker_pool *w = open_pool(
        (struct worker_pool_config){.n = 2, .jobs_max = JOBS, .cpu_ms = 50, .wall_ms = 500});
    static const char *const how[8] = {"crash", "length", "loop", "error", "", "kill", "exit", ""};
    static const int want[8] = {ERR_CLOSED, 0,          ERR_TIMEOUT, ERR_UNSUP,
                                0,          ERR_CLOSED, ERR_CLOSED,  0};
    bool seen[JOBS] = {false};
    struct verify_result r;
    for (uint64_t i = 0; i < JOBS; i++)
        submit(w, i, i % 12 == 5 ? how[i / 12] : "length");
    for (int i = 0; i < JOBS; i++) {
        uint64_t id = take(w, &r);
        CHECK(id < JOBS && !seen[id]);
        seen[id] = true;
        CHECK_INT(r.error, id % 12 == 5 ? want[id / 12] : 0);
    }
    close_pool(&w);
}

/* The clock of a job starts when those before it are done: together they take longer. */
TEST(worker_pool_deadline_is_per_job) {
    struct worker_pool *w = open_pool(
        (struct worker_pool_config){.n = 1, .jobs_max = 16, .cpu_ms = 1000, .wall_ms = 600});
    struct verify_result r;
    for (uint64_t i = 0; i < 8; i++)
        submit(w, i, "nap");
    for (uint64_t i = 0; i < 8; i++) {
        CHECK_INT(take(w, &r), i);
        CHECK_INT(r.error, 0);
    }
    CHECK_INT(worker_pool_stats(w).respawned, 0);
    close_pool(&w);
}

TEST(worker_pool_wall_deadline) {
    struct worker_pool *w = open_pool((struct worker_pool_config){.n = 2, .wall_ms = 60});
    struct verify_result r;
    submit(w, 1, "sleep");
    submit(w, 2, "");
    CHECK_INT(take(w, &r), 2); /* the other worker is not held up */
    CHECK_INT(r.error, 0);
    CHECK_INT(take(w, &r), 1);
    CHECK_INT(r.error, ERR_TIMEOUT);
    CHECK(strstr(r.reason, "longer than 60 ms") != NULL);
    CHECK_INT(error_of(w, "", ""), 0);
    close_pool(&w);
}

TEST(worker_pool_catastrophic_pattern) {
    struct worker_pool *w = NULL;
    struct verify_result r;
    struct verify *v = compile((struct verify_spec){.type = "regex", .pattern = "^(a+)+$"});
    const struct verify_input in = {.response = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"};
    CHECK_OK(worker_pool_open(&w, &(struct worker_pool_config){.n = 1}, v));
    verify_close(&v);
    CHECK_OK(worker_pool_submit(w, 1, &in));
    take(w, &r);
    CHECK_INT(r.error, ERR_TIMEOUT);
    worker_pool_close(&w);
}

TEST(worker_pool_have_limits) {
    struct worker_pool *w = open_pool((struct worker_pool_config){.n = 1, .memory_mib = 32});
    struct verify_result r;
    submit(w, 1, "open");
    take(w, &r);
    CHECK_NEAR(r.total, 0, 0);
    submit(w, 1, "descriptors");
    take(w, &r);
    CHECK_NEAR(r.total, 4, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK_INT(error_of(w, "eat", "died twice"), ERR_CLOSED);
#endif
    close_pool(&w);
}

TEST(worker_pool_large_texts) {
    struct worker_pool *w =
        open_pool((struct worker_pool_config){.n = 2, .jobs_max = 4, .text_max = 3 << 20});
    struct verify_result r;
    size_t n = (3u << 20) - 6;
    char *text = mem_alloc(n + 2);
    memset(text, 'y', n);
    text[n] = 0;
    for (uint64_t i = 0; i < 4; i++)
        CHECK_OK(
            worker_pool_submit(w, i, &(struct verify_input){.prompt = "length", .response = text}));
    for (uint64_t i = 0; i < 4; i++) {
        take(w, &r);
        CHECK_NEAR(r.total, (double)n, 0);
    }
    text[n] = 'y';
    text[n + 1] = 0;
    CHECK_ERR(
        worker_pool_submit(w, 9, &(struct verify_input){.prompt = "length", .response = text}),
        ERR_CORRUPT, "longer than 3145728 bytes");
    CHECK_INT(error_of(w, "", ""), 0); /* the refused job took no room */
    mem_free(text);
    close_pool(&w);
}

TEST(worker_pool_idle_worker_killed) {
    struct worker_pool *w = open_pool((struct worker_pool_config){.n = 1});
    CHECK_INT(error_of(w, "", ""), 0);
    CHECK_INT(kill(shared->worker, SIGKILL), 0);
    while (worker_pool_stats(w).respawned == 0)
        wait_step(w);
    CHECK_INT(error_of(w, "", ""), 0);
    close_pool(&w);
}

TEST(worker_pool_keeper_killed) {
    struct worker_pool *w = open_pool((struct worker_pool_config){.n = 2, .jobs_max = 8});
    struct verify_result r;
    uint64_t id;
    int rc = 0, n = 0;
    CHECK_INT(error_of(w, "", ""), 0);
    for (uint64_t i = 0; i < 5; i++)
        submit(w, i, "sleep");
    CHECK_OK(worker_pool_step(w, clock_us()));
    CHECK_INT(kill(shared->keeper, SIGKILL), 0);
    while (rc == 0) {
        struct pollfd p = {.fd = worker_pool_fd(w), .events = POLLIN};
        poll(&p, 1, 10000);
        rc = worker_pool_step(w, clock_us());
    }
    CHECK_INT(rc, ERR_CLOSED);
    for (; worker_pool_take(w, &id, &r); n++)
        CHECK_INT(r.error, ERR_CLOSED);
    CHECK_INT(n, 5);
    CHECK_INT(worker_pool_submit(w, 1, &(struct verify_input){0}), ERR_CLOSED);
    CHECK(worker_pool_wake_us(w) == UINT64_MAX);
    close_pool(&w);
}

/* The owner of the pool is killed with a job running: keeper and worker must follow. As the
 * subreaper this process inherits and reaps them, so their end can be waited for. */
TEST(worker_pool_follow_their_owner) {
    CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    int ready[2];
    CHECK_INT(pipe(ready), 0);
    pid_t owner = fork();
    if (owner == 0) {
        struct worker_pool *w = open_pool((struct worker_pool_config){.n = 3});
        error_of(w, "", "");
        submit(w, 1, "sleep");
        CHECK_OK(worker_pool_step(w, clock_us()));
        CHECK(write(ready[1], "x", 1) == 1);
        for (;;)
            pause();
    }
    char c;
    CHECK(read(ready[0], &c, 1) == 1);
    CHECK_INT(kill(owner, SIGKILL), 0);
    int gone = 0;
    while (waitpid(-1, NULL, 0) > 0)
        gone++;
    CHECK_INT(errno, ECHILD);
    CHECK(gone >= 2); /* the owner, the keeper, and workers that the keeper did not reap */
}

TEST(worker_pool_bad_config) {
    struct worker_pool *w = NULL;
    struct verify *v = compile((struct verify_spec){.type = "exact"});
    CHECK_ERR(worker_pool_open(&w, &(struct worker_pool_config){0}, v), ERR_CONFIG, "allowed 1");
    CHECK_ERR(worker_pool_open(&w, &(struct worker_pool_config){.n = 1000}, v), ERR_CONFIG, "1000");
    CHECK_ERR(worker_pool_open(&w, &(struct worker_pool_config){.n = 1, .jobs_max = 1 << 20}, v),
              ERR_CONFIG, "jobs_max");
    CHECK_ERR(worker_pool_open(&w, &(struct worker_pool_config){.n = 1, .text_max = 1u << 30}, v),
              ERR_CONFIG, "text_max");
    CHECK(w == NULL);
    worker_pool_close(&w);
    verify_close(&v);
}
