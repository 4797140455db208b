/* worker_pool.c - the pool's side: jobs wait in a ring, each worker runs one at a time, results
 * wait in a ring until they are taken. When many wait, a worker gets a run of them at once, because
 * a job costs less than a wake-up; it answers each before it starts the next, so the question "who
 * was guilty" stays trivial: the first of its run without an answer. The others go back to the
 * queue.
 *
 * A death is the job's fault only if it happens twice. The verifiers are pure functions, so running
 * a job again is safe, and the first death may have been the machine's doing (an operator's kill,
 * the kernel's out-of-memory killer). A deadline is never retried. A worker that dies before it
 * answered anything is replaced after a pause, so that a broken machine does not fork in a tight
 * loop.
 *
 * Every job is in one of four states, and the sum over them is bounded by jobs_max:
 *     free -> queued -> running -> done -> free,  running -> queued once. */
#include "reward/worker_pool.h"

#include "base/clock.h"
#include "base/mem.h"
#include "reward/spawner.h"
#include "reward/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PAUSE_US = 200000,
    DEATHS_MAX = 2,
    RUN_MAX = 16,   /* jobs a worker has at a time */
    REPLIES_MAX = 4 /* read at a time */
};

struct job {
    uint64_t id;
    uint32_t deaths;
    struct buf frame;
    struct verify_result result;
};

enum slot_state { SLOT_EMPTY, SLOT_STARTING, SLOT_IDLE, SLOT_BUSY, SLOT_KILLED };

struct slot {
    enum slot_state state;
    bool started;                  /* had a process before */
    bool proved;                   /* its process has answered a job */
    bool writing;                  /* epoll watches for room */
    int fd;                        /* -1: none, or the worker closed it */
    uint32_t job[RUN_MAX], n_jobs; /* BUSY: the first one runs */
    size_t sent, got;              /* bytes of their frames, of replies */
    uint64_t wake_us;              /* BUSY: deadline of the first; EMPTY: when to start a process */
    struct worker_reply reply[REPLIES_MAX];
};

struct ring {
    uint32_t *at;
    uint32_t cap, head, n;
};

struct worker_pool {
    struct worker_pool_config cfg;
    struct worker_context context; /* read by the processes, in their copy */
    int epoll, keeper;
    pid_t keeper_pid;
    bool broken; /* the keeper died */
    struct slot *slots;
    struct job *jobs;
    struct ring free, queued, done;
    struct worker_pool_stats stats;
};

static void ring_push(struct ring *r, uint32_t x) {
    ASSERT(r->n < r->cap);
    r->at[(r->head + r->n++) % r->cap] = x;
}

static void ring_push_front(struct ring *r, uint32_t x) {
    ASSERT(r->n < r->cap);
    r->head = (r->head + r->cap - 1) % r->cap;
    r->at[r->head] = x;
    r->n++;
}

static uint32_t ring_pop(struct ring *r) {
    ASSERT(r->n > 0);
    uint32_t x = r->at[r->head];
    r->head = (r->head + 1) % r->cap;
    r->n--;
    return x;
}

static void ring_init(struct ring *r, uint32_t cap) {
    *r = (struct ring){.at = mem_array(cap, sizeof *r->at), .cap = cap};
}

/* ---- jobs ---- */

/* The job is done, whatever came of it; its text is freed now, not when it is taken. */
static void finish_job(struct worker_pool *w, uint32_t job, const struct verify_result *result) {
    struct job *j = &w->jobs[job];
    uint32_t kind = (uint32_t)-result->error;
    j->result = *result;
    buf_close(&j->frame);
    w->stats.finished++;
    w->stats.error[kind < WORKER_POOL_ERRORS ? kind : WORKER_POOL_ERRORS - 1]++;
    ring_push(&w->done, job);
}

__attribute__((format(printf, 4, 5))) static void finish_error(struct worker_pool *w, uint32_t job,
                                                               int error, const char *fmt, ...) {
    struct verify_result r = {.error = error};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r.reason, sizeof r.reason, fmt, ap);
    va_end(ap);
    finish_job(w, job, &r);
}

int worker_pool_submit(struct worker_pool *w, uint64_t id, const struct verify_input *in) {
    if (w->broken) return FAIL(ERR_CLOSED, "the keeper of the verifier processes is gone");
    if (w->free.n == 0) return ERR_AGAIN;
    struct job *j = &w->jobs[w->free.at[w->free.head]];
    TRY(worker_encode(&j->frame, id, in, w->cfg.text_max));
    j->id = id;
    j->deaths = 0;
    ring_push(&w->queued, ring_pop(&w->free));
    w->stats.submitted++;
    return 0;
}

bool worker_pool_take(struct worker_pool *w, uint64_t *id, struct verify_result *out) {
    if (w->done.n == 0) return false;
    uint32_t job = ring_pop(&w->done);
    *id = w->jobs[job].id;
    *out = w->jobs[job].result;
    ring_push(&w->free, job);
    return true;
}

/* ---- one worker ---- */

static void watch_events(const struct worker_pool *w, const struct slot *s, int op,
                         uint32_t events) {
    struct epoll_event e = {.events = events, .data.fd = s->fd};
    int rc = epoll_ctl(w->epoll, op, s->fd, &e);
    ASSERT(rc == 0);
}

static void close_slot(struct slot *s) {
    if (s->fd >= 0) close(s->fd); /* leaves the epoll set with its last descriptor */
    s->fd = -1;
    s->writing = false;
}

/* Asks the keeper; the slot is free again when the exit is reported. Unchanged if the keeper does
 * not listen right now. */
static void kill_slot(struct worker_pool *w, struct slot *s) {
    if (spawner_send(w->keeper, SPAWNER_KILL, (uint32_t)(s - w->slots)) < 0) return;
    close_slot(s);
    s->state = SLOT_KILLED;
}

/* What is left to send of the frames of the slot's jobs. */
static size_t unsent(const struct worker_pool *w, const struct slot *s, struct iovec iov[RUN_MAX]) {
    size_t n = 0, skip = s->sent;
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        const struct buf *f = &w->jobs[s->job[i]].frame;
        size_t k = skip < f->len ? skip : f->len;
        skip -= k;
        if (k < f->len) iov[n++] = (struct iovec){f->data + k, f->len - k};
    }
    return n;
}

/* Sends what the socket takes of the frames; a dead worker shows up as an exit later. */
static void pump_out(struct worker_pool *w, struct slot *s) {
    struct iovec iov[RUN_MAX];
    size_t left;
    while ((left = unsent(w, s, iov)) > 0) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = left};
        ssize_t n = sendmsg(s->fd, &m, MSG_NOSIGNAL);
        if (n > 0) {
            s->sent += (size_t)n;
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        break;
    }
    bool more = left > 0;
    if (more != s->writing)
        watch_events(w, s, EPOLL_CTL_MOD, EPOLLIN | (more ? (uint32_t)EPOLLOUT : 0));
    s->writing = more;
}

/* The first job has its answer: the clock of the next one starts. */
static void next_job(struct worker_pool *w, struct slot *s, uint64_t now_us) {
    s->n_jobs--;
    memmove(s->job, s->job + 1, s->n_jobs * sizeof *s->job);
    s->wake_us = now_us + (uint64_t)w->cfg.wall_ms * 1000;
    s->proved = true;
    if (s->n_jobs == 0) s->state = SLOT_IDLE;
}

/* Whole replies in the order of the jobs. False: no worker says that. */
static bool take_replies(struct worker_pool *w, struct slot *s, uint64_t now_us) {
    size_t n = s->got / sizeof s->reply[0], rest = s->got % sizeof s->reply[0];
    for (size_t i = 0; i < n; i++) {
        size_t bytes = s->n_jobs > 0 ? w->jobs[s->job[0]].frame.len : 0;
        if (s->state != SLOT_BUSY || s->sent < bytes ||
            !worker_reply_is_sane(&s->reply[i], w->jobs[s->job[0]].id))
            return false;
        s->sent -= bytes;
        finish_job(w, s->job[0], &s->reply[i].result);
        next_job(w, s, now_us);
    }
    memmove(s->reply, (char *)s->reply + n * sizeof s->reply[0], rest);
    s->got = rest;
    return true;
}

/* Reads all replies that are there, or notices that the worker closed its end. */
static void pump_in(struct worker_pool *w, struct slot *s, uint64_t now_us) {
    while (s->fd >= 0) {
        size_t room = sizeof s->reply - s->got;
        ssize_t n = read(s->fd, (char *)s->reply + s->got, room);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n > 0) s->got += (size_t)n;
        /* Its process ends by itself, and its job is treated as after any death. */
        if (n <= 0 || !take_replies(w, s, now_us)) close_slot(s);
        if (n > 0 && (size_t)n < room) return; /* a short read: there is no more */
    }
}

/* The wall clock of a job starts when it is the first of its worker. */
static void start_jobs(struct worker_pool *w, struct slot *s, uint64_t now_us) {
    uint32_t n = w->queued.n / w->cfg.n;
    if (n < 1) n = 1;
    if (n > RUN_MAX) n = RUN_MAX;
    for (s->n_jobs = 0; s->n_jobs < n; s->n_jobs++)
        s->job[s->n_jobs] = ring_pop(&w->queued);
    s->state = SLOT_BUSY;
    s->sent = s->got = 0;
    s->wake_us = now_us + (uint64_t)w->cfg.wall_ms * 1000;
    pump_out(w, s);
}

/* All but the first, which ran, as if they had never been started. */
static void requeue_rest(struct worker_pool *w, struct slot *s) {
    while (s->n_jobs > 1)
        ring_push_front(&w->queued, s->job[--s->n_jobs]);
    s->n_jobs = 0;
}

static void describe_death(char text[64], int status) {
    if (WIFSIGNALED(status))
        snprintf(text, 64, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, 64, "exit status %d", WEXITSTATUS(status));
}

/* The process of s is gone: what becomes of its jobs, and when the next process starts. */
static void slot_died(struct worker_pool *w, struct slot *s, int status, uint64_t now_us) {
    char how[64];
    bool cpu = WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF;
    if (s->state == SLOT_BUSY) pump_in(w, s, now_us); /* it may have answered before it died */
    bool ran = s->n_jobs > 0;
    uint32_t job = s->job[0];
    close_slot(s);
    s->wake_us = s->proved || s->state == SLOT_KILLED || cpu ? now_us : now_us + PAUSE_US;
    s->state = SLOT_EMPTY;
    s->proved = false;
    requeue_rest(w, s);
    if (!ran) return;
    describe_death(how, status);
    if (cpu)
        finish_error(w, job, ERR_TIMEOUT, "the verifiers used more than %u ms of CPU",
                     w->cfg.cpu_ms);
    else if (++w->jobs[job].deaths < DEATHS_MAX)
        ring_push_front(&w->queued, job);
    else
        finish_error(w, job, ERR_CLOSED, "the verifier process died twice, last of %s", how);
}

/* fd is -1 when this process has no descriptor left: the new worker reads the end of its socket and
 * exits, and another try follows after the pause. */
static void slot_started(struct worker_pool *w, struct slot *s, int fd) {
    ASSERT(s->state == SLOT_STARTING);
    if (fd < 0) return;
    int rc = fcntl(fd, F_SETFL, O_NONBLOCK);
    ASSERT(rc == 0);
    s->fd = fd;
    s->state = SLOT_IDLE;
    watch_events(w, s, EPOLL_CTL_ADD, EPOLLIN);
}

/* ---- the pool ---- */

/* Starts and exits that the keeper reported. */
static int drain_keeper(struct worker_pool *w, uint64_t now_us) {
    struct spawner_message m;
    int rc, fd;
    while ((rc = spawner_receive(&m, &fd, w->keeper)) == 0) {
        ASSERT(m.slot < w->cfg.n);
        if (m.op == SPAWNER_SPAWNED)
            slot_started(w, &w->slots[m.slot], fd);
        else
            slot_died(w, &w->slots[m.slot], m.status, now_us);
    }
    return rc == ERR_AGAIN ? 0 : rc;
}

/* Bytes first, so that a reply that is already here beats its deadline. */
static void step_slot(struct worker_pool *w, struct slot *s, uint64_t now_us) {
    if (s->state == SLOT_BUSY && s->writing && s->fd >= 0) pump_out(w, s);
    if ((s->state == SLOT_BUSY || s->state == SLOT_IDLE) && s->fd >= 0) pump_in(w, s, now_us);
    if (s->state == SLOT_BUSY && now_us >= s->wake_us) {
        kill_slot(w, s);
        if (s->state != SLOT_KILLED) return; /* the keeper is busy or gone: the next step */
        uint32_t job = s->job[0];
        requeue_rest(w, s);
        finish_error(w, job, ERR_TIMEOUT, "the verifiers ran longer than %u ms", w->cfg.wall_ms);
    }
    if (s->state == SLOT_EMPTY && now_us >= s->wake_us &&
        spawner_send(w->keeper, SPAWNER_SPAWN, (uint32_t)(s - w->slots)) == 0) {
        s->state = SLOT_STARTING;
        w->stats.respawned += s->started;
        s->started = true;
    }
    if (s->state == SLOT_IDLE && s->fd >= 0 && w->queued.n > 0) start_jobs(w, s, now_us);
}

/* The keeper is gone, so its workers are: nothing that is here will be answered any more. */
static void give_up_all(struct worker_pool *w) {
    static const char text[] = "the keeper of the verifier processes died";
    w->broken = true;
    for (uint32_t i = 0; i < w->cfg.n; i++) {
        struct slot *s = &w->slots[i];
        for (uint32_t k = 0; k < s->n_jobs; k++)
            finish_error(w, s->job[k], ERR_CLOSED, text);
        close_slot(s);
        s->n_jobs = 0;
        s->state = SLOT_EMPTY;
    }
    while (w->queued.n > 0)
        finish_error(w, ring_pop(&w->queued), ERR_CLOSED, text);
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->keeper, NULL);
}

int worker_pool_step(struct worker_pool *w, uint64_t now_us) {
    if (w->broken) return FAIL(ERR_CLOSED, "the keeper of the verifier processes is gone");
    int rc = drain_keeper(w, now_us);
    for (uint32_t i = 0; i < w->cfg.n && rc == 0; i++)
        step_slot(w, &w->slots[i], now_us);
    if (rc < 0) give_up_all(w);
    return rc;
}

int worker_pool_fd(const struct worker_pool *w) {
    return w->epoll;
}

uint64_t worker_pool_wake_us(const struct worker_pool *w) {
    uint64_t first = UINT64_MAX;
    if (w->broken) return first;
    for (uint32_t i = 0; i < w->cfg.n; i++) {
        const struct slot *s = &w->slots[i];
        if ((s->state == SLOT_BUSY || s->state == SLOT_EMPTY) && s->wake_us < first)
            first = s->wake_us;
    }
    return first;
}

struct worker_pool_stats worker_pool_stats(const struct worker_pool *w) {
    return w->stats;
}

static int check_pool_config(struct worker_pool_config *c) {
    if (c->n < 1 || c->n > WORKER_POOL_MAX)
        return FAIL(ERR_CONFIG, "reward workers: %u, allowed 1 to %d", c->n, WORKER_POOL_MAX);
    if (c->jobs_max == 0) c->jobs_max = 4 * c->n;
    if (c->jobs_max > WORKER_POOL_JOBS_MAX)
        return FAIL(ERR_CONFIG, "reward jobs_max: %u, allowed 1 to %d", c->jobs_max,
                    WORKER_POOL_JOBS_MAX);
    if (c->cpu_ms == 0) c->cpu_ms = 1000;
    if (c->cpu_ms > 3600000)
        return FAIL(ERR_CONFIG, "reward cpu_ms: %u, allowed 1 to 3600000", c->cpu_ms);
    if (c->wall_ms == 0) c->wall_ms = 5 * c->cpu_ms;
    if (c->memory_mib == 0) c->memory_mib = 256;
    if (c->text_max == 0) c->text_max = 4u << 20;
    if (c->text_max > VERIFY_TEXT_MAX)
        return FAIL(ERR_CONFIG, "reward text_max: %u, allowed 1 to %d", c->text_max,
                    VERIFY_TEXT_MAX);
    return 0;
}

static void init_tables(struct worker_pool *w) {
    w->slots = mem_array(w->cfg.n, sizeof *w->slots);
    w->jobs = mem_array(w->cfg.jobs_max, sizeof *w->jobs);
    ring_init(&w->free, w->cfg.jobs_max);
    ring_init(&w->queued, w->cfg.jobs_max);
    ring_init(&w->done, w->cfg.jobs_max);
    for (uint32_t i = 0; i < w->cfg.n; i++)
        w->slots[i] = (struct slot){.fd = -1};
    for (uint32_t i = 0; i < w->cfg.jobs_max; i++)
        ring_push(&w->free, i);
}

/* The keeper is forked first, while this process has no threads and few descriptors of its own. */
int worker_pool_open(struct worker_pool **out, const struct worker_pool_config *cfg,
                     const struct verify *verify) {
    int rc = 0;
    struct worker_pool *w = mem_zalloc(sizeof *w);
    struct epoll_event e = {.events = EPOLLIN};
    w->cfg = *cfg;
    w->epoll = w->keeper = -1;
    TRY_OUT(check_pool_config(&w->cfg));
    init_tables(w);
    w->context = (struct worker_context){verify, w->cfg.cpu_ms, w->cfg.memory_mib, w->cfg.text_max};
    TRY_OUT(spawner_open(&w->keeper, &w->keeper_pid, w->cfg.n, worker_main, &w->context));
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->keeper, &e) < 0)
        TRY_OUT(FAIL(ERR_IO, "epoll: %s", strerror(errno)));
    TRY_OUT(worker_pool_step(w, clock_us()));
    *out = w;
    w = NULL;
out:
    worker_pool_close(&w);
    return rc;
}

void worker_pool_close(struct worker_pool **pool) {
    struct worker_pool *w = *pool;
    if (!w) return;
    for (uint32_t i = 0; w->slots && i < w->cfg.n; i++)
        close_slot(&w->slots[i]);
    if (w->keeper >= 0) spawner_close(&w->keeper, w->keeper_pid);
    if (w->epoll >= 0) close(w->epoll);
    for (uint32_t i = 0; w->jobs && i < w->cfg.jobs_max; i++)
        buf_close(&w->jobs[i].frame);
    mem_free(w->free.at);
    mem_free(w->queued.at);
    mem_free(w->done.at);
    mem_free(w->jobs);
    mem_free(w->slots);
    mem_free(w);
    *pool = NULL;
}
