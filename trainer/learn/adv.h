/* adv.h - advantages: scores -> one number per trajectory, or per token. Pure functions on host
 * arrays. With s_i the score of trajectory i, mean and std (sample, n - 1) over its group:
 *
 *   grpo                  A_i = (s_i - mean) / (std + 1e-6)
 *   grpo-nostd            A_i = s_i - mean                       (Dr.GRPO)
 *   rloo                  A_i = s_i - mean of the others = (s_i - mean) n / (n - 1)
 *   reinforce++-baseline  s_i - mean, then whitened over the batch's tokens
 *   reinforce++           returns of the tokens, then whitened over the batch's tokens
 *   remax                 returns of the tokens minus the score of the prompt's greedy response
 *   gae                   below, then whitened over the batch's tokens
 *
 * A group of one has no baseline: its deviation is 0. Sums are in double and in the order of the
 * input, so the bits do not depend on the machine. */
#ifndef TRAINER_LEARN_ADV_H
#define TRAINER_LEARN_ADV_H

#include "proto/recipe/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* group[i] in 0 .. n_groups-1: which group trajectory i belongs to; groups need not be contiguous
 * and may be empty. kind: an estimator with a group baseline. weight NULL: the baseline is the
 * mean; else sum(weight s) / sum(weight) of the group (the mean where all weights are 0). */
void adv_group(double *advantage, const double *score, const int32_t *group, const double *weight,
               size_t n, size_t n_groups, enum recipe_advantage kind);

/* out[t] = reward[t] + gamma * out[t + 1]: the n trained tokens of one trajectory. */
void adv_returns(double *out, const double *reward, size_t n, double gamma);

/* delta_t = reward_t + gamma value_{t+1} - value_t (0 after the last), advantage_t = sum over k of
 * (gamma lambda)^k delta_{t+k}, goal_t = advantage_t + value_t. */
void adv_gae(double *advantage, float *goal, const double *reward, const float *value, size_t n,
             double gamma, double lambda);

/* x = (x - mean) / sqrt(variance + 1e-8), sample variance (n - 1). Equal values become 0. */
void adv_whiten(double *x, size_t n);

#endif
