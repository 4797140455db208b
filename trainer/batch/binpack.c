/* binpack.c - see binpack.h.
 *
 * Best-fit decreasing: never more than about 11/9 of the optimal number of bins, and a plan that
 * depends on the lengths alone, so that a replayed step sums its gradients in the same order (I7).
 * A bin costs a forward and a backward whatever it holds; rows cost what they cost anywhere, so the
 * number of bins is what there is to save. */
#include "trainer/batch/binpack.h"

#include <stdlib.h>

struct order {
    int32_t rows, item, seqs;
};

static int by_rows_first(const void *a, const void *b) {
    const struct order *x = a, *y = b;
    if (x->rows != y->rows) return x->rows > y->rows ? -1 : 1;
    return x->item < y->item ? -1 : 1;
}

/* Rows left and sequences held of each bin, while it is being filled. */
struct bin {
    int32_t left, seqs;
};

static int32_t best_bin(const struct bin *bins, int32_t n, const struct order *o,
                        int32_t seqs_max) {
    int32_t best = -1;
    for (int32_t b = 0; b < n; b++) {
        if (bins[b].left < o->rows || bins[b].seqs + o->seqs > seqs_max) continue;
        if (best < 0 || bins[b].left < bins[best].left) best = b;
    }
    return best;
}

/* place[k]: bin of the k-th longest item; returns the number of bins. */
static int32_t place_all(const struct order *order, int32_t n, struct bin *bins, int32_t *place,
                         int32_t budget, int32_t seqs_max) {
    int32_t n_bins = 0;
    for (int32_t k = 0; k < n; k++) {
        int32_t b = best_bin(bins, n_bins, &order[k], seqs_max);
        if (b < 0) {
            b = n_bins++;
            bins[b] = (struct bin){.left = budget};
        }
        bins[b].left -= order[k].rows;
        bins[b].seqs += order[k].seqs;
        place[k] = b;
    }
    return n_bins;
}

/* A counting sort puts the placed items bin after bin: bins[b].seqs becomes where the next item of
 * bin b goes. */
void binpack_plan(struct binpack *p, const int32_t *rows, const int32_t *seqs, int32_t n,
                  int32_t budget, int32_t seqs_max) {
    struct order *order;
    struct bin *bins;
    int32_t *place, used = 0;
    const struct column columns[] = {COLUMN(p->start), COLUMN(p->item), COLUMN(order), COLUMN(bins),
                                     COLUMN(place)};
    columns_zero(&p->memory, (size_t)n + 1, columns, sizeof columns / sizeof columns[0]);
    for (int32_t i = 0; i < n; i++)
        if (rows[i] > 0) order[used++] = (struct order){rows[i], i, seqs ? seqs[i] : 1};
    qsort(order, (size_t)used, sizeof *order, by_rows_first);
    p->n_bins = place_all(order, used, bins, place, budget, seqs_max);
    for (int32_t k = 0; k < used; k++)
        p->start[place[k] + 1]++;
    for (int32_t b = 0; b < p->n_bins; b++) {
        p->start[b + 1] += p->start[b];
        bins[b].seqs = p->start[b];
    }
    for (int32_t k = 0; k < used; k++)
        p->item[bins[place[k]].seqs++] = order[k].item;
}

void binpack_close(struct binpack *p) {
    columns_free(&p->memory);
    *p = (struct binpack){0};
}
