/* resumable.c - see resumable.h. The manager stores the end of a step before the trainer may save
 * what it gave, so a checkpoint without its step in the log means that one of the two is not the
 * run's own: a backup of the log was put back, or the log was cut. Neither side could go on: the
 * trainer asks for a batch that nobody can form. */
#include "deploy/supervise/resumable.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "rollout/log/runlog.h"
#include "rollout/log/runlog_identity.h"
#include "trainer/checkpoint/ckpt.h"

#include <inttypes.h>
#include <stdio.h>

static int is_done(struct runlog *log, int64_t step, bool *done) {
    struct runlog_record r = {0};
    int rc = runlog_get(log, RUNLOG_BATCH, (uint64_t)step, &r);
    if (rc < 0 && rc != ERR_NOTFOUND) return rc;
    *done = rc == 0 && r.u.batch.done;
    runlog_free(&r);
    return 0;
}

/* Steps done; they are dense, so halving finds the last. */
static int end_of_log(struct runlog *log, int64_t at_most, int64_t *end) {
    int64_t lo = 0, hi = at_most;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        bool done = false;
        TRY(is_done(log, mid, &done));
        if (done)
            lo = mid + 1;
        else
            hi = mid;
    }
    *end = lo;
    return 0;
}

static int fail_behind(const char *run_dir, const int64_t *version, size_t n, int64_t end) {
    struct buf newer = {0};
    char fits[64] = "the initial model";
    for (size_t i = 0; i < n && version[i] > end; i++)
        buf_printf(&newer, "%s%s/checkpoints/step-%" PRId64, i ? " " : "", run_dir, version[i]);
    for (size_t i = 0; i < n; i++)
        if (version[i] <= end) {
            snprintf(fits, sizeof fits, "checkpoint step-%" PRId64, version[i]);
            break;
        }
    int rc = FAIL(ERR_CORRUPT,
                  "%s: checkpoint is step %" PRId64 ", the log ends at %" PRId64
                  " (an old copy of the log, or one that was cut?). Put the newer log back; or "
                  "delete %s, and --resume rebuilds the run from the log and %s, then goes on from "
                  "step %" PRId64,
                  run_dir, version[0], end, newer.data, fits, end);
    buf_close(&newer);
    return rc;
}

int resumable_damaged(int rc, const char *run_dir) {
    if (rc != ERR_CORRUPT) return rc;
    return err_wrap(rc, "%s: the log is damaged (`weir replay %s salvage` keeps what is whole)",
                    run_dir, run_dir);
}

static int compare_with_log(const char *run_dir, const char *dir, const int64_t *version,
                            size_t n) {
    struct runlog *log = NULL;
    int64_t end = 0;
    int rc = runlog_open_readonly(&log, dir);
    if (rc == ERR_NOTFOUND)
        return FAIL(ERR_CORRUPT,
                    "%s: checkpoint is step %" PRId64 ", but there is no log in %s. Put the log "
                    "back, or begin anew: `weir run %s/recipe.yaml` (%s/checkpoints/step-%" PRId64
                    " is a model folder: model.path)",
                    run_dir, version[0], dir, run_dir, run_dir, version[0]);
    if (rc == 0) rc = end_of_log(log, version[0], &end);
    runlog_close(&log);
    TRY(resumable_damaged(rc, run_dir));
    return end < version[0] ? fail_behind(run_dir, version, n, end) : 0;
}

int resumable_check(const char *run_dir) {
    char *checkpoints = file_join(run_dir, "checkpoints"), *dir = file_join(run_dir, "log");
    int64_t *version = NULL;
    size_t n = 0;
    int rc = ckpt_list(&version, &n, checkpoints);
    if (rc == 0 && n > 0) rc = compare_with_log(run_dir, dir, version, n);
    mem_free(version);
    mem_free(checkpoints);
    mem_free(dir);
    return rc;
}

int resumable_adopt(const char *run_dir, const struct recipe *r, bool write) {
    struct runlog *log = NULL;
    struct runlog_meta want;
    char *dir = file_join(run_dir, "log");
    int rc;
    TRY_OUT(runlog_identity(&want, run_dir, r));
    rc = runlog_open_readonly(&log, dir);
    if (rc == 0) rc = runlog_is_of(log, &want);
    if (rc == ERR_NOTFOUND) { /* stopped before its first record */
        rc = 0;
        goto out;
    }
    if (rc == 0 && write && !hash_equal(runlog_meta(log).recipe, want.recipe)) {
        runlog_close(&log);
        rc = runlog_open_existing(&log, dir, &want);
    }
out:
    runlog_close(&log);
    mem_free(dir);
    return rc;
}
