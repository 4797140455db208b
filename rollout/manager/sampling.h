/* sampling.h - which row of the data set a new group gets (docs/sampling.md). Plain and dapo: the
 * next row of the epoch's permutation. Vade: of the next few, the one whose success is most
 * informative, by a Beta posterior per row and a Thompson draw. No log, no sockets: the manager
 * stores what was chosen and learned, and tells it back after a restart. */
#ifndef ROLLOUT_MANAGER_SAMPLING_H
#define ROLLOUT_MANAGER_SAMPLING_H

#include "actor/text/dataset.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct sampling; /* opaque; one thread */

struct sampling_config {
    uint64_t seed;
    bool shuffle;
    bool vade; /* the rest is for it */
    int64_t candidates;
    double visited, unvisited; /* what is left of a row's evidence after a step */
};

struct sampling_beta { /* of the chance that a response to the row is right */
    double alpha, beta;
};

/* data: borrowed, and used for its permutation. */
void sampling_open(struct sampling **out, struct dataset *data, const struct sampling_config *cfg);
void sampling_close(struct sampling **s);
bool sampling_learns(const struct sampling *s); /* vade */

/* The row of a new group when `formed` batches exist: a function of the group, the seed, and with
 * vade of the posteriors. *epoch: passes over the data set before it. */
uint64_t sampling_row(struct sampling *s, uint64_t group, int64_t formed, uint64_t *epoch);

/* Vade. A group on the row is trained by the step: hits and misses are its evidence. Steps must not
 * go back; the order within a step matters only for groups of one row. */
struct sampling_beta sampling_learn(struct sampling *s, uint64_t row, int64_t step, double hits,
                                    double misses);
/* What a step recorded, in any order; the newest counts, of equals the last one. */
MUST_CHECK int sampling_restore(struct sampling *s, uint64_t row, int64_t step,
                                struct sampling_beta b);
/* The posterior as a group sees it that starts when `formed` batches exist. */
struct sampling_beta sampling_posterior(const struct sampling *s, uint64_t row, int64_t formed);
uint64_t sampling_visited(const struct sampling *s); /* rows with evidence */
/* What is maximised: p(1-p)^2. */
double sampling_score(double p);

#endif
