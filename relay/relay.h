/* relay.h - the relay service: holds versions of the weights for the readers of one machine. */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "base/err.h"

/* Serves RUN/ipc/relay until SIGTERM or SIGINT (then 0). A failure is logged in one line and
 * returned; the process exits with err_exit_code of it. Safe to restart after any death. */
MUST_CHECK int relay_service(const char *run_dir);

#endif
