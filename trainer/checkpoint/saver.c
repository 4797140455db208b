/* saver.c - see saver.h. Writing takes as long as a disk does, several times what copying costs, so
 * only the copy is made between two steps. It is a whole second set of weights and moments in host
 * memory: with less, the next step would overwrite what is not written yet.
 *
 * The copy has the form of what it copies: slabs of the weights' layout, of the host's backend
 * "ref", which has no threads of its own. So one code writes checkpoints (ckpt.c), whoever calls.
 * One job goes to the thread and comes back through a queue each: whoever has it may touch the copy
 * (as in publish.c). What several ranks keep is asked for before the job goes: a thread must not
 * speak to ranks that compute. */
#include "trainer/checkpoint/saver.h"

#include "base/crash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/queue.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { SAVER_PIECE = 4 << 20 };

struct saver {
    char *dir;
    int64_t keep;
    const struct kern_backend *host;
    struct params *weights, *slab[UPDATE_SLABS_MAX]; /* the copy; NULL: not yet */
    struct ckpt ckpt;                                /* of the copy */
    int rc;                                          /* of writing it */
    char error[512];
    struct queue *jobs, *results;
    pthread_t thread;
    bool started, away; /* away: the thread has the job, or it is on its way back */
};

static int read_copy(void *ctx, int i, void *out, size_t at, size_t bytes) {
    const struct saver *s = ctx;
    memcpy(out, (const char *)params_slab(s->slab[i]).data + at, bytes);
    return 0;
}

static void *saver_main(void *arg) {
    struct saver *s = arg;
    while (queue_take(s->jobs, true)) {
        s->rc = ckpt_save(&s->ckpt, s->dir, s->keep);
        if (s->rc < 0) snprintf(s->error, sizeof s->error, "%s", err_text());
        ASSERT(queue_put(s->results, s)); /* there is one job */
    }
    return NULL;
}

/* The thread blocks all signals, so that a stop signal reaches the trainer's thread. */
static int start_saver(struct saver *s) {
    sigset_t all, old;
    TRY(kern_open(&s->host, "ref", 1));
    TRY(queue_open(&s->jobs, 1));
    TRY(queue_open(&s->results, 1));
    crash_fill_signals(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&s->thread, NULL, saver_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e != 0) return FAIL(ERR_NOMEM, "cannot start the thread that saves: %s", strerror(e));
    s->started = true;
    return 0;
}

int saver_open(struct saver **out, const char *dir, int64_t keep) {
    struct saver *s = mem_zalloc(sizeof *s);
    s->dir = mem_strdup(dir);
    s->keep = keep;
    int rc = start_saver(s);
    if (rc < 0)
        saver_close(&s);
    else
        *out = s;
    return rc;
}

static void close_copy(struct saver *s) {
    params_close(&s->weights);
    for (int i = 0; i < UPDATE_SLABS_MAX; i++)
        params_close(&s->slab[i]);
}

void saver_close(struct saver **saver) {
    struct saver *s = *saver;
    if (!s) return;
    if (s->started) {
        queue_end(s->jobs);
        pthread_join(s->thread, NULL);
    }
    queue_close(&s->jobs);
    queue_close(&s->results);
    close_copy(s);
    kern_close(s->host);
    mem_free(s->dir);
    mem_free(s);
    *saver = NULL;
}

/* Memory for the copy, as large as a checkpoint can be: f32 for every slab. */
static int open_copy(struct saver *s, const struct ckpt *c) {
    struct shape shape = *params_shape(c->weights);
    if (!s->weights) TRY(params_open(&s->weights, s->host, &shape));
    for (int i = 0; i < update_slabs(c->update); i++)
        if (!s->slab[i]) TRY(params_open(&s->slab[i], s->host, &shape));
    return 0;
}

static int copy_slab(struct saver *s, const struct ckpt *c, int i) {
    size_t n = ckpt_slab_bytes(c, i);
    char *to = params_slab(s->slab[i]).data;
    ASSERT(n <= params_slab_bytes(params_shape(s->slab[i])));
    for (size_t at = 0; at < n; at += SAVER_PIECE)
        TRY(c->read_slab(c->ctx, i, to + at, at, n - at < SAVER_PIECE ? n - at : SAVER_PIECE));
    return 0;
}

/* Of all ranks: the slabs are read through c->read_slab. */
static int copy_state(struct saver *s, const struct ckpt *c) {
    size_t bytes = params_slab_bytes(params_shape(c->weights));
    int rc = open_copy(s, c);
    if (rc < 0) close_copy(s);
    TRY(rc);
    TRY(params_get(c->weights, params_slab(s->weights).data, bytes));
    for (int i = 0; i < update_slabs(c->update); i++)
        TRY(copy_slab(s, c, i));
    s->ckpt = *c;
    s->ckpt.weights = s->weights;
    s->ckpt.read_slab = read_copy;
    s->ckpt.ctx = s;
    return 0;
}

int saver_begin(struct saver *s, const struct ckpt *c) {
    ASSERT(!s->away);
    TRY(err_wrap(copy_state(s, c), "checkpoint of version %" PRId64, c->version));
    ASSERT(queue_put(s->jobs, s));
    s->away = true;
    return 0;
}

static int collect_saved(struct saver *s, bool wait, int64_t *saved) {
    if (!s->away || !queue_take(s->results, wait)) return 0;
    s->away = false;
    if (s->rc < 0) return FAIL(s->rc, "%s", s->error);
    LOG(INFO, TRAINER, "checkpoint version=%" PRId64, s->ckpt.version);
    *saved = s->ckpt.version;
    return 0;
}

int saver_turn(struct saver *s, int64_t *saved) {
    return collect_saved(s, false, saved);
}

int saver_wait(struct saver *s, int64_t *saved) {
    return collect_saved(s, true, saved);
}
