/* k_sample.h - drawing a token (template; see vec.h).
 *
 * Words are ordered by (logit descending, id ascending). top_k and top_p cut that order after some
 * word; a selection (no sort) finds it, in expected linear time and in place. The draw then inverts
 * the cumulative sum in id order: block sums first, then word by word inside the block that holds
 * the answer. */
#ifndef KERNELS_CPU_K_SAMPLE_H
#define KERNELS_CPU_K_SAMPLE_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/k_head.h"
#include "kernels/cpu/vec.h"

struct word {
    float logit, e; /* e: exp(z - max) */
    int32_t id;
};

static inline bool word_before(struct word a, struct word b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

static inline void word_swap(struct word *a, struct word *b) {
    struct word t = *a;
    *a = *b;
    *b = t;
}

/* Splits w[lo, hi) around its middle word; returns that word's place in the order. */
static int64_t word_split(struct word *w, int64_t lo, int64_t hi) {
    word_swap(&w[lo + (hi - lo) / 2], &w[hi - 1]);
    int64_t at = lo;
    for (int64_t i = lo; i < hi - 1; i++)
        if (word_before(w[i], w[hi - 1])) word_swap(&w[i], &w[at++]);
    word_swap(&w[at], &w[hi - 1]);
    return at;
}

/* Puts the k first words of the order in front. */
static void words_first(struct word *w, int64_t n, int64_t k) {
    int64_t lo = 0, hi = n;
    while (hi - lo > 1) {
        int64_t at = word_split(w, lo, hi);
        if (at + 1 == k || at == k) return;
        if (at < k)
            lo = at + 1;
        else
            hi = at;
    }
}

/* Puts the shortest run of first words whose mass reaches want in front; returns its length. */
static int64_t words_mass(struct word *w, int64_t n, double want) {
    int64_t lo = 0, hi = n;
    double before = 0; /* mass of w[0, lo) */
    while (lo < hi) {
        int64_t at = word_split(w, lo, hi);
        double mass = before;
        for (int64_t i = lo; i < at; i++)
            mass += (double)w[i].e;
        if (mass >= want && at > 0) {
            hi = at;
            continue;
        }
        before = mass + (double)w[at].e;
        lo = at + 1;
        if (before >= want) return lo;
    }
    return lo > 0 ? lo : 1;
}

/* exp(z - max) of the words of a block. */
static void head_exps(float *e, const struct head_dist *d, const float *logits, int64_t n) {
    for (int64_t j = 0; j < n; j += VEC)
        vf_store(e + j, vf_exp(head_shifted(d, logits + j, n - j)));
}

/* The last word that top_k and top_p keep; *kept: their mass. */
static struct word sample_cut(double *kept, struct word *w, const struct head_dist *d,
                              const float *logits, int64_t v, int64_t top_k, double top_p) {
    float e[HEAD_BLOCK];
    int64_t n = v;
    for (int64_t b = 0; b < v; b += HEAD_BLOCK) {
        const int64_t m = v - b < HEAD_BLOCK ? v - b : HEAD_BLOCK;
        head_exps(e, d, logits + b, m);
        for (int64_t j = 0; j < m; j++)
            w[b + j] = (struct word){logits[b + j], e[j], (int32_t)(b + j)};
    }
    if (top_k > 0 && top_k < v) words_first(w, v, n = top_k);
    if (top_p < 1) {
        double total = 0;
        for (int64_t i = 0; i < n; i++)
            total += (double)w[i].e;
        n = words_mass(w, n, top_p * total);
    }
    struct word last = w[0];
    double mass = 0;
    for (int64_t i = 0; i < n; i++) {
        if (word_before(last, w[i])) last = w[i];
        mass += (double)w[i].e;
    }
    *kept = n == v ? 1 : mass / d->total;
    return last;
}

/* Mass of one block's kept words; last NULL keeps all. Stops at the word where it passes goal and
 * sets *id to it; *id is also the last word seen that has any mass. */
static double block_walk(int64_t *id, const struct head_dist *d, const float *logits, int64_t b,
                         int64_t v, const struct word *last, double sum, double goal) {
    float e[HEAD_BLOCK];
    const int64_t n = v - b < HEAD_BLOCK ? v - b : HEAD_BLOCK;
    head_exps(e, d, logits + b, n);
    for (int64_t j = 0; j < n; j++) {
        struct word w = {logits[b + j], e[j], (int32_t)(b + j)};
        if (!(e[j] > 0) || (last && word_before(*last, w))) continue;
        *id = b + j;
        sum += (double)e[j];
        if (sum > goal) break;
    }
    return sum;
}

/* Mass of a whole block. */
static double block_mass(const struct head_dist *d, const float *logits, int64_t b, int64_t v) {
    const int64_t end = v - b < HEAD_BLOCK ? v : b + HEAD_BLOCK;
    vf sum = vf_zero();
    for (int64_t j = b; j < end; j += VEC)
        sum = vf_add(sum, vf_exp(head_shifted(d, logits + j, end - j)));
    return (double)vf_sum(sum);
}

static int64_t sample_draw(const struct head_dist *d, const float *logits, int64_t v,
                           const struct word *last, double u, double *sums) {
    const int64_t blocks = (v + HEAD_BLOCK - 1) / HEAD_BLOCK;
    int64_t id = 0;
    double total = 0;
    for (int64_t b = 0; b < blocks; b++) {
        if (last)
            total = block_walk(&id, d, logits, b * HEAD_BLOCK, v, last, total, INFINITY);
        else
            total += block_mass(d, logits, b * HEAD_BLOCK, v);
        sums[b] = total;
    }
    const double goal = u * total;
    int64_t b = 0;
    while (b + 1 < blocks && !(sums[b] > goal))
        b++;
    if (sums[b] > goal) {
        block_walk(&id, d, logits, b * HEAD_BLOCK, v, last, b ? sums[b - 1] : 0, goal);
        return id;
    }
    for (b = 0; b < blocks; b++) /* u * total rounded up to total: the last word with mass */
        block_walk(&id, d, logits, b * HEAD_BLOCK, v, last, 0, INFINITY);
    return id;
}

static int64_t sample_largest(const float *x, int64_t v) {
    int64_t best = 0;
    for (int64_t j = 1; j < v; j++)
        if (x[j] > x[best]) best = j;
    return best;
}

/* A row a turn. Without a cut the words need not be sorted: the draw walks them by id. */
static void k_sample(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct head_args *a = args;
    double *sums = scratch;
    struct word *words = (struct word *)(sums + a->v / HEAD_BLOCK + 1);
    for (int64_t i = begin; i < end; i++) {
        const float *row = a->logits + i * a->v, t = a->temperature[i];
        struct head_dist d = head_dist(row, a->v, t > 0 ? 1.0f / t : 1.0f);
        const int64_t k = a->top_k[i];
        const bool cuts = (k > 0 && k < a->v) || a->top_p[i] < 1;
        double u = (double)a->uniform[2 * i] + (double)a->uniform[2 * i + 1], kept = 1;
        int64_t id = 0;
        if (t > 0) {
            struct word last = {0};
            if (cuts) last = sample_cut(&kept, words, &d, row, a->v, k, (double)a->top_p[i]);
            id = sample_draw(&d, row, a->v, cuts ? &last : NULL, u, sums);
        } else {
            id = sample_largest(row, a->v);
        }
        a->token[i] = (int32_t)id;
        a->logprob[i] = head_logprob(&d, row[id]);
        a->kept[i] = (float)kept;
    }
}

#endif
