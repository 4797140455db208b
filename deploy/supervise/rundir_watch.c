/* rundir_watch.c - see rundir_watch.h. What is looked at is noted when it is seen for the first
 * time, since the services make it; from then on it must be the same file. RocksDB replaces CURRENT
 * now and then, so of the log's files only its being there counts; a manager that starts anew makes
 * its socket anew, so that one counts for the life of a process, and may be away for a few looks
 * while it closes. Of the log's write-ahead files the newest must stay and may only grow. The
 * recipe is known, and nothing can be continued or replayed without it, so it is written again. */
#include "deploy/supervise/rundir_watch.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LOOK_US = 250 * 1000, AWAY_MAX = 12 };

struct place {
    char *path;
    bool any, seen; /* any: another file of that name will do */
    dev_t device;
    ino_t inode;
};

enum { RUN, LOG_DIR, LOCK, IPC, CURRENT, PLACES };

struct rundir_watch {
    struct place place[PLACES];
    char *socket;
    bool bound; /* the socket was there in this life of the manager */
    int away;   /* looks since then without it */
    pid_t manager;
    uint64_t looked_us;
    uint64_t wal; /* number of the newest write-ahead file, 0: none seen */
    off_t wal_bytes;
    int wal_away;
    char *recipe, *recipe_text; /* text: NULL if it could not be read at the start */
    size_t recipe_bytes;
};

struct rundir_watch *rundir_watch_open(const char *run_dir) {
    static const char *const names[PLACES] = {".", "log", "lock", "ipc", "log/CURRENT"};
    struct rundir_watch *p = mem_zalloc(sizeof *p);
    for (int i = 0; i < PLACES; i++)
        p->place[i].path = i == RUN ? mem_strdup(run_dir) : file_join(run_dir, names[i]);
    p->place[CURRENT].any = true;
    p->socket = file_join(run_dir, "ipc/manager");
    p->recipe = file_join(run_dir, "recipe.yaml");
    if (file_read(&p->recipe_text, &p->recipe_bytes, p->recipe, SIZE_MAX) < 0)
        p->recipe_text = NULL; /* the services say so */
    return p;
}

void rundir_watch_close(struct rundir_watch **p) {
    if (!*p) return;
    for (int i = 0; i < PLACES; i++)
        mem_free((*p)->place[i].path);
    mem_free((*p)->socket);
    mem_free((*p)->recipe);
    mem_free((*p)->recipe_text);
    mem_free(*p);
    *p = NULL;
}

static int fail_gone(const char *path, const char *how) {
    return FAIL(ERR_IO,
                "%s was %s while the run used it: what is written from now on would be lost, so "
                "the run ends; --resume continues from what is there",
                path, how);
}

static int check_place(struct place *p) {
    struct stat st;
    bool there = stat(p->path, &st) == 0;
    if (!p->seen) {
        p->seen = there;
        p->device = there ? st.st_dev : 0;
        p->inode = there ? st.st_ino : 0;
        return 0;
    }
    if (!there) return fail_gone(p->path, "deleted");
    if (!p->any && (st.st_dev != p->device || st.st_ino != p->inode))
        return fail_gone(p->path, "replaced");
    return 0;
}

static int check_socket(struct rundir_watch *p, pid_t manager) {
    bool there = file_exists(p->socket);
    if (manager != p->manager || manager == 0 || there) p->away = 0;
    if (manager != p->manager) p->bound = false;
    p->manager = manager;
    p->bound = p->bound || there;
    if (manager == 0 || there || !p->bound || ++p->away < AWAY_MAX) return 0;
    return fail_gone(p->socket, "deleted");
}

/* The number of NNNNNN.log, 0: another name. */
static uint64_t wal_number(const char *name) {
    size_t digits = strspn(name, "0123456789");
    return digits > 0 && strcmp(name + digits, ".log") == 0 ? strtoull(name, NULL, 10) : 0;
}

static uint64_t newest_wal(const char *dir) {
    uint64_t newest = 0;
    DIR *d = opendir(dir);
    for (const struct dirent *e; d && (e = readdir(d));)
        if (wal_number(e->d_name) > newest) newest = wal_number(e->d_name);
    if (d) closedir(d);
    return newest;
}

/* last: there will be no look after this one. */
static int check_wal(struct rundir_watch *p, bool last) {
    struct stat st;
    uint64_t newest = newest_wal(p->place[LOG_DIR].path), is = newest > p->wal ? newest : p->wal;
    if (is == 0) return 0;
    char *path = mem_printf("%s/%06" PRIu64 ".log", p->place[LOG_DIR].path, is);
    bool there = stat(path, &st) == 0;
    int rc = 0;
    if (!there)
        rc = ++p->wal_away < AWAY_MAX && !last ? 0 : fail_gone(path, "deleted");
    else if (is == p->wal && st.st_size < p->wal_bytes)
        rc = fail_gone(path, "cut");
    if (there) {
        p->wal = is;
        p->wal_bytes = st.st_size;
        p->wal_away = 0;
    }
    mem_free(path);
    return rc;
}

static int keep_recipe(const struct rundir_watch *p) {
    char *text = NULL;
    size_t bytes = 0;
    if (!p->recipe_text) return 0;
    bool same = file_read(&text, &bytes, p->recipe, SIZE_MAX) == 0 && bytes == p->recipe_bytes &&
                memcmp(text, p->recipe_text, bytes) == 0;
    mem_free(text);
    if (same) return 0;
    LOG(WARN, DEPLOY, "%s was changed or deleted while the run used it; it is written again",
        p->recipe);
    return file_write_atomic(p->recipe, p->recipe_text, p->recipe_bytes);
}

int rundir_watch_check(struct rundir_watch *p, uint64_t now_us, pid_t manager) {
    if (now_us < p->looked_us + LOOK_US) return 0;
    p->looked_us = now_us;
    for (int i = 0; i < PLACES; i++)
        TRY(check_place(&p->place[i]));
    TRY(check_wal(p, now_us == UINT64_MAX));
    TRY(keep_recipe(p));
    return check_socket(p, manager);
}
