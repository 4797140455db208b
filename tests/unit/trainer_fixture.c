/* trainer_fixture.c - see trainer_fixture.h. */
#include "tests/unit/trainer_fixture.h"

#include "base/rng.h"
#include "tests/test.h"

enum { FIXTURE_SETS_MAX = 16, FIXTURE_GROUP = 4, FIXTURE_VOCAB = 32 };

static const char *const fixture_recipe =
    "trainer:\n"
    "  device: cpu\n"
    "  batch: {groups: 3, tokens: 48}\n"
    "  optimizer: {lr: 1.0e-3, weight_decay: 0.1}\n"
    "rollout: {group_size: 4, max_prompt_tokens: 16, max_new_tokens: 16}\n";

const char *trainer_fixture_model(void) {
    return "tests/golden/step/model";
}

struct recipe *trainer_fixture_recipe(const char *const *sets) {
    struct recipe *r = NULL;
    size_t n = 0;
    while (sets && sets[n])
        n++;
    CHECK_OK(recipe_parse(&r, fixture_recipe, strlen(fixture_recipe), "fixture", sets, n));
    return r;
}

struct step *trainer_fixture_open(const char *const *sets) {
    struct recipe *r = trainer_fixture_recipe(sets);
    struct step *s = NULL;
    CHECK_OK(step_open(&s, r, trainer_fixture_model()));
    recipe_close(&r);
    return s;
}

struct batch *trainer_fixture_batch(uint64_t seed, uint32_t groups, int64_t version) {
    uint64_t key = rng_key(seed, RNG_TEST);
    struct batch *b = batch_open(groups * FIXTURE_GROUP);
    b->n_groups = groups;
    b->step = version;
    for (uint32_t i = 0; i < b->n; i++) {
        int32_t ids[32];
        float logprob[16];
        uint32_t g = i / FIXTURE_GROUP;
        int32_t prompt = 1 + (int32_t)rng_below(key, g, 0, 8);
        int32_t response = 1 + (int32_t)rng_below(key, i, 1, 15);
        for (int32_t k = 0; k < prompt; k++)
            ids[k] = (int32_t)rng_below(key, g, (uint64_t)(100 + k), FIXTURE_VOCAB);
        for (int32_t k = 0; k < response; k++) {
            ids[prompt + k] = (int32_t)rng_below(key, i, (uint64_t)(200 + k), FIXTURE_VOCAB);
            logprob[k] = (float)(-3.5 + 0.5 * rng_uniform(key, i, (uint64_t)(300 + k)));
        }
        batch_set(b, i, ids, prompt, ids + prompt, response, logprob, NULL, NULL, version);
        b->traj[i].id = i;
        b->traj[i].group = g;
        b->traj[i].reward = (float)rng_below(key, i, 2, 3) + (i % FIXTURE_GROUP == 0 ? 0.25F : 0);
    }
    return b;
}

struct hash trainer_fixture_hash(const struct step *s) {
    struct hash h;
    CHECK_OK(step_hash(&h, s));
    return h;
}
