/* supervise.h - starts the services of a run as child processes of this binary, restarts those that
 * die, stops them all. An end is a death unless the run says that its work is done: a child that
 * exits with 0 waits for that word (supervise_settle). One that exits with a final code (a bad
 * setting, malformed data, a full disk, a hash that does not match) is not started again: its text
 * is the run's error, its code the run's. Everything else (a signal, SIGTERM too, a lost peer) is
 * restarted with a growing pause; a child that dies young too often is given up. */
#ifndef DEPLOY_SUPERVISE_SUPERVISE_H
#define DEPLOY_SUPERVISE_SUPERVISE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SUPERVISE_ARGS_MAX = 12, SUPERVISE_CHILDREN_MAX = 1100 };

struct supervise;

enum supervise_state {
    SUPERVISE_RUNNING,
    SUPERVISE_WAITING,  /* to be started, again perhaps */
    SUPERVISE_LEFT,     /* exited with 0; nobody has said yet that the work is done */
    SUPERVISE_FINISHED, /* and it is */
    SUPERVISE_FAILED
};

struct supervise_child { /* read-only view */
    const char *name;
    enum supervise_state state;
    pid_t pid; /* 0 unless running */
    int restarts;
    int exit_status;    /* of the newest end: exit code, or -signal */
    uint64_t frozen_us; /* since when it is stopped (SIGSTOP, a debugger), 0: it is not */
};

/* Children write stderr to log_path (appended), where restarts are noted too. */
MUST_CHECK int supervise_open(struct supervise **out, const char *log_path);
/* args: what follows the binary's own name, NULL-terminated, copied. nice: 0..19. Starts it at the
 * next tick. */
MUST_CHECK int supervise_add(struct supervise *s, const char *name, const char *const *args,
                             int nice);
/* Reaps, restarts. When one has failed for good: the error of its end, naming it and its last
 * words. */
MUST_CHECK int supervise_tick(struct supervise *s, uint64_t now_us);
/* The run's word on a child that has left: its work is done, or it is not, which makes its end a
 * death. A word that it is not may be older than the end; it counts after SUPERVISE_WORD_US. */
enum { SUPERVISE_WORD_US = 1500000 };
MUST_CHECK int supervise_settle(struct supervise *s, size_t i, uint64_t now_us, bool done);
/* Lines for people about ends, restarts and frozen children since the last call; NULL: none. Valid
 * until the next call. */
const char *supervise_news(struct supervise *s);
size_t supervise_count(const struct supervise *s);
struct supervise_child supervise_child(const struct supervise *s, size_t i);
bool supervise_finished(const struct supervise *s, const char *name);
/* SIGTERM to all that run, in reverse order of starting (a frozen one is woken for it); SIGKILL
 * after grace_ms, or as soon as *hurry; returns when none is left. */
void supervise_stop(struct supervise *s, int grace_ms, bool (*hurry)(void *), void *ctx);
void supervise_close(struct supervise **s); /* stops what still runs */

#endif
