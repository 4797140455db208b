/* places.h - the run's directory while the run uses it: whether it, its log and its sockets are
 * still those that the services opened. A file that was deleted or replaced under a process goes
 * on to be written without an error, and is gone with the process. */
#ifndef DEPLOY_SUPERVISE_PLACES_H
#define DEPLOY_SUPERVISE_PLACES_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct places;

struct places *places_open(const char *run_dir); /* which is there */
void places_close(struct places **p);
/* Looks four times a second (now_us UINT64_MAX: for the last time); manager: pid of the process
 * that owns the sockets, 0: none. ERR_IO names what is gone. */
MUST_CHECK int places_check(struct places *p, uint64_t now_us, pid_t manager);

#endif
