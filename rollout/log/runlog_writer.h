/* runlog_writer.h - a thread that writes the rollout log's events, so that who makes them can go on
 * meanwhile. Events are written whole, one after the other, in the order in which they were given;
 * each has a number, from 1 on. The first failure is the last write: everything after it is refused
 * with the same error. */
#ifndef ROLLOUT_LOG_RUNLOG_WRITER_H
#define ROLLOUT_LOG_RUNLOG_WRITER_H

#include "base/err.h"
#include "base/kv.h"

#include <stdbool.h>
#include <stdint.h>

enum { RUNLOG_WRITER_QUEUE = 8 }; /* events that wait while one is being written */

struct runlog_writer;

/* The store is borrowed. */
MUST_CHECK int runlog_writer_open(struct runlog_writer **out, struct kv *kv);
/* Writes first what was given, unless writing has failed. */
void runlog_writer_close(struct runlog_writer **w);

/* Takes *batch and gives an empty one for it; waits while the queue is full. sync: on disk before
 * it counts as written. */
MUST_CHECK int runlog_writer_give(struct runlog_writer *w, struct kv_batch **batch, bool sync);
uint64_t
runlog_writer_given(const struct runlog_writer *w); /* the newest event's number, 0: none */
/* All events up to *number are written. */
MUST_CHECK int runlog_writer_written(struct runlog_writer *w, uint64_t *number);
/* Waits until they are. */
MUST_CHECK int runlog_writer_wait(struct runlog_writer *w, uint64_t number);
/* Readable when an event was written, or failed, that written and wait have not seen. */
int runlog_writer_fd(const struct runlog_writer *w);

#endif
