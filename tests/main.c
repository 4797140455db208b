/* main.c - runs the registered tests, each in a child process: weir-test [--filter TEXT] [--seed N]
 * [--slow] [--list]. */
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "deploy/cli/verbs.h"
#include "tests/test.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_SKIP = 77, TESTS_MAX = 4096 };

static struct test {
    const char *file, *name;
    test_fn *fn;
    int timeout_s;
} tests[TESTS_MAX];
static size_t n_tests;
static uint64_t seed = 1; /* the same test everywhere; other seeds by hand (tests/seeds.sh) */
static char dir[64];

void test_register(const char *file, const char *name, test_fn *fn, int timeout_s) {
    ASSERT(n_tests < TESTS_MAX);
    tests[n_tests++] = (struct test){file, name, fn, timeout_s};
}

void test_fail(const char *file, int line, const char *fmt, ...) {
    va_list ap;
    fprintf(stderr, "  %s:%d: ", file, line);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n");
    fflush(NULL);
    _exit(1);
}

void test_skip(const char *why) {
    fprintf(stderr, "  skipped: %s\n", why);
    fflush(NULL);
    _exit(EXIT_SKIP);
}

uint64_t test_seed(void) {
    return seed;
}

const char *test_dir(void) {
    return dir;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static int by_file(const void *a, const void *b) {
    const struct test *x = a, *y = b;
    int c = strcmp(x->file, y->file);
    return c ? c : strcmp(x->name, y->name);
}

/* Exit status of the child; -1 for a timeout, -signal for a crash. */
static int run_child(const struct test *t, unsigned patience) {
    snprintf(dir, sizeof dir, "/tmp/weir-test-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(patience * (unsigned)t->timeout_s);
        t->fn();
        fflush(NULL);
        exit(0); /* exit, not _exit: the leak sanitizer looks at the end */
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
    }
    kill(-pid, SIGKILL); /* whatever the test left behind in its group */
    err_ignore(file_remove_tree(dir), "a leftover in /tmp is not the test's result");
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    return -WTERMSIG(status);
}

static uint64_t parse_seed(const char *s) {
    return strtoull(s, NULL, 0);
}

int main(int argc, char **argv) {
    const char *filter = "";
    unsigned patience = SANITIZED ? 4 : 1; /* --slow: for runs under valgrind */
    int passed = 0, failed = 0, skipped = 0, list = 0;
    if (argc > 1 && strcmp(argv[1], "trainer-rank") == 0) /* started by a trainer under test */
        return err_exit_code(cmd_trainer_rank(argc - 1, argv + 1));
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0)
            list = 1;
        else if (strcmp(argv[i], "--slow") == 0)
            patience = 30;
        else if (strcmp(argv[i], "--filter") == 0 && i + 1 < argc)
            filter = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = parse_seed(argv[++i]);
        else
            return fprintf(stderr,
                           "usage: weir-test [--filter TEXT] [--seed N] [--slow] [--list]\n"),
                   64;
    }
    qsort(tests, n_tests, sizeof tests[0], by_file);
    if (!list) fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    for (size_t i = 0; i < n_tests; i++) {
        char full[256];
        snprintf(full, sizeof full, "%s:%s", tests[i].file, tests[i].name);
        if (!strstr(full, filter)) continue;
        if (list) {
            printf("%s\n", full);
            continue;
        }
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        int rc = run_child(&tests[i], patience);
        clock_gettime(CLOCK_MONOTONIC, &b);
        double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
        const char *word = rc == 0 ? "ok" : rc == EXIT_SKIP ? "skip" : "FAIL";
        if (rc == 0)
            passed++;
        else if (rc == EXIT_SKIP)
            skipped++;
        else
            failed++;
        fprintf(stderr, "%-4s %s (%.2f s)\n", word, full, s);
        if (rc < 0) fprintf(stderr, "  %s (limit %d s)\n", strsignal(-rc), tests[i].timeout_s);
    }
    if (!list) printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed || (!list && passed + skipped == 0) ? 1 : 0;
}
