/* store.h - the versions that a relay holds: the newest two, and any that a living reader says it
 * holds, at most STORE_MAX. Only verified versions get in (I4). No sockets, no clock. */
#ifndef RELAY_STORE_H
#define RELAY_STORE_H

#include "base/err.h"
#include "base/hash.h"
#include "relay/sealed.h"

#include <stddef.h>
#include <stdint.h>

enum {
    STORE_MAX = 8,
    STORE_NEWEST = 2,
    STORE_READERS_MAX = 256,
    STORE_READER_US = 10 * 1000 * 1000 /* a reader that was silent for so long is dead */
};

struct store;

struct store_version {
    int64_t version;
    struct hash hash;
    struct sealed file; /* the store's own; locked, so that the trainer leaves it as it is */
};

struct store *store_open(void);
void store_close(struct store **s);

/* Opens the holder's shared memory, verifies it and keeps it. Nothing happens when the version is
 * held with this hash; with another one it is ERR_MISMATCH: a version has one content. store_tidy
 * follows: apart, because readers are waiting for the version and not for that. */
MUST_CHECK int store_offer(struct store *s, int64_t version, struct hash hash, size_t bytes,
                           int64_t pid, int32_t fd);
/* Lets go what is not to be held any more. */
void store_tidy(struct store *s);
/* version, or the newest for -1; NULL if it is not there. Valid until the next offer or reader. */
const struct store_version *store_find(const struct store *s, int64_t version);
/* A reader was heard: it holds that version (-1: none). Beyond STORE_READERS_MAX living readers the
 * one silent for longest is forgotten; it can still read, its version may go earlier. */
void store_reader(struct store *s, const char *name, int64_t held, uint64_t now_us);
/* The names of the living readers, one after another: *at starts at 0; NULL: no more. */
const char *store_next_reader(const struct store *s, size_t *at);
size_t store_count(const struct store *s);

#endif
