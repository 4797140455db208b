/* queue.h - where threads meet: a bounded queue of pointers. Whoever put an item has given it away,
 * and what he wrote before is seen by the taker. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct queue; /* any number of threads */

MUST_CHECK int queue_open(struct queue **out, size_t capacity);
void queue_close(struct queue **q); /* nobody uses it any more */
/* False: it is full, or ended; the item is still the caller's. Never waits. */
MUST_CHECK bool queue_put(struct queue *q, void *item);
/* The oldest item; NULL when there is none (wait: and it has ended). */
MUST_CHECK void *queue_take(struct queue *q, bool wait);
void queue_end(struct queue *q);     /* nothing more is put; those who wait go on */
int queue_fd(const struct queue *q); /* readable while there are items */

#endif
