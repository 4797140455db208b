/* places.c - see places.h. What is looked at is noted when it is seen for the first time, since the
 * services make it; from then on it must be the same file. RocksDB replaces CURRENT now and then,
 * so of the log's files only its being there counts; a manager that starts anew makes its socket
 * anew, so that one counts for the life of a process, and may be away for a few looks while it
 * closes. */
#include "deploy/places.h"

#include "base/file.h"
#include "base/mem.h"

#include <stdbool.h>
#include <sys/stat.h>

enum { LOOK_US = 250 * 1000, AWAY_MAX = 12 };

struct place {
    char *path;
    bool any, seen; /* any: another file of that name will do */
    dev_t device;
    ino_t inode;
};

enum { RUN, LOG_DIR, LOCK, IPC, CURRENT, PLACES };

struct places {
    struct place place[PLACES];
    char *socket;
    bool bound; /* the socket was there in this life of the manager */
    int away;   /* looks since then without it */
    pid_t manager;
    uint64_t looked_us;
};

struct places *places_open(const char *run_dir) {
    static const char *const names[PLACES] = {".", "log", "lock", "ipc", "log/CURRENT"};
    struct places *p = mem_zalloc(sizeof *p);
    for (int i = 0; i < PLACES; i++)
        p->place[i].path = i == RUN ? mem_strdup(run_dir) : file_join(run_dir, names[i]);
    p->place[CURRENT].any = true;
    p->socket = file_join(run_dir, "ipc/manager");
    return p;
}

void places_close(struct places **p) {
    if (!*p) return;
    for (int i = 0; i < PLACES; i++)
        mem_free((*p)->place[i].path);
    mem_free((*p)->socket);
    mem_free(*p);
    *p = NULL;
}

static int fail_gone(const char *path, const char *how) {
    return FAIL(ERR_IO,
                "%s was %s while the run used it: what is written from now on would be lost, so "
                "the run ends; --resume continues from what is there",
                path, how);
}

static int check(struct place *p) {
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

static int check_socket(struct places *p, pid_t manager) {
    bool there = file_exists(p->socket);
    if (manager != p->manager || manager == 0 || there) p->away = 0;
    if (manager != p->manager) p->bound = false;
    p->manager = manager;
    p->bound = p->bound || there;
    if (manager == 0 || there || !p->bound || ++p->away < AWAY_MAX) return 0;
    return fail_gone(p->socket, "deleted");
}

int places_check(struct places *p, uint64_t now_us, pid_t manager) {
    if (now_us < p->looked_us + LOOK_US) return 0;
    p->looked_us = now_us;
    for (int i = 0; i < PLACES; i++)
        TRY(check(&p->place[i]));
    return check_socket(p, manager);
}
