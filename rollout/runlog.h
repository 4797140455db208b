/* runlog.h - the rollout log: everything that happened in a run, in RUN/log (RocksDB). The manager
 * writes it, one atomic write batch per event; `weir replay` and the monitor read it, also while
 * the run goes on.
 *
 * Keys are a letter and big-endian numbers, so that a scan is in order:
 *   M name -> meta              S traj -> ScoreRecord
 *   G group -> GroupRecord      B step -> BatchRecord
 *   T traj -> TrajectoryRecord  R step -> report of a step (StepDone and its JSON)
 *   P traj offset -> a partial  E version -> an evaluation (EvalDone and its JSON)
 * Values are flat framed messages (proto/wire.h): checksummed and validated when read.
 *
 * Durability: batch records and step completions are synced before anybody sees them, because
 * training a batch twice could not be undone. Tokens and scores are not: they survive the death of
 * any process (the write-ahead log is in the page cache), and after a power cut the newest are
 * generated again; the store recovers to a prefix of its events. */
#ifndef ROLLOUT_RUNLOG_H
#define ROLLOUT_RUNLOG_H

#include "base/err.h"
#include "base/hash.h"
#include "rollout/groups.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RUNLOG_FORMAT = 2, RUNLOG_SCORES_MAX = 16, RUNLOG_NAME_MAX = 64 };

struct runlog;
struct runlog_scan;

struct runlog_meta {
    uint64_t format, seed;
    struct hash recipe; /* of the effective recipe's text */
};

/* Pointers in records are the caller's when writing; read ones belong to the reader: see below. */
struct runlog_group {
    uint64_t id, row, epoch;
    int64_t slot, floor, step; /* step: that trained it, -1 */
    enum groups_state state;
    enum groups_reason reason;
    const char *prompt, *answer; /* text */
    size_t n_prompt, n_answer;
};

struct runlog_traj {
    uint64_t id, group;
    int32_t n_prompt, n_response;
    uint32_t finish;            /* enum engine_finish; 0: a partial */
    const char *rollout;        /* that finished (or wrote) it */
    uint64_t started, finished; /* wall clock, us */
    int64_t step;               /* steps done when it was finished */
    const int32_t *prompt;      /* [n_prompt] */
    const int32_t *response;    /* [n_response] */
    const float *logprob;       /* [n_response] */
    const int64_t *version;     /* [n_response] */
};

struct runlog_score {
    uint64_t id; /* of the trajectory */
    int32_t error;
    const char *reason;
    double total;
    size_t n;
    const char *name[RUNLOG_SCORES_MAX];
    double value[RUNLOG_SCORES_MAX];
};

struct runlog_batch {
    int64_t step, staleness_max;
    uint32_t n;
    const uint64_t *ids;       /* [n] trajectories in training order */
    struct hash before, after; /* of the weights; both zero until the step is done */
    bool done, skipped;
};

struct runlog_report { /* of a step or an evaluation: JSON text */
    int64_t step;
    const char *json;
    size_t bytes;
};

/* Creates the log, or opens an existing one that must have been made with the same meta:
 * ERR_MISMATCH says what differs. ERR_IO when another process writes it. */
MUST_CHECK int runlog_open(struct runlog **out, const char *dir, const struct runlog_meta *meta);
/* A view of the log as it is now. Writes are a bug. */
MUST_CHECK int runlog_open_readonly(struct runlog **out, const char *dir);
void runlog_close(struct runlog **l);
struct runlog_meta runlog_meta(const struct runlog *l);
const char *runlog_dir(const struct runlog *l);

/* An event is some puts and a commit, which writes them all or none. */
MUST_CHECK int runlog_put_group(struct runlog *l, const struct runlog_group *r);
/* Tokens from offset on; n_prompt is 0. */
MUST_CHECK int runlog_put_partial(struct runlog *l, const struct runlog_traj *r, int32_t offset);
/* The whole trajectory. Its partials are to be dropped in the same event. */
MUST_CHECK int runlog_put_traj(struct runlog *l, const struct runlog_traj *r);
void runlog_drop_partial(struct runlog *l, uint64_t traj, uint32_t offset);
/* All that are committed: after a restart, when nobody knows their offsets. */
MUST_CHECK int runlog_drop_partials(struct runlog *l, uint64_t traj);
MUST_CHECK int runlog_put_score(struct runlog *l, const struct runlog_score *r);
MUST_CHECK int runlog_put_batch(struct runlog *l, const struct runlog_batch *r);
MUST_CHECK int runlog_put_report(struct runlog *l, const struct runlog_report *r);
MUST_CHECK int runlog_put_eval(struct runlog *l, const struct runlog_report *r);
MUST_CHECK int runlog_commit(struct runlog *l, bool sync);
size_t runlog_pending(const struct runlog *l); /* bytes put and not committed */

enum runlog_kind {
    RUNLOG_GROUP,
    RUNLOG_TRAJ,
    RUNLOG_SCORE,
    RUNLOG_BATCH,
    RUNLOG_REPORT,
    RUNLOG_EVAL,
    RUNLOG_KINDS
};

struct runlog_record {
    enum runlog_kind kind;
    union {
        struct runlog_group group;
        struct runlog_traj traj;
        struct runlog_score score;
        struct runlog_batch batch;
        struct runlog_report report; /* and evaluations */
    } u;
    void *owned; /* memory behind the pointers; runlog_free */
};

/* One record by its number. ERR_NOTFOUND; ERR_CORRUPT names the key. */
MUST_CHECK int runlog_get(struct runlog *l, enum runlog_kind kind, uint64_t id,
                          struct runlog_record *out);
/* What is stored of an unfinished trajectory, chunks joined; ERR_NOTFOUND: nothing. */
MUST_CHECK int runlog_get_partial(struct runlog *l, uint64_t traj, struct runlog_record *out);
void runlog_free(struct runlog_record *r); /* accepts a zeroed record */

/* All records of a kind in order, from a number on. next: 1 there is one (valid until the next
 * call), 0 the end. Records put but not committed are not seen. */
MUST_CHECK int runlog_scan_open(struct runlog_scan **out, struct runlog *l, enum runlog_kind kind,
                                uint64_t from);
MUST_CHECK int runlog_scan_next(struct runlog_scan *s, const struct runlog_record **out);
void runlog_scan_close(struct runlog_scan **s);

#endif
