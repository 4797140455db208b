/* env.c - see env.h: the system's. */
#include "base/env.h"

#include "base/clock.h"
#include "base/hash.h"

#include <unistd.h>

static uint64_t system_now(void *world) {
    (void)world;
    return clock_us();
}

static uint64_t system_wall(void *world) {
    (void)world;
    return clock_wall_us();
}

static uint64_t system_unique(void *world) {
    (void)world;
    uint64_t facts[3] = {clock_wall_us(), clock_us(), (uint64_t)getpid()};
    uint64_t h = hash64(facts, sizeof facts, 0);
    return h ? h : 1;
}

int env_open(struct env *out) {
    struct net *net = NULL;
    TRY(net_open(&net));
    *out = (struct env){net, NULL, system_now, system_wall, system_unique};
    return 0;
}

void env_close(struct env *e) {
    net_close(&e->net);
}

uint64_t env_now_us(const struct env *e) {
    return e->now_us(e->world);
}

uint64_t env_wall_us(const struct env *e) {
    return e->wall_us(e->world);
}

uint64_t env_unique(const struct env *e) {
    return e->unique(e->world);
}
