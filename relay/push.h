/* push.h - the trainer's side of the relay: puts a version into a sealed memfd and offers it. The
 * two newest versions stay here too, so that a relay that died and came back is offered them again.
 * Never waits for readers. */
#ifndef RELAY_PUSH_H
#define RELAY_PUSH_H

#include "base/err.h"
#include "base/hash.h"

#include <stdint.h>

struct push;
struct net;

MUST_CHECK int push_open(struct push **out, struct net *net, const char *relay_endpoint,
                         const char *name);
void push_close(struct push **p);
/* A writable area of `bytes` for the next version; fill it, then push_publish. One at a time. */
MUST_CHECK int push_begin(struct push *p, size_t bytes, void **area);
/* Seals it, hashes it unless hash is given, offers it. Returns once offered, not once taken. */
MUST_CHECK int push_publish(struct push *p, int64_t version, const struct hash *hash);
/* Call from the loop: reads the relay's answers, offers again after its restart. */
MUST_CHECK int push_tick(struct push *p, uint64_t now_us);
int64_t push_taken(const struct push *p); /* newest version the relay has confirmed, -1 */

#endif
