/* pull.h - a reader's side of the relay: hears what is there, maps versions (I4). */
#ifndef RELAY_PULL_H
#define RELAY_PULL_H

#include "base/err.h"
#include "base/hash.h"
#include "relay/sealed.h"

#include <stddef.h>
#include <stdint.h>

struct pull;
struct net;

/* A mapped version: read-only shared memory that nobody changes until pull_release. The relay
 * verified it; who copies it out hashes what he copies and compares. */
struct pull_version {
    int64_t version;
    struct hash hash; /* hash_slab of the data */
    const void *data;
    size_t bytes;
    struct sealed file;
};

MUST_CHECK int pull_open(struct pull **out, struct net *net, const char *relay_endpoint,
                         const char *name);
void pull_close(struct pull **p);
/* Reads what the relay says, asks it now and then; keeps it informed of what is held. */
MUST_CHECK int pull_tick(struct pull *p, uint64_t now_us);
int64_t pull_newest(const struct pull *p); /* newest version known to be there, -1: none */
/* Maps version (or the newest, -1); takes no time. ERR_AGAIN: the relay has not answered yet, call
 * again after the next tick; ERR_NOTFOUND: not kept any more. expect_bytes guards against
 * another model's weights (ERR_MISMATCH). */
MUST_CHECK int pull_map(struct pull *p, int64_t version, size_t expect_bytes,
                        struct pull_version *out);
void pull_release(struct pull *p, struct pull_version *v);

#endif
