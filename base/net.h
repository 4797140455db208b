/* net.h - ZeroMQ sockets for request-shaped traffic: one ROUTER that serves, DEALERs that connect;
 * multipart messages with limits; a loop with timers and signals. The only file that includes zmq.h
 * is net.c. One thread per loop. LINGER and the high-water marks are always set; a full queue is
 * ERR_AGAIN and the caller stops reading (I9). */
#ifndef BASE_NET_H
#define BASE_NET_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NET_PARTS_MAX = 8, NET_ID_MAX = 64 };

struct net;      /* context of a process: sockets, one poller */
struct net_sock; /* opaque */

struct net_id { /* routing id of a peer of a ROUTER */
    uint8_t bytes[NET_ID_MAX];
    uint8_t n;
};

struct net_part {
    const void *data;
    size_t bytes;
};

struct net_msg; /* a received multipart message; owns its parts */

MUST_CHECK int net_open(struct net **out);

/* How messages move when they are not ZeroMQ's, but a simulation's: the functions below of the same
 * names, for one socket each. serve and connect give a socket, which the others get. */
struct net_ops {
    void *(*serve)(void *world, const char *endpoint);
    void *(*connect)(void *world, const char *endpoint, const char *name);
    void (*close)(void *sock);
    int (*send)(void *sock, const struct net_id *to, const struct net_part *parts, size_t n);
    int (*recv)(void *sock, struct net_msg **out, struct net_id *from);
};
/* Without signals and without net_wait: whoever owns the world says whose turn it is. */
struct net *net_open_simulated(const struct net_ops *ops, void *world);
void net_close(struct net **n); /* closes its sockets; lingers at most 200 ms */

/* "ipc://RUN/ipc/NAME" of a run directory, kept below the system's 107-byte limit whatever RUN's
 * length. *out: mem_free. Valid in this process only. */
MUST_CHECK int net_endpoint(char **out, struct net *n, const char *run_dir, const char *name);

MUST_CHECK int net_serve(struct net_sock **out, struct net *n, const char *endpoint,
                         size_t msg_bytes_max);
MUST_CHECK int
net_connect(struct net_sock **out, struct net *n, const char *endpoint, const char *name,
            size_t msg_bytes_max); /* reconnects by itself, also before the server is there */
void net_sock_close(struct net_sock **s);

/* Sends one message; to: the peer (ROUTER) or NULL (DEALER). Copies. ERR_AGAIN: queue full or
 * (ROUTER) peer gone. */
MUST_CHECK int net_send(struct net_sock *s, const struct net_id *to, const struct net_part *parts,
                        size_t n);
/* ERR_AGAIN when nothing is there; ERR_CORRUPT (message dropped) when it has too many parts or
 * bytes. from: the peer on a ROUTER. */
MUST_CHECK int net_recv(struct net_sock *s, struct net_msg **out, struct net_id *from);
struct net_msg *net_msg_new(const struct net_part *parts, size_t n); /* copies */
size_t net_msg_parts(const struct net_msg *m);
struct net_part net_msg_part(const struct net_msg *m, size_t i);
void net_msg_free(struct net_msg **m);

/* Waits until a socket or one of the extra fds is readable, a stop signal came, or timeout. Returns
 * 0; what is ready is asked by net_recv until ERR_AGAIN. *stop is set once a stop signal came.
 * net_open blocks those signals in the calling thread and reads them from a signalfd. */
MUST_CHECK int net_wait(struct net *n, uint64_t timeout_us, const int *fds, size_t n_fds,
                        bool *stop);

/* The signals by which people and schedulers ask a process to end: SIGINT, SIGTERM, SIGHUP (unless
 * it was ignored at the start: nohup), SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU, and SIGPIPE: nobody
 * reads standard output any more. */
bool net_is_stop_signal(int signal);
int net_stop_signal(void); /* the first that a net of this process read, 0: none */
int net_stop_count(void);  /* all that were read */
/* ERR_STOPPED that names it: the end of a service whose work was not done. */
int net_stopped(void);

#endif
