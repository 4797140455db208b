/* net.c - see net.h. Why ROUTER and DEALER and nothing else: every conversation in Weir is a client
 * that asks and a server that answers when it can, perhaps much later, so strict REQ/REP would get
 * stuck at the first lost answer, and publish/subscribe would drop silently (I9).
 *
 * MANDATORY turns a send to a vanished peer into an error, HANDOVER lets a restarted client take
 * over its name from the dead connection. A DEALER queues up to the high-water mark while nobody
 * serves; nothing is lost by the socket alone, and protocols above repeat what was not answered.
 *
 * Signals come through a signalfd in the same poll, so a loop has one place where it waits and no
 * handler runs anywhere. The socket file of an ipc endpoint is removed at close, but only when it
 * is still ours: a successor may have bound the same name already. */
#include "base/net.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

enum {
    NET_SOCKS_MAX = 8,
    NET_FDS_MAX = 64,
    NET_QUEUE_MAX = 256, /* messages waiting per peer and direction */
    NET_LINGER_MS = 200,
    NET_RECONNECT_MS = 10,
    NET_RECONNECT_MAX_MS = 250
};

struct net_sock {
    struct net *net;
    void *zmq;
    bool router;
    size_t msg_bytes_max;
    char *file; /* socket file of a served ipc endpoint, NULL otherwise */
    dev_t dev;
    ino_t ino;
};

struct net {
    void *ctx;
    int signal_fd;
    sigset_t old_mask;
    bool stop;
    struct net_sock *sock[NET_SOCKS_MAX];
    size_t n_socks;
    int *dir_fds; /* directories that endpoints go through when a path is too long */
    size_t n_dirs, cap_dirs;
};

struct net_msg {
    zmq_msg_t part[NET_PARTS_MAX];
    size_t n;
};

static int fail_zmq(const char *what, const char *name) {
    return FAIL(ERR_IO, "%s %s: %s", what, name, zmq_strerror(errno));
}

static const int stop_signals[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                                   SIGUSR1, SIGUSR2, SIGXCPU, SIGPIPE};
static _Atomic int stop_signal, stop_count;

bool net_is_stop_signal(int signal) {
    for (size_t i = 0; i < sizeof stop_signals / sizeof stop_signals[0]; i++)
        if (stop_signals[i] == signal) return true;
    return false;
}

int net_stop_signal(void) {
    return stop_signal;
}

int net_stop_count(void) {
    return stop_count;
}

int net_stopped(void) {
    int signal = net_stop_signal();
    return FAIL(ERR_STOPPED, "stopped by signal %d (%s)", signal, strsignal(signal));
}

/* nohup ignores SIGHUP, and a blocked signal would come all the same. A shell without job control
 * ignores SIGINT in what it starts in the background, where kill -INT still has to work. */
static void choose_signals(sigset_t *set) {
    struct sigaction hup;
    sigemptyset(set);
    for (size_t i = 0; i < sizeof stop_signals / sizeof stop_signals[0]; i++)
        sigaddset(set, stop_signals[i]);
    if (sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler == SIG_IGN) sigdelset(set, SIGHUP);
}

int net_open(struct net **out) {
    struct net *n = mem_zalloc(sizeof *n);
    sigset_t set;
    choose_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, &n->old_mask);
    n->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (n->signal_fd < 0) {
        int rc = FAIL(ERR_IO, "cannot open a signalfd: %s", strerror(errno));
        pthread_sigmask(SIG_SETMASK, &n->old_mask, NULL);
        mem_free(n);
        return rc;
    }
    n->ctx = zmq_ctx_new();
    ASSERT(n->ctx != NULL);
    *out = n;
    return 0;
}

/* Reads away pending stop signals, so that restoring the mask does not kill a closing process. */
static void read_signals(struct net *n) {
    struct signalfd_siginfo info;
    while (read(n->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        int none = 0;
        n->stop = true;
        stop_count++;
        atomic_compare_exchange_strong(&stop_signal, &none, (int)info.ssi_signo);
    }
}

void net_close(struct net **n) {
    struct net *net = *n;
    if (!net) return;
    while (net->n_socks > 0) {
        struct net_sock *s = net->sock[net->n_socks - 1];
        net_sock_close(&s);
    }
    while (zmq_ctx_term(net->ctx) != 0 && errno == EINTR) {
    }
    for (size_t i = 0; i < net->n_dirs; i++)
        close(net->dir_fds[i]);
    mem_free(net->dir_fds);
    read_signals(net);
    close(net->signal_fd);
    pthread_sigmask(SIG_SETMASK, &net->old_mask, NULL);
    mem_free(net);
    *n = NULL;
}

static int check_socket_name(const char *name) {
    static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t n = strlen(name);
    if (n == 0 || n > NET_ID_MAX || strspn(name, ok) != n || name[0] == '.')
        return FAIL(ERR_CONFIG, "bad endpoint name \"%s\": 1 to %d letters, digits, _ - .", name,
                    NET_ID_MAX);
    return 0;
}

/* Opens the directory and keeps it open: "/proc/self/fd/N" is a short name for it in this process.
 */
static int short_dir(char **out, struct net *n, const char *dir) {
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", dir, strerror(errno));
    mem_grow(&n->dir_fds, &n->cap_dirs, n->n_dirs + 1, sizeof n->dir_fds[0]);
    n->dir_fds[n->n_dirs++] = fd;
    *out = mem_printf("/proc/self/fd/%d", fd);
    return 0;
}

int net_endpoint(char **out, struct net *n, const char *run_dir, const char *name) {
    int rc = 0;
    char *path = NULL, *short_path = NULL;
    /* A leading '@' or '*' would mean an abstract socket or a random name to ZeroMQ. */
    const char *lead = run_dir[0] == '@' || run_dir[0] == '*' ? "./" : "";
    char *dir = mem_printf("%s%s/ipc", lead, run_dir);
    TRY_OUT(check_socket_name(name));
    TRY_OUT(file_mkdirs(dir));
    path = file_join(dir, name);
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        TRY_OUT(short_dir(&short_path, n, dir));
        mem_free(path);
        path = file_join(short_path, name);
    }
    *out = mem_printf("ipc://%s", path);
out:
    mem_free(dir);
    mem_free(path);
    mem_free(short_path);
    return rc;
}

static void set_int(void *zmq, int option, int value) {
    int rc = zmq_setsockopt(zmq, option, &value, sizeof value);
    ASSERT(rc == 0);
}

/* A socket with everything set that both kinds need. */
static int sock_new(struct net_sock **out, struct net *n, int type, size_t msg_bytes_max) {
    if (n->n_socks == NET_SOCKS_MAX)
        return FAIL(ERR_CONFIG, "more than %d sockets in one process", NET_SOCKS_MAX);
    void *zmq = zmq_socket(n->ctx, type);
    if (!zmq) return fail_zmq("cannot open", "socket");
    int64_t limit = (int64_t)msg_bytes_max;
    int rc = zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &limit, sizeof limit);
    ASSERT(rc == 0);
    set_int(zmq, ZMQ_LINGER, NET_LINGER_MS);
    set_int(zmq, ZMQ_SNDHWM, NET_QUEUE_MAX);
    set_int(zmq, ZMQ_RCVHWM, NET_QUEUE_MAX);
    set_int(zmq, ZMQ_RECONNECT_IVL, NET_RECONNECT_MS);
    set_int(zmq, ZMQ_RECONNECT_IVL_MAX, NET_RECONNECT_MAX_MS);
    struct net_sock *s = mem_zalloc(sizeof *s);
    s->net = n;
    s->zmq = zmq;
    s->router = type == ZMQ_ROUTER;
    s->msg_bytes_max = msg_bytes_max;
    n->sock[n->n_socks++] = s;
    *out = s;
    return 0;
}

static void remember_file(struct net_sock *s, const char *endpoint) {
    struct stat st;
    const char *path = strncmp(endpoint, "ipc://", 6) == 0 ? endpoint + 6 : NULL;
    if (!path || stat(path, &st) != 0) return;
    s->file = mem_strdup(path);
    s->dev = st.st_dev;
    s->ino = st.st_ino;
}

int net_serve(struct net_sock **out, struct net *n, const char *endpoint, size_t msg_bytes_max) {
    struct net_sock *s;
    TRY(sock_new(&s, n, ZMQ_ROUTER, msg_bytes_max));
    set_int(s->zmq, ZMQ_ROUTER_MANDATORY, 1);
    set_int(s->zmq, ZMQ_ROUTER_HANDOVER, 1);
    if (zmq_bind(s->zmq, endpoint) != 0) {
        int rc = fail_zmq("cannot serve", endpoint);
        net_sock_close(&s);
        return rc;
    }
    remember_file(s, endpoint);
    *out = s;
    return 0;
}

int net_connect(struct net_sock **out, struct net *n, const char *endpoint, const char *name,
                size_t msg_bytes_max) {
    struct net_sock *s;
    TRY(check_socket_name(name));
    TRY(sock_new(&s, n, ZMQ_DEALER, msg_bytes_max));
    int rc = zmq_setsockopt(s->zmq, ZMQ_ROUTING_ID, name, strlen(name));
    ASSERT(rc == 0);
    if (zmq_connect(s->zmq, endpoint) != 0) {
        rc = fail_zmq("cannot connect to", endpoint);
        net_sock_close(&s);
        return rc;
    }
    *out = s;
    return 0;
}

void net_sock_close(struct net_sock **s) {
    struct net_sock *k = *s;
    struct stat st;
    if (!k) return;
    struct net *n = k->net;
    for (size_t i = 0; i < n->n_socks; i++)
        if (n->sock[i] == k) {
            n->sock[i] = n->sock[--n->n_socks];
            break;
        }
    if (k->file && stat(k->file, &st) == 0 && st.st_dev == k->dev && st.st_ino == k->ino)
        unlink(k->file);
    zmq_close(k->zmq);
    mem_free(k->file);
    mem_free(k);
    *s = NULL;
}

/* ERR_AGAIN for a full queue and for a peer that is not there; the message was not sent then. */
static int send_part(struct net_sock *s, const void *data, size_t bytes, bool more) {
    int flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0);
    for (;;) {
        if (zmq_send(s->zmq, data, bytes, flags) >= 0) return 0;
        if (errno == EINTR) continue;
        if (errno == EAGAIN) return FAIL(ERR_AGAIN, "send queue of %d is full", NET_QUEUE_MAX);
        if (errno == EHOSTUNREACH) return FAIL(ERR_AGAIN, "the peer is not connected");
        return fail_zmq("cannot send", "message");
    }
}

int net_send(struct net_sock *s, const struct net_id *to, const struct net_part *parts, size_t n) {
    size_t total = 0;
    ASSERT(n >= 1 && n <= NET_PARTS_MAX);
    ASSERT((to != NULL) == s->router);
    for (size_t i = 0; i < n; i++) {
        if (parts[i].bytes > s->msg_bytes_max - total)
            return FAIL(ERR_CONFIG, "message of more than the socket's %zu bytes",
                        s->msg_bytes_max);
        total += parts[i].bytes;
    }
    if (to) TRY(send_part(s, to->bytes, to->n, true));
    for (size_t i = 0; i < n; i++)
        TRY(send_part(s, parts[i].data, parts[i].bytes, i + 1 < n));
    return 0;
}

void net_msg_free(struct net_msg **m) {
    if (!*m) return;
    for (size_t i = 0; i < (*m)->n; i++)
        zmq_msg_close(&(*m)->part[i]);
    mem_free(*m);
    *m = NULL;
}

/* Receives one part into *p (initialised here, to be closed by the caller on success). */
static int recv_part(struct net_sock *s, zmq_msg_t *p) {
    zmq_msg_init(p);
    for (;;) {
        if (zmq_msg_recv(p, s->zmq, ZMQ_DONTWAIT) >= 0) return 0;
        if (errno == EINTR) continue;
        int rc = errno == EAGAIN ? ERR_AGAIN : fail_zmq("cannot receive", "message");
        zmq_msg_close(p);
        return rc;
    }
}

/* Reads the rest of a message: the parts that fit its limits are kept in m, *dropped says why it is
 * no good, NULL when it is. */
static int recv_rest(struct net_sock *s, struct net_msg *m, bool more, const char **dropped) {
    size_t total = 0;
    while (more) {
        zmq_msg_t p;
        TRY(recv_part(s, &p));
        more = zmq_msg_more(&p) != 0;
        total += zmq_msg_size(&p);
        if (m->n == NET_PARTS_MAX) *dropped = "too many parts";
        if (total > s->msg_bytes_max) *dropped = "too many bytes";
        if (!*dropped) {
            zmq_msg_init(&m->part[m->n]);
            zmq_msg_move(&m->part[m->n++], &p);
        }
        zmq_msg_close(&p);
    }
    if (m->n == 0 && !*dropped) *dropped = "no parts";
    return 0;
}

/* A message that breaks a limit is read to its last part before it is refused: parts that are left
 * would be taken for the next message. */
int net_recv(struct net_sock *s, struct net_msg **out, struct net_id *from) {
    int rc = 0;
    struct net_id id = {.n = 0};
    struct net_msg *m = mem_alloc(sizeof *m);
    const char *dropped = NULL;
    bool more = true;
    m->n = 0;
    if (s->router) {
        zmq_msg_t p;
        TRY_OUT(recv_part(s, &p));
        size_t n = zmq_msg_size(&p);
        if (n > NET_ID_MAX)
            dropped = "peer name too long";
        else
            memcpy(id.bytes, zmq_msg_data(&p), id.n = (uint8_t)n);
        more = zmq_msg_more(&p) != 0;
        zmq_msg_close(&p);
    }
    TRY_OUT(recv_rest(s, m, more, &dropped));
    if (dropped) {
        rc = FAIL(ERR_CORRUPT, "message dropped: %s (limits: %d parts, %zu bytes)", dropped,
                  NET_PARTS_MAX, s->msg_bytes_max);
        goto out;
    }
    if (from) *from = id;
    *out = m;
    m = NULL;
out:
    net_msg_free(&m);
    return rc;
}

size_t net_msg_parts(const struct net_msg *m) {
    return m->n;
}

struct net_part net_msg_part(const struct net_msg *m, size_t i) {
    ASSERT(i < m->n);
    /* zmq_msg_data wants a mutable pointer but changes nothing. */
    zmq_msg_t *p = (zmq_msg_t *)&m->part[i];
    return (struct net_part){zmq_msg_data(p), zmq_msg_size(p)};
}

static long poll_ms(uint64_t timeout_us) {
    uint64_t ms = timeout_us / 1000 + (timeout_us % 1000 != 0);
    return ms > 3600 * 1000 ? 3600 * 1000 : (long)ms;
}

int net_wait(struct net *n, uint64_t timeout_us, const int *fds, size_t n_fds, bool *stop) {
    zmq_pollitem_t item[NET_SOCKS_MAX + NET_FDS_MAX + 1];
    size_t k = 0;
    ASSERT(n_fds <= NET_FDS_MAX);
    item[k++] = (zmq_pollitem_t){NULL, n->signal_fd, ZMQ_POLLIN, 0};
    for (size_t i = 0; i < n->n_socks; i++)
        item[k++] = (zmq_pollitem_t){n->sock[i]->zmq, 0, ZMQ_POLLIN, 0};
    for (size_t i = 0; i < n_fds; i++)
        item[k++] = (zmq_pollitem_t){NULL, fds[i], ZMQ_POLLIN, 0};
    if (zmq_poll(item, (int)k, n->stop ? 0 : poll_ms(timeout_us)) < 0 && errno != EINTR)
        return fail_zmq("cannot wait for", "messages");
    if (item[0].revents) read_signals(n);
    if (n->stop) *stop = true;
    return 0;
}
