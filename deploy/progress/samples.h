/* samples.h - `weir run --samples N`: some of what is said, while it goes. */
#ifndef DEPLOY_PROGRESS_SAMPLES_H
#define DEPLOY_PROGRESS_SAMPLES_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum { SAMPLES_EVERY_US = 10 * 1000 * 1000 };

struct samples;

/* n: trajectories of a step; json: as lines of `export` with "event": "sample". */
struct samples *samples_open(const char *run_dir, int64_t n, int64_t steps, bool json);
void samples_close(struct samples **s);
/* Appends those of the newest of `done` steps when some are due: after the first step that is seen,
 * then at most every SAMPLES_EVERY_US, and after the last step. With n 1 a random one, else the
 * best, the worst and random ones. A log that cannot be read now is read next time; out then says
 * so once. */
void samples_tick(struct samples *s, int64_t done, uint64_t now_us, struct buf *out);

#endif
