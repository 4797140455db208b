/* runlog_impl.h - what runlog.c (writes) and runlog_read.c (reads) share: the handle and the keys.
 */
#ifndef ROLLOUT_LOG_RUNLOG_IMPL_H
#define ROLLOUT_LOG_RUNLOG_IMPL_H

#include "base/buf.h"
#include "base/kv.h"
#include "rollout/log/runlog.h"
#include "rollout/log/runlog_writer.h"

enum { RUNLOG_KEY = 13 /* letter, u64, and for partials u32 */, RUNLOG_LETTERS = 26 };

struct runlog {
    struct kv *kv;
    struct kv_batch *batch;        /* the event being collected; NULL: read-only */
    struct runlog_writer *writer;  /* NULL: a commit writes */
    uint32_t letters;              /* of its keys: bit 0 is A */
    uint64_t last[RUNLOG_LETTERS]; /* the newest event with a key of that letter */
    struct buf value;              /* of the record being written */
    struct runlog_meta meta;
    char *dir;
};

struct runlog_key {
    char bytes[RUNLOG_KEY];
    size_t n;
};

/* Big-endian, so that the order of keys is the order of numbers. */
struct runlog_key runlog_key(char letter, uint64_t id);
struct runlog_key runlog_key_partial(uint64_t traj, uint32_t offset);
/* What is committed with keys of the letter can be read. */
MUST_CHECK int runlog_settle(struct runlog *l, char letter);

#endif
