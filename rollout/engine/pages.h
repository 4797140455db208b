/* pages.h - who holds which page of the K/V pool: references, and the prefix cache.
 *
 * Only numbers live here; the keys and values are in the actor's pool under the same page index. A
 * page is in use (references > 0), kept (no reference, but its content can be found by key) or
 * free. Kept pages are taken back, least recently used first, when free ones run out. */
#ifndef ROLLOUT_ENGINE_PAGES_H
#define ROLLOUT_ENGINE_PAGES_H

#include "base/hash.h"

#include <stdbool.h>
#include <stdint.h>

struct pages; /* opaque; one thread */

/* n pages; everything is allocated here. */
struct pages *pages_open(int32_t n);
void pages_close(struct pages **p);
size_t pages_bytes(int32_t n); /* host memory of pages_open(n) */

/* The name of a page's content: all tokens up to and including the page's first n, under a version.
 * The parent is the key of the full page before it, or the version's root. */
struct hash pages_root(int64_t version);
struct hash pages_key(struct hash parent, const int32_t *tokens, int32_t n);

/* A page that nobody else holds, with one reference; -1 when every page is in use. */
int32_t pages_take(struct pages *p);
/* One more reference to the page published under key; -1 when there is none. Its holder may only
 * read the keys that the key covers. */
int32_t pages_find(struct pages *p, struct hash key);
/* Drops one reference. Release a sequence's last page first, so that it is also given up first: a
 * page is worthless to others without the ones before it. */
void pages_put(struct pages *p, int32_t page);

/* Lets others find the page: full, when all its keys are written; else a beginning of it. Its
 * holder may write behind that beginning, never inside. Ignored when the key is known already. */
void pages_publish(struct pages *p, int32_t page, struct hash key, bool full);
/* New weights: nothing computed before can be found any more. */
void pages_forget(struct pages *p);

int32_t pages_refs(const struct pages *p, int32_t page);
int32_t pages_available(const struct pages *p); /* how often pages_take would succeed now */
int32_t pages_total(const struct pages *p);
void pages_check(const struct pages *p); /* aborts if the bookkeeping contradicts itself; O(n) */

#endif
