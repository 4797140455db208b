/* supervise.h - starts the services of a run as child processes of this binary, restarts those that
 * die, stops them all. A child that exits with 0 is finished. One that exits with a final code (a
 * bad setting, malformed data, a full disk, a hash that does not match, an unsupported device) is
 * not started again: its text is the run's error. Everything else (a signal, a lost peer) is
 * restarted with a growing pause; a child that dies young too often is given up. */
#ifndef DEPLOY_SUPERVISE_H
#define DEPLOY_SUPERVISE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SUPERVISE_ARGS_MAX = 12, SUPERVISE_CHILDREN_MAX = 1100 };

struct supervise;

enum supervise_state { SUPERVISE_RUNNING, SUPERVISE_WAITING, SUPERVISE_FINISHED, SUPERVISE_FAILED };

struct supervise_child { /* read-only view */
    const char *name;
    enum supervise_state state;
    pid_t pid; /* 0 unless running */
    int restarts;
    int exit_status; /* of the newest end: exit code, or -signal */
};

/* Children write stderr to log_path (appended). */
MUST_CHECK int supervise_open(struct supervise **out, const char *log_path);
/* args: what follows the binary's own name, NULL-terminated, copied. nice: 0..19. Starts it at the
 * next tick. */
MUST_CHECK int supervise_add(struct supervise *s, const char *name, const char *const *args,
                             int nice);
/* Reaps, restarts. ERR_CLOSED naming the child and its last words when one has failed for good. */
MUST_CHECK int supervise_tick(struct supervise *s, uint64_t now_us);
size_t supervise_count(const struct supervise *s);
struct supervise_child supervise_child(const struct supervise *s, size_t i);
bool supervise_finished(const struct supervise *s, const char *name);
/* SIGTERM to all that run, in reverse order of starting; SIGKILL after grace_ms; returns when none
 * is left. */
void supervise_stop(struct supervise *s, int grace_ms);
void supervise_close(struct supervise **s); /* stops what still runs */

#endif
