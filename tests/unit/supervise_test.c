/* supervise_test.c - which ends are deaths; a full disk leaves the services' log the room to say
 * so. The children are this test program, which ends in a known way for known arguments. */
#include "deploy/supervise/supervise.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/shared.h"
#include "tests/test.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* All the room there is. */
static void fill(const char *path) {
    static char page[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    CHECK(fd >= 0);
    while (write(fd, page, sizeof page) > 0) {
    }
    close(fd);
}

static void log_on_full_disk(const char *dir) {
    char *log = file_join(dir, "weir.log"), *rest = file_join(dir, "rest");
    static const char line[] = "error manager cannot write\n";
    struct supervise *s = NULL;
    CHECK_OK(supervise_open(&s, log));
    fill(rest);
    int fd = open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
    for (int i = 0; i < 100; i++) /* a child's stderr */
        CHECK(write(fd, line, sizeof line - 1) == (ssize_t)sizeof line - 1);
    close(fd);
    supervise_close(&s);
    mem_free(log);
    mem_free(rest);
}

TEST(supervise_keeps_room_for_the_log) {
    test_on_small_disk("1m", log_on_full_disk);
}

/* A supervisor with one child that lists the tests of this program: exit code 0. */
static struct supervise *one_child(void) {
    static const char *const args[] = {"--list", NULL};
    char *log = file_join(test_dir(), "weir.log");
    struct supervise *s = NULL;
    CHECK_OK(supervise_open(&s, log));
    CHECK_OK(supervise_add(s, "trainer", args, 0));
    mem_free(log);
    return s;
}

/* now_us: the supervisor's time, which stands still meanwhile. */
static void until(struct supervise *s, uint64_t now_us, enum supervise_state state) {
    for (int i = 0; i < 5000 && supervise_child(s, 0).state != state; i++) {
        CHECK_OK(supervise_tick(s, now_us));
        clock_sleep_us(2000);
    }
    CHECK_INT(supervise_child(s, 0).state, state);
}

static void check_log(const char *part) {
    char *path = file_join(test_dir(), "weir.log"), *text = NULL;
    size_t bytes;
    CHECK_OK(file_read(&text, &bytes, path, 1 << 20));
    if (!strstr(text, part)) test_fail(__FILE__, __LINE__, "weir.log lacks \"%s\": %s", part, text);
    mem_free(text);
    mem_free(path);
}

/* Exit code 0 alone finishes nobody. */
TEST(supervise_asks_whether_the_work_is_done) {
    struct supervise *s = one_child();
    uint64_t now = clock_us();
    until(s, now, SUPERVISE_LEFT);
    CHECK(!supervise_finished(s, "trainer"));
    CHECK_OK(supervise_settle(s, 0, now, false)); /* a word that may be older than the end */
    CHECK_INT(supervise_child(s, 0).state, SUPERVISE_LEFT);
    now += SUPERVISE_WORD_US;
    CHECK_OK(supervise_settle(s, 0, now, false));
    CHECK_INT(supervise_child(s, 0).state, SUPERVISE_WAITING);
    check_log("service=trainer ended=\"exit status 0 before the work was done\"");
    const char *news = supervise_news(s);
    CHECK(news && strstr(news, "trainer ended with exit status 0 before the work was done"));
    CHECK(supervise_news(s) == NULL);
    now += 10000000;
    until(s, now, SUPERVISE_LEFT);
    CHECK_INT(supervise_child(s, 0).restarts, 1);
    CHECK_OK(supervise_settle(s, 0, now, true));
    CHECK(supervise_finished(s, "trainer"));
    supervise_close(&s);
}

/* Again and again without an end: given up, and not as a failure that a scheduler tries again. */
TEST(supervise_gives_up_who_never_gets_done) {
    struct supervise *s = one_child();
    uint64_t now = clock_us();
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++) {
        now += 10000000; /* whatever the pause is, it is over */
        until(s, now, SUPERVISE_LEFT);
        rc = supervise_settle(s, 0, now + SUPERVISE_WORD_US, false);
    }
    CHECK_ERR(rc, ERR_DIED, "trainer ended with exit status 0 before the work was done");
    supervise_close(&s);
}
