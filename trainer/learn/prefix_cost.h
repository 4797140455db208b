/* prefix_cost.h - the cost model of shared prefixes, measured: what trainer.prefix_cost should be
 * for one network on one machine. The plan itself measures nothing (split.h), so that it can be
 * repeated. */
#ifndef TRAINER_LEARN_PREFIX_COST_H
#define TRAINER_LEARN_PREFIX_COST_H

#include "actor/params.h"

struct prefix_cost_measure {
    double pass;      /* rows that one more forward and backward pass costs */
    double attention; /* its time per FLOP, a matrix product's being 1 */
    double row_us;    /* forward and backward of one row without attention */
};

/* Runs forward and backward passes of random tokens `rounds` times each; the fastest of a kind
 * counts, because other processes only make one slower. ERR_CONFIG: the network's context is too
 * short to see attention's cost. */
MUST_CHECK int prefix_cost_measure(struct prefix_cost_measure *out, const struct params *weights,
                                   int rounds);

#endif
