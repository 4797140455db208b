/* runlog_writer.c - see runlog_writer.h. Writing is about half of what a stored trajectory costs,
 * and nothing of it needs the manager's state: so it has a thread of its own, and the manager
 * checks and collects the next event meanwhile. It does not answer before an event is written; that
 * is the manager's part (manager_outbox.c).
 *
 * Jobs go round through two queues, and with them the batches, whose memory is thus allocated once:
 * whoever has a job may touch it. There are few of them: what waits is not safe yet, and a store
 * that is slower than the manager must be felt upstream (I9). */
#include "rollout/log/runlog_writer.h"

#include "base/crash.h"
#include "base/mem.h"
#include "base/queue.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { JOBS = RUNLOG_WRITER_QUEUE + 1 };

struct job {
    struct kv_batch *batch; /* empty when it comes back */
    bool sync;
    int rc;
    char error[512];
};

struct runlog_writer {
    struct kv *kv;
    struct queue *jobs, *results;
    pthread_t thread;
    bool started;         /* the thread; without one, runlog_writer_step does its work */
    bool failed;          /* the writing side's: a write failed */
    struct job job[JOBS]; /* event k is in job k % JOBS */
    uint64_t given, written;
    int rc; /* of the write that failed */
    char error[512];
};

/* After a failure nothing more is written: a log with a hole would say what never was. */
static bool write_next(struct runlog_writer *w, bool wait) {
    struct job *j = queue_take(w->jobs, wait);
    if (!j) return false;
    j->rc = w->failed ? ERR_IO : kv_write(w->kv, j->batch, j->sync);
    if (j->rc < 0 && !w->failed) snprintf(j->error, sizeof j->error, "%s", err_text());
    w->failed = w->failed || j->rc < 0;
    ASSERT(queue_put(w->results, j)); /* it holds all there are */
    return true;
}

static void *write_all(void *arg) {
    while (write_next(arg, true)) {
    }
    return NULL;
}

bool runlog_writer_step(struct runlog_writer *w) {
    ASSERT(!w->started);
    return write_next(w, false);
}

/* Stop signals are the loop's, whatever thread the kernel would choose. */
static int start(struct runlog_writer *w, bool thread) {
    sigset_t all, old;
    TRY(queue_open(&w->jobs, JOBS));
    TRY(queue_open(&w->results, JOBS));
    if (!thread) return 0;
    crash_fill_signals(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&w->thread, NULL, write_all, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e != 0) return FAIL(ERR_NOMEM, "cannot start the log's writer: %s", strerror(e));
    w->started = true;
    return 0;
}

int runlog_writer_open(struct runlog_writer **out, struct kv *kv, bool thread) {
    struct runlog_writer *w = mem_zalloc(sizeof *w);
    w->kv = kv;
    for (int i = 0; i < JOBS; i++)
        w->job[i].batch = kv_batch_open();
    int rc = start(w, thread);
    if (rc < 0)
        runlog_writer_close(&w);
    else
        *out = w;
    return rc;
}

void runlog_writer_close(struct runlog_writer **writer) {
    struct runlog_writer *w = *writer;
    if (!w) return;
    if (w->started) {
        queue_end(w->jobs);
        pthread_join(w->thread, NULL);
    }
    for (int i = 0; i < JOBS; i++)
        kv_batch_close(&w->job[i].batch);
    queue_close(&w->jobs);
    queue_close(&w->results);
    mem_free(w);
    *writer = NULL;
}

/* Takes one event back; false: none is there. They come in order. */
static bool take(struct runlog_writer *w, bool wait) {
    struct job *j = queue_take(w->results, wait);
    if (!j) return false;
    if (j->rc == 0) w->written++;
    if (j->rc < 0 && w->rc == 0) {
        w->rc = j->rc;
        memcpy(w->error, j->error, sizeof w->error);
    }
    return true;
}

int runlog_writer_wait(struct runlog_writer *w, uint64_t number) {
    while (w->written < number && w->rc == 0) {
        if (!w->started) runlog_writer_step(w);
        take(w, w->started);
    }
    return w->rc < 0 ? FAIL(w->rc, "%s", w->error) : 0;
}

int runlog_writer_written(struct runlog_writer *w, uint64_t *number) {
    while (take(w, false)) {
    }
    TRY(runlog_writer_wait(w, 0));
    *number = w->written;
    return 0;
}

int runlog_writer_give(struct runlog_writer *w, struct kv_batch **batch, bool sync) {
    uint64_t number = w->given + 1;
    TRY(runlog_writer_wait(w, number < JOBS ? 0 : number - JOBS));
    struct job *j = &w->job[number % JOBS];
    struct kv_batch *empty = j->batch;
    j->batch = *batch;
    j->sync = sync;
    *batch = empty;
    w->given = number;
    ASSERT(queue_put(w->jobs, j));
    return 0;
}

uint64_t runlog_writer_given(const struct runlog_writer *w) {
    return w->given;
}

int runlog_writer_fd(const struct runlog_writer *w) {
    return queue_fd(w->results);
}
