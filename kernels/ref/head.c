/* head.c - the policy's distribution over the vocabulary: log-probability, entropy, their gradient,
 * and sampling.
 *
 * Sampling keeps the pairs (probability, id) in the order "more likely first, then lower id": top_k
 * cuts that order by count, top_p by mass of what top_k left (renormalised, as in Hugging Face
 * transformers). The draw walks the kept ids in id order, so that without cuts no order is needed
 * at all. */
#include "kernels/host.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdlib.h>

struct dist { /* log-softmax of one row at one temperature */
    const float *logits;
    int64_t n;
    double inv_temp, lse;
};

static double z_of(const struct dist *d, int64_t j) {
    return (double)d->logits[j] * d->inv_temp;
}

static struct dist dist_of(const float *logits, int64_t n, float inv_temp) {
    struct dist d = {.logits = logits, .n = n, .inv_temp = (double)inv_temp};
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++)
        if (z_of(&d, j) > max) max = z_of(&d, j);
    for (int64_t j = 0; j < n; j++)
        sum += exp(z_of(&d, j) - max);
    d.lse = max + log(sum);
    return d;
}

int ref_logprob(ops_s s, kern_arg logprob, kern_arg entropy, kern_arg lse, kern_arg logits,
                kern_arg target, kern_arg inv_temp) {
    (void)s;
    const int64_t v = logits->dim[1];
    TRY(host_check_index("logprob", "target", target, v));
    for (int64_t i = 0; i < logits->dim[0]; i++) {
        struct dist d = dist_of(host_f32(logits) + i * v, v, host_f32(inv_temp)[i]);
        host_f32(lse)[i] = (float)d.lse;
        host_f32(logprob)[i] = (float)(z_of(&d, host_i32(target)[i]) - d.lse);
        if (!entropy) continue;
        double h = 0;
        for (int64_t j = 0; j < v; j++) {
            double p = exp(z_of(&d, j) - d.lse);
            if (p > 0) h -= p * (z_of(&d, j) - d.lse);
        }
        host_f32(entropy)[i] = (float)h;
    }
    return 0;
}

int ref_logprob_bwd(ops_s s, kern_arg logits, kern_arg g_logprob, kern_arg g_entropy,
                    kern_arg entropy, kern_arg lse, kern_arg target, kern_arg inv_temp) {
    (void)s;
    const int64_t v = logits->dim[1];
    TRY(host_check_index("logprob_bwd", "target", target, v));
    for (int64_t i = 0; i < logits->dim[0]; i++) {
        float *row = host_f32(logits) + i * v;
        double inv = host_f32(inv_temp)[i], glp = host_f32(g_logprob)[i];
        double gh = g_entropy ? (double)host_f32(g_entropy)[i] : 0;
        double h = entropy ? (double)host_f32(entropy)[i] : 0;
        for (int64_t j = 0; j < v; j++) {
            double logp = (double)row[j] * inv - (double)host_f32(lse)[i], p = exp(logp);
            double hit = j == host_i32(target)[i] ? glp : 0, spread = 0;
            if (gh != 0 && p > 0) spread = gh * p * (logp + h);
            row[j] = (float)(inv * (hit - glp * p - spread));
        }
    }
    return 0;
}

struct word {
    double z;
    int64_t id;
};

static int more_likely(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    if (x->z != y->z) return x->z > y->z ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int compare_ids(const void *a, const void *b) {
    const struct word *x = a, *y = b;
    return x->id < y->id ? -1 : 1;
}

/* Sorts the words and returns how many top_k and top_p keep. */
static int64_t cut_top(struct word *words, const struct dist *d, int64_t top_k, double top_p) {
    int64_t n = d->n, kept = 0;
    double total = 0, mass = 0;
    qsort(words, (size_t)n, sizeof *words, more_likely);
    if (top_k > 0 && top_k < n) n = top_k;
    if (top_p >= 1) return n;
    for (int64_t i = 0; i < n; i++)
        total += exp(words[i].z - d->lse);
    while (kept < n && (kept == 0 || mass < top_p * total))
        mass += exp(words[kept++].z - d->lse);
    return kept;
}

/* One row's draw. words: scratch of d->n. */
static int64_t ref_draw(double *kept_mass, struct word *words, const struct dist *d, int64_t top_k,
                        double top_p, double u) {
    int64_t n = d->n, last = 0;
    double total = 0, sum = 0;
    for (int64_t j = 0; j < n; j++)
        words[j] = (struct word){z_of(d, j), j};
    bool cuts = (top_k > 0 && top_k < n) || top_p < 1;
    if (cuts) {
        n = cut_top(words, d, top_k, top_p);
        qsort(words, (size_t)n, sizeof *words, compare_ids);
    }
    for (int64_t i = 0; i < n; i++)
        total += exp(words[i].z - d->lse);
    *kept_mass = cuts && n < d->n ? total : 1;
    for (int64_t i = 0; i < n; i++) {
        double p = exp(words[i].z - d->lse);
        if (p > 0) last = words[i].id;
        sum += p;
        if (sum > u * total) return words[i].id;
    }
    return last;
}

static int64_t ref_first_largest(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t j = 1; j < n; j++)
        if (x[j] > x[best]) best = j;
    return best;
}

int ref_sample(ops_s s, kern_arg token, kern_arg logprob, kern_arg kept, kern_arg logits,
               kern_arg temperature, kern_arg top_p, kern_arg top_k, kern_arg uniform) {
    const int64_t v = logits->dim[1];
    struct word *words = NULL;
    TRY(host_scratch(&words, s, "sample", (size_t)v * sizeof *words));
    for (int64_t i = 0; i < logits->dim[0]; i++) {
        const float *row = host_f32(logits) + i * v;
        float t = host_f32(temperature)[i];
        struct dist d = dist_of(row, v, t > 0 ? 1.0f / t : 1.0f);
        double u = (double)host_f32(uniform)[2 * i] + (double)host_f32(uniform)[2 * i + 1];
        double mass = 1;
        int64_t id =
            t > 0 ? ref_draw(&mass, words, &d, host_i32(top_k)[i], (double)host_f32(top_p)[i], u)
                  : ref_first_largest(row, v);
        ((int32_t *)token->data)[i] = (int32_t)id;
        host_f32(logprob)[i] = (float)(z_of(&d, id) - d.lse);
        host_f32(kept)[i] = (float)mass;
    }
    return 0;
}
