/* rundir.c - see rundir.h. The lock is an flock: it goes away with its holder, however that one
 * dies. */
#include "deploy/supervise/rundir.h"

#include "base/buf.h"
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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SAME_SECOND_MAX = 1000 };

struct rundir {
    char *path;
    int lock_fd;
};

static int no_such(const char *key, const char *path) {
    int error = errno;
    char *tried = file_full(path);
    int rc = FAIL(ERR_NOTFOUND, "%s: %s: %s", key, tried, strerror(error));
    mem_free(tried);
    return rc;
}

/* *path becomes absolute; a relative one that leads nowhere is an error naming the recipe's key. */
static int absolute(char **path, const char *key) {
    char full[PATH_MAX];
    if (!*path || strncmp(*path, "builtin:", 8) == 0) return 0;
    if (!realpath(*path, full)) {
        if (**path == '/') return 0; /* whoever reads it says that it is gone */
        return no_such(key, *path);
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

/* Makes runs/NAME-DATE-TIME, with a number behind it where another run of the same second has it:
 * mkdir decides who comes first. *out: mem_free. */
static int make_default(char **out, const struct recipe *r) {
    char stamp[32];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    TRY(file_mkdirs("runs"));
    for (int i = 1; i < SAME_SECOND_MAX; i++) {
        char *path = i == 1 ? mem_printf("runs/%s-%s", r->name, stamp)
                            : mem_printf("runs/%s-%s-%d", r->name, stamp, i);
        if (mkdir(path, 0777) == 0) {
            *out = path;
            return 0;
        }
        int error = errno, rc = FAIL(ERR_IO, "cannot make %s: %s", path, strerror(error));
        mem_free(path);
        if (error != EEXIST) return rc;
    }
    return FAIL(ERR_IO, "runs/%s-%s and %d others are there already", r->name, stamp,
                SAME_SECOND_MAX - 2);
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
    if (!realpath(dir, full)) return no_such("run", dir);
    struct rundir *d = mem_zalloc(sizeof *d);
    d->path = mem_strdup(full);
    int rc = lock(d);
    if (rc < 0)
        rundir_close(&d);
    else
        *out = d;
    return rc;
}

/* Nothing that a run writes may be there: it would be lost, or mixed in. */
int rundir_check_free(const char *path) {
    static const char *const ours[] = {"log", "checkpoints", "hf", "metrics.jsonl", "weir.log"};
    char *recipe = file_join(path, "recipe.yaml");
    int rc = 0;
    if (file_exists(recipe)) {
        struct buf quoted = {0};
        buf_shell(&quoted, path);
        rc = FAIL(ERR_CONFIG, "%s holds a run already; `weir run --resume %s` continues it", path,
                  quoted.data);
        buf_close(&quoted);
    }
    for (size_t i = 0; rc == 0 && i < sizeof ours / sizeof ours[0]; i++) {
        char *file = file_join(path, ours[i]);
        if (access(file, F_OK) == 0)
            rc = FAIL(ERR_CONFIG,
                      "%s is there already, and a run would write it: give another --out", file);
        mem_free(file);
    }
    mem_free(recipe);
    return rc;
}

/* Looked at once more under the lock: another one may have made a run here meanwhile. */
int rundir_create(struct rundir **out, const char *dir, const struct recipe *r) {
    struct buf text = {0};
    struct recipe *resolved = NULL;
    struct rundir *d = NULL;
    char *path = dir ? mem_strdup(dir) : NULL, *file = NULL;
    int rc;
    TRY_OUT(rundir_resolve(&resolved, r));
    recipe_print(resolved, &text);
    if (path) {
        TRY_OUT(rundir_check_free(path));
        TRY_OUT(file_mkdirs(path));
    } else {
        TRY_OUT(make_default(&path, r));
    }
    TRY_OUT(open_dir(&d, path));
    TRY_OUT(rundir_check_free(path));
    file = file_join(path, "recipe.yaml");
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

int rundir_recipe(struct recipe **out, const char *dir) {
    struct recipe *r = NULL;
    char *file = file_join(dir, "recipe.yaml");
    int rc = recipe_load(&r, file, NULL, 0);
    if (rc == 0 && !(r->model.path && r->data.train.path))
        rc = FAIL(ERR_CORRUPT, "%s: %s is missing, which a run's recipe has (was the file cut?)",
                  file, r->model.path ? "data.train.path" : "model.path");
    if (rc < 0)
        recipe_close(&r);
    else
        *out = r;
    mem_free(file);
    return err_wrap(rc, "%s is not a run", dir);
}

int rundir_resume(struct rundir **out, const char *dir, struct recipe **recipe) {
    struct rundir *d;
    TRY(rundir_check(dir));
    TRY(open_dir(&d, dir));
    int rc = rundir_recipe(recipe, rundir_path(d));
    if (rc < 0)
        rundir_close(&d);
    else
        *out = d;
    return rc;
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
