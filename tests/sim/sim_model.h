/* sim_model.h - models of what surrounds manager and rollout in a simulation: the engine with the
 * relay, the reward service, the trainer. They do in virtual time what the real ones do, by hashes
 * in place of networks, so that whoever gets a token or a score can tell whether it is right. */
#ifndef TESTS_SIM_SIM_MODEL_H
#define TESTS_SIM_SIM_MODEL_H

#include "rollout/generator.h"
#include "tests/sim/sim_net.h"

enum { SIM_STEPS_MAX = 16, SIM_IDS_MAX = 1 << 14 };

struct sim_facts { /* of the run, beyond any process */
    struct sim_net *net;
    const char *dir;
    int64_t steps, groups, size, eta;
    int32_t max_new;
    int64_t published; /* newest version, -1: none */
    uint64_t published_us[SIM_STEPS_MAX + 1];
    struct hash weights[SIM_STEPS_MAX + 1];
    uint64_t trained[SIM_IDS_MAX]; /* 1 + step of each trajectory */
    int64_t done;                  /* steps that the trainer was told are stored */
    bool ended;                    /* the trainer was told that the run is complete */
    const char *wrong;             /* what is broken, NULL: nothing yet */
    char words[256];
};

/* Notes the first thing that is wrong. */
void sim_wrong(struct sim_facts *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct sim_engine;
struct sim_engine *sim_engine_open(struct sim_facts *f);
void sim_engine_close(struct sim_engine **e);
struct generator sim_engine_generator(struct sim_engine *e);
/* What the step since the last call took. */
uint64_t sim_engine_took(struct sim_engine *e);

struct sim_peer; /* the reward service or the trainer */
struct sim_peer *sim_reward_open(struct sim_facts *f, const struct env *env);
/* checkpoint: the version that it starts from, which it moves on. */
struct sim_peer *sim_trainer_open(struct sim_facts *f, const struct env *env, int64_t *checkpoint);
void sim_peer_close(struct sim_peer **p);
void sim_peer_turn(struct sim_peer *p, uint64_t *wait_us);

#endif
