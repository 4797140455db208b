/* coll_shm.c - collectives between the ranks of one machine, through shared memory.
 *
 * The memory is a memfd that rank 0 makes and hands to the others over a socket in the abstract
 * namespace (unix(7)): neither has a name in a file system, so a crash at any moment leaves nothing
 * behind. Only processes of the same user are served.
 *
 * Each rank has a slot; a collective of any size goes through the slots piece by piece, with a
 * barrier after the slots are written and one after they were read. Sums are taken per element in
 * rank order, each rank for a part of the elements, so that all ranks get the same bits. What a
 * rank is about to do stands beside its arrival count: ranks that disagree get ERR_MISMATCH, and
 * a rank that does not arrive is named when the deadline passes. After a failure the communicator
 * stays broken, since the others' position is unknown. */
#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    RANKS_MAX = 256,
    SLOT = 256 << 10, /* floats: 1 MiB per rank */
    SPINS = 2000,
    NAP_US = 50
};

enum op { OP_BARRIER = 1, OP_ALL_REDUCE, OP_REDUCE_SCATTER, OP_ALL_GATHER, OP_BROADCAST };
static const char *const op_names[] = {"nothing",        "barrier",    "all_reduce",
                                       "reduce_scatter", "all_gather", "broadcast"};

struct seat {            /* what a rank shows to the others; one cache line */
    atomic_uint arrived; /* barriers reached */
    uint32_t op;
    int64_t n;
    char pad[48];
};

struct kern_coll {
    int rank, n_ranks, deadline_ms;
    bool broken;
    unsigned round;
    size_t bytes;
    struct seat *seats; /* [n_ranks], then slots, then the result */
    float *slots, *result;
};

struct hello { /* from a rank to rank 0 */
    uint32_t magic;
    int32_t rank, n_ranks;
};
static const uint32_t hello_magic = 0x57435231;

static uint64_t deadline_of(int deadline_ms) {
    return clock_us() + (uint64_t)deadline_ms * 1000;
}

/* --- barriers -----------------------------------------------------------------------------------
 */

static int await_rank(struct kern_coll *c, int rank, uint64_t deadline) {
    for (int spins = 0;; spins++) {
        /* rounds wrap around; the distance does not */
        if ((int)(atomic_load(&c->seats[rank].arrived) - c->round) >= 0) return 0;
        if (spins < SPINS) continue;
        if (spins < 2 * SPINS) {
            sched_yield();
            continue;
        }
        if (clock_us() > deadline) {
            c->broken = true;
            return FAIL(ERR_TIMEOUT,
                        "coll: rank %d of %d did not arrive within %d ms (rank %d waits)", rank,
                        c->n_ranks, c->deadline_ms, c->rank);
        }
        clock_sleep_us(NAP_US);
    }
}

static int barrier(struct kern_coll *c) {
    const uint64_t deadline = deadline_of(c->deadline_ms);
    c->round++;
    atomic_store(&c->seats[c->rank].arrived, c->round);
    for (int r = 0; r < c->n_ranks; r++)
        TRY(await_rank(c, r, deadline));
    return 0;
}

/* First barrier of a collective: all ranks mean the same one. The seats are read between this
 * barrier and the next, and written only after that. */
static int begin(struct kern_coll *c, enum op op, int64_t n) {
    if (c->broken) return FAIL(ERR_CLOSED, "coll: broken by an earlier failure");
    struct seat *own = &c->seats[c->rank];
    own->op = op;
    own->n = n;
    TRY(barrier(c));
    for (int r = 0; r < c->n_ranks; r++) {
        const struct seat *seat = &c->seats[r];
        if (seat->op == own->op && seat->n == own->n) continue;
        c->broken = true;
        return FAIL(ERR_MISMATCH, "coll: rank %d does %s of %lld, rank %d %s of %lld", r,
                    op_names[seat->op % 6], (long long)seat->n, c->rank, op_names[op],
                    (long long)n);
    }
    return barrier(c);
}

static float *slot_of(struct kern_coll *c, int rank) {
    return c->slots + (int64_t)rank * SLOT;
}

/* out[i] = sum over ranks of slot[rank][at + i], rank 0 first. */
static void sum_slots(struct kern_coll *c, float *out, int64_t at, int64_t n) {
    memcpy(out, slot_of(c, 0) + at, (size_t)n * sizeof *out);
    for (int r = 1; r < c->n_ranks; r++) {
        struct flat_args add = {.out = out, .a = out, .b = slot_of(c, r) + at};
        cpu_isa()->add(&add, 0, n, NULL);
    }
}

/* --- opening ------------------------------------------------------------------------------------
 */

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

static int map(struct kern_coll *c, int fd) {
    void *p = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return FAIL(ERR_NOMEM, "coll: mmap: %s", strerror(errno));
    c->seats = p;
    c->slots = (float *)(c->seats + c->n_ranks);
    c->result = c->slots + (int64_t)c->n_ranks * SLOT;
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
    struct msghdr m = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    if (sendmsg(to, &m, MSG_NOSIGNAL) == 1) return 0;
    return FAIL(ERR_IO, "coll: sendmsg: %s", strerror(errno));
}

static int receive_fd(int *fd, int from) {
    char byte = 0;
    struct iovec io = {.iov_base = &byte, .iov_len = 1};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof *fd)] = {0};
    struct msghdr m = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
    if (!h || h->cmsg_type != SCM_RIGHTS)
        return FAIL(ERR_CLOSED, "coll: rank 0 refused or went away");
    memcpy(fd, CMSG_DATA(h), sizeof *fd);
    return 0;
}

/* Rank 0: accepts one rank and sends it the memory; marks it in seen. Strangers are dropped. */
static int serve_one(struct kern_coll *c, int listener, int memory, bool *seen, int *n_seen) {
    struct hello hello;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return 0;
    if (fd < 0) return FAIL(ERR_IO, "coll: accept: %s", strerror(errno));
    int rc = set_timeout(fd, 1000);
    if (rc == 0 && same_user(fd) && recv(fd, &hello, sizeof hello, MSG_WAITALL) == sizeof hello &&
        hello.magic == hello_magic) {
        if (hello.n_ranks != c->n_ranks || hello.rank < 1 || hello.rank >= c->n_ranks ||
            seen[hello.rank]) {
            rc = FAIL(ERR_MISMATCH, "coll: a process joins as rank %d of %d, here are %d ranks%s",
                      hello.rank, hello.n_ranks, c->n_ranks, " and each joins once");
        } else {
            rc = send_fd(fd, memory);
            seen[hello.rank] = true;
            ++*n_seen;
        }
    }
    close(fd);
    return rc;
}

static int serve_all(struct kern_coll *c, int listener, int memory) {
    bool seen[RANKS_MAX] = {true};
    const uint64_t deadline = deadline_of(c->deadline_ms);
    int n_seen = 1;
    while (n_seen < c->n_ranks) {
        if (clock_us() > deadline)
            for (int r = 0; r < c->n_ranks; r++)
                if (!seen[r])
                    return FAIL(ERR_TIMEOUT, "coll: rank %d of %d did not join within %d ms", r,
                                c->n_ranks, c->deadline_ms);
        TRY(serve_one(c, listener, memory, seen, &n_seen));
    }
    return 0;
}

static int open_first(struct kern_coll *c, const char *name) {
    int rc = 0, listener = -1, memory = -1;
    struct sockaddr_un a;
    socklen_t len = 0;
    TRY(address_of(&a, &len, name));
    memory = memfd_create("weir-coll", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, (off_t)c->bytes) < 0) {
        rc = FAIL(ERR_NOMEM, "coll: %zu bytes of shared memory: %s", c->bytes, strerror(errno));
        goto out;
    }
    TRY_OUT(map(c, memory));
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, len) < 0 ||
        listen(listener, RANKS_MAX) < 0) {
        rc = FAIL(ERR_IO, "coll: listening as \"%s\": %s", name, strerror(errno));
        goto out;
    }
    TRY_OUT(set_timeout(listener, 20));
    TRY_OUT(serve_all(c, listener, memory));
out:
    if (listener >= 0) close(listener);
    if (memory >= 0) close(memory);
    return rc;
}

/* Connects to rank 0, which may not be there yet. */
static int call_first(int *out, const struct kern_coll *c, const char *name) {
    const uint64_t deadline = deadline_of(c->deadline_ms);
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
            return FAIL(ERR_TIMEOUT, "coll: rank 0 of %d did not arrive within %d ms", c->n_ranks,
                        c->deadline_ms);
        clock_sleep_us(2000);
    }
}

static int open_other(struct kern_coll *c, const char *name) {
    int rc = 0, fd = -1, memory = -1;
    struct hello hello = {.magic = hello_magic, .rank = c->rank, .n_ranks = c->n_ranks};
    TRY(call_first(&fd, c, name));
    TRY_OUT(set_timeout(fd, c->deadline_ms));
    if (!same_user(fd)) {
        rc = FAIL(ERR_CONFIG, "coll: \"%s\" belongs to another user", name);
        goto out;
    }
    if (send(fd, &hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello) {
        rc = FAIL(ERR_CLOSED, "coll: rank 0 went away: %s", strerror(errno));
        goto out;
    }
    TRY_OUT(receive_fd(&memory, fd));
    TRY_OUT(map(c, memory));
out:
    if (memory >= 0) close(memory);
    close(fd);
    return rc;
}

int cpu_coll_open(struct kern_coll **out, const char *name, int rank, int n_ranks,
                  int deadline_ms) {
    if (n_ranks > RANKS_MAX)
        return FAIL(ERR_UNSUP, "coll: %d ranks, at most %d", n_ranks, RANKS_MAX);
    struct kern_coll *c = mem_zalloc(sizeof *c);
    c->rank = rank;
    c->n_ranks = n_ranks;
    c->deadline_ms = deadline_ms;
    c->bytes =
        (size_t)n_ranks * (sizeof(struct seat) + SLOT * sizeof(float)) + SLOT * sizeof(float);
    int rc = n_ranks == 1 ? 0 : rank == 0 ? open_first(c, name) : open_other(c, name);
    if (rc == 0 && n_ranks > 1) rc = barrier(c);
    if (rc < 0) {
        cpu_coll_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void cpu_coll_close(struct kern_coll *c) {
    if (c->seats) ASSERT(munmap(c->seats, c->bytes) == 0);
    mem_free(c);
}

/* --- the collectives ----------------------------------------------------------------------------
 */

int cpu_coll_barrier(struct kern_coll *c) {
    return c->n_ranks == 1 ? 0 : begin(c, OP_BARRIER, 0);
}

int cpu_coll_all_reduce(struct kern_coll *c, ops_s s, kern_arg x) {
    const int64_t n = kern_elements(x);
    (void)s;
    if (c->n_ranks == 1) return 0;
    TRY(begin(c, OP_ALL_REDUCE, n));
    for (int64_t i = 0; i < n; i += SLOT) {
        const int64_t m = n - i < SLOT ? n - i : SLOT;
        const int64_t from = m * c->rank / c->n_ranks, to = m * (c->rank + 1) / c->n_ranks;
        memcpy(slot_of(c, c->rank), host_f32(x) + i, (size_t)m * sizeof(float));
        TRY(barrier(c));
        sum_slots(c, c->result + from, from, to - from);
        TRY(barrier(c));
        memcpy(host_f32(x) + i, c->result, (size_t)m * sizeof(float));
    }
    return 0;
}

/* x holds one shard of n elements per rank. */
static int check_shards(const struct kern_coll *c, const char *op, kern_arg x, int64_t n) {
    if (kern_elements(x) == n * c->n_ranks) return 0;
    return FAIL(ERR_CONFIG, "%s: %lld elements, wanted %d shards of %lld", op,
                (long long)kern_elements(x), c->n_ranks, (long long)n);
}

int cpu_coll_reduce_scatter(struct kern_coll *c, ops_s s, kern_arg shard, kern_arg x) {
    const int64_t n = kern_elements(shard), piece = SLOT / c->n_ranks;
    (void)s;
    TRY(check_shards(c, "coll_reduce_scatter", x, n));
    if (c->n_ranks == 1) {
        memmove(shard->data, x->data, (size_t)n * sizeof(float));
        return 0;
    }
    TRY(begin(c, OP_REDUCE_SCATTER, n));
    for (int64_t i = 0; i < n; i += piece) {
        const int64_t m = n - i < piece ? n - i : piece;
        for (int r = 0; r < c->n_ranks; r++)
            memcpy(slot_of(c, c->rank) + r * piece, host_f32(x) + r * n + i,
                   (size_t)m * sizeof(float));
        TRY(barrier(c));
        sum_slots(c, host_f32(shard) + i, c->rank * piece, m);
        TRY(barrier(c));
    }
    return 0;
}

int cpu_coll_all_gather(struct kern_coll *c, ops_s s, kern_arg x, kern_arg shard) {
    const int64_t n = kern_elements(shard);
    (void)s;
    TRY(check_shards(c, "coll_all_gather", x, n));
    if (c->n_ranks == 1) {
        memmove(x->data, shard->data, (size_t)n * sizeof(float));
        return 0;
    }
    TRY(begin(c, OP_ALL_GATHER, n));
    for (int64_t i = 0; i < n; i += SLOT) {
        const int64_t m = n - i < SLOT ? n - i : SLOT;
        memcpy(slot_of(c, c->rank), host_f32(shard) + i, (size_t)m * sizeof(float));
        TRY(barrier(c));
        for (int r = 0; r < c->n_ranks; r++)
            memcpy(host_f32(x) + r * n + i, slot_of(c, r), (size_t)m * sizeof(float));
        TRY(barrier(c));
    }
    return 0;
}

int cpu_coll_broadcast(struct kern_coll *c, ops_s s, kern_arg x, int root) {
    const int64_t n = kern_elements(x);
    (void)s;
    if (root < 0 || root >= c->n_ranks)
        return FAIL(ERR_CONFIG, "coll_broadcast: root %d of %d ranks", root, c->n_ranks);
    if (c->n_ranks == 1) return 0;
    TRY(begin(c, OP_BROADCAST, n * RANKS_MAX + root));
    for (int64_t i = 0; i < n; i += SLOT) {
        const int64_t m = n - i < SLOT ? n - i : SLOT;
        if (c->rank == root) memcpy(c->result, host_f32(x) + i, (size_t)m * sizeof(float));
        TRY(barrier(c));
        if (c->rank != root) memcpy(host_f32(x) + i, c->result, (size_t)m * sizeof(float));
        TRY(barrier(c));
    }
    return 0;
}
