/* loss_rows.h - what a loss reads of rows that predict tokens, and the derivatives that it writes.
 * The head computes the rows chunk by chunk and calls the loss for each. */
#ifndef ACTOR_LOSS_ROWS_H
#define ACTOR_LOSS_ROWS_H

#include <stdint.h>

struct loss_rows {
    int64_t n;
    const float *logprob, *entropy, *value; /* [n]; value NULL: the shape has no value head */
    /* [n], of the total loss: every weight (advantage, denominator) is inside. */
    float *g_logprob, *g_entropy, *g_value; /* g_value NULL where value is */
};

#endif
