/* publish_device.c - see publish_device.h. A slab of device memory has a small sealed file: its
 * content is what another process needs to open the memory, its lock is the slab's. So a reader
 * that dies frees the slab as it frees shared memory, and one that comes too late finds another
 * version's name in the file. The oldest slab is taken if nobody reads it, else none: a rollout in
 * the middle of a copy never holds up the trainer. */
#include "trainer/publish_device.h"

#include "base/mem.h"
#include "trainer/learn/memplan.h"

#include <string.h>
#include <unistd.h>

struct slab {
    void *data;
    struct kern_shared shared;
    struct sealed file;
    bool idle; /* locked for writing: nothing in it is offered */
};

struct publish_device {
    const struct kern_backend *backend;
    struct slab slab[MEMPLAN_HANDOVER_SLABS];
    int next;
};

static int open_slab(struct slab *s, const struct kern_backend *b, size_t bytes) {
    TRY(kern_alloc(b, &s->data, bytes));
    TRY(kern_share(b, &s->shared, s->data, bytes));
    TRY(sealed_create(&s->file, sizeof s->shared));
    s->idle = true;
    memcpy(sealed_area(&s->file), &s->shared, sizeof s->shared);
    return 0;
}

int publish_device_open(struct publish_device **out, const struct kern_backend *b, size_t bytes) {
    int rc = 0;
    struct publish_device *h = mem_zalloc(sizeof *h);
    h->backend = b;
    for (int i = 0; i < MEMPLAN_HANDOVER_SLABS; i++)
        h->slab[i].file.fd = -1;
    for (int i = 0; i < MEMPLAN_HANDOVER_SLABS; i++)
        TRY_OUT(open_slab(&h->slab[i], b, bytes));
    *out = h;
    h = NULL;
out:
    publish_device_close(&h);
    return rc;
}

void publish_device_close(struct publish_device **h) {
    if (!*h) return;
    for (int i = 0; i < MEMPLAN_HANDOVER_SLABS; i++) {
        sealed_close(&(*h)->slab[i].file);
        kern_release((*h)->backend, (*h)->slab[i].data);
    }
    mem_free(*h);
    *h = NULL;
}

void *publish_device_begin(struct publish_device *h) {
    struct slab *s = &h->slab[h->next];
    s->idle = s->idle || sealed_reuse(&s->file);
    return s->idle ? s->data : NULL;
}

int publish_device_finish(struct publish_device *h, int64_t version, struct hash hash,
                          struct sealed_note *out) {
    struct slab *s = &h->slab[h->next];
    ASSERT(s->idle);
    TRY(sealed_finish(&s->file, version, hash));
    s->idle = false;
    h->next = (h->next + 1) % MEMPLAN_HANDOVER_SLABS;
    *out = (struct sealed_note){.pid = getpid(), .fd = s->file.fd};
    return 0;
}
