/* feed.c - see feed.h.
 *
 * Training uses the paged pool of the rollout engine, so that both run the same kernels on the same
 * layout (I6). Pages are handed out in order; a sequence that shares a prompt begins with pages of
 * its leader. The page table is as wide as the longest sequence of the batch needs, not as the
 * context, because it is uploaded each time. All arrays are cut from one allocation. */
#include "trainer/feed.h"

#include "base/mem.h"

#include <string.h>

static int32_t pages_of(int32_t rows, int32_t page) {
    return (rows + page - 1) / page;
}

int32_t feed_pages(const struct feed_limits *l) {
    return l->rows_max / l->page + l->seqs_max;
}

/* ids, pos, slot, row, target, seq, token by row; q_start, kv_len, pages by sequence. */
static size_t elements(const struct feed_limits *l) {
    size_t rows = (size_t)l->rows_max, seqs = (size_t)l->seqs_max;
    return 7 * rows + 2 * seqs + 1 + seqs * (size_t)pages_of(l->context, l->page);
}

size_t feed_bytes(const struct feed_limits *l) {
    return elements(l) * sizeof(int32_t);
}

void feed_open(struct feed *f, const struct feed_limits *l) {
    size_t rows = (size_t)l->rows_max, seqs = (size_t)l->seqs_max;
    int32_t *p = mem_array(elements(l), sizeof *p);
    *f = (struct feed){.limits = *l, .memory = p, .row = p + 3 * rows};
    f->target = p + 4 * rows;
    f->seq = p + 5 * rows;
    f->token = p + 6 * rows;
    f->in.ids = p;
    f->in.pos = p + rows;
    f->in.slot = p + 2 * rows;
    f->in.q_start = p + 7 * rows;
    f->in.kv_len = p + 7 * rows + seqs + 1;
    f->in.pages = p + 7 * rows + 2 * seqs + 1;
    f->in.pages_max = pages_of(l->context, l->page);
}

void feed_close(struct feed *f) {
    mem_free(f->memory);
    *f = (struct feed){0};
}

int32_t feed_rows(const struct batch_traj *t, bool all) {
    for (int32_t k = t->n_response; k-- > 0;)
        if (all || t->mask[k]) return t->n_prompt + k;
    return 0;
}

/* The arrays of f as the writer sees them. */
struct cursor {
    int32_t *ids, *pos, *slot, *row, *target, *seq, *token, *q_start, *kv_len, *pages;
    int32_t next_page;
};

static struct cursor cursor_of(struct feed *f) {
    size_t rows = (size_t)f->limits.rows_max, seqs = (size_t)f->limits.seqs_max;
    int32_t *p = f->memory;
    return (struct cursor){
        .ids = p,
        .pos = p + rows,
        .slot = p + 2 * rows,
        .row = p + 3 * rows,
        .target = p + 4 * rows,
        .seq = p + 5 * rows,
        .token = p + 6 * rows,
        .q_start = p + 7 * rows,
        .kv_len = p + 7 * rows + seqs + 1,
        .pages = p + 7 * rows + 2 * seqs + 1,
    };
}

int32_t feed_shared(const struct batch_traj *leader, const struct batch_traj *t, int32_t page) {
    if (leader->n_prompt != t->n_prompt) return 0;
    if (memcmp(leader->ids, t->ids, (size_t)t->n_prompt * sizeof *t->ids) != 0) return 0;
    return (t->n_prompt - 1) / page * page;
}

/* skipped: rows that the leader computes. */
static void add_targets(struct feed *f, struct cursor *c, const struct batch_traj *t, int32_t traj,
                        int32_t skipped, bool all) {
    for (int32_t k = 0; k < t->n_response; k++) {
        if (!all && !t->mask[k]) continue;
        c->row[f->n] = f->in.n_rows + t->n_prompt + k - 1 - skipped;
        c->target[f->n] = t->ids[t->n_prompt + k];
        c->seq[f->n] = traj;
        c->token[f->n++] = k;
    }
}

static void add_sequence(struct feed *f, struct cursor *c, const struct batch_traj *t, int32_t len,
                         int32_t skipped, const int32_t *leader_pages) {
    int32_t page = f->limits.page, first = f->in.n_rows, s = f->in.n_seqs, own = len - skipped;
    ASSERT(first + own <= f->limits.rows_max && s < f->limits.seqs_max);
    ASSERT(len <= f->limits.context && skipped % page == 0);
    int32_t *pages = c->pages + (size_t)s * (size_t)f->in.pages_max;
    for (int32_t p = 0; p < pages_of(len, page); p++)
        pages[p] = p < skipped / page ? leader_pages[p] : c->next_page++;
    memcpy(c->ids + first, t->ids + skipped, (size_t)own * sizeof *c->ids);
    for (int32_t r = 0; r < own; r++) {
        int32_t key = skipped + r;
        c->pos[first + r] = key;
        c->slot[first + r] = pages[key / page] * page + key % page;
    }
    c->kv_len[s] = len;
    f->in.n_rows += own;
    f->in.n_seqs++;
    c->q_start[f->in.n_seqs] = f->in.n_rows;
}

void feed_fill(struct feed *f, const struct batch *b, const struct feed_item *item, int32_t n,
               bool all) {
    struct cursor c = cursor_of(f);
    int32_t page = f->limits.page, longest = 1;
    f->in.n_rows = f->in.n_seqs = f->n = 0;
    c.q_start[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t rows = feed_rows(&b->traj[item[i].traj], all);
        longest = rows > longest ? rows : longest;
    }
    f->in.pages_max = pages_of(longest, page);
    for (int32_t i = 0; i < n; i++) {
        const struct batch_traj *t = &b->traj[item[i].traj];
        const int32_t *leader = NULL;
        int32_t rows = feed_rows(t, all), skipped = 0;
        ASSERT(rows > 0 && item[i].leader < i);
        if (item[i].leader >= 0) {
            skipped = feed_shared(&b->traj[item[item[i].leader].traj], t, page);
            leader = c.pages + (size_t)item[i].leader * (size_t)f->in.pages_max;
        }
        add_targets(f, &c, t, item[i].traj, skipped, all);
        add_sequence(f, &c, t, rows, skipped, leader);
    }
}
