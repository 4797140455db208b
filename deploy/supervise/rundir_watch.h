/* rundir_watch.h - the run's directory while the run uses it: whether it, its log and its sockets
 * are still those that the services opened. A file that was deleted or replaced under a process
 * goes on to be written without an error, and is gone with the process. */
#ifndef DEPLOY_SUPERVISE_RUNDIR_WATCH_H
#define DEPLOY_SUPERVISE_RUNDIR_WATCH_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct rundir_watch;

struct rundir_watch *rundir_watch_open(const char *run_dir); /* which is there */
void rundir_watch_close(struct rundir_watch **p);
/* Looks four times a second (now_us UINT64_MAX: for the last time); manager: pid of the process
 * that owns the sockets, 0: none. ERR_IO names what is gone. */
MUST_CHECK int rundir_watch_check(struct rundir_watch *p, uint64_t now_us, pid_t manager);

#endif
