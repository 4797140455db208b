/* adv.h - advantages: rewards of groups -> one number per trajectory. Pure functions on host
 * arrays.
 *
 *   grpo            A_i = (r_i - mean) / (std + 1e-6)    std: sample standard deviation (n - 1)
 *   grpo, std off   A_i =  r_i - mean                    (Dr.GRPO: no bias by a group's difficulty)
 *
 * mean and std run over the trajectories of one prompt (the group). A group of one has no baseline:
 * its advantage is 0. Sums are in double and in the order of the input, so the bits do not depend
 * on the machine. */
#ifndef TRAINER_ADV_H
#define TRAINER_ADV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* group[i] in 0 .. n_groups-1: which group trajectory i belongs to; groups need not be contiguous
 * and may be empty. */
void adv_grpo(double *advantage, const double *reward, const int32_t *group, size_t n,
              size_t n_groups, bool divide_by_std);

#endif
