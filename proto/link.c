/* link.c - see link.h. The buffer of a message's head lives only during the send: sockets copy, and
 * a service sends a few messages per step, so nothing is gained by keeping it. */
#include "proto/link.h"

#include "base/log.h"

#include <inttypes.h>

int link_send(struct net_sock *s, const struct net_id *to, enum wire_type type, const void *body,
              const struct wire_frame *frames, size_t n_frames, uint64_t trace) {
    int rc = 0;
    struct buf head = {0};
    struct net_part part[2 + WIRE_FRAMES_MAX];
    TRY_OUT(wire_pack(&head, type, body, frames, n_frames, trace));
    part[0] = (struct net_part){head.data, WIRE_HEADER};
    part[1] = (struct net_part){head.data + WIRE_HEADER, head.len - WIRE_HEADER};
    for (size_t i = 0; i < n_frames; i++)
        part[2 + i] = (struct net_part){frames[i].data, frames[i].bytes};
    TRY_OUT(net_send(s, to, part, 2 + n_frames));
    LOG(DEBUG, NET, "sent=%s body=%zu frames=%zu trace=%" PRIx64, wire_type_name(type), head.len,
        n_frames, trace);
out:
    buf_close(&head);
    return rc;
}

int link_recv(struct net_sock *s, struct link_msg *out, struct net_id *from) {
    int rc = 0;
    struct link_msg m = {.net = NULL};
    struct wire_frame part[NET_PARTS_MAX];
    TRY_OUT(net_recv(s, &m.net, from));
    size_t n = net_msg_parts(m.net);
    for (size_t i = 0; i < n; i++) {
        struct net_part p = net_msg_part(m.net, i);
        part[i] = (struct wire_frame){p.data, p.bytes};
    }
    TRY_OUT(wire_unpack(&m.wire, part, n));
    LOG(DEBUG, NET, "received=%s body=%zu frames=%zu trace=%" PRIx64, wire_type_name(m.wire.type),
        part[1].bytes, m.wire.n_frames, m.wire.trace);
    *out = m;
    m.net = NULL;
out:
    net_msg_free(&m.net);
    return rc;
}

void link_free(struct link_msg *m) {
    wire_free(&m->wire);
    net_msg_free(&m->net);
}
