/* manager_outbox.h - what the manager has to say, until what it follows from is in the log. */
#ifndef ROLLOUT_MANAGER_MANAGER_OUTBOX_H
#define ROLLOUT_MANAGER_MANAGER_OUTBOX_H

#include "base/buf.h"
#include "rollout/manager/manager_state.h"

void manager_outbox_open(struct manager *m);
void manager_outbox_close(struct manager *m);

/* Sends once everything put into the log so far is written. ERR_AGAIN: the peer is gone or does not
 * read; whoever is found out later is in manager_outbox_deaf. */
MUST_CHECK int manager_outbox_send_now(struct manager *m, const struct net_id *to,
                                       enum wire_type type, const void *body,
                                       const struct wire_frame *frames, size_t n);
/* The same to a peer that asks again for what it does not get. */
MUST_CHECK int manager_outbox_say(struct manager *m, const struct net_id *to, enum wire_type type,
                                  const void *body, const struct wire_frame *frames, size_t n);
bool manager_outbox_direct(const struct manager *m); /* nothing is to be waited for */
/* For metrics.jsonl; takes the text. */
void manager_outbox_line(struct manager *m, struct buf *line);
MUST_CHECK int manager_outbox_send(struct manager *m);     /* what may leave */
MUST_CHECK int manager_outbox_send_all(struct manager *m); /* waits for the log */
/* The next peer that did not read a letter which it needs; false: there is none. */
bool manager_outbox_deaf(struct manager *m, struct net_id *id);

#endif
