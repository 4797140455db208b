/* pull_device.h - a version of the weights that lies in the memory of this rollout's own device:
 * opened where the trainer keeps it (trainer/publish_device.h), held as long as it is read. */
#ifndef ROLLOUT_PULL_DEVICE_H
#define ROLLOUT_PULL_DEVICE_H

#include "kernels/kernels.h"
#include "relay/pull.h"

#include <stdbool.h>

struct pull_device {
    const void *data; /* NULL: nothing is open */
    struct kern_shared shared;
    struct sealed file;
};

/* ERR_NOTFOUND: it is not there (any more), or on another device; other errors are the driver's. */
MUST_CHECK int pull_device_open(struct pull_device *out, const struct kern_backend *b,
                                const struct pull_version *v);
void pull_device_close(struct pull_device *n,
                       const struct kern_backend *b); /* accepts a closed one */

#endif
