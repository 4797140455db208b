/* nearby.h - a version of the weights that lies in the memory of this rollout's own device: opened
 * where the trainer keeps it (trainer/handover.h), held as long as it is read. */
#ifndef ROLLOUT_NEARBY_H
#define ROLLOUT_NEARBY_H

#include "kernels/kernels.h"
#include "relay/pull.h"

#include <stdbool.h>

struct nearby {
    const void *data; /* NULL: nothing is open */
    struct kern_shared shared;
    struct sealed file;
};

/* ERR_NOTFOUND: it is not there (any more), or on another device; other errors are the driver's. */
MUST_CHECK int nearby_open(struct nearby *out, const struct kern_backend *b,
                           const struct pull_version *v);
void nearby_close(struct nearby *n, const struct kern_backend *b); /* accepts a closed one */

#endif
