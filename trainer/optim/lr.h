/* lr.h - the learning rate of an optimizer step: linear warm-up, then constant or cosine.
 *
 *   s < warmup              lr * (s + 1) / warmup          (the first step already moves)
 *   constant                lr
 *   cosine                  min_lr + (lr - min_lr) * (1 + cos(pi * p)) / 2,
 *                           p = (s - warmup) / (steps - warmup), at most 1
 *
 * s counts optimizer steps taken before this one; a skipped step does not count. */
#ifndef TRAINER_OPTIM_LR_H
#define TRAINER_OPTIM_LR_H

#include <stdbool.h>
#include <stdint.h>

struct lr_config {
    double lr, min_lr;
    int64_t warmup, steps; /* steps: of the whole run */
    bool cosine;
};

double lr_at(const struct lr_config *cfg, int64_t step);

#endif
