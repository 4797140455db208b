/* feed.c - see feed.h.
 *
 * Training uses the paged pool of the rollout engine, so that both run the same kernels on the same
 * layout (I6). Here pages are handed out in order and never shared: sequence s starts at the page
 * after the last one of sequence s - 1. All arrays are cut from one allocation. */
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

static void add_targets(struct feed *f, struct cursor *c, const struct batch_traj *t, int32_t item,
                        bool all) {
    for (int32_t k = 0; k < t->n_response; k++) {
        if (!all && !t->mask[k]) continue;
        c->row[f->n] = f->in.n_rows + t->n_prompt + k - 1;
        c->target[f->n] = t->ids[t->n_prompt + k];
        c->seq[f->n] = item;
        c->token[f->n++] = k;
    }
}

static void add_sequence(struct feed *f, struct cursor *c, const struct batch_traj *t,
                         int32_t rows) {
    int32_t page = f->limits.page, first = f->in.n_rows, s = f->in.n_seqs;
    ASSERT(first + rows <= f->limits.rows_max && s < f->limits.seqs_max);
    ASSERT(rows <= f->limits.context);
    memcpy(c->ids + first, t->ids, (size_t)rows * sizeof *c->ids);
    for (int32_t r = 0; r < rows; r++) {
        c->pos[first + r] = r;
        c->slot[first + r] = c->next_page * page + r;
    }
    int32_t *pages = c->pages + (size_t)s * (size_t)f->in.pages_max;
    for (int32_t p = 0; p < pages_of(rows, page); p++)
        pages[p] = c->next_page++;
    c->kv_len[s] = rows;
    f->in.n_rows += rows;
    f->in.n_seqs++;
    c->q_start[f->in.n_seqs] = f->in.n_rows;
}

void feed_fill(struct feed *f, const struct batch *b, const int32_t *item, int32_t n, bool all) {
    struct cursor c = cursor_of(f);
    f->in.n_rows = f->in.n_seqs = f->n = 0;
    c.q_start[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct batch_traj *t = &b->traj[item[i]];
        int32_t rows = feed_rows(t, all);
        if (rows == 0) continue;
        add_targets(f, &c, t, item[i], all);
        add_sequence(f, &c, t, rows);
    }
}
