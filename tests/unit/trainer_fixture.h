/* trainer_fixture.h - a tiny policy and batches for the trainer's tests: the golden model, random
 * trajectories by seed. */
#ifndef TESTS_UNIT_TRAINER_FIXTURE_H
#define TESTS_UNIT_TRAINER_FIXTURE_H

#include "trainer/learn/step.h"

/* Ends the test on failure. sets: NULL-terminated, over the fixture's recipe. */
struct recipe *trainer_fixture_recipe(const char *const *sets);
struct step *trainer_fixture_open(const char *const *sets);
/* groups of 4; tokens of the given version with log-probs that are plausible but not the model's.
 */
struct batch *trainer_fixture_batch(uint64_t seed, uint32_t groups, int64_t version);
struct hash trainer_fixture_hash(const struct step *s);
const char *trainer_fixture_model(void);

#endif
