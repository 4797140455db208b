/* rollout.h - the rollout: generates what the manager hands out. */
#ifndef ROLLOUT_ROLLOUT_H
#define ROLLOUT_ROLLOUT_H

#include "base/env.h"
#include "proto/recipe/recipe.h"
#include "rollout/generator.h"

struct rollout; /* one thread */

struct rollout_config { /* recipe and env are borrowed */
    const char *run_dir, *name;
    const struct recipe *recipe;
    const struct env *env;
    struct generator generator;
};

MUST_CHECK int rollout_open(struct rollout **out, const struct rollout_config *cfg);
void rollout_close(struct rollout **r);
/* Reads what came, takes weights, says what is to be said, generates one step. *wait_us: until the
 * next turn is due even if no message comes. */
MUST_CHECK int rollout_turn(struct rollout *r, uint64_t *wait_us);
bool rollout_done(const struct rollout *r); /* the manager said that the run is complete */

/* Generates for the manager of RUN with the newest weights of RUN's relay until the run is complete
 * (0) or a stop signal comes (ERR_STOPPED). name is unique among the run's services. A failure is
 * logged in one line and returned. */
MUST_CHECK int rollout_service(const char *run_dir, const char *name);

#endif
