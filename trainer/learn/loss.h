/* loss.h - the loss of one token, its derivatives, and the sums that are reported. Pure functions
 * on host arrays; the backward pass calls loss_gradient chunk by chunk.
 *
 * With lp = log pi(token) by the weights being trained, b = log-prob recorded when the token was
 * sampled (the BEHAVIOUR policy's), o = the denominator of the ratio, f = log-prob by the frozen
 * reference, H = entropy, v = value, A = advantage, c = the correction's weight, w = the token's
 * weight by aggregation (0: rejected by a mask) and s = the same before rejection, the loss is the
 * sum over trained tokens of
 *
 *   w * ( c * pg + kl_coef * kl - entropy_coef * H ) + s * value_coef * vf
 *
 * with r = exp(lp - o), everything in [] taken as given (no derivative through it). pg is the
 * policy loss that the recipe names; the formula of each is above its function in loss.c.
 *
 *   kl, with x = lp - f: k1 = x, k2 = x^2 / 2, k3 = exp(-x) - 1 + x (the plain derivative of the
 *              estimator's value, tokens taken as given)
 *   vf = 1/2 max((v - R)^2, (clip(v, v0 - value_clip, v0 + value_clip) - R)^2), R = return, v0 =
 *              value before the batch's first step
 *
 * Exponents are limited to [-20, 20], where the limit acts the derivative of the exponential is 0:
 * a behaviour log-prob that has nothing to do with the policy cannot make the step infinite. */
#ifndef TRAINER_LEARN_LOSS_H
#define TRAINER_LEARN_LOSS_H

#include "actor/loss_rows.h"
#include "proto/recipe/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loss_config {
    enum recipe_loss loss;
    double clip_low, clip_high, dual_clip; /* dual_clip 0: off */
    double dppo_low, dppo_high, dppo_kl;
    double kl_coef, entropy_coef, value_coef;
    double value_clip; /* 0: off */
    double cap;        /* of interpolated weights, 0: none */
    enum recipe_kl kl;
    bool interpolate;
    bool reference;  /* reference log-probs are there: the divergence is reported */
    bool supervised; /* the loss is -w * lp: nothing else is read */
};

/* What the loss of one token depends on beside its log-prob, entropy and value. */
struct loss_token {
    double weight, share; /* by aggregation: after and before rejection */
    double advantage, correction;
    double sequence; /* gspo: mean over the sequence of current - old */
    float behaviour, old, current, reference;
    float alpha;       /* interpolated proximal policy */
    float value, goal; /* before the first step; return */
};

/* The same by trained token of a batch, a column for each field: [tokens]. */
struct loss_table {
    double *weight, *share, *advantage, *correction, *sequence;
    float *behaviour, *old, *current, *reference, *alpha, *value, *goal;
};
struct loss_token loss_token_at(const struct loss_table *t, int64_t e);

/* Fills in the derivatives of the loss by log-prob, entropy (in which it is linear) and value.
 * Row i is of token first + element[i] of the table, element NULL: first + i. */
void loss_gradient(const struct loss_config *cfg, const struct loss_table *table, int64_t first,
                   const int64_t *element, const struct loss_rows *rows);

/* The estimator kl of the token's divergence from the reference policy, at log-prob lp. */
double loss_divergence(const struct loss_config *cfg, const struct loss_token *token, double lp);

/* True if the token's gradient is zero whatever its log-prob turns out to be. */
bool loss_is_flat(const struct loss_config *cfg, const struct loss_token *token);

struct loss_sums {
    /* Weighted sums; kl_loss and value_loss without their coefficients. */
    double loss, pg_loss, kl_loss, value_loss;
    double kl, entropy;                       /* means over tokens */
    double clip_fraction, dual_clip_fraction; /* of kept tokens: those whose gradient was cut */
    double value_clip_fraction;
    double ratio_mean, ratio_max; /* of the loss's ratio, kept tokens */
    double ess; /* of exp(lp - b), all tokens: (sum)^2 / (n sum of squares), in [0, 1] */
    double tokens, kept, parts, weights, squares; /* what the means are taken over */
};

/* Adds the tokens first .. first + rows->n - 1 of the table, of one optimizer step, at these
 * log-probs, entropies and values; out starts as zero. */
void loss_add(struct loss_sums *out, const struct loss_config *cfg, const struct loss_table *table,
              int64_t first, const struct loss_rows *rows);
/* Sums -> what the fields say; the losses become means over the steps. */
void loss_finish(struct loss_sums *sums);

#endif
