/* manager_metrics_file.c - RUN/metrics.jsonl. The log is the truth: a line is stored there together
 * with the end of its step, and the file is written anew from it at the start. So no line is ever
 * lost or doubled, whatever died between the log and the file. */
#include "rollout/manager/manager_metrics_file.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char *path_of(const struct manager *m) {
    return file_join(m->run_dir, "metrics.jsonl");
}

static int write_line(int fd, const char *text, size_t n, const char *path) {
    struct buf b = {0};
    buf_add(&b, text, n);
    buf_str(&b, "\n");
    int rc = file_write_all(fd, b.data, b.len, path);
    buf_close(&b);
    return rc;
}

int manager_metrics_file_append(struct manager *m, const char *line, size_t bytes) {
    char *path = path_of(m);
    int rc = 0, fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) {
        rc = FAIL(ERR_IO, "cannot open %s: %s", path, strerror(errno));
        goto out;
    }
    rc = write_line(fd, line, bytes, path);
    if (close(fd) != 0 && rc == 0) rc = FAIL(ERR_IO, "cannot close %s: %s", path, strerror(errno));
out:
    mem_free(path);
    return rc;
}

struct cursor { /* over step reports or evaluations */
    struct runlog_scan *scan;
    const struct runlog_record *at; /* NULL: past the end */
};

static int advance(struct cursor *c) {
    c->at = NULL;
    return runlog_scan_next(c->scan, &c->at);
}

/* A step's number is written anew: a log of an earlier format counts from 0 in the text. */
static int copy_line(int fd, const struct runlog_report *r, bool step, const char *path) {
    size_t n = strlen(MANAGER_STEP_KEY);
    if (!step || r->bytes < n || memcmp(r->json, MANAGER_STEP_KEY, n) != 0)
        return write_line(fd, r->json, r->bytes, path);
    struct buf line = {0};
    while (n < r->bytes && r->json[n] >= '0' && r->json[n] <= '9')
        n++;
    buf_printf(&line, MANAGER_STEP_KEY "%" PRId64, r->step + 1);
    buf_add(&line, r->json + n, r->bytes - n);
    int rc = write_line(fd, line.data, line.len, path);
    buf_close(&line);
    return rc;
}

/* The evaluation of version v stands before the line of step v + 1, which trains it. */
static int copy_lines(struct manager *m, int fd, const char *path) {
    struct cursor step = {0}, eval = {0};
    int rc = 0;
    TRY_OUT(runlog_scan_open(&step.scan, m->log, RUNLOG_REPORT, 0));
    TRY_OUT(runlog_scan_open(&eval.scan, m->log, RUNLOG_EVAL, 0));
    TRY_OUT(advance(&step));
    TRY_OUT(advance(&eval));
    while (step.at || eval.at) {
        bool first = !step.at || (eval.at && eval.at->u.report.step <= step.at->u.report.step);
        struct cursor *c = first ? &eval : &step;
        TRY_OUT(copy_line(fd, &c->at->u.report, !first, path));
        TRY_OUT(advance(c));
    }
    rc = 0;
out:
    runlog_scan_close(&step.scan);
    runlog_scan_close(&eval.scan);
    return rc;
}

/* Through a second file, so that a reader never sees half of it. */
int manager_metrics_file_rewrite(struct manager *m) {
    char *path = path_of(m), *tmp = mem_printf("%s.tmp", path);
    int rc = 0, fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        rc = FAIL(ERR_IO, "cannot open %s: %s", tmp, strerror(errno));
        goto out;
    }
    rc = copy_lines(m, fd, tmp);
    if (close(fd) != 0 && rc == 0) rc = FAIL(ERR_IO, "cannot close %s: %s", tmp, strerror(errno));
    TRY_OUT(rc);
    if (rename(tmp, path) != 0)
        rc = FAIL(ERR_IO, "cannot rename %s to %s: %s", tmp, path, strerror(errno));
out:
    mem_free(tmp);
    mem_free(path);
    return rc;
}
