/* k_head.h - log-probability and entropy over the vocabulary, and their gradient (template; see
 * vec.h).
 *
 * head_dist is the one log-softmax of this backend: logprob and sample both end in head_logprob, so
 * a token's log-probability has the same bits when it is drawn and when it is recomputed. The sum
 * is taken in float within a block of 1024 words and in double across blocks. */
#ifndef KERNELS_CPU_K_HEAD_H
#define KERNELS_CPU_K_HEAD_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

#include <math.h>

struct head_dist {
    float inv_temp, max;     /* z = logit * inv_temp */
    double total, log_total; /* sum exp(z - max) */
    double moment;           /* sum exp(z - max) (z - max) */
};

/* z - max of up to 16 words; lanes beyond n are far below. */
static inline vf head_shifted(const struct head_dist *d, const float *logits, int64_t n) {
    vf z = vf_mul(vf_load_n(logits, n), vf_set(d->inv_temp));
    vf t = vf_sub(z, vf_set(d->max));
    return n >= VEC ? t : vf_first(t, n, vf_set(-INFINITY));
}

static float head_max(const float *logits, int64_t v, float inv_temp) {
    vf best = vf_set(-INFINITY);
    const vf inv = vf_set(inv_temp);
    for (int64_t j = 0; j < v; j += VEC) {
        vf z = vf_mul(vf_load_n(logits + j, v - j), inv);
        if (v - j < VEC) z = vf_first(z, v - j, vf_set(-INFINITY));
        best = vf_max(z, best);
    }
    return vf_hmax(best);
}

static struct head_dist head_dist(const float *logits, int64_t v, float inv_temp) {
    struct head_dist d = {.inv_temp = inv_temp, .max = head_max(logits, v, inv_temp)};
    for (int64_t b = 0; b < v; b += HEAD_BLOCK) {
        const int64_t end = b + HEAD_BLOCK < v ? b + HEAD_BLOCK : v;
        vf sum = vf_zero(), moment = vf_zero();
        for (int64_t j = b; j < end; j += VEC) {
            vf t = head_shifted(&d, logits + j, end - j), e = vf_exp(t);
            sum = vf_add(sum, e);
            /* a word of probability 0 adds 0, not 0 * -inf */
            moment = vf_fma(e, vf_max(vf_set(-200), t), moment);
        }
        d.total += (double)vf_sum(sum);
        d.moment += (double)vf_sum(moment);
    }
    d.log_total = log(d.total);
    return d;
}

static float head_logprob(const struct head_dist *d, float logit) {
    float t = logit * d->inv_temp - d->max;
    return (float)((double)t - d->log_total);
}

static void k_logprob(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct head_args *a = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        const float *row = a->logits + i * a->v;
        struct head_dist d = head_dist(row, a->v, a->inv_temp[i]);
        a->lse[i] = (float)((double)d.max + d.log_total);
        a->logprob[i] = head_logprob(&d, row[a->target[i]]);
        if (a->entropy) a->entropy[i] = (float)(d.log_total - d.moment / d.total);
    }
}

static void k_logprob_bwd(const void *args, int64_t begin, int64_t end, void *scratch) {
    const struct head_args *a = args;
    (void)scratch;
    for (int64_t i = begin; i < end; i++) {
        float *row = a->logits + i * a->v;
        const float gl = a->g_logprob[i], gh = a->g_entropy ? a->g_entropy[i] : 0;
        const float h = a->entropy ? a->entropy[i] : 0;
        const vf inv = vf_set(a->inv_temp[i]), lse = vf_set(a->lse[i]);
        for (int64_t j = 0; j < a->v; j += VEC) {
            const int64_t n = a->v - j;
            vf logp = vf_sub(vf_mul(vf_load_n(row + j, n), inv), lse), p = vf_exp(logp);
            vf g = vf_set(gl);
            if (gh != 0) /* g_logprob + g_entropy (log p + entropy) */
                g = vf_fma(vf_set(gh), vf_add(vf_max(vf_set(-200), logp), vf_set(h)), g);
            vf_store_n(row + j, vf_mul(vf_sub(vf_zero(), inv), vf_mul(p, g)), n);
        }
        row[a->target[i]] += a->inv_temp[i] * gl;
    }
}

#endif
