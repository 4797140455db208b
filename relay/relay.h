/* relay.h - the relay service: holds versions of the weights for the readers of one machine. */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "base/err.h"

/* Serves RUN/ipc/relay until a stop signal comes (ERR_STOPPED). A failure is logged in one line
 * and returned. Safe to restart after any death. */
MUST_CHECK int relay_service(const char *run_dir);

#endif
