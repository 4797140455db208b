/* trainer.h - the trainer service: batches in, versions out. */
#ifndef TRAINER_TRAINER_H
#define TRAINER_TRAINER_H

#include "base/err.h"

/* Trains on the batches of RUN's manager, publishes each version to RUN's relay, checkpoints into
 * RUN/checkpoints. Returns 0 when the run is complete (RUN/hf is written then); ERR_STOPPED when a
 * stop signal came before. A failure is logged in one line and returned. */
MUST_CHECK int trainer_service(const char *run_dir);

#endif
