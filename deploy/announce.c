/* announce.c - see announce.h. Users of every peer ask what the batch sizes mean, in which unit
 * staleness is counted and which loss they are running; the answers are printed before the first
 * token, from the same recipe the services read.
 *
 * Bytes are asked from the code that will allocate them (engine_bytes, step_plan_bytes), never
 * estimated here: a plan with formulas of its own would be wrong after the first change. */
#include "deploy/announce.h"

#include "actor/params.h"
#include "rollout/engine.h"
#include "rollout/setup.h"
#include "trainer/step.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { VERSIONS_KEPT = 3 }; /* the relay's two newest and one being read */

int announce_plan(struct announce_plan *out, const struct recipe *r, const struct shape *s) {
    const struct kern_backend *b;
    struct announce_plan p = {.parameters = shape_params(s)};
    int64_t longest = r->rollout.max_prompt_tokens + r->rollout.max_new_tokens;
    if (longest > s->context)
        return FAIL(ERR_CONFIG,
                    "rollout.max_prompt_tokens + max_new_tokens = %" PRId64
                    ", the model's context is %d tokens",
                    longest, s->context);
    TRY(kern_open(&b, r->rollout.device, 1));
    struct engine_config cfg = setup_engine(r, s, NULL, b);
    cfg.spare = true; /* as rollouts have it */
    p.weights = (size_t)params_slab_elements(s) * sizeof(float);
    p.rollout = engine_bytes(&cfg) + 2 * p.weights; /* the version in use and the next one */
    p.rollout_kv = setup_kv_bytes(&cfg);
    kern_close(b);
    TRY(step_plan_bytes(&p.trainer, r, s));
    p.relay = VERSIONS_KEPT * p.weights;
    p.total = p.rollout * (size_t)r->rollout.workers + p.trainer + p.relay;
    *out = p;
    return 0;
}

static void size_text(struct buf *out, size_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    buf_printf(out, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void loss_text(struct buf *out, const struct recipe *r) {
    const char *aggregation =
        r->trainer.algorithm.aggregation == RECIPE_TOKEN_MEAN ? "token-mean" : "sequence-mean";
    buf_printf(out,
               "ppo-clip, %s: -min(r A, clip(r, 1-%g, 1+%g) A), r = pi_theta / pi_behaviour "
               "(recorded by the rollout)",
               aggregation, r->trainer.algorithm.clip_low, r->trainer.algorithm.clip_high);
    if (r->trainer.algorithm.kl.coef > 0)
        buf_printf(out, " + %g KL(k%d) to %s", r->trainer.algorithm.kl.coef,
                   (int)r->trainer.algorithm.kl.type + 1,
                   r->trainer.algorithm.kl.reference ? r->trainer.algorithm.kl.reference
                                                     : "the initial policy");
    if (r->trainer.algorithm.entropy != 0)
        buf_printf(out, " - %g entropy", r->trainer.algorithm.entropy);
}

static const char *advantage_text(const struct recipe *r) {
    return r->trainer.algorithm.advantage == RECIPE_ADV_GRPO
               ? "grpo: (R - mean) / (std + 1e-6) within the group"
               : "grpo-nostd (Dr.GRPO): R - mean of the group";
}

/* Known traps that a recipe walks into; one line each. */
static void warnings(struct buf *out, const struct recipe *r) {
    if (r->rollout.top_p < 1 || r->rollout.top_k > 0)
        buf_printf(out,
                   "warning: sampling is cut (top_p %g, top_k %" PRId64
                   ") but log-probs are over the whole vocabulary: the "
                   "ratio is biased by the kept mass, which is recorded\n",
                   r->rollout.top_p, r->rollout.top_k);
    if (r->rollout.group_size == 1)
        buf_str(out,
                "warning: rollout.group_size is 1: every advantage is 0 and nothing is learned\n");
    if (r->rollout.concurrency < r->trainer.batch.groups * r->rollout.group_size &&
        r->trainer.staleness.max == 0)
        buf_printf(out,
                   "note: concurrency %" PRId64 " is below one batch (%" PRId64
                   " trajectories): rounds are serialised\n",
                   r->rollout.concurrency, r->trainer.batch.groups * r->rollout.group_size);
    if (r->monitor.http)
        buf_str(
            out,
            "warning: monitor.http is set, the dashboard does not exist yet; see metrics.jsonl\n");
    if (r->relay.delta)
        buf_str(out,
                "note: relay.delta has no effect on one machine: versions are shared memory\n");
}

void announce_text(struct buf *out, const struct recipe *r, const struct shape *s,
                   const struct announce_plan *p) {
    int64_t B = r->trainer.batch.groups, G = r->rollout.group_size;
    buf_printf(out, "%s: %s, %" PRId64 " parameters, %d layers, context %d\n", r->name,
               shape_family_name(s->family), p->parameters, s->layers, s->context);
    buf_printf(out,
               "batch      %" PRId64 " groups x %" PRId64 " trajectories = %" PRId64
               " trajectories per step, at most %" PRId64 " tokens; microbatches of %" PRId64
               " tokens; %" PRId64 " steps\n",
               B, G, B * G, B * G * (r->rollout.max_prompt_tokens + r->rollout.max_new_tokens),
               r->trainer.batch.tokens, r->trainer.steps);
    buf_printf(out,
               "rollout    %" PRId64 " processes, at most %" PRId64
               " trajectories running, %" PRId64 " new tokens each, temperature %g\n",
               r->rollout.workers, r->rollout.concurrency, r->rollout.max_new_tokens,
               r->rollout.temperature);
    buf_printf(out,
               "staleness  at most %" PRId64
               " versions (optimizer steps), from a trajectory's oldest token to the step that "
               "trains it; late: %s%s\n",
               r->trainer.staleness.max,
               r->trainer.staleness.late == RECIPE_LATE_WAIT ? "wait" : "drop",
               r->trainer.staleness.max == 0 ? "; synchronous and deterministic" : "");
    buf_printf(out, "advantage  %s\nloss       ", advantage_text(r));
    loss_text(out, r);
    buf_printf(out, "\nmemory     rollout ");
    size_text(out, p->rollout);
    buf_str(out, " each (keys and values ");
    size_text(out, p->rollout_kv);
    buf_str(out, "), trainer ");
    size_text(out, p->trainer);
    buf_str(out, ", relay ");
    size_text(out, p->relay);
    buf_str(out, ", in all ");
    size_text(out, p->total);
    buf_str(out, "\n");
    warnings(out, r);
}

void announce_json(struct buf *out, const struct recipe *r, const struct shape *s,
                   const struct announce_plan *p) {
    struct buf loss = {0}, warned = {0};
    loss_text(&loss, r);
    warnings(&warned, r);
    buf_str(out, "{\"event\": \"start\", \"name\": ");
    buf_json_str(out, r->name, strlen(r->name));
    buf_printf(out,
               ", \"family\": \"%s\", \"parameters\": %" PRId64 ", \"groups_per_step\": %" PRId64
               ", \"group_size\": %" PRId64 ", \"trajectories_per_step\": %" PRId64
               ", \"steps\": %" PRId64 ", \"staleness_max\": %" PRId64,
               shape_family_name(s->family), p->parameters, r->trainer.batch.groups,
               r->rollout.group_size, r->trainer.batch.groups * r->rollout.group_size,
               r->trainer.steps, r->trainer.staleness.max);
    buf_printf(out,
               ", \"memory\": {\"weights\": %zu, \"rollout\": %zu, \"rollout_kv\": %zu, "
               "\"trainer\": %zu, \"relay\": %zu, "
               "\"total\": %zu}, \"loss\": ",
               p->weights, p->rollout, p->rollout_kv, p->trainer, p->relay, p->total);
    buf_json_str(out, loss.data, loss.len);
    buf_str(out, ", \"warnings\": ");
    buf_json_str(out, warned.data ? warned.data : "", warned.len);
    buf_str(out, "}");
    buf_close(&loss);
    buf_close(&warned);
}
