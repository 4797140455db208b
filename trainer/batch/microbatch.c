/* microbatch.c - see microbatch.h.
 *
 * Training uses the paged pool of the rollout engine, so that both run the same kernels on the same
 * layout (I6). Segments lie at the bottom of the pool, key k in slot k; a wave's own pages follow
 * in the order of its rows. While a wave is written, `path` says for each position of the newest
 * trajectory in which row and page it was computed: a chained item overwrites it from where it
 * leaves the one before, so the path is always that trajectory's own, whoever computed it.
 *
 * The page table is as wide as the longest sequence of the batch needs, not as the context, because
 * it is uploaded each time. All arrays by row are cut from one allocation; those by token grow,
 * because a shared row may predict for any number of trajectories. */
#include "trainer/batch/microbatch.h"

#include "base/mem.h"

#include <string.h>

static int32_t pages_of(int32_t rows, int32_t page) {
    return (rows + page - 1) / page;
}

int32_t microbatch_pages(const struct microbatch_limits *l) {
    return l->rows_max / l->page + l->seqs_max + pages_of(l->segments, l->page);
}

/* The arrays of f as the writer sees them. */
struct cursor {
    int32_t *ids, *pos, *slot, *row, *target, *count; /* by row; count [rows + 1] */
    int32_t *q_start, *kv_len, *pages;                /* by sequence */
    int32_t *path_row, *path_page;                    /* by position, by page of positions */
    int32_t next_page;
    int64_t pairs;
};

/* Cuts the arrays out of p; returns how many elements they take. */
static size_t cut_arrays(const struct microbatch_limits *l, int32_t *p, struct cursor *c) {
    size_t rows = (size_t)l->rows_max, seqs = (size_t)l->seqs_max, context = (size_t)l->context;
    size_t table = (size_t)pages_of(l->context, l->page), used = 0;
    struct {
        int32_t **to;
        size_t n;
    } parts[] = {{&c->ids, rows},         {&c->pos, rows},       {&c->slot, rows},
                 {&c->row, rows},         {&c->target, rows},    {&c->count, rows + 1},
                 {&c->q_start, seqs + 1}, {&c->kv_len, seqs},    {&c->pages, seqs * table},
                 {&c->path_row, context}, {&c->path_page, table}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        *parts[i].to = p ? p + used : NULL;
        used += parts[i].n;
    }
    return used;
}

size_t microbatch_bytes(const struct microbatch_limits *l) {
    struct cursor c;
    return cut_arrays(l, NULL, &c) * sizeof(int32_t);
}

void microbatch_open(struct microbatch *f, const struct microbatch_limits *l) {
    struct cursor c;
    *f = (struct microbatch){.limits = *l,
                             .memory = mem_array(cut_arrays(l, NULL, &c), sizeof *f->memory)};
    cut_arrays(l, f->memory, &c);
    f->row = c.row;
    f->target = c.target;
    f->start = c.count;
    f->in.ids = c.ids;
    f->in.pos = c.pos;
    f->in.slot = c.slot;
    f->in.q_start = c.q_start;
    f->in.kv_len = c.kv_len;
    f->in.pages = c.pages;
}

void microbatch_close(struct microbatch *f) {
    mem_free(f->memory);
    mem_free(f->element);
    mem_free(f->pair);
    *f = (struct microbatch){0};
}

int32_t microbatch_rows(const struct batch_traj *t, bool all) {
    for (int32_t k = t->n_response; k-- > 0;)
        if (all || t->mask[k]) return t->n_prompt + k;
    return 0;
}

/* --- rows ---------------------------------------------------------------------------------- */

static struct cursor begin_pass(struct microbatch *f, int32_t base, int32_t longest) {
    struct cursor c = {.next_page = base / f->limits.page};
    cut_arrays(&f->limits, f->memory, &c);
    ASSERT(base % f->limits.page == 0 && longest <= f->limits.context);
    f->in.n_rows = f->in.n_seqs = f->n = 0;
    f->in.keys_only = false;
    f->in.pages_max = pages_of(longest, f->limits.page);
    c.q_start[0] = 0;
    for (int32_t p = 0; p < base / f->limits.page; p++)
        c.path_page[p] = p;
    return c;
}

/* Rows from .. to-1 of t behind what the path says of the rows before them. */
static void add_sequence(struct microbatch *f, struct cursor *c, const struct batch_traj *t,
                         int32_t from, int32_t to) {
    int32_t page = f->limits.page, at = f->in.n_rows, s = f->in.n_seqs;
    if (from == to) return;
    ASSERT(from < to && from % page == 0 && to <= f->limits.context);
    ASSERT(at + to - from <= f->limits.rows_max && s < f->limits.seqs_max);
    for (int32_t p = from / page; p < pages_of(to, page); p++)
        c->path_page[p] = c->next_page++;
    for (int32_t key = from; key < to; key++, at++) {
        c->ids[at] = t->ids[key];
        c->pos[at] = key;
        c->slot[at] = c->path_page[key / page] * page + key % page;
        c->path_row[key] = at;
    }
    memcpy(c->pages + (size_t)s * (size_t)f->in.pages_max, c->path_page,
           (size_t)pages_of(to, page) * sizeof *c->pages);
    c->kv_len[s] = to;
    f->in.n_rows = c->q_start[s + 1] = at;
    f->in.n_seqs++;
}

/* --- tokens -------------------------------------------------------------------------------- */

/* The trained tokens of a trajectory that rows from .. to-1 of the path predict. */
static void add_predictions(struct microbatch *f, struct cursor *c, const struct batch *b,
                            int32_t traj, const struct microbatch_tokens *tokens, int32_t from,
                            int32_t to) {
    const struct batch_traj *t = &b->traj[traj];
    int64_t element = tokens->first[traj];
    mem_grow(&f->pair, &f->pair_cap, 2 * (size_t)(c->pairs + t->n_response + 1), sizeof *f->pair);
    for (int32_t k = 0; k < t->n_response && t->n_prompt + k - 1 < to; k++) {
        int32_t key = t->n_prompt + k - 1;
        if (!tokens->all && !t->mask[k]) continue;
        if (key >= from) {
            f->pair[2 * c->pairs] = c->path_row[key];
            f->pair[2 * c->pairs++ + 1] = element;
            c->target[c->path_row[key]] = t->ids[key + 1];
        }
        element++;
    }
}

/* Pairs of row and element to n rows with their elements, both in order; target was by row. */
static void sort_predictions(struct microbatch *f, struct cursor *c) {
    int32_t rows = f->in.n_rows;
    mem_grow(&f->element, &f->element_cap, (size_t)c->pairs + 1, sizeof *f->element);
    memset(c->count, 0, (size_t)(rows + 1) * sizeof *c->count);
    for (int64_t i = 0; i < c->pairs; i++)
        c->count[f->pair[2 * i] + 1]++;
    for (int32_t r = 0; r < rows; r++)
        c->count[r + 1] += c->count[r];
    for (int64_t i = 0; i < c->pairs; i++)
        f->element[c->count[f->pair[2 * i]]++] = f->pair[2 * i + 1];
    for (int32_t r = 0, before = 0, end; r < rows; r++, before = end) {
        end = c->count[r]; /* where row r's elements end, by now */
        if (end == before) continue;
        c->count[f->n] = before;
        c->row[f->n] = r;
        c->target[f->n++] = c->target[r];
    }
    c->count[f->n] = (int32_t)c->pairs;
}

void microbatch_wave(struct microbatch *f, const struct batch *b,
                     const struct microbatch_tokens *tokens, const struct microbatch_item *item,
                     int32_t n, int32_t base) {
    int32_t longest = 1;
    for (int32_t i = 0; i < n; i++)
        longest = item[i].to > longest ? item[i].to : longest;
    struct cursor c = begin_pass(f, base, longest);
    for (int32_t i = 0; i < n; i++) {
        ASSERT(item[i].chained ? i > 0 : item[i].from == base);
        add_sequence(f, &c, &b->traj[item[i].traj], item[i].from, item[i].to);
        add_predictions(f, &c, b, item[i].traj, tokens, base, item[i].to);
    }
    sort_predictions(f, &c);
}

void microbatch_frame(struct microbatch *f, const struct batch *b,
                      const struct microbatch_tokens *tokens, const int32_t *traj, int32_t n,
                      int32_t from, int32_t to) {
    struct cursor c = begin_pass(f, from, to);
    add_sequence(f, &c, &b->traj[traj[0]], from, to);
    for (int32_t i = 0; i < n; i++)
        add_predictions(f, &c, b, traj[i], tokens, from, to);
    sort_predictions(f, &c);
    f->in.keys_only = f->n == 0;
}
