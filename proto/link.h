/* link.h - framed messages on sockets: wire.h over net.h, so that no service handles parts. */
#ifndef PROTO_LINK_H
#define PROTO_LINK_H

#include "base/net.h"
#include "proto/wire.h"

struct link_msg { /* one received message; wire.body and wire.frame live until link_free */
    struct wire_msg wire;
    struct net_msg *net;
};

/* Packs, checks and sends; to: the peer on a ROUTER, NULL on a DEALER. ERR_AGAIN as net_send. */
MUST_CHECK int link_send(struct net_sock *s, const struct net_id *to, enum wire_type type,
                         const void *body, const struct wire_frame *frames, size_t n_frames,
                         uint64_t trace);
/* ERR_AGAIN: nothing there. ERR_CORRUPT: a message was dropped; err_text says why; read on. */
MUST_CHECK int link_recv(struct net_sock *s, struct link_msg *out, struct net_id *from);
void link_free(struct link_msg *m);

#endif
