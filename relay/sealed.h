/* sealed.h - a version's bytes in a memfd that one process can write and all others only read: made
 * by the trainer, opened by everyone else through /proc/PID/fd/N of a holder. No name exists
 * anywhere, so nothing is left behind when all holders die.
 *
 * The file is used again for a later version once nobody reads it: every reader keeps a shared lock
 * on it, the writer needs the exclusive one, and the kernel drops the locks of the dead. Its first
 * page says which version it holds. */
#ifndef RELAY_SEALED_H
#define RELAY_SEALED_H

#include "base/err.h"
#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sealed {
    int fd;       /* -1: nothing */
    void *map;    /* of the whole file, or NULL */
    size_t bytes; /* of the version, without the first page */
};

struct sealed_note { /* where the same version lies in another form, for those who can use it: a
                      * file of a process (as for sealed_open); pid 0: nowhere */
    int64_t pid;
    int32_t fd;
};

/* --- the writer */
/* A new file for versions of `bytes`, its memory there, mapped writable and sealed: no other
 * mapping and no write() can change it. Locked, ready to be filled. */
MUST_CHECK int sealed_create(struct sealed *out, size_t bytes);
/* The same state again, unless somebody reads the file: then false, and nothing was changed. */
bool sealed_reuse(struct sealed *s);
void *sealed_area(const struct sealed *s); /* where the version's bytes are */
/* Before sealed_finish; gone with the next sealed_reuse. */
void sealed_set_note(struct sealed *s, const struct sealed_note *note);
/* Names what was filled in and lets readers in. Until the next sealed_reuse the area must not be
 * touched. */
MUST_CHECK int sealed_finish(struct sealed *s, int64_t version, struct hash hash);

/* --- readers */
/* Opens, locks and maps holder's file read-only, if it is sealed and holds this version. The bytes
 * stay what they are until sealed_close, but were not looked at. ERR_NOTFOUND: the holder or its
 * file is gone, or the file holds something else by now; ERR_CORRUPT: it is no such file. */
MUST_CHECK int sealed_open(struct sealed *out, int64_t pid, int32_t holder_fd, int64_t version,
                           size_t bytes, struct hash hash);
struct sealed_note sealed_note(const struct sealed *s); /* mapped */
/* ERR_CORRUPT unless the bytes have that hash (I4). */
MUST_CHECK int sealed_verify(const struct sealed *s, struct hash hash);

/* Bytes at..at+n-1 were read and are not needed soon: gives back their part of the mapping's cost
 * now, where all at once at the end would be felt. */
void sealed_passed(const struct sealed *s, size_t at, size_t n);
void sealed_unmap(struct sealed *s); /* keeps file and lock */
void sealed_close(struct sealed *s); /* accepts an empty one */

#endif
