/* manager_world.h - what manager_test.c plays around the manager: rollouts, a reward service and a
 * trainer, and what is known of the run without asking the manager. */
#ifndef TESTS_UNIT_MANAGER_WORLD_H
#define TESTS_UNIT_MANAGER_WORLD_H

#include "base/hash.h"
#include "base/net.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { ROLLOUTS = 3, SEATS = 8, MAX_NEW = 8, STEPS_MAX = 32, IDS = 4096, AGAIN_US = 300000 };

struct seq {
    uint64_t id;
    int32_t n, acked;
    int64_t version[MAX_NEW];
};

struct peer {
    struct net_sock *sock;
    char name[32];
    const char *service;
    uint64_t incarnation, session, hello_us, asked_us, beat_us;
    bool welcome, asked;
    int64_t version;
    struct seq seq[SEATS];
    int32_t n;
};

struct world {
    char *dir;
    int to[2], from[2]; /* pipes of the keeper */
    pid_t keeper;
    struct net *net;
    struct peer rollout[ROLLOUTS], reward, trainer;
    uint64_t seed, draws;
    int64_t steps, groups, size, eta, step, published, asked_step;
    bool finished, deaths, errors, hopeless, drop, done_sent;
    uint64_t trained[IDS]; /* 1 + step of each trajectory */
    struct hash after[STEPS_MAX];
    struct hash sent;
};

#endif
