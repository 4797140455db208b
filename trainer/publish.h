/* publish.h - a new version on its way into shared memory while the trainer goes on: copied and
 * hashed by a thread on a stream of its own. The weights must not change until it is through:
 * publish_wait before the next update. Sockets are the caller's business alone: the version is
 * offered by the first publish_turn or publish_wait after the copy is complete. With a handover the
 * version is copied within the device too. */
#ifndef TRAINER_PUBLISH_H
#define TRAINER_PUBLISH_H

#include "actor/params.h"
#include "relay/push.h"
#include "trainer/publish_device.h"

#include <stdbool.h>

struct publish; /* one thread, besides its own */

/* Seconds, of the version that was offered last. */
struct publish_times {
    double took;   /* from publish_begin to the offer */
    double waited; /* of that, in publish_wait */
};

/* backend, push and handover (NULL: none) are borrowed. Signals stay with the caller's thread if it
 * has blocked them. */
MUST_CHECK int publish_open(struct publish **out, const struct kern_backend *backend,
                            struct push *push, struct publish_device *handover);
void publish_close(struct publish **p); /* what is on its way is not offered any more */
/* Begins to copy the policy of w as it is when everything issued on `after` is done. hash: what it
 * must turn out to have; ERR_MISMATCH from a later call otherwise. One at a time: an earlier
 * version is waited for. */
MUST_CHECK int publish_begin(struct publish *p, const struct params *w, int64_t version,
                             struct hash hash, struct kern_stream *after);
/* Offers a version whose copy is complete; never waits. */
MUST_CHECK int publish_turn(struct publish *p);
/* Waits for the copy and offers it; at once when nothing is on its way. */
MUST_CHECK int publish_wait(struct publish *p);
int publish_fd(const struct publish *p); /* readable when publish_turn has something to offer */
struct publish_times publish_times(const struct publish *p);

#endif
