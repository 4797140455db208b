/* swap.c - see swap.h. A version that lies on the rollout's own device is copied there and hashed
 * there (pull_device.c). Otherwise, taking a version means reading it three times over: to copy it
 * out of shared memory (which is wanted back by the trainer), to hash what was copied (I4; done in
 * the same pass) and to pack it for the matrix products. Nothing of that must stop the engine, and
 * a thread would take its cores in the middle of a step. So it is done in slices between steps,
 * each no longer than a small part of a step; an engine that has nothing to do gives all its time.
 *
 * A version that is on its way is finished even if a newer one is heard of, or a trainer that is
 * fast enough would keep anything from being taken. One that is ready but may not be used yet gives
 * way to the newer one. */
#include "rollout/swap.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "rollout/pull_device.h"

#include <inttypes.h>

enum {
    SLICE_US = 600,  /* of a busy engine */
    STEP_SHARE = 32, /* or this part of a step, if that is longer */
    UNIT = 1 << 20,  /* bytes between two looks at the clock */
    UNIT_NEARBY = 1 << 28,
    RETRY_US = 500 * 1000 /* until what was not good is looked at again */
};

enum stage { NOTHING, COPYING, PACKING, READY };

struct swap {
    struct swap_config cfg;
    struct params *slab[2]; /* the engine reads slab[current]; the other takes the next version */
    int current;
    int64_t version;             /* in use, -1 */
    struct hash hash, next_hash; /* of the version in use, of the one that comes */
    enum stage stage;
    struct pull_version next; /* what the stages are about; mapped while copying */
    struct hash *leaf;        /* of the blocks copied */
    size_t n_blocks, block;
    struct pull_device nearby; /* where the version is copied from within the device, if it is */
    bool far;                  /* the driver refused: not tried again */
    bool first;                /* nothing of it was packed yet */
    uint64_t heard_us, refused_us;
    struct swap_stats now, taken;
};

int swap_open(struct swap **out, const struct swap_config *cfg) {
    int rc = 0;
    struct swap *s = mem_zalloc(sizeof *s);
    s->cfg = *cfg;
    s->version = s->next.version = -1;
    s->next.file.fd = -1;
    for (int i = 0; i < 2; i++)
        TRY_OUT(params_open(&s->slab[i], cfg->backend, &cfg->shape));
    s->n_blocks = hash_blocks(params_slab(s->slab[0]).bytes);
    s->leaf = mem_array(s->n_blocks, sizeof *s->leaf);
    *out = s;
    s = NULL;
out:
    swap_close(&s);
    return rc;
}

void swap_close(struct swap **s) {
    struct swap *w = *s;
    if (!w) return;
    pull_device_close(&w->nearby, w->cfg.backend);
    pull_release(w->cfg.pull, &w->next);
    params_close(&w->slab[0]);
    params_close(&w->slab[1]);
    mem_free(w->leaf);
    mem_free(w);
    *s = NULL;
}

int64_t swap_version(const struct swap *s) {
    return s->version;
}

struct hash swap_hash(const struct swap *s) {
    return s->hash;
}

struct swap_stats swap_stats(const struct swap *s) {
    return s->taken;
}

uint64_t swap_budget(uint64_t step_us) {
    return step_us / STEP_SHARE > SLICE_US ? step_us / STEP_SHARE : SLICE_US;
}

static struct params *spare(const struct swap *s) {
    return s->slab[1 - s->current];
}

/* The newest version that is known of and worth starting with; -1: none. */
static int64_t wanted(const struct swap *s, uint64_t now_us) {
    int64_t newest = pull_newest(s->cfg.pull);
    if (s->stage == COPYING || s->stage == PACKING || newest <= s->version) return -1;
    if (s->stage == READY && newest <= s->next.version) return -1;
    return s->refused_us && now_us < s->refused_us + RETRY_US ? -1 : newest;
}

bool swap_working(const struct swap *s) {
    return s->stage == COPYING || s->stage == PACKING || wanted(s, clock_us()) >= 0;
}

/* A version that is not there is no reason for words: this rollout may be on another device. */
static void look_nearby(struct swap *s) {
    int rc = s->far ? ERR_NOTFOUND : pull_device_open(&s->nearby, s->cfg.backend, &s->next);
    s->now.nearby = rc == 0;
    if (rc == 0 || rc == ERR_NOTFOUND) return;
    s->far = true;
    LOG_LIMITED(WARN, ROLLOUT, "weights are taken through host memory: %s", err_text());
}

static int start(struct swap *s, uint64_t now_us) {
    struct pull_version v;
    int rc = pull_map(s->cfg.pull, -1, params_slab(s->slab[0]).bytes, &v);
    if (rc == ERR_AGAIN || rc == ERR_NOTFOUND) return 0;
    if (rc == ERR_CORRUPT) { /* not what was announced: asked for again */
        LOG_LIMITED(WARN, ROLLOUT, "weights not taken: %s", err_text());
        s->refused_us = now_us;
        return 0;
    }
    TRY(rc);
    s->next = v;
    s->stage = COPYING;
    s->block = 0;
    s->refused_us = 0;
    s->heard_us = now_us;
    s->now = (struct swap_stats){0};
    look_nearby(s);
    return 0;
}

/* Everything is copied: what was copied counts, not what is in shared memory. */
static void check_copy(struct swap *s, uint64_t now_us) {
    struct hash h = hash_root(s->leaf, s->next.bytes), want = s->next.hash;
    int64_t version = s->next.version;
    bool good = hash_equal(h, want);
    pull_device_close(&s->nearby, s->cfg.backend);
    if (!good && s->now.nearby) { /* shared memory has it too */
        LOG_LIMITED(WARN, ROLLOUT,
                    "version=%" PRId64
                    " in device memory has another hash than announced: taken through host memory",
                    version);
        s->now.nearby = false;
        s->block = 0;
        return;
    }
    pull_release(s->cfg.pull, &s->next);
    s->next.version = version;
    s->next_hash = h;
    s->stage = PACKING;
    s->first = true;
    if (good) return;
    LOG_LIMITED(WARN, ROLLOUT,
                "weights not taken: what was copied of version %" PRId64
                " has another hash than announced",
                version);
    s->stage = NOTHING;
    s->refused_us = now_us;
}

static int copy_some(struct swap *s, uint64_t now_us) {
    const void *near = s->nearby.data;
    size_t left = s->n_blocks - s->block, unit = near ? UNIT_NEARBY : UNIT, n = unit / HASH_BLOCK;
    n = n < left ? n : left;
    if (near) {
        TRY(params_copy_blocks(spare(s), near, s->next.bytes, s->block, n, s->leaf));
    } else {
        TRY(params_put_blocks(spare(s), s->next.data, s->next.bytes, s->block, n, s->leaf));
        sealed_passed(&s->next.file, s->block * HASH_BLOCK, n * HASH_BLOCK);
    }
    s->block += n;
    if (s->block == s->n_blocks) check_copy(s, now_us);
    return 0;
}

static int pack_some(struct swap *s) {
    bool done = false;
    TRY(engine_prepare(s->cfg.engine, spare(s), s->first, UNIT, &done));
    s->first = false;
    if (done) s->stage = READY;
    return 0;
}

static int change(struct swap *s) {
    TRY(engine_swap(s->cfg.engine, spare(s), s->next.version));
    s->current = 1 - s->current;
    s->version = s->next.version;
    s->hash = s->next_hash;
    s->stage = NOTHING;
    return 0;
}

int swap_turn(struct swap *s, uint64_t now_us, uint64_t budget_us, bool may) {
    uint64_t begin = clock_us(), until = begin + budget_us, end;
    int64_t before = s->version;
    TRY(pull_tick(s->cfg.pull, now_us));
    if (wanted(s, now_us) >= 0) TRY(start(s, now_us));
    if (s->stage == NOTHING) return 0;
    do {
        if (s->stage == COPYING)
            TRY(copy_some(s, now_us));
        else if (s->stage == PACKING)
            TRY(pack_some(s));
        end = clock_us();
    } while ((s->stage == COPYING || s->stage == PACKING) && end < until);
    if (s->stage == READY && may) TRY(change(s));
    end = clock_us();
    s->now.slices++;
    if (end - begin > s->now.longest_us) s->now.longest_us = end - begin;
    s->now.total_us = end - s->heard_us;
    if (s->version != before) s->taken = s->now;
    return 0;
}
