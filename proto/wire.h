/* wire.h - messages on sockets and in the log: a 32-byte header, a protobuf body, raw payload
 * frames.
 *
 *   header: magic "WEIR", u16 format, u16 type, u32 body bytes, u64 payload bytes, u64 trace,
 *   u32 checksum; little endian. The checksum is the low half of an XXH3 chain over the header's
 *   first 28 bytes, the body and each frame.
 *
 * Reading checks everything before a handler sees it: header, checksum, sizes against the type's
 * limits, protobuf (with an arena capped by the type), then the validator in check.c, which also
 * checks that the frames' sizes agree with the counts in the body (I10). Handlers may read the
 * unpacked struct until wire_free and keep no pointers into it. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include "base/buf.h"
#include "base/err.h"
#include "proto/wire_table.h"

struct wire_msg { /* one received message; read-only */
    enum wire_type type;
    uint64_t trace;
    const void *body; /* the unpacked protobuf-c struct of the type: const Weir__Work *, ... */
    struct wire_frame frame[WIRE_FRAMES_MAX];
    size_t n_frames; /* that of the type, also when none were sent */
    void *owner;     /* arena of the body and of frames that had to be aligned */
};

const char *wire_type_name(enum wire_type t);

/* Packs header and body into head (reset first): bytes [0, WIRE_HEADER) and the rest are the first
 * two parts of a multipart message. body: the protobuf-c struct of the type. ERR_CONFIG when the
 * receiver would refuse it: a bug upstream. */
MUST_CHECK int wire_pack(struct buf *head, enum wire_type type, const void *body,
                         const struct wire_frame *frames, size_t n_frames, uint64_t trace);
/* Unpacks parts[0..n) = header, body, frames (borrowed until wire_free). ERR_CORRUPT names type,
 * field and limit. */
MUST_CHECK int wire_unpack(struct wire_msg *out, const struct wire_frame *parts, size_t n_parts);
void wire_free(struct wire_msg *m);

/* Flat form for the log: header, body, u32 count and u64 sizes of the frames, then the frames. */
MUST_CHECK int wire_flatten(struct buf *out, enum wire_type type, const void *body,
                            const struct wire_frame *frames, size_t n_frames);
/* The flat form without the frames' bytes, which follow it: for who can write parts. */
MUST_CHECK int wire_flat_head(struct buf *out, enum wire_type type, const void *body,
                              const struct wire_frame *frames, size_t n_frames);
MUST_CHECK int wire_unflatten(struct wire_msg *out, const void *data, size_t bytes,
                              enum wire_type want);

#endif
