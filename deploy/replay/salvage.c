/* salvage.c - see salvage.h. The store is opened as a copy, because opening a damaged one changes
 * it: the original is never written to, only renamed at the very end. Tables are never changed once
 * written, so of those a second name is copy enough. */
#include "deploy/replay/salvage.h"

#include "base/file.h"
#include "base/mem.h"
#include "deploy/replay/salvage_log.h"
#include "deploy/supervise/rundir.h"
#include "rollout/log/runlog_identity.h"
#include "trainer/checkpoint/ckpt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

/* --- files --------------------------------------------------------------------------------- */

static int copy_bytes(int to, int from, const char *path) {
    char *piece = mem_alloc(PIECE);
    int rc = 0;
    for (ssize_t n; rc == 0 && (n = read(from, piece, PIECE)) != 0;)
        rc = n < 0 ? FAIL(ERR_IO, "cannot read %s: %s", path, strerror(errno))
                   : file_write_all(to, piece, (size_t)n, path);
    mem_free(piece);
    return rc;
}

static int copy_file(const char *to, const char *from) {
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) return FAIL(ERR_IO, "cannot open %s: %s", from, strerror(errno));
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = out < 0 ? FAIL(ERR_IO, "cannot create %s: %s", to, strerror(errno)) : 0;
    if (rc == 0) rc = copy_bytes(out, in, to);
    close(in);
    if (out >= 0 && close(out) != 0 && rc == 0)
        rc = FAIL(ERR_IO, "cannot close %s: %s", to, strerror(errno));
    return rc;
}

/* A second name where that is enough and possible. */
static int copy_one(const char *to, const char *from, bool may_link) {
    if (may_link && link(from, to) == 0) return 0;
    return copy_file(to, from);
}

/* The files of a folder without folders. link_suffix: these are never written to. */
static int copy_dir(const char *to, const char *from, const char *link_suffix) {
    DIR *d = opendir(from);
    if (!d) return FAIL(ERR_NOTFOUND, "cannot read %s: %s", from, strerror(errno));
    int rc = file_mkdirs(to);
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        char *source = file_join(from, e->d_name), *target = file_join(to, e->d_name);
        size_t n = strlen(e->d_name), k = strlen(link_suffix);
        struct stat st;
        if (stat(source, &st) == 0 && S_ISREG(st.st_mode))
            rc = copy_one(target, source, n >= k && strcmp(e->d_name + n - k, link_suffix) == 0);
        mem_free(source);
        mem_free(target);
    }
    closedir(d);
    return rc;
}

static int rename_to(const char *from, const char *to) {
    if (rename(from, to) == 0) return 0;
    return FAIL(ERR_IO, "cannot rename %s to %s: %s", from, to, strerror(errno));
}

/* DIR/name, or DIR/name-2, ...: one that is not there. */
static char *free_name(const char *dir, const char *name) {
    char *path = file_join(dir, name);
    for (int i = 2; file_exists(path); i++) {
        mem_free(path);
        path = mem_printf("%s/%s-%d", dir, name, i);
    }
    return path;
}

/* --- the run ------------------------------------------------------------------------------- */

/* Reads the damaged log through a copy in `work`, writes the new one into `fresh`. */
static int read_and_write(struct salvage_log *s, const char *run_dir, const char *log,
                          const char *work, const char *fresh, const struct recipe *r) {
    struct runlog *from = NULL, *to = NULL;
    struct runlog_meta meta;
    int rc;
    TRY_OUT(runlog_identity(&meta, run_dir, r));
    TRY_OUT(file_remove_tree(work));
    TRY_OUT(file_remove_tree(fresh));
    TRY_OUT(copy_dir(work, log, ".sst"));
    TRY_OUT(runlog_open_damaged(&from, work));
    TRY_OUT(runlog_open(&to, fresh, &meta));
    TRY_OUT(salvage_log(s, from, to, r));
out:
    runlog_close(&from);
    runlog_close(&to);
    if (rc == 0) rc = file_remove_tree(work);
    return rc;
}

/* Checkpoints that the new log knows nothing of. */
static int move_newer(const struct salvage_log *s, const char *run_dir) {
    char *aside = NULL;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->n_checkpoints; i++) {
        if (s->checkpoint[i] <= s->done) continue;
        char *from = mem_printf("%s/checkpoints/step-%" PRId64, run_dir, s->checkpoint[i]);
        if (!aside) aside = free_name(run_dir, "checkpoints.damaged");
        char *to = mem_printf("%s/step-%" PRId64, aside, s->checkpoint[i]);
        rc = file_mkdirs(aside);
        if (rc == 0) rc = rename_to(from, to);
        if (rc == 0) printf("moved     %s -> %s: newer than the new log\n", from, to);
        mem_free(from);
        mem_free(to);
    }
    mem_free(aside);
    return rc;
}

static int copy_checkpoints(const struct salvage_log *s, const char *run_dir, const char *out) {
    for (size_t i = 0; i < s->n_checkpoints; i++) {
        if (s->checkpoint[i] > s->done) continue;
        char *from = mem_printf("%s/checkpoints/step-%" PRId64, run_dir, s->checkpoint[i]);
        char *to = mem_printf("%s/checkpoints/step-%" PRId64, out, s->checkpoint[i]);
        int rc = copy_dir(to, from, "");
        mem_free(from);
        mem_free(to);
        TRY(rc);
    }
    return 0;
}

static const char *const kind_names[SALVAGE_KINDS] = {
    [RUNLOG_GROUP] = "groups",     [RUNLOG_TRAJ] = "trajectories",  [RUNLOG_SCORE] = "scores",
    [RUNLOG_BATCH] = "batches",    [RUNLOG_REPORT] = "reports",     [RUNLOG_EVAL] = "evaluations",
    [RUNLOG_WEIGHTS] = "versions", [SALVAGE_PARTIAL] = "unfinished"};

static void print(const struct salvage_log *s) {
    int64_t lost = 0;
    for (int k = 0; k < SALVAGE_KINDS; k++) {
        printf("%-12s  %8" PRId64 " kept", kind_names[k], s->kept[k]);
        if (s->lost[k] > 0) printf(", %" PRId64 " lost", s->lost[k]);
        printf("\n");
        lost += s->lost[k];
    }
    if (lost > 0) printf("lost: %s\n", s->names.data);
    if (lost == 0 && s->had == s->done) printf("every record is whole\n");
    if (s->rebuilt > 0)
        printf("%" PRId64 " batch records follow from the records beside them\n", s->rebuilt);
    printf("%" PRId64 " of %" PRId64 " finished steps are kept; the trainer goes on from ", s->done,
           s->had);
    if (s->from > 0)
        printf("checkpoint step-%" PRId64 "\n", s->from);
    else
        printf("the initial model\n");
    if (s->had > s->done)
        printf("steps %" PRId64 " to %" PRId64 " are trained anew\n", s->done + 1, s->had);
    if (s->given_up > 0) printf("%" PRId64 " unfinished groups are rejected: lost\n", s->given_up);
    if (s->holes > 0)
        printf("steps before it that cannot be executed again, where `verify` stops: %" PRId64 "\n",
               s->holes);
}

/* The new log in the old one's place. */
static int exchange(const struct salvage_log *s, const char *run_dir, const char *log,
                    const char *fresh) {
    char *damaged = free_name(run_dir, "log.damaged");
    int rc = rename_to(log, damaged);
    if (rc == 0) rc = rename_to(fresh, log);
    if (rc == 0) printf("moved     %s -> %s\n", log, damaged);
    if (rc == 0) rc = move_newer(s, run_dir);
    if (rc == 0) rc = file_sync_dir(run_dir);
    mem_free(damaged);
    return rc;
}

static int fill_out(const struct salvage_log *s, const char *run_dir, const char *out) {
    char *from = file_join(run_dir, "recipe.yaml"), *to = file_join(out, "recipe.yaml");
    int rc = copy_checkpoints(s, run_dir, out);
    if (rc == 0) rc = copy_file(to, from); /* last: it makes the folder a run */
    mem_free(from);
    mem_free(to);
    return rc;
}

/* Without those that were never finished. */
static void keep_complete(int64_t *version, size_t *n, const char *dir) {
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++) {
        char *path = mem_printf("%s/step-%" PRId64 "/manifest.json", dir, version[i]);
        if (file_exists(path)) version[kept++] = version[i];
        mem_free(path);
    }
    *n = kept;
}

static int check_out(const char *out) {
    char *recipe = file_join(out, "recipe.yaml");
    bool there = file_exists(recipe);
    mem_free(recipe);
    return there ? FAIL(ERR_CONFIG, "%s holds a run already", out) : file_mkdirs(out);
}

/* The new log is complete before the old one moves, so that a crash in between costs neither. */
int salvage_run(const char *run_dir, const char *out) {
    struct salvage_log s = {.done = 0};
    struct rundir *dir = NULL;
    struct recipe *recipe = NULL;
    int64_t *checkpoint = NULL;
    const char *base = out ? out : run_dir;
    char *log = file_join(run_dir, "log"), *checkpoints = file_join(run_dir, "checkpoints");
    char *work = file_join(base, "log.reading"), *fresh = file_join(base, out ? "log" : "log.new");
    int rc;
    TRY_OUT(rundir_resume(&dir, run_dir, &recipe));
    if (!file_is_dir(log)) TRY_OUT(FAIL(ERR_NOTFOUND, "there is no log in %s", log));
    if (out) TRY_OUT(check_out(out));
    TRY_OUT(ckpt_list(&checkpoint, &s.n_checkpoints, checkpoints));
    keep_complete(checkpoint, &s.n_checkpoints, checkpoints);
    s.checkpoint = checkpoint;
    TRY_OUT(read_and_write(&s, run_dir, log, work, fresh, recipe));
    print(&s);
    TRY_OUT(out ? fill_out(&s, run_dir, out) : exchange(&s, run_dir, log, fresh));
    printf("weir run --resume %s continues\n", base);
out:
    buf_close(&s.names);
    rundir_close(&dir);
    recipe_close(&recipe);
    mem_free(checkpoint);
    mem_free(log);
    mem_free(checkpoints);
    mem_free(work);
    mem_free(fresh);
    return rc;
}
