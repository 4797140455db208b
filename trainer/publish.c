/* publish.c - see publish.h. One thread for the life of the trainer and one slot: a job is put in,
 * its result is taken out, both by the trainer's own thread, so the lock guards a handful of words
 * and never anything that takes time. The thread opens its stream itself, because a CUDA device is
 * current per thread. What it does fails into its own error text, which is carried over.
 *
 * The step has hashed the weights already; the copy is hashed all the same, in the same pass. If
 * the two differ, the weights changed while they were copied, or memory is damaged: nobody may see
 * that version (I4). */
#include "trainer/publish.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum stage { STARTING, IDLE, COPYING, COPIED };

struct publish {
    const struct kern_backend *backend;
    struct push *push;
    pthread_t thread;
    bool started;
    int fd;
    struct kern_stream *stream; /* the thread's, but for publish_begin while it is idle */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum stage stage;
    bool quit;

    /* The job and its result: the thread's while COPYING, else the caller's. */
    const struct params *weights;
    void *area;
    size_t bytes;
    int64_t version;
    struct hash hash, copied;
    int rc;
    char error[512];

    uint64_t begun_us, waited_us;
    struct publish_times times;
};

/* --- the thread ---------------------------------------------------------------------------- */

static void keep_error(struct publish *p, int rc) {
    p->rc = rc;
    if (rc < 0) snprintf(p->error, sizeof p->error, "%s", err_text());
}

/* The descriptor is readable while the stage is COPIED. */
static void enter(struct publish *p, enum stage stage) {
    const uint64_t one = 1;
    pthread_mutex_lock(&p->lock);
    p->stage = stage;
    ssize_t n = stage == COPIED ? write(p->fd, &one, sizeof one) : 0;
    ASSERT(n >= 0);
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* False: no more jobs. */
static bool next_job(struct publish *p) {
    pthread_mutex_lock(&p->lock);
    while (p->stage != COPYING && !p->quit)
        pthread_cond_wait(&p->changed, &p->lock);
    bool quit = p->quit;
    pthread_mutex_unlock(&p->lock);
    return !quit;
}

static void *thread_main(void *arg) {
    struct publish *p = arg;
    keep_error(p, kern_stream_open(p->backend, &p->stream, 0));
    enter(p, IDLE);
    while (next_job(p)) {
        keep_error(p, params_get_hashed(&p->copied, p->weights, p->stream, p->area, p->bytes));
        enter(p, COPIED);
    }
    kern_stream_close(p->backend, p->stream);
    return NULL;
}

/* --- the trainer's side -------------------------------------------------------------------- */

static enum stage leave(struct publish *p, enum stage stage) {
    pthread_mutex_lock(&p->lock);
    while (p->stage == stage)
        pthread_cond_wait(&p->changed, &p->lock);
    stage = p->stage;
    pthread_mutex_unlock(&p->lock);
    return stage;
}

int publish_open(struct publish **out, const struct kern_backend *backend, struct push *push) {
    int rc = 0;
    struct publish *p = mem_zalloc(sizeof *p);
    *p = (struct publish){.backend = backend, .push = push, .stage = STARTING};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    p->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->fd < 0) {
        rc = FAIL(ERR_IO, "cannot create an event descriptor: %s", strerror(errno));
        goto out;
    }
    int e = pthread_create(&p->thread, NULL, thread_main, p);
    if (e != 0) {
        rc = FAIL(ERR_NOMEM, "cannot start the thread that publishes: %s", strerror(e));
        goto out;
    }
    p->started = true;
    (void)leave(p, STARTING);
    if (p->rc < 0) {
        rc = FAIL(p->rc, "%s", p->error);
        goto out;
    }
    *out = p;
    p = NULL;
out:
    publish_close(&p);
    return rc;
}

void publish_close(struct publish **pp) {
    struct publish *p = *pp;
    if (!p) return;
    if (p->started) {
        pthread_mutex_lock(&p->lock);
        p->quit = true;
        pthread_cond_broadcast(&p->changed);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    if (p->fd >= 0) close(p->fd);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
    *pp = NULL;
}

int publish_begin(struct publish *p, const struct params *w, int64_t version, struct hash hash,
                  struct kern_stream *after) {
    TRY(publish_wait(p));
    p->begun_us = clock_us();
    p->waited_us = 0;
    p->weights = w;
    p->version = version;
    p->hash = hash;
    p->bytes = params_policy_bytes(params_shape(w));
    TRY(push_reserve(p->push, p->bytes)); /* at the start, while rollouts still start too */
    TRY(push_begin(p->push, p->bytes, &p->area));
    TRY(kern_after(p->backend, p->stream, after));
    enter(p, COPYING);
    return 0;
}

static int check_copy(const struct publish *p) {
    char was[HASH_HEX], now[HASH_HEX];
    if (p->rc < 0) return FAIL(p->rc, "publishing version %" PRId64 ": %s", p->version, p->error);
    if (hash_equal(p->hash, p->copied)) return 0;
    hash_hex(p->hash, was);
    hash_hex(p->copied, now);
    return FAIL(ERR_MISMATCH,
                "publishing version %" PRId64 ": the weights have hash %s, their copy %s",
                p->version, was, now);
}

int publish_turn(struct publish *p) {
    uint64_t count;
    pthread_mutex_lock(&p->lock);
    bool copied = p->stage == COPIED;
    ssize_t n = copied ? read(p->fd, &count, sizeof count) : 0;
    if (copied) p->stage = IDLE;
    pthread_mutex_unlock(&p->lock);
    ASSERT(n >= 0);
    if (!copied) return 0;
    TRY(check_copy(p));
    p->times = (struct publish_times){.took = (double)(clock_us() - p->begun_us) * 1e-6,
                                      .waited = (double)p->waited_us * 1e-6};
    return push_publish(p->push, p->version, p->hash);
}

int publish_wait(struct publish *p) {
    uint64_t start = clock_us();
    if (leave(p, COPYING) == IDLE) return 0;
    p->waited_us += clock_us() - start;
    return publish_turn(p);
}

int publish_fd(const struct publish *p) {
    return p->fd;
}

struct publish_times publish_times(const struct publish *p) {
    return p->times;
}
