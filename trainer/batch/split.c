/* split.c - see split.h.
 *
 * Sorted by their tokens, trajectories that share rows stand next to each other, and the shared
 * rows of any range are the minimum over its neighbours: a sorted array is the whole prefix tree.
 * A range is cut at its minimum into the branches of the tree, recursively; each range becomes a
 * unit if it fits into a pass, a segment with its branches above it if that is cheaper, or several
 * units that compute the common rows again. The units over one stack of segments are packed into
 * waves together, whatever branch they come from.
 *
 * Segments pay in two ways: rows that several units would compute again, and the last layer's rows
 * above the keys, which nobody reads. They cost a pass, and waves that cannot take units from
 * elsewhere. */
#include "trainer/batch/split.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Deeper nests exist in made-up batches only; below this depth branches are not looked for. */
enum { SPLIT_DEPTH_MAX = 64 };
/* Branches whose common rows are less than 1 in MINOR of all are packed each for itself: waves fill
 * better with smaller units. */
enum { MINOR = 8 };

struct split_entry {
    const int32_t *ids;
    int32_t traj, rows;
    int32_t share; /* rows in common with the entry before it */
};

struct planner {
    struct split *p;
    const struct split_limits *l;
};

/* --- the order of tokens ------------------------------------------------------------------- */

static int32_t min32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* Equal tokens at the start: rows + 1 of each are known, the last being what the last row
 * predicts. */
static int32_t common_tokens(const struct split_entry *a, const struct split_entry *b) {
    int32_t n = min32(a->rows, b->rows) + 1, k = 0;
    while (k < n && a->ids[k] == b->ids[k])
        k++;
    return k;
}

static int by_tokens(const void *x, const void *y) {
    const struct split_entry *a = x, *b = y;
    int32_t k = common_tokens(a, b);
    if (k <= min32(a->rows, b->rows)) return a->ids[k] < b->ids[k] ? -1 : 1;
    if (a->rows != b->rows) return a->rows < b->rows ? -1 : 1;
    return a->traj < b->traj ? -1 : 1;
}

/* Each trajectory has one entry, one unit and one item at most, the sums have one more. */
static void open_columns(struct split *p, size_t n) {
    const struct column columns[] = {
        COLUMN(p->order),       COLUMN(p->item), COLUMN(p->entry),     COLUMN(p->rows_before),
        COLUMN(p->seqs_before), COLUMN(p->unit), COLUMN(p->unit_rows), COLUMN(p->unit_seqs)};
    columns_zero(&p->memory, n + 1, columns, sizeof columns / sizeof columns[0]);
}

/* Fills order, entry and the sums; returns the number of entries. */
static int32_t sort_entries(struct split *p, const struct batch *b, const int32_t *rows,
                            const struct split_limits *l) {
    int32_t n = 0;
    for (int32_t i = 0; i < (int32_t)b->n; i++)
        if (rows[i] > 0)
            p->entry[n++] = (struct split_entry){.ids = b->traj[i].ids, .traj = i, .rows = rows[i]};
    if (l->mode != SPLIT_OFF) qsort(p->entry, (size_t)n, sizeof *p->entry, by_tokens);
    p->rows_before[0] = p->seqs_before[0] = 0;
    for (int32_t j = 0; j < n; j++) {
        struct split_entry *e = &p->entry[j];
        int32_t equal = j == 0 || l->mode == SPLIT_OFF ? 0 : common_tokens(e - 1, e);
        e->share = equal > 1 ? (equal - 1) / l->page * l->page : 0;
        p->rows_before[j + 1] = p->rows_before[j] + e->rows - e->share;
        p->seqs_before[j + 1] = p->seqs_before[j] + (e->rows > e->share);
        p->order[j] = e->traj;
    }
    return n;
}

/* Different rows of entries a .. b-1 from row `base` on, which all of them share up to there. */
static int64_t own_rows(const struct split *p, int32_t a, int32_t b, int32_t base) {
    return p->entry[a].rows - base + p->rows_before[b] - p->rows_before[a + 1];
}

static int64_t own_seqs(const struct split *p, int32_t a, int32_t b, int32_t base) {
    return (p->entry[a].rows > base) + p->seqs_before[b] - p->seqs_before[a + 1];
}

static int32_t shared_rows(const struct split *p, int32_t a, int32_t b) {
    int32_t least = p->entry[a + 1].share;
    for (int32_t j = a + 2; j < b; j++)
        least = min32(least, p->entry[j].share);
    return least;
}

/* First entry after the branch that starts at a: the branches share no more than `level` rows. */
static int32_t branch_end(const struct split *p, int32_t a, int32_t b, int32_t level) {
    int32_t j = a + 1;
    while (j < b && p->entry[j].share > level)
        j++;
    return j;
}

static int64_t count_branches(const struct split *p, int32_t a, int32_t b, int32_t level) {
    int64_t n = 1;
    for (int32_t j = a + 1; j < b; j++)
        n += p->entry[j].share <= level;
    return n;
}

/* --- units and waves ----------------------------------------------------------------------- */

static int32_t rows_of_pass(const struct split_limits *l, int32_t base) {
    return l->offload ? l->rows : l->rows - base;
}

static bool fits_pass(const struct planner *t, int32_t a, int32_t b, int32_t base) {
    return own_rows(t->p, a, b, base) <= rows_of_pass(t->l, base) &&
           own_seqs(t->p, a, b, base) <= t->l->seqs_max;
}

static void add_unit(struct planner *t, int32_t a, int32_t b, int32_t base) {
    struct split *p = t->p;
    int64_t rows = own_rows(p, a, b, base);
    if (rows == 0) return;
    p->unit_rows[p->n_units] = (int32_t)rows;
    p->unit_seqs[p->n_units] = (int32_t)own_seqs(p, a, b, base);
    p->unit[p->n_units++] = (struct split_unit){a, b, base};
}

static struct split_op *add_op(struct split *p, enum split_kind kind) {
    mem_grow(&p->op, &p->op_cap, (size_t)p->n_ops + 1, sizeof *p->op);
    struct split_op *op = &p->op[p->n_ops++];
    *op = (struct split_op){.kind = kind};
    p->passes += kind != SPLIT_POP;
    return op;
}

static void add_unit_items(struct split *p, const struct split_unit *u) {
    for (int32_t j = u->a; j < u->b; j++) {
        const struct split_entry *e = &p->entry[j];
        p->item[p->n_items++] = (struct microbatch_item){.traj = e->traj,
                                                         .from = j == u->a ? u->base : e->share,
                                                         .to = e->rows,
                                                         .chained = j > u->a};
    }
}

/* Packs the units from `mark` on into waves over segments of base rows. */
static void pack_waves(struct planner *t, int32_t mark, int32_t base) {
    struct split *p = t->p;
    binpack_plan(&p->pack, p->unit_rows + mark, p->unit_seqs + mark, p->n_units - mark,
                 rows_of_pass(t->l, base), t->l->seqs_max);
    for (int32_t bin = 0; bin < p->pack.n_bins; bin++) {
        struct split_op *op = add_op(p, SPLIT_WAVE);
        op->first = p->n_items;
        op->from = op->to = base;
        for (int32_t k = p->pack.start[bin]; k < p->pack.start[bin + 1]; k++)
            add_unit_items(p, &p->unit[mark + p->pack.item[k]]);
        op->n = p->n_items - op->first;
    }
    p->n_units = mark;
}

/* --- segments ------------------------------------------------------------------------------ */

static void place_level(struct planner *t, int32_t a, int32_t b, int32_t base, int depth);

/* Rows base .. to-1 of entries a .. b-1 as segments, everything above them, and their backward
 * pass. With offload a segment is no longer than a pass may be. */
static void plan_segments(struct planner *t, int32_t a, int32_t b, int32_t base, int32_t to,
                          int depth) {
    int32_t most = t->l->offload ? t->l->rows / t->l->page * t->l->page : to - base;
    int32_t pieces = (to - base + most - 1) / most;
    for (int32_t i = 0; i < pieces; i++)
        *add_op(t->p, SPLIT_PUSH) = (struct split_op){SPLIT_PUSH, a, b - a, base + i * most,
                                                      min32(base + (i + 1) * most, to)};
    place_level(t, a, b, to, depth);
    for (int32_t i = pieces; i-- > 0;)
        *add_op(t->p, SPLIT_POP) = (struct split_op){SPLIT_POP, a, b - a, base + i * most,
                                                     min32(base + (i + 1) * most, to)};
}

/* Cost of rows from .. to-1. */
static double cost_of_rows(const struct split_cost *c, int32_t from, int32_t to) {
    double rows = to - from;
    return rows + c->key * rows * (from + rows / 2);
}

/* Entries a .. b-1 share the rows base .. m-1: is a segment of them worth it? As units they take a
 * part of a pass for their rows; the segment takes one, and whole waves above it. */
static bool frame_pays(const struct planner *t, int32_t a, int32_t b, int32_t base, int32_t m) {
    const struct split_limits *l = t->l;
    double segment = cost_of_rows(&l->cost, base, m), room = rows_of_pass(l, base), seg = m - base;
    double rest = (double)(own_rows(t->p, a, b, base) - (m - base));
    if (l->mode == SPLIT_SCHEDULE) return (b - a - 1) * segment > l->cost.pass;
    if (l->mode != SPLIT_AUTO || rows_of_pass(l, m) <= 0) return false;
    double units = 1, waves = rest / rows_of_pass(l, m);
    if (!fits_pass(t, a, b, base)) units = seg < room ? rest / (room - seg) : b - a;
    if (units > (double)(int64_t)units) units = (double)((int64_t)units + 1);
    if (waves > (double)(int64_t)waves) waves = (double)((int64_t)waves + 1);
    double passes = 1 + waves - (rest + units * seg) / room;
    return (units - 1 + l->cost.last) * segment > l->cost.pass * passes;
}

/* --- ranges -------------------------------------------------------------------------------- */

static void place_branch(struct planner *t, int32_t a, int32_t b, int32_t base, int depth);

/* Entries as units as large as they can be; the branches of the tree at `m` stay whole where they
 * fit. m < 0: entry by entry. */
static void place_runs(struct planner *t, int32_t a, int32_t b, int32_t base, int32_t m,
                       int depth) {
    int32_t open = a;
    for (int32_t c = a, d; c < b; c = d) {
        d = m < 0 ? c + 1 : branch_end(t->p, c, b, m);
        if (fits_pass(t, open, d, base)) continue;
        if (open < c) add_unit(t, open, c, base);
        open = c;
        if (fits_pass(t, c, d, base)) continue;
        place_branch(t, c, d, base, depth + 1);
        open = d;
    }
    if (open < b) add_unit(t, open, b, base);
}

/* One trajectory; with offload it may be longer than a pass: all but its end becomes segments. */
static void place_one(struct planner *t, int32_t a, int32_t base, int depth) {
    int32_t page = t->l->page, over = t->p->entry[a].rows - base - t->l->rows;
    if (!t->l->offload || over <= 0)
        add_unit(t, a, a + 1, base);
    else
        plan_segments(t, a, a + 1, base, base + (over + page - 1) / page * page, depth);
}

/* Entries a .. b-1, a branch of the tree above `base`: as units, or as a segment and what is above
 * it. */
static void place_branch(struct planner *t, int32_t a, int32_t b, int32_t base, int depth) {
    if (b - a == 1) {
        place_one(t, a, base, depth);
        return;
    }
    int32_t m = shared_rows(t->p, a, b);
    if (depth > SPLIT_DEPTH_MAX) {
        place_runs(t, a, b, base, -1, depth);
    } else if (m > base && frame_pays(t, a, b, base, m)) {
        plan_segments(t, a, b, base, m, depth + 1);
    } else if (fits_pass(t, a, b, base)) {
        add_unit(t, a, b, base);
    } else if (MINOR * count_branches(t->p, a, b, m) * (m - base) < own_rows(t->p, a, b, base)) {
        for (int32_t c = a, d; c < b; c = d) { /* too little in common to keep them together */
            d = branch_end(t->p, c, b, m);
            place_branch(t, c, d, base, depth + 1);
        }
    } else {
        place_runs(t, a, b, base, m, depth);
    }
}

/* Everything of entries a .. b-1 above segments of base rows. */
static void place_level(struct planner *t, int32_t a, int32_t b, int32_t base, int depth) {
    int32_t mark = t->p->n_units;
    for (int32_t c = a, d; c < b; c = d) {
        d = branch_end(t->p, c, b, base);
        place_branch(t, c, d, base, depth);
    }
    pack_waves(t, mark, base);
}

void split_make(struct split *p, const struct batch *b, const int32_t *rows,
                const struct split_limits *l) {
    struct planner t = {p, l};
    open_columns(p, b->n);
    p->n_ops = p->n_items = p->n_units = p->passes = 0;
    place_level(&t, 0, sort_entries(p, b, rows, l), 0, 0);
    ASSERT(p->n_units == 0 && p->n_items <= (int32_t)b->n);
}

void split_close(struct split *p) {
    binpack_close(&p->pack);
    mem_free(p->op);
    columns_free(&p->memory);
    *p = (struct split){0};
}
