/* ranks.c - see ranks.h. The others are started by fork and exec, not by fork alone: rank 0 may
 * have threads, sockets and a driver's context that must not be inherited. A socket pair each, so
 * that the end of a process is the end of its socket, in both directions.
 *
 * A rank is ready when it has understood its recipe and opened its device, and only then does
 * anybody enter the communicator: whatever fails before is told in plain words at once. The
 * collectives say that a rank is gone, not why; the rank says why over the socket, unless a signal
 * ended it. */
#include "trainer/ranks/ranks.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS_TEXT_MAX = 4 << 20, RANKS_GRACE_US = 5 * 1000 * 1000, RANKS_WHY = 1000 };

struct peer {
    int fd;    /* -1: none */
    pid_t pid; /* rank 0 only; 0: none, or ended */
    int status;
};

struct ranks {
    int rank, n, timeout_ms;
    char name[64]; /* of the communicator */
    const struct kern_backend *backend;
    struct kern_coll *coll;
    struct peer *peer; /* rank 0: [n]; the others: [0] only */
    bool told;
};

/* Rank 0 to another; the recipe and model_dir follow. */
struct hello {
    int32_t rank, n, timeout_ms;
    uint32_t recipe_bytes, dir_bytes;
    char name[64], device[64]; /* trainer.device of this rank */
};

/* Another rank to rank 0; rc 0: it is ready. */
struct word {
    int32_t rc;
    char text[RANKS_WHY];
};

int ranks_threads(const struct recipe *r) {
    cpu_set_t set;
    int64_t n = r->trainer.threads;
    if (n > 0 || r->trainer.ranks < 2 || sched_getaffinity(0, sizeof set, &set) != 0) return (int)n;
    n = CPU_COUNT(&set) / r->trainer.ranks;
    return n > 0 ? (int)n : 1;
}

struct shard_ranks ranks_place(const struct ranks *r) {
    return (struct shard_ranks){.coll = r->coll, .rank = r->rank, .n = r->n};
}

/* --- the socket ---------------------------------------------------------------------------- */

static int send_bytes(int fd, const void *data, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        ssize_t n = send(fd, (const char *)data + at, bytes - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return FAIL(ERR_CLOSED, "a rank of the trainer is gone: %s", strerror(errno));
        at += (size_t)n;
    }
    return 0;
}

static int receive_bytes(int fd, void *out, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        ssize_t n = recv(fd, (char *)out + at, bytes - at, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN)
            return FAIL(ERR_TIMEOUT, "a rank of the trainer says nothing");
        if (n < 0 && errno != ECONNRESET)
            return FAIL(ERR_IO, "a rank of the trainer: %s", strerror(errno));
        if (n <= 0) return FAIL(ERR_CLOSED, "a rank of the trainer is gone");
        at += (size_t)n;
    }
    return 0;
}

/* --- starting ------------------------------------------------------------------------------ */

/* In the child: only async-signal-safe calls. */
static _Noreturn void exec_rank(int fd, char *const *args, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); /* the parent died before prctl */
    if (fd == RANKS_FD ? fcntl(fd, F_SETFD, 0) < 0 : dup2(fd, RANKS_FD) < 0) _exit(1);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) _exit(1);
    close_range(RANKS_FD + 1, ~0U, 0);
    execv("/proc/self/exe", args);
    _exit(127);
}

/* Rank 0 waits for answers only while all start; the others wait for a command without limit. */
static int limit_waiting(int fd, int ms) {
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0) return 0;
    return FAIL(ERR_IO, "socket of a rank: %s", strerror(errno));
}

static int start_rank(struct ranks *r, int rank) {
    char number[16];
    char verb[] = "trainer-rank", option[] = "--rank", weir[] = "weir";
    char *const args[] = {weir, verb, option, number, NULL};
    int pair[2];
    pid_t parent = getpid();
    snprintf(number, sizeof number, "%d", rank);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return FAIL(ERR_IO, "socket of rank %d: %s", rank, strerror(errno));
    pid_t pid = fork();
    if (pid == 0) exec_rank(pair[1], args, parent);
    close(pair[1]);
    r->peer[rank].fd = pair[0];
    if (pid < 0) return FAIL(ERR_IO, "cannot start rank %d: %s", rank, strerror(errno));
    r->peer[rank].pid = pid;
    return limit_waiting(pair[0], r->timeout_ms);
}

/* GPUs: one for each rank, from rank 0's on. Processors: the same ones for all. */
static int device_of(char *out, size_t n, const struct ranks *r, const char *device, int rank) {
    bool is_auto = strcmp(device, "auto") == 0;
    const char *kind = is_auto ? r->backend->name : device, *colon = strchr(kind, ':');
    int first = 0, got, chars = colon ? (int)(colon - kind) : (int)strlen(kind);
    if (colon && sscanf(colon + 1, "%d", &first) != 1) first = 0;
    if (r->backend->numbered)
        got = snprintf(out, n, "trainer.device=%.*s:%d", chars, kind, first + rank);
    else
        got = snprintf(out, n, "trainer.device=%s", kind);
    if (got < 0 || (size_t)got >= n) return FAIL(ERR_CONFIG, "device \"%s\" is too long", device);
    return 0;
}

static int send_hello(struct ranks *r, int rank, const struct recipe *of, const struct buf *recipe,
                      const char *dir) {
    int fd = r->peer[rank].fd;
    struct hello h = {.rank = rank,
                      .n = r->n,
                      .timeout_ms = r->timeout_ms,
                      .recipe_bytes = (uint32_t)recipe->len,
                      .dir_bytes = (uint32_t)strlen(dir)};
    memcpy(h.name, r->name, sizeof h.name);
    TRY(device_of(h.device, sizeof h.device, r, of->trainer.device, rank));
    TRY(send_bytes(fd, &h, sizeof h));
    TRY(send_bytes(fd, recipe->data, recipe->len));
    return send_bytes(fd, dir, strlen(dir));
}

/* All are started before the first is sent its recipe, so that they start side by side. */
int ranks_start(struct ranks **out, const struct recipe *recipe, const char *model_dir,
                const struct kern_backend *b) {
    struct ranks *r = mem_zalloc(sizeof *r);
    struct buf text = {0};
    int rc = 0;
    r->backend = b;
    r->n = (int)recipe->trainer.ranks;
    r->timeout_ms = (int)recipe->trainer.rank_timeout_ms;
    r->peer = mem_array((size_t)r->n, sizeof *r->peer);
    for (int i = 0; i < r->n; i++)
        r->peer[i].fd = -1;
    snprintf(r->name, sizeof r->name, "trainer-%d-%" PRIu64, (int)getpid(), clock_us());
    recipe_print(recipe, &text);
    for (int i = 1; i < r->n; i++)
        TRY_OUT(start_rank(r, i));
    for (int i = 1; i < r->n; i++)
        TRY_OUT(ranks_explain(r, send_hello(r, i, recipe, &text, model_dir)));
    *out = r;
    r = NULL;
out:
    buf_close(&text);
    ranks_close(&r);
    return rc;
}

/* --- joining ------------------------------------------------------------------------------- */

/* The first message of rank 0. On failure *dir is still the caller's to free. */
static int read_hello(struct ranks *r, struct recipe **recipe, char **dir) {
    struct hello h;
    int fd = r->peer[0].fd;
    char *text = NULL;
    int rc;
    TRY_OUT(receive_bytes(fd, &h, sizeof h));
    if (h.recipe_bytes > RANKS_TEXT_MAX || h.dir_bytes > RANKS_TEXT_MAX || h.rank < 1 ||
        h.rank >= h.n || !memchr(h.name, '\0', sizeof h.name) ||
        !memchr(h.device, '\0', sizeof h.device))
        TRY_OUT(FAIL(ERR_CORRUPT, "rank %d of %d trainers: bad greeting", h.rank, h.n));
    r->rank = h.rank;
    r->n = h.n;
    r->timeout_ms = h.timeout_ms;
    memcpy(r->name, h.name, sizeof r->name);
    text = mem_zalloc((size_t)h.recipe_bytes + 1);
    *dir = mem_zalloc((size_t)h.dir_bytes + 1);
    TRY_OUT(receive_bytes(fd, text, h.recipe_bytes));
    TRY_OUT(receive_bytes(fd, *dir, h.dir_bytes));
    const char *const device[] = {h.device};
    TRY_OUT(recipe_parse(recipe, text, h.recipe_bytes, "recipe of rank 0", device, 1));
out:
    mem_free(text);
    return rc;
}

int ranks_join(struct ranks **out, int fd, struct recipe **recipe, char **model_dir) {
    struct ranks *r = mem_zalloc(sizeof *r);
    *recipe = NULL;
    *model_dir = NULL;
    r->peer = mem_zalloc(sizeof *r->peer);
    r->peer[0].fd = fd;
    int rc = read_hello(r, recipe, model_dir);
    if (rc < 0) {
        mem_free(*model_dir);
        ranks_close(&r);
        return rc;
    }
    *out = r;
    return 0;
}

/* --- ending -------------------------------------------------------------------------------- */

/* Blocks until the process ends, or until `until_us`, then kills it. */
static void reap_rank(struct peer *p, uint64_t until_us) {
    while (p->pid > 0) {
        pid_t got = waitpid(p->pid, &p->status, WNOHANG);
        if (got == p->pid || (got < 0 && errno == ECHILD)) p->pid = 0;
        if (p->pid == 0) return;
        if (clock_us() > until_us) kill(p->pid, SIGKILL);
        clock_sleep_us(1000);
    }
}

void ranks_close(struct ranks **rr) {
    struct ranks *r = *rr;
    if (!r) return;
    uint64_t until = clock_us() + RANKS_GRACE_US;
    if (r->coll) kern_coll_close(r->backend, r->coll);
    int n = r->rank == 0 ? r->n : 1;
    for (int i = 0; i < n; i++)
        if (r->peer[i].fd >= 0) close(r->peer[i].fd);
    for (int i = 0; i < n; i++)
        reap_rank(&r->peer[i], until);
    mem_free(r->peer);
    mem_free(r);
    *rr = NULL;
}

/* What rank i has reported, without waiting. */
static bool receive_word(const struct ranks *r, int i, struct word *w) {
    ssize_t n = recv(r->peer[i].fd, w, sizeof *w, MSG_DONTWAIT);
    return n == (ssize_t)sizeof *w;
}

/* A process that is killed closes its sockets before its parent can wait for it: one that hung up
 * without a word is given the time to end. */
static bool was_killed(struct peer *p) {
    char byte;
    ssize_t n = recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    bool silent = n == 0 || (n < 0 && errno == ECONNRESET);
    uint64_t until_us = clock_us() + RANKS_GRACE_US;
    while (p->pid > 0) {
        if (waitpid(p->pid, &p->status, WNOHANG) == p->pid) p->pid = 0;
        if (!silent || p->pid == 0 || clock_us() > until_us) break;
        clock_sleep_us(1000);
    }
    return p->pid == 0 && WIFSIGNALED(p->status);
}

/* A rank that was killed is named first: what the others report follows from its death. */
static int explain_others(struct ranks *r, int rc) {
    for (int i = 1; i < r->n; i++)
        if (was_killed(&r->peer[i]))
            return FAIL(ERR_CLOSED, "rank %d of %d of the trainer was killed by signal %d", i, r->n,
                        WTERMSIG(r->peer[i].status));
    for (int i = 1; i < r->n; i++) {
        struct word w;
        if (!receive_word(r, i, &w) || w.rc == 0 || w.rc == ERR_CLOSED) continue;
        return FAIL(w.rc, "rank %d of %d of the trainer: %.*s", i, r->n, RANKS_WHY, w.text);
    }
    return rc;
}

int ranks_explain(struct ranks *r, int rc) {
    if (!r || rc >= 0) return rc;
    if (r->rank == 0) return rc == ERR_CLOSED || rc == ERR_TIMEOUT ? explain_others(r, rc) : rc;
    if (r->told) return rc;
    struct word w = {.rc = rc};
    r->told = true;
    snprintf(w.text, sizeof w.text, "%s", err_text());
    char *why = mem_strdup(err_text());
    if (send_bytes(r->peer[0].fd, &w, sizeof w) < 0) rc = FAIL(rc, "%s", why);
    mem_free(why);
    return rc;
}

/* --- connecting and commands --------------------------------------------------------------- */

static int await_ready(struct ranks *r) {
    for (int i = 1; i < r->n; i++) {
        struct word w;
        int rc = receive_bytes(r->peer[i].fd, &w, sizeof w);
        if (rc == ERR_TIMEOUT)
            return err_wrap(rc, "rank %d of %d, at its start, within %d ms", i, r->n,
                            r->timeout_ms);
        if (rc < 0) {
            reap_rank(&r->peer[i], clock_us() + RANKS_GRACE_US);
            if (was_killed(&r->peer[i])) return ranks_explain(r, rc);
            return FAIL(ERR_CLOSED, "rank %d of %d of the trainer ended at its start (status %d)",
                        i, r->n, WEXITSTATUS(r->peer[i].status));
        }
        if (w.rc < 0)
            return FAIL(w.rc, "rank %d of %d of the trainer: %.*s", i, r->n, RANKS_WHY, w.text);
    }
    return 0;
}

int ranks_connect(struct ranks *r, const struct kern_backend *b) {
    struct word ready = {0};
    r->backend = b;
    if (r->rank == 0)
        TRY(await_ready(r));
    else
        TRY(send_bytes(r->peer[0].fd, &ready, sizeof ready));
    return kern_coll_open(b, &r->coll, r->name, r->rank, r->n, r->timeout_ms);
}

int ranks_send(struct ranks *r, const struct ranks_command *c) {
    ASSERT(r->rank == 0);
    for (int i = 1; i < r->n; i++)
        TRY(ranks_explain(r, send_bytes(r->peer[i].fd, c, sizeof *c)));
    return 0;
}

int ranks_receive(struct ranks *r, struct ranks_command *out) {
    ASSERT(r->rank > 0);
    return receive_bytes(r->peer[0].fd, out, sizeof *out);
}
