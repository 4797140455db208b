/* correct.h - corrections for tokens that an older policy sampled: weights and rejections from the
 * log-ratio x = log pi - log pi_behaviour of each token, pi being the policy at the start of the
 * step. With X_i the sum and M_i the mean of x over the trained tokens of trajectory i:
 *
 *   tis token       weight min(exp(x), cap)
 *   tis sequence    weight min(exp(X_i), cap) for all its tokens
 *   mask token      keeps tokens with low <= exp(x) <= high                     (MIS, IcePop)
 *   mask sequence   keeps trajectories with low <= exp(X_i) <= high
 *   mask geometric  keeps trajectories with low <= exp(M_i) <= high
 *   mask m2po       drops the tokens of largest x^2 until the mean of the rest is below m2
 *
 * Exponents are limited to [-20, 20]. */
#ifndef TRAINER_LEARN_CORRECT_H
#define TRAINER_LEARN_CORRECT_H

#include "proto/recipe/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct correct_config {
    enum recipe_tis tis;
    enum recipe_mask mask;
    double cap, low, high, m2;
    bool always; /* the weight belongs to the loss (decoupled): without tis it is not capped */
};

/* Over all tokens; 0 without tokens. */
struct correct_sums {
    double weight_mean, weight_max, capped; /* capped: share of tokens */
    double rejected;                        /* share of tokens */
};

/* first[n + 1], first[0] = 0: the tokens of each trajectory. x, weight, keep: by token. Without tis
 * (and `always`) weights are 1, without a mask all are kept. */
void correct_tokens(const struct correct_config *cfg, const double *x, const int64_t *first,
                    size_t n, double *weight, bool *keep, struct correct_sums *out);

/* Importance weights of whole trajectories: exp(X_i); 1 where there are no tokens. */
void correct_sequences(double *weight, const double *x, const int64_t *first, size_t n);
/* (sum of w)^2 / (n * sum of w^2), in [0, 1]; 1 for n = 0. */
double correct_ess(const double *weight, size_t n);

#endif
