/* spawner.c - a single-threaded process whose whole life is one poll loop over two descriptors: the
 * pool's socket and a signalfd for SIGCHLD. It owns the process ids: only it kills and reaps, in
 * one thread, so a kill can never hit a process id that was reused.
 *
 * How everything ends: the pool's death (even kill -9) closes its end of the socket, the keeper
 * reads the end of file, kills and reaps its workers and exits. The keeper's death kills the
 * workers by parent-death signal. Terminal and supervisor signals (INT, TERM, HUP) are ignored
 * here: the service decides when its pool ends. Of the descriptors that were open at the fork only
 * standard error and our own are kept, so no listening socket or log stays open in a worker. */
#include "reward/spawner.h"

#include "base/crash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct keeper {
    int fd, signals;
    uint32_t n_slots;
    pid_t *pids; /* 0: empty */
    spawner_child *child;
    const void *context;
};

int spawner_send(int fd, enum spawner_op op, uint32_t slot) {
    struct spawner_message m = {.op = op, .slot = slot};
    ssize_t n;
    do
        n = send(fd, &m, sizeof m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof m) return 0;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return ERR_AGAIN;
    return FAIL(ERR_CLOSED, "the keeper of the verifier processes is gone: %s", strerror(errno));
}

int spawner_receive(struct spawner_message *out, int *worker_fd, int fd) {
    struct spawner_message m;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec io = {&m, sizeof m};
    struct msghdr h = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return ERR_AGAIN;
    if (n != (ssize_t)sizeof m)
        return FAIL(ERR_CLOSED, "the keeper of the verifier processes is gone");
    *worker_fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    if (c && c->cmsg_type == SCM_RIGHTS) memcpy(worker_fd, CMSG_DATA(c), sizeof(int));
    *out = m;
    return 0;
}

/* One packet to the pool, with a descriptor unless it is -1; the pool's death ends the loop later.
 */
static void report_to_pool(const struct keeper *k, struct spawner_message m, int pass) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec io = {&m, sizeof m};
    struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1};
    if (pass >= 0) {
        h.msg_control = &control;
        h.msg_controllen = sizeof control;
        memset(&control, 0, sizeof control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &pass, sizeof(int));
    }
    while (sendmsg(k->fd, &h, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/* A verifier that crashes on a response is the pool's to report. */
static void ignore_signals(void) {
    static const int quiet[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
    static const int usual[] = {SIGCHLD, SIGALRM, SIGPROF, SIGXCPU};
    crash_close();
    for (size_t i = 0; i < sizeof quiet / sizeof quiet[0]; i++)
        signal(quiet[i], SIG_IGN);
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        signal(usual[i], SIG_DFL);
}

/* Dies with the parent, and at once if the parent died before the request was made. */
static bool die_with(pid_t parent) {
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

/* In a new worker: only its socket is left of the keeper, and it dies with the keeper. */
static void start_child(const struct keeper *k, int fd, pid_t keeper) {
    sigset_t none;
    sigemptyset(&none);
    close(k->fd);
    close(k->signals);
    if (die_with(keeper) && sigprocmask(SIG_SETMASK, &none, NULL) == 0) k->child(fd, k->context);
    _exit(1);
}

/* A failure is reported as the exit of a process that never was: the pool tries again, slowly. */
static void spawn_worker(struct keeper *k, uint32_t slot) {
    int pair[2] = {-1, -1};
    pid_t self = getpid();
    ASSERT(slot < k->n_slots && k->pids[slot] == 0);
    pid_t pid = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 ? fork() : -1;
    if (pid == 0) {
        close(pair[0]);
        start_child(k, pair[1], self);
    }
    if (pid > 0) {
        k->pids[slot] = pid;
        report_to_pool(k, (struct spawner_message){.op = SPAWNER_SPAWNED, .slot = slot, .pid = pid},
                       pair[0]);
    } else {
        report_to_pool(
            k, (struct spawner_message){.op = SPAWNER_EXITED, .slot = slot, .status = -1}, -1);
    }
    if (pair[0] >= 0) close(pair[0]);
    if (pair[1] >= 0) close(pair[1]);
}

/* Signals of one kind are merged, so every exited child is collected, not one per signal. */
static void reap_workers(struct keeper *k) {
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(k->signals, &info, sizeof info) > 0) {
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < k->n_slots; i++) {
            if (k->pids[i] != pid) continue;
            k->pids[i] = 0;
            report_to_pool(k, (struct spawner_message){SPAWNER_EXITED, i, status, pid}, -1);
        }
}

/* The pool is gone. */
static void end_keeper(const struct keeper *k) {
    for (uint32_t i = 0; i < k->n_slots; i++)
        if (k->pids[i] > 0) kill(k->pids[i], SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    _exit(0);
}

static void serve_pool(struct keeper *k) {
    for (;;) {
        struct spawner_message m;
        struct pollfd p[2] = {{.fd = k->fd, .events = POLLIN},
                              {.fd = k->signals, .events = POLLIN}};
        int unused;
        if (poll(p, 2, -1) < 0 && errno != EINTR) end_keeper(k);
        if (p[1].revents) reap_workers(k);
        if (!p[0].revents) continue;
        if (spawner_receive(&m, &unused, k->fd) < 0) end_keeper(k);
        if (m.op == SPAWNER_SPAWN) spawn_worker(k, m.slot);
        /* A slot that was reaped a moment ago has no process: its exit is on the way. */
        if (m.op == SPAWNER_KILL && m.slot < k->n_slots && k->pids[m.slot] > 0)
            kill(k->pids[m.slot], SIGKILL);
    }
}

/* In the new process: standard input and output from nowhere, fd at 3, nothing above. */
static bool keep_descriptors(int *fd) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0) return false;
    if (*fd != 3 && dup2(*fd, 3) < 0) return false;
    *fd = 3;
    return close_range(4, ~0u, 0) == 0;
}

static void run_keeper(int fd, uint32_t n_slots, spawner_child *child, const void *context,
                       pid_t parent) {
    struct keeper k = {.n_slots = n_slots, .child = child, .context = context};
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    ignore_signals();
    if (!die_with(parent) || !keep_descriptors(&fd)) _exit(1);
    k.fd = fd;
    if (sigprocmask(SIG_SETMASK, &chld, NULL) < 0) _exit(1);
    k.signals = signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);
    k.pids = mem_array(n_slots, sizeof *k.pids);
    if (k.signals < 0) _exit(1);
    serve_pool(&k);
}

/* Must be called before the process has threads: the child goes on without exec. */
int spawner_open(int *fd, pid_t *pid, uint32_t n_slots, spawner_child *child, const void *context) {
    int pair[2];
    pid_t parent = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return FAIL(ERR_IO, "socketpair: %s", strerror(errno));
    pid_t p = fork();
    if (p == 0) {
        close(pair[0]);
        run_keeper(pair[1], n_slots, child, context, parent);
        _exit(1);
    }
    int reason = errno;
    close(pair[1]);
    if (p < 0 || fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
        close(pair[0]);
        return FAIL(ERR_IO, "cannot start the keeper of the verifier processes: %s",
                    strerror(p < 0 ? reason : errno));
    }
    *fd = pair[0];
    *pid = p;
    return 0;
}

void spawner_close(int *fd, pid_t pid) {
    shutdown(*fd, SHUT_RDWR); /* the end of file, even if a forked process holds a copy */
    close(*fd);
    *fd = -1;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}
