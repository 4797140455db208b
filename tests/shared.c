/* shared.c - where the optional test data lies, and the device of a GPU's tests. Tests run in the
 * repository root, so the default is the sibling folder "shared"; the variable is for checkouts
 * that lie elsewhere. */
#include "tests/shared.h"

#include "base/file.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

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
