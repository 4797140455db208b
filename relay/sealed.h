/* sealed.h - a version's bytes in a memfd that can no longer change: made by the trainer, opened by
 * everyone else through /proc/PID/fd/N of a holder. No name exists anywhere, so nothing is left
 * behind when all holders die. */
#ifndef RELAY_SEALED_H
#define RELAY_SEALED_H

#include "base/err.h"
#include "base/hash.h"

#include <stddef.h>
#include <stdint.h>

/* A new memfd of `bytes`, its memory reserved, mapped writable. */
MUST_CHECK int sealed_create(int *fd, void **area, size_t bytes);
/* Unmaps the area and seals the file against writing and resizing for ever. */
MUST_CHECK int sealed_finish(int fd, void *area, size_t bytes);
/* Opens holder's file, maps it read-only and returns only if it is sealed, has that size and that
 * hash (I4). ERR_NOTFOUND: the holder or its file is gone; ERR_CORRUPT: anything else is not as
 * said. */
MUST_CHECK int sealed_open(int *fd, const void **data, int64_t pid, int32_t holder_fd, size_t bytes,
                           struct hash hash);
void sealed_unmap(const void *data, size_t bytes);

/* A hash as the 16 bytes of a message: hi, then lo, little endian. */
void sealed_hash_put(uint8_t out[16], struct hash h);
struct hash sealed_hash_get(const uint8_t in[16]);

#endif
