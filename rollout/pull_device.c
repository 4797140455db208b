/* pull_device.c - see pull_device.h. The version in shared memory says where else it lies: in a
 * small file of the trainer whose lock keeps the trainer from writing to its device memory.
 * Everything here may have gone since, or belong to a trainer that died; then shared memory is what
 * is left. The memory is opened anew for every version: an open one would keep a dead trainer's
 * memory from the one that takes its place. */
#include "rollout/pull_device.h"

#include <string.h>

static int open_memory(struct pull_device *n, const struct kern_backend *b, size_t bytes) {
    void *data;
    memcpy(&n->shared, sealed_area(&n->file), sizeof n->shared);
    int rc = kern_open_shared(b, &data, &n->shared, bytes);
    if (rc == ERR_MISMATCH) return ERR_NOTFOUND;
    TRY(rc);
    n->data = data;
    return 0;
}

int pull_device_open(struct pull_device *out, const struct kern_backend *b,
                     const struct pull_version *v) {
    struct pull_device n = {.file = {.fd = -1}};
    struct sealed_note at = sealed_note(&v->file);
    if (at.pid <= 0 || !kern_can_share(b)) return FAIL(ERR_NOTFOUND, "no device has this version");
    TRY(sealed_open(&n.file, at.pid, at.fd, v->version, sizeof n.shared, v->hash));
    int rc = open_memory(&n, b, v->bytes);
    if (rc < 0)
        sealed_close(&n.file);
    else
        *out = n;
    return rc;
}

void pull_device_close(struct pull_device *n, const struct kern_backend *b) {
    if (!n->data) return;
    kern_close_shared(b, (void *)n->data, &n->shared);
    sealed_close(&n->file);
    n->data = NULL;
}
