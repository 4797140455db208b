/* batch_bytes.c - a batch as one piece of memory, for the other ranks of a trainer, and back. The
 * bytes are of this very program on this machine's kind of processor, so they are the fields as
 * they lie in memory; lengths are checked all the same before anything is read by them (I10). */
#include "base/mem.h"
#include "trainer/batch/batch.h"

#include <string.h>

struct head {
    int64_t step;
    uint32_t n, n_groups, foreign, pad;
};

struct item {
    uint64_t id;
    uint32_t group, truncated;
    int32_t n_prompt, n_response;
    float reward, baseline;
};

enum { PER_TOKEN = sizeof(float) + sizeof(int64_t) + 1 }; /* log-prob, version, mask */

void batch_pack(struct buf *out, const struct batch *b) {
    struct head h = {b->step, b->n, b->n_groups, b->foreign, 0};
    buf_add(out, &h, sizeof h);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        size_t n = (size_t)t->n_response;
        struct item x = {.id = t->id,
                         .group = t->group,
                         .truncated = t->truncated,
                         .n_prompt = t->n_prompt,
                         .n_response = t->n_response,
                         .reward = t->reward,
                         .baseline = t->baseline};
        buf_add(out, &x, sizeof x);
        buf_add(out, t->ids, ((size_t)t->n_prompt + n) * sizeof *t->ids);
        buf_add(out, t->logprob, n * sizeof *t->logprob);
        buf_add(out, t->version, n * sizeof *t->version);
        buf_add(out, t->mask, n);
    }
}

struct reader {
    const char *at;
    size_t left;
};

static bool take(struct reader *r, void *out, size_t bytes) {
    if (bytes > r->left) return false;
    if (bytes) memcpy(out, r->at, bytes);
    r->at += bytes;
    r->left -= bytes;
    return true;
}

static bool take_item(struct reader *r, struct batch_traj *t) {
    struct item x;
    if (!take(r, &x, sizeof x) || x.n_prompt < 1 || x.n_response < 0) return false;
    size_t n = (size_t)x.n_response, all = (size_t)x.n_prompt + n;
    if (all * sizeof *t->ids + n * PER_TOKEN > r->left) return false;
    t->id = x.id;
    t->group = x.group;
    t->truncated = x.truncated != 0;
    t->n_prompt = x.n_prompt;
    t->n_response = x.n_response;
    t->reward = x.reward;
    t->baseline = x.baseline;
    t->ids = mem_array(all, sizeof *t->ids);
    t->logprob = mem_array(n, sizeof *t->logprob);
    t->version = mem_array(n, sizeof *t->version);
    t->mask = mem_array(n, sizeof *t->mask);
    return take(r, t->ids, all * sizeof *t->ids) && take(r, t->logprob, n * sizeof *t->logprob) &&
           take(r, t->version, n * sizeof *t->version) && take(r, t->mask, n);
}

int batch_unpack(struct batch **out, const void *data, size_t bytes) {
    struct reader r = {data, bytes};
    struct head h;
    if (!take(&r, &h, sizeof h) || h.n > bytes / sizeof(struct item))
        return FAIL(ERR_CORRUPT, "a batch of %zu bytes: its head is not whole", bytes);
    struct batch *b = batch_open(h.n);
    b->step = h.step;
    b->n_groups = h.n_groups;
    b->foreign = h.foreign != 0;
    for (uint32_t i = 0; i < h.n; i++) {
        if (take_item(&r, &b->traj[i])) continue;
        batch_close(&b);
        return FAIL(ERR_CORRUPT, "a batch of %zu bytes: trajectory %u is not whole", bytes, i);
    }
    *out = b;
    return 0;
}
