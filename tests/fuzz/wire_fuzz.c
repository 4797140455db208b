/* wire_fuzz.c - anything may arrive: flat records as they are, and multipart messages with a header
 * that is right for them, so that the fuzzer gets past the checksum to protobuf and validators.
 * What is accepted must pack again. */
#include "base/hash.h"
#include "proto/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void put_le(uint8_t *p, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void accepted(struct wire_msg *m) {
    struct buf out = {0};
    int rc = wire_flatten(&out, m->type, m->body, m->frame, m->n_frames);
    ASSERT(rc == 0);
    struct wire_msg again;
    rc = wire_unflatten(&again, out.data, out.len, m->type);
    ASSERT(rc == 0);
    wire_free(&again);
    buf_close(&out);
    wire_free(m);
}

/* data: type, count of frames, a length byte for body and frames (times 4, the last takes the
 * rest), then their bytes. */
static void multipart(const uint8_t *data, size_t n) {
    if (n < 2 + 1 + WIRE_FRAMES_MAX) return;
    uint8_t head[WIRE_HEADER] = {'W', 'E', 'I', 'R', WIRE_FORMAT, 0, data[0]};
    size_t n_frames = data[1] % (WIRE_FRAMES_MAX + 1), left = n - (3 + WIRE_FRAMES_MAX);
    const uint8_t *p = data + 3 + WIRE_FRAMES_MAX;
    struct wire_frame parts[2 + WIRE_FRAMES_MAX] = {{head, WIRE_HEADER}};
    uint64_t payload = 0;
    for (size_t i = 0; i <= n_frames; i++) {
        size_t bytes = (size_t)data[2 + i] * 4;
        if (bytes > left || i == n_frames) bytes = left;
        parts[1 + i] = (struct wire_frame){p, bytes};
        if (i > 0) payload += bytes;
        p += bytes;
        left -= bytes;
    }
    put_le(head + 8, parts[1].bytes, 4);
    put_le(head + 12, payload, 8);
    uint64_t h = hash64(head, 28, 0);
    for (size_t i = 0; i <= n_frames; i++)
        h = hash64(parts[1 + i].data, parts[1 + i].bytes, h);
    put_le(head + 28, h, 4);
    struct wire_msg m;
    if (wire_unpack(&m, parts, 2 + n_frames) == 0) accepted(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n == 0) return 0;
    struct wire_msg m;
    if (data[0] & 0x80) {
        enum wire_type want = (enum wire_type)(1 + (data[0] & 0x7f) % (WIRE_TYPES - 1));
        if (wire_unflatten(&m, data + 1, n - 1, want) == 0) accepted(&m);
    } else {
        multipart(data, n);
    }
    return 0;
}
