/* rollout_service.c - the rollout with an engine, weights from the relay, and the system's world.
 *
 * Deployment: ERR_CONFIG, ERR_CORRUPT, ERR_MISMATCH and ERR_IO are final (wrong recipe, damaged
 * model folder, another model's weights); anything else may be restarted, and what this process
 * had is continued by another from its streamed tokens. */
#include "actor/policy.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/pull.h"
#include "rollout/rollout.h"
#include "rollout/setup/setup_engine.h"
#include "rollout/setup/setup_policy.h"
#include "rollout/swap.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

enum { IDLE_US = 5000 /* an engine with nothing to do gives new weights so much at a time */ };

struct service {
    struct env env;
    struct recipe *recipe;
    struct policy policy;
    const struct kern_backend *backend;
    struct engine *engine;
    struct pull *pull;
    struct swap *swap;
    size_t places;
    struct rollout *rollout;
};

/* --- the engine as a generator ------------------------------------------------------------- */

static int engine_take(void *self, const struct trajectory *w) {
    struct service *s = self;
    const struct recipe *c = s->recipe;
    struct engine_request q = {.id = w->id,
                               .prompt = w->prompt,
                               .n_prompt = w->n_prompt,
                               .resume = w->response,
                               .n_resume = w->n_response,
                               .max_new_tokens = w->max_new_tokens,
                               .temperature = w->greedy ? 0 : (float)c->rollout.temperature,
                               .top_p = (float)c->rollout.top_p,
                               .top_k = (int32_t)c->rollout.top_k,
                               .stop_ids = s->policy.stop_ids,
                               .n_stop_ids = s->policy.n_stop_ids,
                               .stop = (const char *const *)c->rollout.stop,
                               .n_stop = (int32_t)c->rollout.n_stop};
    return engine_add(s->engine, &q);
}

static void engine_forget(void *self, uint64_t id) {
    engine_abort(((struct service *)self)->engine, id);
}

static bool engine_rests(void *self) {
    return engine_idle(((struct service *)self)->engine);
}

static int engine_go(void *self, const struct engine_token **events, int32_t *n) {
    return engine_step(((struct service *)self)->engine, events, n);
}

static void engine_count(void *self, struct engine_stats *out) {
    engine_stats(((struct service *)self)->engine, out);
}

static int take_weights(void *self, uint64_t now_us, uint64_t step_us, bool may) {
    struct service *s = self;
    int64_t before = swap_version(s->swap);
    uint64_t budget_us = engine_idle(s->engine) ? IDLE_US : swap_budget(step_us);
    TRY(swap_turn(s->swap, now_us, budget_us, may));
    if (swap_version(s->swap) == before) return 0;
    struct swap_stats st = swap_stats(s->swap);
    LOG(INFO, ROLLOUT,
        "version=%" PRId64 " taken_ms=%" PRIu64 " slices=%" PRId64 " longest_us=%" PRIu64
        " from=%s",
        swap_version(s->swap), st.total_us / 1000, st.slices, st.longest_us,
        st.nearby ? "device" : "host");
    return 0;
}

static bool taking_weights(void *self) {
    return swap_working(((struct service *)self)->swap);
}

static int64_t weights_held(void *self, struct hash *hash) {
    const struct service *s = self;
    *hash = swap_hash(s->swap);
    return swap_version(s->swap);
}

static int64_t weights_newest(void *self) {
    return pull_newest(((struct service *)self)->pull);
}

static struct generator generator_of(struct service *s) {
    return (struct generator){.self = s,
                              .places = s->places,
                              .add = engine_take,
                              .abort = engine_forget,
                              .idle = engine_rests,
                              .step = engine_go,
                              .stats = engine_count,
                              .take_weights = take_weights,
                              .taking = taking_weights,
                              .version = weights_held,
                              .newest = weights_newest};
}

/* --- the service --------------------------------------------------------------------------- */

static int open_model(struct service *s, const char *run_dir) {
    char *path = file_join(run_dir, "recipe.yaml");
    int rc = recipe_load(&s->recipe, path, NULL, 0);
    mem_free(path);
    TRY(rc);
    TRY(setup_policy(&s->policy, s->recipe, NULL));
    s->policy.shape.bf16 = s->recipe->model.dtype == RECIPE_DTYPE_BF16;
    TRY(kern_open(&s->backend, s->recipe->rollout.device, (int)s->recipe->rollout.threads));
    struct engine_config cfg =
        setup_engine(s->recipe, &s->policy.shape, s->policy.tokenizer, s->backend);
    cfg.spare = true;
    TRY(setup_fit(&cfg, s->recipe));
    s->places = (size_t)cfg.seqs_max;
    return engine_open(&s->engine, &cfg);
}

static int open_all(struct service *s, const char *run_dir, const char *name) {
    char *endpoint;
    TRY(env_open(&s->env));
    TRY(open_model(s, run_dir));
    TRY(net_endpoint(&endpoint, s->env.net, run_dir, "relay"));
    int rc = pull_open(&s->pull, s->env.net, endpoint, name);
    mem_free(endpoint);
    TRY(rc);
    struct swap_config swap = {s->pull, s->engine, s->backend, s->policy.shape, &s->env};
    TRY(swap_open(&s->swap, &swap));
    struct rollout_config cfg = {run_dir, name, s->recipe, &s->env, generator_of(s)};
    return rollout_open(&s->rollout, &cfg);
}

static void close_all(struct service *s) {
    rollout_close(&s->rollout);
    swap_close(&s->swap);
    pull_close(&s->pull);
    env_close(&s->env);
    engine_close(&s->engine);
    policy_close(&s->policy);
    if (s->backend) kern_close(s->backend);
    recipe_close(&s->recipe);
}

static int serve(struct service *s) {
    bool stop = false;
    uint64_t wait_us = 0;
    while (!stop && !rollout_done(s->rollout)) {
        TRY(net_wait(s->env.net, wait_us, NULL, 0, &stop));
        TRY(rollout_turn(s->rollout, &wait_us));
    }
    return rollout_done(s->rollout) ? 0 : net_stopped();
}

int rollout_service(const char *run_dir, const char *name) {
    struct service s = {.recipe = NULL};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int rc = open_all(&s, run_dir, name);
    if (rc == 0) rc = serve(&s);
    if (rc < 0 && rc != ERR_STOPPED)
        LOG(ERROR, ROLLOUT, "%s ends: %s (%s)", name, err_text(), err_name(rc));
    close_all(&s);
    return rc;
}
