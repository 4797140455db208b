/* shared.c - where the optional test data lies, and the device of a GPU's tests. Tests run in the
 * repository root, so the default is the sibling folder "shared"; the variable is for checkouts
 * that lie elsewhere. */
#include "tests/shared.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

const char *test_shared_path(const char *name) {
    static char path[1024], why[1100];
    const char *dir = getenv("WEIR_SHARED");
    snprintf(path, sizeof path, "%s/%s", dir && *dir ? dir : "../shared", name);
    snprintf(why, sizeof why, "no %s", path);
    if (!file_exists(path) && !file_is_dir(path)) test_skip(why);
    return path;
}

const char *test_device(void) {
    const char *device = getenv("WEIR_DEVICE");
    return device && *device ? device : "cuda:0";
}

bool test_device_is_slow(void) {
    return strncmp(test_device(), "cudasim", 7) == 0;
}

void test_on_small_disk(const char *size, void (*body)(const char *dir)) {
    int status;
    char options[32], *dir = file_join(test_dir(), "small");
    if (getuid() != 0) test_skip("needs root to mount a small file system");
    CHECK_OK(file_mkdirs(dir));
    snprintf(options, sizeof options, "size=%s", size);
    if (mount("tmpfs", dir, "tmpfs", 0, options) != 0) test_skip("cannot mount a tmpfs");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        body(dir);
        mem_free(dir);
        exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(umount2(dir, MNT_DETACH) == 0);
    CHECK_INT(status, 0);
    mem_free(dir);
}
