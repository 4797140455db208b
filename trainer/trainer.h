/* trainer.h - the trainer service: batches in, versions out. */
#ifndef TRAINER_TRAINER_H
#define TRAINER_TRAINER_H

#include "base/err.h"

/* Trains on the batches of RUN's manager, publishes each version to RUN's relay, checkpoints into
 * RUN/checkpoints. Returns 0 when the run is complete (RUN/hf is written then) or SIGTERM or SIGINT
 * came. A failure is logged in one line and returned; the process exits with err_exit_code of it.
 */
MUST_CHECK int trainer_service(const char *run_dir);

#endif
