/* supervise_test.c - a full disk leaves the services' log the room to say so. */
#include "deploy/supervise.h"

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
