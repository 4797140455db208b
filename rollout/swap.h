/* swap.h - the way of a new version of the weights into an engine that is running: mapped, copied
 * out of shared memory and verified, packed, all of it in slices between the engine's steps, beside
 * the version in use; the change itself is an exchange of pointers. */
#ifndef ROLLOUT_SWAP_H
#define ROLLOUT_SWAP_H

#include "relay/pull.h"
#include "rollout/engine/engine.h"

struct swap; /* one thread, the engine's */

struct swap_config {
    struct pull *pull;     /* borrowed, all three */
    struct engine *engine; /* opened with `spare` */
    const struct kern_backend *backend;
    struct shape shape;
};

/* Of the version taken last */
struct swap_stats {
    uint64_t longest_us; /* of a slice, the change itself included: what a running engine waits */
    uint64_t total_us;   /* from hearing of it to using it */
    int64_t slices;
    bool nearby; /* it was copied within the device */
};

/* Takes memory for two versions. */
MUST_CHECK int swap_open(struct swap **out, const struct swap_config *cfg);
void swap_close(struct swap **s);
/* Reads what the relay says and works for about budget_us, at least a little, on the newest version
 * if it is newer than the one in use. Changes to it once it is ready and `may`. */
MUST_CHECK int swap_turn(struct swap *s, uint64_t now_us, uint64_t budget_us, bool may);
/* What a busy engine may be kept waiting for between two steps, given what the last one took. */
uint64_t swap_budget(uint64_t step_us);
bool swap_working(const struct swap *s);    /* a slice now would be of use */
int64_t swap_version(const struct swap *s); /* in use, -1: none */
/* Of what was copied of it, block by block as it was copied; the same as was announced. */
struct hash swap_hash(const struct swap *s);
struct swap_stats swap_stats(const struct swap *s);

#endif
