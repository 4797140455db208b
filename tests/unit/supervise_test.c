/* supervise_test.c - a full disk leaves the services' log the room to say so. */
#include "deploy/supervise.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
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
    if (getuid() != 0) test_skip("needs root to mount a small file system");
    char *dir = file_join(test_dir(), "small");
    CHECK_OK(file_mkdirs(dir));
    if (mount("tmpfs", dir, "tmpfs", 0, "size=1m") != 0) test_skip("cannot mount a tmpfs");
    fflush(NULL);
    pid_t pid = fork(); /* a child, so that a failure in it still unmounts */
    if (pid == 0) {
        log_on_full_disk(dir);
        mem_free(dir);
        exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(umount2(dir, MNT_DETACH) == 0);
    CHECK_INT(status, 0);
    mem_free(dir);
}
