/* client.h - a service's conversation with the manager that all services share: hello, heartbeats,
 * who the manager is. The service keeps what it must say again after a restart of the manager;
 * this only knows when. */
#ifndef PROTO_CLIENT_H
#define PROTO_CLIENT_H

#include "base/env.h"
#include "proto/link.h"

#include <stdbool.h>

struct client; /* one thread */
struct Weir__Heartbeat;

struct client_config {
    const char *run_dir, *service, *name; /* copied */
    uint64_t heartbeat_us;
    size_t msg_bytes_max;
};

/* Connects to RUN/ipc/manager; the manager need not be there yet. */
MUST_CHECK int client_open(struct client **out, const struct env *env,
                           const struct client_config *cfg);
void client_close(struct client **c);

/* A hello is due at the start, when the manager says another incarnation than it did in its
 * Welcome, when it answers no heartbeats, and again while no Welcome comes. ids and received: the
 * trajectories running here, n of each. Nothing else may be sent until client_welcome. */
bool client_hello_due(const struct client *c, uint64_t now_us);
MUST_CHECK int client_hello(struct client *c, uint64_t now_us, int64_t version, const uint64_t *ids,
                            const int32_t *received, uint32_t n);
bool client_beat_due(const struct client *c, uint64_t now_us);
/* beat: filled but for the incarnation. */
MUST_CHECK int client_beat(struct client *c, uint64_t now_us, struct Weir__Heartbeat *beat);

/* The next message that is the service's business; Welcome is (it must read it), heartbeat's
 * answers are not. Malformed ones are logged and skipped. ERR_AGAIN: nothing there. */
MUST_CHECK int client_recv(struct client *c, uint64_t now_us, struct link_msg *out);
MUST_CHECK int client_send(struct client *c, enum wire_type type, const void *body,
                           const struct wire_frame *frames, size_t n_frames);

bool client_welcome(const struct client *c); /* the manager that is there knows us */
bool client_done(const struct client *c);    /* it said that the run is complete */
int64_t client_step(const struct client *c); /* steps done, as last heard */

#endif
