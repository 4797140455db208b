/* rundir.c - see rundir.h. The lock is an flock: it goes away with its holder, however that one
 * dies. */
#include "deploy/rundir.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

struct rundir {
    char *path;
    int lock_fd;
};

/* *path becomes absolute; a relative one that leads nowhere is an error naming the recipe's key. */
static int absolute(char **path, const char *key) {
    char full[PATH_MAX];
    if (!*path || strncmp(*path, "builtin:", 8) == 0) return 0;
    if (!realpath(*path, full)) {
        if (**path == '/') return 0; /* whoever reads it says that it is gone */
        return FAIL(ERR_NOTFOUND, "%s: %s: %s", key, *path, strerror(errno));
    }
    mem_free(*path);
    *path = mem_strdup(full);
    return 0;
}

int rundir_resolve(struct recipe **out, const struct recipe *r) {
    struct recipe *copy;
    struct buf text = {0};
    recipe_print(r, &text);
    int rc = recipe_parse(&copy, text.data, text.len, "recipe", NULL, 0);
    buf_close(&text);
    if (rc < 0) return rc;
    TRY_OUT(absolute(&copy->model.path, "model.path"));
    TRY_OUT(absolute(&copy->data.train.path, "data.train.path"));
    for (int64_t i = 0; i < copy->data.n_eval; i++)
        TRY_OUT(absolute(&copy->data.eval[i].rows.path, "data.eval path"));
    TRY_OUT(absolute(&copy->trainer.algorithm.kl.reference, "trainer.algorithm.kl.reference"));
    *out = copy;
    copy = NULL;
out:
    recipe_close(&copy);
    return rc;
}

/* Seconds are enough: a second run in the same second is refused, not mixed in. */
static char *default_dir(const struct recipe *r) {
    char stamp[32];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    return mem_printf("runs/%s-%s", r->name, stamp);
}

/* flock, not the file's being there: the kernel lets go of it whatever the holder dies of, so a
 * killed run can be resumed at once and nobody has to judge whether a lock is stale. */
static int lock(struct rundir *d) {
    char *path = rundir_file(d, "lock");
    int rc = 0;
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (d->lock_fd < 0)
        rc = FAIL(ERR_IO, "cannot open %s: %s", path, strerror(errno));
    else if (flock(d->lock_fd, LOCK_EX | LOCK_NB) != 0)
        rc = FAIL(ERR_AGAIN, "%s is in use by another weir run", d->path);
    mem_free(path);
    return rc;
}

/* The lock comes before anything is read: what another run still writes is not looked at. */
static int open_dir(struct rundir **out, const char *dir) {
    char full[PATH_MAX];
    if (!realpath(dir, full)) return FAIL(ERR_NOTFOUND, "%s: %s", dir, strerror(errno));
    struct rundir *d = mem_zalloc(sizeof *d);
    d->path = mem_strdup(full);
    int rc = lock(d);
    if (rc < 0)
        rundir_close(&d);
    else
        *out = d;
    return rc;
}

int rundir_create(struct rundir **out, const char *dir, const struct recipe *r) {
    struct buf text = {0};
    struct recipe *resolved = NULL;
    struct rundir *d = NULL;
    char *path = dir ? mem_strdup(dir) : default_dir(r), *file = file_join(path, "recipe.yaml");
    int rc;
    if (file_exists(file)) {
        rc = FAIL(ERR_CONFIG, "%s holds a run already; `weir run --resume %s` continues it", path,
                  path);
        goto out;
    }
    TRY_OUT(rundir_resolve(&resolved, r));
    recipe_print(resolved, &text);
    TRY_OUT(file_mkdirs(path));
    TRY_OUT(open_dir(&d, path));
    TRY_OUT(file_write_atomic(file, text.data, text.len));
    *out = d;
    d = NULL;
out:
    rundir_close(&d);
    recipe_close(&resolved);
    buf_close(&text);
    mem_free(file);
    mem_free(path);
    return rc;
}

int rundir_check(const char *dir) {
    char *file = file_join(dir, "retrain.json");
    bool retrained = file_exists(file);
    mem_free(file);
    if (!retrained) return 0;
    return FAIL(ERR_CONFIG,
                "%s is a retraining, not a run: it has no log; %s/retrain.json names its run", dir,
                dir);
}

int rundir_resume(struct rundir **out, const char *dir, struct recipe **recipe) {
    struct rundir *d;
    TRY(rundir_check(dir));
    TRY(open_dir(&d, dir));
    char *file = rundir_file(d, "recipe.yaml");
    int rc = recipe_load(recipe, file, NULL, 0);
    mem_free(file);
    if (rc < 0)
        rundir_close(&d);
    else
        *out = d;
    return err_wrap(rc, "%s is not a run", dir);
}

void rundir_close(struct rundir **d) {
    if (!*d) return;
    if ((*d)->lock_fd >= 0) close((*d)->lock_fd);
    mem_free((*d)->path);
    mem_free(*d);
    *d = NULL;
}

const char *rundir_path(const struct rundir *d) {
    return d->path;
}

char *rundir_file(const struct rundir *d, const char *name) {
    return file_join(d->path, name);
}
