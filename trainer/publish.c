/* publish.c - see publish.h. One thread for the life of the trainer and one job, which goes to it
 * and comes back through a queue each: whoever has the job may touch it. The thread opens its
 * stream itself, because a CUDA device is current per thread. What it does fails into its own error
 * text, which is carried over in the job.
 *
 * The step has hashed the weights already; the copy is hashed all the same, in the same pass. If
 * the two differ, the weights changed while they were copied, or memory is damaged: nobody may see
 * that version (I4). */
#include "trainer/publish.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/queue.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct job {
    const struct params *weights; /* NULL: only say that the thread is there */
    void *area, *slab;            /* slab: of the handover, NULL: none is free */
    size_t bytes;
    int64_t version;
    struct hash hash, copied;
    int rc;
    char error[512];
    uint64_t begun_us, waited_us;
};

struct publish {
    const struct kern_backend *backend;
    struct push *push;
    struct publish_device *handover; /* NULL: none */
    struct queue *jobs, *results;
    pthread_t thread;
    bool started, away;         /* away: the thread has the job, or it is on its way back */
    struct kern_stream *stream; /* the thread's while the job is away */
    struct job job;
    struct publish_times times;
};

/* --- the thread ---------------------------------------------------------------------------- */

static int copy_version(struct publish *p, struct job *j) {
    if (!j->weights) return kern_stream_open(p->backend, &p->stream, 0);
    if (j->slab)
        TRY(kern_copy(p->backend, p->stream, j->slab, params_slab(j->weights).data, j->bytes));
    TRY(params_get_hashed(&j->copied, j->weights, p->stream, j->area, j->bytes));
    return kern_sync(p->backend, p->stream);
}

static void *publisher_main(void *arg) {
    struct publish *p = arg;
    for (struct job *j; (j = queue_take(p->jobs, true)) != NULL;) {
        j->rc = copy_version(p, j);
        if (j->rc < 0) snprintf(j->error, sizeof j->error, "%s", err_text());
        ASSERT(queue_put(p->results, j)); /* there is one job */
    }
    kern_stream_close(p->backend, p->stream);
    return NULL;
}

/* --- the trainer's side -------------------------------------------------------------------- */

static void send_job(struct publish *p) {
    ASSERT(!p->away && queue_put(p->jobs, &p->job));
    p->away = true;
}

/* True: the thread has finished the job, which is the caller's again. */
static bool collect_copy(struct publish *p, bool wait) {
    if (!p->away || !queue_take(p->results, wait)) return false;
    p->away = false;
    return true;
}

static int start_publisher(struct publish *p) {
    TRY(queue_open(&p->jobs, 1));
    TRY(queue_open(&p->results, 1));
    int e = pthread_create(&p->thread, NULL, publisher_main, p);
    if (e != 0) return FAIL(ERR_NOMEM, "cannot start the thread that publishes: %s", strerror(e));
    p->started = true;
    send_job(p);
    collect_copy(p, true);
    return p->job.rc < 0 ? FAIL(p->job.rc, "%s", p->job.error) : 0;
}

int publish_open(struct publish **out, const struct kern_backend *backend, struct push *push,
                 struct publish_device *handover) {
    struct publish *p = mem_zalloc(sizeof *p);
    p->backend = backend;
    p->push = push;
    p->handover = handover;
    int rc = start_publisher(p);
    if (rc < 0)
        publish_close(&p);
    else
        *out = p;
    return rc;
}

void publish_close(struct publish **pp) {
    struct publish *p = *pp;
    if (!p) return;
    if (p->started) {
        queue_end(p->jobs);
        pthread_join(p->thread, NULL);
    }
    queue_close(&p->jobs);
    queue_close(&p->results);
    mem_free(p);
    *pp = NULL;
}

int publish_begin(struct publish *p, const struct params *w, int64_t version, struct hash hash,
                  struct kern_stream *after) {
    TRY(publish_wait(p));
    ASSERT(!p->away);
    p->job = (struct job){.weights = w,
                          .version = version,
                          .hash = hash,
                          .bytes = params_policy_bytes(params_shape(w)),
                          .begun_us = clock_us()};
    TRY(push_reserve(p->push, p->job.bytes)); /* at the start, while rollouts still start too */
    TRY(push_begin(p->push, p->job.bytes, &p->job.area));
    if (p->handover) p->job.slab = publish_device_begin(p->handover);
    TRY(kern_after(p->backend, p->stream, after));
    send_job(p);
    return 0;
}

/* The copy is complete: checks its hash and offers it to the relay. */
static int offer_copy(struct publish *p) {
    const struct job *j = &p->job;
    char was[HASH_HEX], now[HASH_HEX];
    if (j->rc < 0) return FAIL(j->rc, "publishing version %" PRId64 ": %s", j->version, j->error);
    if (!hash_equal(j->hash, j->copied)) {
        hash_hex(j->hash, was);
        hash_hex(j->copied, now);
        return FAIL(ERR_MISMATCH,
                    "publishing version %" PRId64 ": the weights have hash %s, their copy %s",
                    j->version, was, now);
    }
    p->times = (struct publish_times){.took = (double)(clock_us() - j->begun_us) * 1e-6,
                                      .waited = (double)j->waited_us * 1e-6};
    if (j->slab) {
        struct sealed_note note;
        TRY(publish_device_finish(p->handover, j->version, j->hash, &note));
        push_note(p->push, &note);
    }
    return push_publish(p->push, j->version, j->hash);
}

int publish_turn(struct publish *p) {
    return collect_copy(p, false) ? offer_copy(p) : 0;
}

int publish_wait(struct publish *p) {
    uint64_t start_us = clock_us();
    if (!collect_copy(p, true)) return 0;
    p->job.waited_us = clock_us() - start_us;
    return offer_copy(p);
}

int publish_fd(const struct publish *p) {
    return queue_fd(p->results);
}

struct publish_times publish_times(const struct publish *p) {
    return p->times;
}
