/* env.h - what a service has of the world: the time, peers, numbers that nobody else has. It is
 * given to the service when that is opened, and the service asks nobody else. So the same service
 * runs with the system's clock and ZeroMQ (env_open) or, without waiting and again the same way, in
 * a simulation that fills in its own (tests/sim). */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include "base/net.h"

struct env {
    struct net *net;
    void *world; /* of the functions below; NULL: the system */
    uint64_t (*now_us)(void *world);
    uint64_t (*wall_us)(void *world);
    uint64_t (*unique)(void *world);
};

/* The system's clock and randomness, ZeroMQ, and stop signals (net_open). */
MUST_CHECK int env_open(struct env *out);
void env_close(struct env *e); /* accepts a zeroed one */

uint64_t env_now_us(const struct env *e);  /* monotonic: durations and deadlines */
uint64_t env_wall_us(const struct env *e); /* since 1970 UTC: for records that people read */
/* Not 0, and another one for every start of a process anywhere: an incarnation. */
uint64_t env_unique(const struct env *e);

#endif
