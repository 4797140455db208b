/* assign.c - see assign.h. Longest first is within 4/3 of the best assignment (Graham 1969), and
 * needs no search. What a rank sends is its own tokens one after another, filled up to those of the
 * rank that has most: both sides know the assignment, so nothing but the numbers travels. */
#include "trainer/batch/assign.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct assign_group {
    int64_t tokens;
    uint32_t number;
    int32_t owner;
};

static int by_tokens_first(const void *a, const void *b) {
    const struct assign_group *x = a, *y = b;
    if (x->tokens != y->tokens) return x->tokens > y->tokens ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int by_number(const void *a, const void *b) {
    const struct assign_group *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static void sum_tokens(struct assign *d, const struct batch *b) {
    for (uint32_t g = 0; g < b->n_groups; g++)
        d->group[g] = (struct assign_group){.number = g};
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        ASSERT(t->group < b->n_groups);
        d->group[t->group].tokens += t->n_prompt + t->n_response;
        for (int32_t k = 0; k < t->n_response; k++)
            d->trained[i] += t->mask[k];
    }
}

static int32_t least_loaded(const struct assign *d, int n_ranks) {
    int32_t least = 0;
    for (int32_t r = 1; r < n_ranks; r++)
        if (d->load[r] < d->load[least]) least = r;
    return least;
}

void assign_make(struct assign *d, const struct batch *b, int n_ranks) {
    const struct column by_traj[] = {COLUMN(d->owner), COLUMN(d->trained)};
    const struct column by_group[] = {COLUMN(d->group)};
    const struct column by_rank[] = {COLUMN(d->load), COLUMN(d->at)};
    columns_zero(&d->traj_memory, b->n, by_traj, 2);
    columns_zero(&d->group_memory, b->n_groups, by_group, 1);
    columns_zero(&d->rank_memory, (size_t)n_ranks, by_rank, 2);
    ASSERT(n_ranks > 0);
    d->n = b->n;
    sum_tokens(d, b);
    qsort(d->group, b->n_groups, sizeof *d->group, by_tokens_first);
    for (uint32_t g = 0; g < b->n_groups; g++) {
        d->group[g].owner = least_loaded(d, n_ranks);
        d->load[d->group[g].owner] += d->group[g].tokens;
    }
    qsort(d->group, b->n_groups, sizeof *d->group, by_number);
    for (uint32_t i = 0; i < b->n; i++)
        d->owner[i] = d->group[b->traj[i].group].owner;
}

void assign_close(struct assign *d) {
    columns_free(&d->traj_memory);
    columns_free(&d->group_memory);
    columns_free(&d->rank_memory);
    mem_free(d->own);
    mem_free(d->all);
    *d = (struct assign){0};
}

/* Largest number of trained tokens of a rank. */
static int64_t most_tokens(struct assign *d, int n_ranks) {
    int64_t most = 0;
    memset(d->at, 0, (size_t)n_ranks * sizeof *d->at);
    for (uint32_t i = 0; i < d->n; i++) {
        int64_t *sum = &d->at[d->owner[i]];
        *sum += d->trained[i];
        if (*sum > most) most = *sum;
    }
    memset(d->at, 0, (size_t)n_ranks * sizeof *d->at);
    return most;
}

/* Both sides walk over the trajectories in the order of the batch: a rank packs its own tokens, and
 * everybody unpacks each rank's where that rank's next trajectory stands. */
int assign_all_gather(struct assign *d, const struct rank_comm *x, float *by_token) {
    int n = x->ranks.n;
    size_t stride = (size_t)most_tokens(d, n) * sizeof *by_token, filled = 0;
    const float *from = by_token;
    mem_grow(&d->own, &d->own_cap, stride, 1);
    mem_grow(&d->all, &d->all_cap, stride * (size_t)n, 1);
    for (uint32_t i = 0; i < d->n; from += d->trained[i++]) {
        if (d->owner[i] != x->ranks.rank || d->trained[i] == 0) continue;
        size_t bytes = (size_t)d->trained[i] * sizeof *from;
        memcpy(d->own + filled, from, bytes);
        filled += bytes;
    }
    TRY(rank_comm_all_gather(x, d->all, d->own, stride));
    for (uint32_t i = 0; i < d->n; by_token += d->trained[i++]) {
        if (d->trained[i] == 0) continue;
        int64_t *at = &d->at[d->owner[i]];
        memcpy(by_token, d->all + (size_t)d->owner[i] * stride + (size_t)*at * sizeof *from,
               (size_t)d->trained[i] * sizeof *from);
        *at += d->trained[i];
    }
    return 0;
}
