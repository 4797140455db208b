/* loss.h - the policy loss of one token, its derivatives, and the sums that are reported. Pure
 * functions on host arrays; the reverse pass calls loss_gradient chunk by chunk.
 *
 * With lp = log pi(token) by the weights being trained, b = log-prob recorded when the token was
 * sampled (the BEHAVIOUR policy's), f = log-prob by the frozen reference, H = entropy, A =
 * advantage and w = the token's weight (below), the loss is the sum over trained tokens of
 *
 *   w * ( pg + kl_coef * kl - entropy_coef * H )
 *
 *   r  = exp(lp - b)
 *   pg = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)
 *        d pg / d lp = 0 where the clip acts (A > 0 and r > 1 + clip_high, or A < 0 and
 *        r < 1 - clip_low), else -r A
 *   kl, with x = lp - f:
 *     k1 = x                   d/dlp = 1
 *     k2 = x^2 / 2             d/dlp = x
 *     k3 = exp(-x) - 1 + x     d/dlp = 1 - exp(-x)
 *        (the plain derivative of the estimator's value, tokens taken as given)
 *   H: d loss / d H = -w * entropy_coef; the head turns it into logits' gradients.
 *
 * Exponents are limited to [-20, 20], where the limit acts the derivative of the exponential is 0:
 * a behaviour log-prob that has nothing to do with the policy cannot make the step infinite.
 *
 * Weights: token-mean w = 1 / (trained tokens of the batch); sequence-mean w = 1 / (trajectories
 * with trained tokens * trained tokens of this trajectory). They are known before the first
 * microbatch, so the split of a batch changes nothing but rounding. */
#ifndef TRAINER_LOSS_H
#define TRAINER_LOSS_H

#include "proto/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loss_config {
    double clip_low, clip_high, kl_coef, entropy_coef;
    enum recipe_kl kl;
    bool supervised; /* the loss is -w * lp: behaviour, reference and advantage are not read */
};

struct loss_token {
    double weight, advantage;
    float behaviour, reference;
};

/* Derivatives of the loss by log-prob and entropy (in which it is linear) of the n tokens
 * token[element[0..n-1]], element NULL: token[0..n-1]; the other arrays are [n]. */
void loss_gradient(const struct loss_config *cfg, const struct loss_token *token,
                   const int64_t *element, const float *logprob, size_t n, float *g_logprob,
                   float *g_entropy);

/* True if the token's gradient is zero whatever its log-prob turns out to be. */
bool loss_is_flat(const struct loss_config *cfg, const struct loss_token *token);

struct loss_sums {
    double loss, pg_loss, kl_loss;     /* weighted sums; kl_loss without its coefficient */
    double kl, entropy;                /* means over tokens */
    double clip_fraction;              /* share of tokens whose policy gradient the clip removed */
    double ratio_mean, ratio_max, ess; /* ess = (sum r)^2 / (n sum r^2), in [0, 1] */
};

/* All of them 0 for n = 0. */
void loss_sum(const struct loss_config *cfg, const struct loss_token *token, const float *logprob,
              const float *entropy, size_t n, struct loss_sums *out);

#endif
