/* manager_outbox.h - what the manager has to say, until what it follows from is in the log. */
#ifndef ROLLOUT_MANAGER_MANAGER_OUTBOX_H
#define ROLLOUT_MANAGER_MANAGER_OUTBOX_H

#include "base/buf.h"
#include "base/net.h"
#include "proto/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct manager;

struct manager_letter { /* what is said once an event is in the log */
    struct net_id to;
    enum wire_type type;
    uint64_t event;
    size_t n, payload; /* parts; 0: not a message but a line of metrics */
    size_t bytes[2 + WIRE_FRAMES_MAX];
    char *data;
};

struct manager_outbox {
    struct manager_letter *letter;
    size_t n, cap, cost;
    uint64_t written; /* the newest event known to be in the log */
};

bool manager_outbox_direct(const struct manager *m); /* nothing is to be waited for */
MUST_CHECK int manager_outbox_add(struct manager *m, const struct net_id *to, enum wire_type type,
                                  const void *body, const struct wire_frame *frames, size_t n);
/* For metrics.jsonl; takes the text. */
void manager_outbox_line(struct manager *m, struct buf *line);
MUST_CHECK int manager_outbox_send(struct manager *m);     /* what may leave */
MUST_CHECK int manager_outbox_send_all(struct manager *m); /* waits for the log */
void manager_outbox_free(struct manager *m);

#endif
