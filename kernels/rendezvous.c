/* rendezvous.c - see rendezvous.h.
 *
 * The memory is a memfd that rank 0 makes and hands to the others over a socket in the abstract
 * namespace (unix(7)): neither has a name in a file system, so a crash at any moment leaves nothing
 * behind. Only processes of the same user are served.
 *
 * What a rank is about to do stands beside its arrival count: ranks that disagree get ERR_MISMATCH.
 * Nobody waits for a rank that cannot come: each watches the others' processes (pidfd_open(2), so
 * that no pid is mistaken for a later one), and a rank that closes says so. One that is alive and
 * does not arrive is named when the deadline passes. After a failure the meeting stays broken,
 * since the others' position is unknown. */
#include "kernels/rendezvous.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { SPINS = 2000, NAP_US = 50, WATCH_US = 500000, BEAT_US = 1000 };
enum { JOIN_MS = 30000 }; /* opening takes no longer, whatever the deadline of the calls */

static const char *const op_names[RENDEZVOUS_OPS] = {"nothing",        "barrier",    "all_reduce",
                                                     "reduce_scatter", "all_gather", "broadcast"};

/* What a rank shows to the others; one cache line */
struct seat {
    atomic_uint arrived; /* barriers reached */
    uint32_t op;
    int64_t n;
    atomic_uint beats, done; /* done: the value of arrived when it was done; */
    atomic_bool gave_up;     /* it waited too long for others */
    atomic_bool left;        /* it closed, and will not arrive again */
    int32_t pid;
    char pad[28];
};
_Static_assert(sizeof(struct seat) == 64, "one cache line");

struct rendezvous {
    int rank, n_ranks, deadline_ms;
    bool broken;
    unsigned round;
    size_t bytes;
    int *watch;         /* [n_ranks] pidfds; -1: not watched */
    struct seat *seats; /* [n_ranks], then the caller's memory */
};

struct hello { /* from a rank to rank 0 */
    uint32_t magic, zero;
    int32_t rank, n_ranks;
    uint64_t bytes;
};
static const uint32_t hello_magic = 0x57435232;

static uint64_t deadline_of(int deadline_ms) {
    return clock_us() + (uint64_t)deadline_ms * 1000;
}

/* --- barriers ------------------------------------------------------------------------------- */

static bool has_ended(const struct rendezvous *m, int rank) {
    struct pollfd p = {.fd = m->watch[rank], .events = POLLIN};
    return p.fd >= 0 && poll(&p, 1, 0) == 1;
}

/* Rounds wrap around; the distance does not. */
static bool has_arrived(const struct rendezvous *m, int rank) {
    return (int)(atomic_load(&m->seats[rank].arrived) - m->round) >= 0;
}

static bool has_left(const struct rendezvous *m, int rank) {
    return atomic_load(&m->seats[rank].left);
}

/* This rank is gone. One that died is named before one that left, perhaps because of it. */
static int fail_rank_gone(struct rendezvous *m, int rank) {
    for (int r = 0; r < m->n_ranks && has_left(m, rank); r++)
        if (!has_left(m, r) && has_ended(m, r)) rank = r;
    rendezvous_break(m);
    return FAIL(ERR_CLOSED, "coll: rank %d of %d %s (rank %d waits)", rank, m->n_ranks,
                has_left(m, rank) ? "has left" : "is dead", m->rank);
}

/* It may have arrived just before it went: then it did what was wanted of it. */
static int check_present(struct rendezvous *m, int rank) {
    if ((!has_left(m, rank) && !has_ended(m, rank)) || has_arrived(m, rank)) return 0;
    return fail_rank_gone(m, rank);
}

/* Spins first, since ranks mostly arrive together, then sleeps and looks whether the other lives.
 */
static int await_rank(struct rendezvous *m, int rank, uint64_t deadline) {
    for (int spins = 0;; spins++) {
        if (has_arrived(m, rank)) return 0;
        if (spins < SPINS) continue;
        if (spins < 2 * SPINS) {
            sched_yield();
            continue;
        }
        if (clock_us() > deadline) {
            rendezvous_break(m);
            return FAIL(ERR_TIMEOUT,
                        "coll: rank %d of %d did not arrive within %d ms (rank %d waits)", rank,
                        m->n_ranks, m->deadline_ms, m->rank);
        }
        TRY(check_present(m, rank));
        clock_sleep_us(NAP_US);
    }
}

int rendezvous_barrier(struct rendezvous *m) {
    const uint64_t deadline = deadline_of(m->deadline_ms);
    m->round++;
    atomic_store(&m->seats[m->rank].arrived, m->round);
    for (int r = 0; r < m->n_ranks; r++)
        TRY(await_rank(m, r, deadline));
    return 0;
}

/* The seats are read between the two barriers, and written only after that. */
int rendezvous_begin(struct rendezvous *m, enum rendezvous_op op, int64_t n) {
    if (m->broken) return FAIL(ERR_CLOSED, "coll: broken by an earlier failure");
    struct seat *own = &m->seats[m->rank];
    own->op = op;
    own->n = n;
    TRY(rendezvous_barrier(m));
    for (int r = 0; r < m->n_ranks; r++) {
        const struct seat *seat = &m->seats[r];
        if (seat->op == own->op && seat->n == own->n) continue;
        rendezvous_break(m);
        return FAIL(ERR_MISMATCH, "coll: rank %d does %s of %lld, rank %d %s of %lld", r,
                    op_names[seat->op % RENDEZVOUS_OPS], (long long)seat->n, m->rank, op_names[op],
                    (long long)n);
    }
    return rendezvous_barrier(m);
}

void rendezvous_break(struct rendezvous *m) {
    m->broken = true;
    atomic_store(&m->seats[m->rank].gave_up, true);
}

/* --- waiting for a device ------------------------------------------------------------------- */

void rendezvous_beat(struct rendezvous *m) {
    atomic_fetch_add(&m->seats[m->rank].beats, 1);
}

void rendezvous_done(struct rendezvous *m) {
    atomic_store(&m->seats[m->rank].done, m->round);
}

/* A rank that is done may be in a later round already. */
static bool rank_is_done(const struct rendezvous *m, int r) {
    return (int)(atomic_load(&m->seats[r].done) - m->round) >= 0;
}

int rendezvous_check(struct rendezvous *m) {
    for (int r = 0; r < m->n_ranks; r++)
        if ((has_left(m, r) || has_ended(m, r)) && !rank_is_done(m, r)) return fail_rank_gone(m, r);
    return 0;
}

/* Long enough for a busy machine to let each process run once. */
int rendezvous_silent(struct rendezvous *m) {
    unsigned beats[RENDEZVOUS_RANKS_MAX];
    const uint64_t until = clock_us() + WATCH_US;
    int silent = 0;
    for (int r = 0; r < m->n_ranks; r++)
        beats[r] = atomic_load(&m->seats[r].beats);
    while (silent >= 0 && clock_us() < until) {
        rendezvous_beat(m);
        clock_sleep_us(BEAT_US);
        silent = -1;
        for (int r = m->n_ranks; r-- > 0;)
            if (atomic_load(&m->seats[r].beats) == beats[r] && !rank_is_done(m, r) &&
                !atomic_load(&m->seats[r].gave_up))
                silent = r;
    }
    return silent;
}

/* --- opening -------------------------------------------------------------------------------- */

static int address_of(struct sockaddr_un *a, socklen_t *len, const char *name) {
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "weir-coll-%u-%s",
                     (unsigned)geteuid(), name);
    if (n < 0 || (size_t)n >= sizeof a->sun_path - 1)
        return FAIL(ERR_CONFIG, "coll: the name \"%s\" is longer than %zu bytes", name,
                    sizeof a->sun_path - 32);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    return 0;
}

static int map(struct rendezvous *m, int fd) {
    void *p = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return FAIL(ERR_NOMEM, "coll: mmap: %s", strerror(errno));
    m->seats = p;
    return 0;
}

static int set_timeout(int fd, int ms) {
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) < 0)
        return FAIL(ERR_IO, "coll: setsockopt: %s", strerror(errno));
    return 0;
}

static bool same_user(int fd) {
    struct ucred cred;
    socklen_t len = sizeof cred;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == geteuid();
}

static int send_fd(int to, int fd) {
    char byte = 1;
    struct iovec io = {.iov_base = &byte, .iov_len = 1};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {0};
    struct msghdr msg = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    if (sendmsg(to, &msg, MSG_NOSIGNAL) == 1) return 0;
    return FAIL(ERR_IO, "coll: sendmsg: %s", strerror(errno));
}

static int receive_fd(int *fd, int from) {
    char byte = 0;
    struct iovec io = {.iov_base = &byte, .iov_len = 1};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof *fd)] = {0};
    struct msghdr msg = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(from, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h = n == 1 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (!h || h->cmsg_type != SCM_RIGHTS)
        return FAIL(ERR_CLOSED, "coll: rank 0 refused or went away");
    memcpy(fd, CMSG_DATA(h), sizeof *fd);
    return 0;
}

/* Rank 0: accepts one rank and sends it the memory; marks it in seen. Strangers are dropped. */
static int serve_one(struct rendezvous *m, int listener, int memory, bool *seen, int *n_seen) {
    struct hello hello;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return 0;
    if (fd < 0) return FAIL(ERR_IO, "coll: accept: %s", strerror(errno));
    int rc = set_timeout(fd, 1000);
    if (rc == 0 && same_user(fd) && recv(fd, &hello, sizeof hello, MSG_WAITALL) == sizeof hello &&
        hello.magic == hello_magic) {
        if (hello.n_ranks != m->n_ranks || hello.bytes != m->bytes || hello.rank < 1 ||
            hello.rank >= m->n_ranks || seen[hello.rank]) {
            rc = FAIL(ERR_MISMATCH, "coll: a process joins as rank %d of %d, here are %d ranks%s",
                      hello.rank, hello.n_ranks, m->n_ranks, " and each joins once");
        } else {
            rc = send_fd(fd, memory);
            seen[hello.rank] = true;
            ++*n_seen;
        }
    }
    close(fd);
    return rc;
}

static int join_ms(const struct rendezvous *m) {
    return m->deadline_ms < JOIN_MS ? m->deadline_ms : JOIN_MS;
}

static int serve_all(struct rendezvous *m, int listener, int memory) {
    bool seen[RENDEZVOUS_RANKS_MAX] = {true};
    const uint64_t deadline = deadline_of(join_ms(m));
    int n_seen = 1;
    while (n_seen < m->n_ranks) {
        if (clock_us() > deadline)
            for (int r = 0; r < m->n_ranks; r++)
                if (!seen[r])
                    return FAIL(ERR_TIMEOUT, "coll: rank %d of %d did not join within %d ms", r,
                                m->n_ranks, join_ms(m));
        TRY(serve_one(m, listener, memory, seen, &n_seen));
    }
    return 0;
}

/* Rank 0: makes the shared memory and gives it to all others, who are listened for by name. */
static int open_first(struct rendezvous *m, const char *name) {
    int rc = 0, listener = -1, memory = -1;
    struct sockaddr_un a;
    socklen_t len = 0;
    TRY(address_of(&a, &len, name));
    memory = memfd_create("weir-meet", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, (off_t)m->bytes) < 0) {
        rc = FAIL(ERR_NOMEM, "coll: %zu bytes of shared memory: %s", m->bytes, strerror(errno));
        goto out;
    }
    TRY_OUT(map(m, memory));
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, len) < 0 ||
        listen(listener, RENDEZVOUS_RANKS_MAX) < 0) {
        rc = FAIL(ERR_IO, "coll: listening as \"%s\": %s", name, strerror(errno));
        goto out;
    }
    TRY_OUT(set_timeout(listener, 20));
    TRY_OUT(serve_all(m, listener, memory));
out:
    if (listener >= 0) close(listener);
    if (memory >= 0) close(memory);
    return rc;
}

/* Connects to rank 0, which may not be there yet. */
static int call_first(int *out, const struct rendezvous *m, const char *name) {
    const uint64_t deadline = deadline_of(join_ms(m));
    struct sockaddr_un a;
    socklen_t len = 0;
    TRY(address_of(&a, &len, name));
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) return FAIL(ERR_IO, "coll: socket: %s", strerror(errno));
        if (connect(fd, (struct sockaddr *)&a, len) == 0) {
            *out = fd;
            return 0;
        }
        int reason = errno;
        close(fd);
        if (reason != ECONNREFUSED && reason != EAGAIN && reason != EINTR)
            return FAIL(ERR_IO, "coll: joining \"%s\": %s", name, strerror(reason));
        if (clock_us() > deadline)
            return FAIL(ERR_TIMEOUT, "coll: rank 0 of %d did not arrive within %d ms", m->n_ranks,
                        join_ms(m));
        clock_sleep_us(2000);
    }
}

/* Any other rank: asks rank 0 for the memory. The name is in a space that all users of the machine
 * share, so both sides look who the other is. */
static int open_other(struct rendezvous *m, const char *name) {
    int rc = 0, fd = -1, memory = -1;
    struct hello hello = {
        .magic = hello_magic, .rank = m->rank, .n_ranks = m->n_ranks, .bytes = m->bytes};
    TRY(call_first(&fd, m, name));
    TRY_OUT(set_timeout(fd, join_ms(m)));
    if (!same_user(fd)) {
        rc = FAIL(ERR_CONFIG, "coll: \"%s\" belongs to another user", name);
        goto out;
    }
    if (send(fd, &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello) {
        rc = FAIL(ERR_CLOSED, "coll: rank 0 went away: %s", strerror(errno));
        goto out;
    }
    TRY_OUT(receive_fd(&memory, fd));
    TRY_OUT(map(m, memory));
out:
    if (memory >= 0) close(memory);
    close(fd);
    return rc;
}

/* Who the others are is known after the first barrier; until then the deadline has to do. */
static int see_each_other(struct rendezvous *m) {
    m->seats[m->rank].pid = (int32_t)getpid();
    TRY(rendezvous_barrier(m));
    for (int r = 0; r < m->n_ranks; r++)
        if (r != m->rank) m->watch[r] = (int)syscall(SYS_pidfd_open, m->seats[r].pid, 0);
    return 0;
}

int rendezvous_open(struct rendezvous **out, const char *name, int rank, int n_ranks,
                    int deadline_ms, size_t bytes) {
    if (n_ranks < 2 || n_ranks > RENDEZVOUS_RANKS_MAX)
        return FAIL(ERR_UNSUP, "coll: %d ranks, wanted 2 to %d", n_ranks, RENDEZVOUS_RANKS_MAX);
    struct rendezvous *m = mem_zalloc(sizeof *m);
    m->rank = rank;
    m->n_ranks = n_ranks;
    m->deadline_ms = deadline_ms;
    m->bytes = (size_t)n_ranks * sizeof(struct seat) + bytes;
    m->watch = mem_array((size_t)n_ranks, sizeof *m->watch);
    for (int r = 0; r < n_ranks; r++)
        m->watch[r] = -1;
    int rc = rank == 0 ? open_first(m, name) : open_other(m, name);
    if (rc == 0) rc = see_each_other(m);
    if (rc < 0) {
        rendezvous_close(&m);
        return rc;
    }
    *out = m;
    return 0;
}

void rendezvous_close(struct rendezvous **mm) {
    struct rendezvous *m = *mm;
    if (!m) return;
    if (m->seats) {
        atomic_store(&m->seats[m->rank].left, true);
        ASSERT(munmap(m->seats, m->bytes) == 0);
    }
    for (int r = 0; r < m->n_ranks; r++)
        if (m->watch[r] >= 0) close(m->watch[r]);
    mem_free(m->watch);
    mem_free(m);
    *mm = NULL;
}

void *rendezvous_memory(struct rendezvous *m) {
    return m->seats + m->n_ranks;
}
