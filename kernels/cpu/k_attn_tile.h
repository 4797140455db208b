/* k_attn_tile.h - what attention and its reverse share (template; see real.h): tiles of query rows,
 * blocks of paged keys, and sums of keys. Rows of a tile are (token, query head) pairs of one key
 * head, so a decode step with grouped heads shares the loads of a key as prefill does. */
#ifndef KERNELS_CPU_K_ATTN_TILE_H
#define KERNELS_CPU_K_ATTN_TILE_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/real.h"

#include <string.h>

struct attn_tile {
    const struct attn_args *a;
    int64_t rows, kv_head;
    const int32_t *pages;
    int64_t index[ATTN_LANES];                   /* token * heads + head: row of q, out, lse */
    int64_t first[ATTN_LANES], last[ATTN_LANES]; /* visible keys first..last */
    float q[ATTN_ROWS][ATTN_WIDTH];
};

/* Rows of `from` [index][width], padded with zeros to whole vectors; missing rows repeat row 0. */
static void attn_load(float to[ATTN_ROWS][ATTN_WIDTH], const struct attn_tile *t,
                      const real *from) {
    const int64_t width = t->a->width;
    for (int64_t r = 0; r < ATTN_ROWS; r++)
        for (int64_t d = 0; d < width; d += VEC)
            vf_store(&to[r][d],
                     real_load_n(from + t->index[r < t->rows ? r : 0] * width + d, width - d));
}

/* At most `most` rows of sequence s and a key head from its pair `first` on; false if there is no
 * such pair. */
static bool attn_tile_at(struct attn_tile *t, const struct attn_args *a, int64_t s, int64_t first,
                         int64_t most, int64_t kv_head) {
    const int64_t group = a->heads / a->kv_heads;
    const int64_t n = (a->start[s + 1] - a->start[s]) * group;
    if (first >= n) return false;
    t->a = a;
    t->rows = n - first < most ? n - first : most;
    t->kv_head = kv_head;
    t->pages = a->pages + s * a->pages_max;
    for (int64_t r = 0; r < t->rows; r++) {
        const int64_t pair = first + r, token = pair / group;
        t->index[r] = (a->start[s] + token) * a->heads + kv_head * group + pair % group;
        t->last[r] = a->len[s] - (a->start[s + 1] - a->start[s]) + token;
        t->first[r] = a->window && t->last[r] >= a->window ? t->last[r] - a->window + 1 : 0;
    }
    return true;
}

/* A block of keys as a tile sees it */
struct attn_block {
    int64_t begin, end;                       /* keys that some row sees, from the block's first */
    int64_t offset[ATTN_KEYS];                /* of each in the pools */
    int64_t from[ATTN_LANES], to[ATTN_LANES]; /* each row's visible range */
};

static void attn_block_at(struct attn_block *b, const struct attn_tile *t, int64_t key0) {
    const struct attn_args *a = t->a;
    b->begin = ATTN_KEYS;
    b->end = 0;
    for (int64_t r = 0; r < t->rows; r++) {
        b->from[r] = t->first[r] > key0 ? t->first[r] - key0 : 0;
        b->to[r] = t->last[r] + 1 - key0 < ATTN_KEYS ? t->last[r] + 1 - key0 : ATTN_KEYS;
        if (b->from[r] >= b->to[r]) b->from[r] = b->to[r] = 0;
        if (b->from[r] == b->to[r]) continue;
        if (b->from[r] < b->begin) b->begin = b->from[r];
        if (b->to[r] > b->end) b->end = b->to[r];
    }
    const int64_t stride = a->kv_heads * a->width;
    int64_t j = b->begin;
    if (a->page == 1) /* training: prompts are shared key by key */
        for (; j < b->end; j++)
            b->offset[j] = t->pages[key0 + j] * stride + t->kv_head * a->width;
    while (j < b->end) { /* page by page: a division per page, not per key */
        const int64_t page = (key0 + j) / a->page, in_page = (key0 + j) % a->page;
        const int64_t left = a->page - in_page, end = j + left < b->end ? j + left : b->end;
        int64_t at = (t->pages[page] * a->page + in_page) * stride + t->kv_head * a->width;
        for (; j < end; j++, at += stride)
            b->offset[j] = at;
    }
}

/* acc[r] += sum over keys from..to-1 of p[r][j] pool[key j]: one chain per element. */
static inline __attribute__((always_inline)) void
attn_gather_of(float acc[][ATTN_WIDTH], float p[][ATTN_KEYS], const real *pool,
               const struct attn_block *b, int64_t from, int64_t to, int64_t width,
               const int rows) {
    for (int64_t d = 0; d < width; d += 2 * VEC) {
        const bool two = width - d > VEC;
        vf sum[4][2];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            sum[r][0] = vf_load(&acc[r][d]);
            sum[r][1] = two ? vf_load(&acc[r][d + VEC]) : vf_zero();
        }
        for (int64_t j = from; j < to; j++) {
            const real *x = pool + b->offset[j] + d;
            vf x0 = real_load_n(x, width - d);
            vf x1 = two ? real_load_n(x + VEC, width - d - VEC) : vf_zero();
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                vf pv = vf_set(p[r][j]);
                sum[r][0] = vf_fma(pv, x0, sum[r][0]);
                sum[r][1] = vf_fma(pv, x1, sum[r][1]);
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            vf_store(&acc[r][d], sum[r][0]);
            if (two) vf_store(&acc[r][d + VEC], sum[r][1]);
        }
    }
}

/* The keys all rows see go through together; what only some see, before and after, row by row. */
static void attn_gather(float acc[ATTN_ROWS][ATTN_WIDTH], float p[ATTN_ROWS][ATTN_KEYS],
                        const real *pool, const struct attn_block *b, const struct attn_tile *t) {
    const int64_t width = t->a->width;
    int64_t from = 0, to = ATTN_KEYS;
    for (int64_t r = 0; r < t->rows; r++) {
        if (b->from[r] > from) from = b->from[r];
        if (b->to[r] < to) to = b->to[r];
    }
    const bool together = (t->rows == ATTN_ROWS || t->rows == 2) && from < to;
    if (!together) {
        for (int64_t r = 0; r < t->rows; r++)
            attn_gather_of(acc + r, p + r, pool, b, b->from[r], b->to[r], width, 1);
        return;
    }
    for (int64_t r = 0; r < t->rows; r++)
        attn_gather_of(acc + r, p + r, pool, b, b->from[r], from, width, 1);
    if (t->rows == 2)
        attn_gather_of(acc, p, pool, b, from, to, width, 2);
    else
        attn_gather_of(acc, p, pool, b, from, to, width, ATTN_ROWS);
    for (int64_t r = 0; r < t->rows; r++)
        attn_gather_of(acc + r, p + r, pool, b, to, b->to[r], width, 1);
}

#endif
