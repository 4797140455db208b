/* crash_test.c - a process that dies by a fault of its own says who it was, what it was at, and
 * where, and still dies of that signal. */
#include "base/crash.h"

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void fault_in_store(void) {
    raise(SIGSEGV);
}

static void fault_in_assert(void) {
    err_set(__FILE__, __LINE__, "an earlier failure");
    int value = 1;
    ASSERT(value == 2);
}

/* The signal that a child dies of in `fault`; *report: what it left in its file. */
static int die_of(void (*fault)(void), char **report) {
    char *null = file_join(test_dir(), "stderr");
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(null, O_WRONLY | O_CREAT, 0600);
        dup2(fd, 2);
        crash_open("weir test");
        log_open(LOG_INFO, "victim-1");
        crash_file(test_dir(), "victim-1");
        crash_note(CRASH_STEP, 41);
        for (int i = 0; i < 40; i++)
            LOG(INFO, BASE, "line=%d", i);
        fault();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    char *name = mem_printf("crash-victim-1-%d.txt", (int)pid), *path = file_join(test_dir(), name);
    size_t n;
    CHECK_OK(file_read(report, &n, path, 1 << 20));
    mem_free(name);
    mem_free(path);
    mem_free(null);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

TEST(crash_report_says_who_and_where) {
    char *report;
    CHECK_INT(die_of(fault_in_store, &report), SIGSEGV);
    CHECK(strstr(report, "--- crash of victim-1\nprogram: weir test\nsignal: SIGSEGV") != NULL);
    CHECK(strstr(report, "\nstep: 41\n") != NULL);
    CHECK(strstr(report, "version of its weights") == NULL);       /* nobody noted one */
    CHECK(strstr(report, " base line=7\n") == NULL);               /* the ring holds 32 */
    CHECK(strstr(report, "newest lines of its log:\n  ") != NULL); /* and the oldest comes first */
    CHECK(strstr(report, " base line=8\n") < strstr(report, " base line=39\n"));
    CHECK(strstr(report, "\nstack:\n") != NULL && strstr(report, "weir-test(+0x") != NULL);
    mem_free(report);
}

TEST(crash_report_has_the_bug) {
    char *report;
    CHECK_INT(die_of(fault_in_assert, &report), SIGABRT);
    CHECK(strstr(report, "bug: value == 2 at tests/unit/crash_test.c:") != NULL);
    CHECK(strstr(report, "(newest error: an earlier failure)") != NULL);
    mem_free(report);
}
