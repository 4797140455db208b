/* push.h - the trainer's side of the relay: puts a version into shared memory and offers it. The
 * two newest versions stay here too, so that a relay that died and came back is offered them again.
 * Memory of older ones is used again once nobody reads it. Never waits for readers. */
#ifndef RELAY_PUSH_H
#define RELAY_PUSH_H

#include "base/err.h"
#include "base/hash.h"
#include "relay/sealed.h"

#include <stdint.h>

struct push;
struct net;

MUST_CHECK int push_open(struct push **out, struct net *net, const char *relay_endpoint,
                         const char *name);
void push_close(struct push **p);
/* Memory for the versions that are kept and one being filled, before it is needed: the first use of
 * fresh memory takes longer than filling it. */
MUST_CHECK int push_reserve(struct push *p, size_t bytes);
/* A writable area of `bytes` for the next version; fill it, then push_publish. One at a time; begun
 * again, it is the same area. */
MUST_CHECK int push_begin(struct push *p, size_t bytes, void **area);
/* Goes with the version that was begun: sealed_set_note. */
void push_note(struct push *p, const struct sealed_note *note);
/* Lets readers in and offers it. hash: hash_slab of the area, which copying it there gave. Returns
 * once offered, not once taken. */
MUST_CHECK int push_publish(struct push *p, int64_t version, struct hash hash);
/* Call from the loop: reads the relay's answers, offers again after its restart. */
MUST_CHECK int push_tick(struct push *p, uint64_t now_us);
int64_t push_taken(const struct push *p); /* newest version the relay has confirmed, -1 */

#endif
