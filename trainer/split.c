/* split.c - see split.h.
 *
 * Only neighbours are compared: a batch is sorted by group, and the trajectories of a group have
 * one prompt. A group that does not fit into a microbatch becomes several units, each of which
 * computes the prompt again. Sharing never makes more rows than there were, and the same bits come
 * out, so there is nothing to decide: it is used wherever prompts are equal. */
#include "trainer/split.h"

#include "base/mem.h"

static void grow(struct split *p, size_t n) {
    mem_grow(&p->start, &p->start_cap, n + 1, sizeof *p->start);
    mem_grow(&p->rows, &p->rows_cap, n + 1, sizeof *p->rows);
    mem_grow(&p->seqs, &p->seqs_cap, n + 1, sizeof *p->seqs);
    mem_grow(&p->member, &p->member_cap, n + 1, sizeof *p->member);
    mem_grow(&p->items, &p->items_cap, n + 1, sizeof *p->items);
}

/* Adds trajectory i to the newest unit, if it belongs and fits there. */
static bool join(struct split *p, const struct batch *b, int32_t i, int32_t rows,
                 const struct split_limits *l) {
    int32_t u = p->n_units - 1;
    if (!l->share || u < 0 || p->seqs[u] >= l->seqs_max) return false;
    int32_t shared = feed_shared(&b->traj[p->member[p->start[u]]], &b->traj[i], l->page);
    if (shared == 0 || p->rows[u] + rows - shared > l->budget) return false;
    p->rows[u] += rows - shared;
    p->seqs[u]++;
    return true;
}

void split_make(struct split *p, const struct batch *b, const int32_t *rows,
                const struct split_limits *l) {
    int32_t members = 0;
    grow(p, b->n);
    p->n_units = 0;
    for (int32_t i = 0; i < (int32_t)b->n; i++) {
        if (rows[i] == 0) continue;
        if (!join(p, b, i, rows[i], l)) {
            p->start[p->n_units] = members;
            p->rows[p->n_units] = rows[i];
            p->seqs[p->n_units++] = 1;
        }
        p->member[members++] = i;
    }
    pack_plan(&p->pack, p->rows, p->seqs, p->n_units, l->budget, l->seqs_max);
}

const struct feed_item *split_bin(struct split *p, int32_t bin, int32_t *n) {
    int32_t count = 0;
    for (int32_t k = p->pack.start[bin]; k < p->pack.start[bin + 1]; k++) {
        int32_t u = p->pack.item[k], leader = count;
        for (int32_t m = 0; m < p->seqs[u]; m++)
            p->items[count++] =
                (struct feed_item){.traj = p->member[p->start[u] + m], .leader = m ? leader : -1};
    }
    *n = count;
    return p->items;
}

void split_close(struct split *p) {
    pack_close(&p->pack);
    mem_free(p->start);
    mem_free(p->rows);
    mem_free(p->seqs);
    mem_free(p->member);
    mem_free(p->items);
    *p = (struct split){0};
}
