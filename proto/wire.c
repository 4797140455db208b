/* wire.c - see wire.h. The order of the tests is the point: nothing is allocated before the header
 * and all sizes were found good, nothing is unpacked before the checksum agreed, and no handler
 * sees a message before check.c accepted it.
 *
 * protobuf-c unpacks into an arena with a cap per type: two bytes on the wire can become eighty in
 * memory, so a body limit alone bounds nothing. None of the schemas is recursive, so depth is
 * bounded by construction. Outgoing messages pass the same validator: a bug is found where it was
 * made, not at the peer. */
#include "proto/wire.h"

#include "base/arena.h"
#include "base/hash.h"
#include "proto/check.h"
#include "proto/control.pb-c.h"
#include "proto/reward.pb-c.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/weights.pb-c.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

enum {
    WIRE_ALIGN = 8,
    WIRE_GROWTH = 8,       /* unpacked bytes allowed per byte of a type's body limit */
    WIRE_SLACK = 64 << 10, /* and these on top, for the tables of small messages */
    WIRE_CHECKSUM_AT = 28  /* offset of the checksum in the header */
};

static const struct kind {
    const char *name;
    const ProtobufCMessageDescriptor *descriptor;
    uint32_t body_max;
    uint64_t payload_max;
    size_t n_frames;
} kinds[WIRE_TYPES] = {
#define WIRE_KIND(name, lower, type, body, payload, frames)                                        \
    [WIRE_##name] = {#type, &weir__##lower##__descriptor, body, payload, frames},
    WIRE_TABLE(WIRE_KIND)
#undef WIRE_KIND
};

struct header {
    uint16_t format, type;
    uint32_t body;
    uint64_t payload, trace;
    uint32_t checksum;
};

const char *wire_type_name(enum wire_type t) {
    return t > WIRE_NONE && t < WIRE_TYPES ? kinds[t].name : "?";
}

static void put_le(unsigned char *p, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t get_le(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static void header_write(unsigned char *p, const struct header *h) {
    memcpy(p, "WEIR", 4);
    put_le(p + 4, h->format, 2);
    put_le(p + 6, h->type, 2);
    put_le(p + 8, h->body, 4);
    put_le(p + 12, h->payload, 8);
    put_le(p + 20, h->trace, 8);
    put_le(p + WIRE_CHECKSUM_AT, h->checksum, 4);
}

static int header_read(struct header *h, const void *data, size_t bytes) {
    const unsigned char *p = data;
    if (bytes < WIRE_HEADER || memcmp(p, "WEIR", 4) != 0)
        return FAIL(ERR_CORRUPT, "not a message: %zu bytes without the magic \"WEIR\"", bytes);
    *h = (struct header){(uint16_t)get_le(p + 4, 2), (uint16_t)get_le(p + 6, 2),
                         (uint32_t)get_le(p + 8, 4), get_le(p + 12, 8),
                         get_le(p + 20, 8),          (uint32_t)get_le(p + WIRE_CHECKSUM_AT, 4)};
    if (h->format != WIRE_FORMAT)
        return FAIL(ERR_CORRUPT, "message format %u, this program speaks %d", h->format,
                    WIRE_FORMAT);
    if (h->type == WIRE_NONE || h->type >= WIRE_TYPES)
        return FAIL(ERR_CORRUPT, "message type %u is unknown", h->type);
    const struct kind *k = &kinds[h->type];
    if (h->body > k->body_max)
        return FAIL(ERR_CORRUPT, "%s: body of %u bytes, limit %u", k->name, h->body, k->body_max);
    if (h->payload > k->payload_max)
        return FAIL(ERR_CORRUPT, "%s: payload of %" PRIu64 " bytes, limit %" PRIu64, k->name,
                    h->payload, k->payload_max);
    return 0;
}

/* An empty part may have no address. */
static uint64_t hash_chain(uint64_t h, const void *data, size_t bytes) {
    return hash64(bytes ? data : "", bytes, h);
}

static uint32_t checksum(const void *header, const void *body, size_t n_body,
                         const struct wire_frame *frames, size_t n_frames) {
    uint64_t h = hash_chain(0, header, WIRE_CHECKSUM_AT);
    h = hash_chain(h, body, n_body);
    for (size_t i = 0; i < n_frames; i++)
        h = hash_chain(h, frames[i].data, frames[i].bytes);
    return (uint32_t)h;
}

/* All frames of a type, empty ones when none were given. */
static int all_frames(struct wire_frame out[WIRE_FRAMES_MAX], const struct kind *k,
                      const struct wire_frame *frames, size_t n) {
    if (n != 0 && n != k->n_frames)
        return FAIL(ERR_CORRUPT, "%s: %zu frames, wanted %zu", k->name, n, k->n_frames);
    for (size_t i = 0; i < WIRE_FRAMES_MAX; i++)
        out[i] = i < n ? frames[i] : (struct wire_frame){"", 0};
    return 0;
}

static int pack_checked(struct buf *out, enum wire_type type, const void *body,
                        const struct wire_frame *frames, size_t n_frames, uint64_t trace) {
    const struct kind *k = &kinds[type];
    struct wire_frame all[WIRE_FRAMES_MAX];
    struct header h = {.format = WIRE_FORMAT, .type = (uint16_t)type, .trace = trace};
    unsigned char head[WIRE_HEADER] = {0};
    TRY(all_frames(all, k, frames, n_frames));
    TRY(err_wrap(check_message(type, body, all), "%s", k->name));
    for (size_t i = 0; i < n_frames; i++)
        h.payload += frames[i].bytes;
    size_t n_body = protobuf_c_message_get_packed_size(body);
    if (n_body > k->body_max || h.payload > k->payload_max)
        return FAIL(ERR_CORRUPT, "%s: %zu + %" PRIu64 " bytes, limits %u + %" PRIu64, k->name,
                    n_body, h.payload, k->body_max, k->payload_max);
    buf_reset(out);
    buf_add(out, head, sizeof head);
    protobuf_c_message_pack(body, (uint8_t *)buf_extend(out, n_body));
    h.body = (uint32_t)n_body;
    header_write((unsigned char *)out->data, &h);
    h.checksum = checksum(out->data, out->data + WIRE_HEADER, h.body, frames, n_frames);
    header_write((unsigned char *)out->data, &h);
    return 0;
}

int wire_pack(struct buf *head, enum wire_type type, const void *body,
              const struct wire_frame *frames, size_t n_frames, uint64_t trace) {
    ASSERT(type > WIRE_NONE && type < WIRE_TYPES);
    ASSERT(((const ProtobufCMessage *)body)->descriptor == kinds[type].descriptor);
    int rc = pack_checked(head, type, body, frames, n_frames, trace);
    return err_wrap(rc == ERR_CORRUPT ? ERR_CONFIG : rc, "cannot send");
}

struct capped { /* an arena that refuses beyond a limit; protobuf-c then fails as a whole */
    struct arena *arena;
    size_t left;
};

static void *capped_alloc(void *data, size_t bytes) {
    struct capped *c = data;
    if (bytes > c->left) return NULL;
    c->left -= bytes;
    return arena_alloc(c->arena, bytes);
}

static void capped_free(void *data, void *p) {
    (void)data;
    (void)p;
}

static int unpack_body(struct wire_msg *m, const struct kind *k, const void *body, size_t n) {
    struct capped c = {m->owner, (size_t)k->body_max * WIRE_GROWTH + WIRE_SLACK};
    ProtobufCAllocator allocator = {capped_alloc, capped_free, &c};
    m->body = protobuf_c_message_unpack(k->descriptor, &allocator, n, n ? body : (const void *)"");
    if (!m->body) return FAIL(ERR_CORRUPT, "%s: body of %zu bytes is malformed", k->name, n);
    return 0;
}

/* Message data may start anywhere in a receive buffer; handlers read numbers through pointers. */
static void align_frame(struct wire_msg *m, struct wire_frame *f) {
    if ((uintptr_t)f->data % WIRE_ALIGN == 0) return;
    void *copy = arena_alloc(m->owner, f->bytes);
    memcpy(copy, f->data, f->bytes);
    f->data = copy;
}

static int check_frame_sizes(const struct kind *k, const struct header *h, size_t n_body,
                             const struct wire_frame *frames, size_t n) {
    uint64_t payload = 0;
    for (size_t i = 0; i < n; i++) {
        if (frames[i].bytes > k->payload_max - payload)
            return FAIL(ERR_CORRUPT, "%s: frames of more than %" PRIu64 " bytes", k->name,
                        k->payload_max);
        payload += frames[i].bytes;
    }
    if (n_body != h->body || payload != h->payload)
        return FAIL(ERR_CORRUPT, "%s: %zu + %" PRIu64 " bytes came, the header says %u + %" PRIu64,
                    k->name, n_body, payload, h->body, h->payload);
    return 0;
}

int wire_unpack(struct wire_msg *out, const struct wire_frame *parts, size_t n_parts) {
    int rc = 0;
    struct header h;
    struct wire_msg m = {0};
    if (n_parts < 2 || n_parts > 2 + WIRE_FRAMES_MAX)
        return FAIL(ERR_CORRUPT, "message of %zu parts, wanted 2..%d", n_parts,
                    2 + WIRE_FRAMES_MAX);
    if (parts[0].bytes != WIRE_HEADER)
        return FAIL(ERR_CORRUPT, "header of %zu bytes, wanted %d", parts[0].bytes, WIRE_HEADER);
    TRY(header_read(&h, parts[0].data, parts[0].bytes));
    const struct kind *k = &kinds[h.type];
    TRY(all_frames(m.frame, k, parts + 2, n_parts - 2));
    TRY(check_frame_sizes(k, &h, parts[1].bytes, parts + 2, n_parts - 2));
    if (checksum(parts[0].data, parts[1].data, parts[1].bytes, parts + 2, n_parts - 2) !=
        h.checksum)
        return FAIL(ERR_CORRUPT, "%s: checksum differs", k->name);
    m.type = (enum wire_type)h.type;
    m.trace = h.trace;
    m.n_frames = k->n_frames;
    m.owner = arena_open(parts[1].bytes * 2 + 1024);
    for (size_t i = 0; i < m.n_frames; i++)
        align_frame(&m, &m.frame[i]);
    TRY_OUT(unpack_body(&m, k, parts[1].data, parts[1].bytes));
    TRY_OUT(err_wrap(check_message(m.type, m.body, m.frame), "%s", k->name));
    *out = m;
    m.owner = NULL;
out:
    wire_free(&m);
    return rc;
}

void wire_free(struct wire_msg *m) {
    struct arena *a = m->owner;
    arena_close(&a);
    *m = (struct wire_msg){0};
}

int wire_flat_head(struct buf *out, enum wire_type type, const void *body,
                   const struct wire_frame *frames, size_t n_frames) {
    unsigned char sizes[4 + 8 * WIRE_FRAMES_MAX];
    TRY(wire_pack(out, type, body, frames, n_frames, 0));
    put_le(sizes, n_frames, 4);
    for (size_t i = 0; i < n_frames; i++)
        put_le(sizes + 4 + 8 * i, frames[i].bytes, 8);
    buf_add(out, sizes, 4 + 8 * n_frames);
    return 0;
}

int wire_flatten(struct buf *out, enum wire_type type, const void *body,
                 const struct wire_frame *frames, size_t n_frames) {
    TRY(wire_flat_head(out, type, body, frames, n_frames));
    for (size_t i = 0; i < n_frames; i++)
        buf_add(out, frames[i].data, frames[i].bytes);
    return 0;
}

/* Splits the flat form into parts; every length is compared with what is left. */
static int split_flat(struct wire_frame parts[2 + WIRE_FRAMES_MAX], size_t *n_parts,
                      const unsigned char *p, size_t left, uint32_t n_body) {
    parts[0] = (struct wire_frame){p, WIRE_HEADER};
    p += WIRE_HEADER;
    left -= WIRE_HEADER;
    if (n_body > left || left - n_body < 4)
        return FAIL(ERR_CORRUPT, "record ends within its body of %u bytes", n_body);
    parts[1] = (struct wire_frame){p, n_body};
    uint64_t n = get_le(p + n_body, 4);
    const unsigned char *sizes = p + n_body + 4;
    left -= n_body + 4;
    if (n > WIRE_FRAMES_MAX || left < 8 * n)
        return FAIL(ERR_CORRUPT, "record with %" PRIu64 " frames, limit %d", n, WIRE_FRAMES_MAX);
    left -= 8 * n;
    p = sizes + 8 * n;
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = get_le(sizes + 8 * i, 8);
        if (bytes > left) return FAIL(ERR_CORRUPT, "record ends within frame %zu", i);
        parts[2 + i] = (struct wire_frame){p, bytes};
        p += bytes;
        left -= bytes;
    }
    if (left != 0) return FAIL(ERR_CORRUPT, "record with %zu bytes after its end", left);
    *n_parts = 2 + n;
    return 0;
}

int wire_unflatten(struct wire_msg *out, const void *data, size_t bytes, enum wire_type want) {
    struct header h;
    struct wire_frame parts[2 + WIRE_FRAMES_MAX];
    size_t n_parts;
    TRY(header_read(&h, data, bytes));
    if (h.type != want)
        return FAIL(ERR_CORRUPT, "record of type %s, wanted %s",
                    wire_type_name((enum wire_type)h.type), wire_type_name(want));
    TRY(split_flat(parts, &n_parts, data, bytes, h.body));
    return wire_unpack(out, parts, n_parts);
}
