/* start_report.c - see start_report.h. Users of every peer ask what the batch sizes mean, in which
 * unit staleness is counted and which loss they are running; the answers are printed before the
 * first token, from the same recipe the services read.
 *
 * Bytes are asked from the code that will allocate them (engine_bytes, step_plan), never
 * estimated here: a plan with formulas of its own would be wrong after the first change. */
#include "deploy/preflight/start_report.h"

#include "actor/params.h"
#include "base/json_write.h"
#include "proto/recipe/traps.h"
#include "rollout/engine/engine.h"
#include "rollout/setup/setup_engine.h"
#include "trainer/learn/step.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { VERSIONS_KEPT = 3 }; /* the relay's two newest and one being read */

/* A prompt keeps its length where that leaves the response half of the context. */
static int check_context(const struct recipe *r, const struct shape *s) {
    int64_t prompt = r->rollout.max_prompt_tokens, response = r->rollout.max_new_tokens;
    if (prompt + response <= s->context) return 0;
    int64_t fits = prompt <= s->context / 2 ? prompt : s->context / 2;
    return FAIL(ERR_CONFIG,
                "rollout.max_prompt_tokens %" PRId64 " + rollout.max_new_tokens %" PRId64
                " = %" PRId64
                ", the model's context is %d tokens; what fits is for example %s%" PRId64
                " with rollout.max_new_tokens: %" PRId64,
                prompt, response, prompt + response, s->context,
                "rollout.max_prompt_tokens: ", fits, s->context - fits);
}

/* engine_bytes of a configuration that engine_open would refuse says so by 0. */
static int engine_room(size_t *out, const struct engine_config *cfg) {
    *out = engine_bytes(cfg);
    if (*out == 0) return FAIL(ERR_CONFIG, "rollout: %s", err_text());
    if (*out == SIZE_MAX) return FAIL(ERR_CONFIG, "rollout: takes more memory than there can be");
    return 0;
}

int start_report_plan(struct start_report_plan *out, const struct recipe *r,
                      const struct shape *s) {
    const struct kern_backend *b;
    struct start_report_plan p = {.parameters = shape_params(s)};
    TRY(traps_check(r, TRAPS_RUN));
    TRY(check_context(r, s));
    TRY(kern_open(&b, r->rollout.device, 1));
    struct engine_config cfg = setup_engine(r, s, NULL, b);
    cfg.spare = true; /* as rollouts have it */
    int rc = setup_fit(&cfg, r);
    p.weights = params_slab_bytes(s);
    if (rc == 0) rc = engine_room(&p.rollout, &cfg);
    p.rollout += 2 * p.weights; /* the version in use and the next one */
    p.rollout_kv = setup_kv_bytes(&cfg);
    p.on_host = b->on_host;
    kern_close(b);
    TRY(rc);
    TRY(step_plan(&p.room, r, s));
    p.handover = p.room.handover;
    p.trainer = p.room.all + p.handover;
    p.relay = VERSIONS_KEPT * p.weights;
    p.total = p.rollout * (size_t)r->rollout.workers + p.trainer + p.relay;
    *out = p;
    return 0;
}

void start_report_size(struct buf *out, size_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    buf_printf(out, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

/* The text that stands for {name} in a formula. */
static void add_value(struct buf *out, const struct recipe *r, const char *name, size_t n) {
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"low", r->trainer.algorithm.clip_low},
                   {"high", r->trainer.algorithm.clip_high},
                   {"dppo.low", r->trainer.algorithm.dppo.low},
                   {"dppo.high", r->trainer.algorithm.dppo.high},
                   {"dppo.kl", r->trainer.algorithm.dppo.kl}};
    bool recomputed = r->trainer.algorithm.denominator == RECIPE_DENOMINATOR_RECOMPUTED;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strncmp(numbers[i].name, name, n) == 0 && numbers[i].name[n] == '\0') {
            buf_printf(out, "%g", numbers[i].value);
            return;
        }
    if (strncmp(name, "old", n) == 0)
        buf_str(out, recomputed ? "pi_start (recomputed at the start of the step)"
                                : "pi_behaviour (recorded by the rollout)");
    else
        buf_str(out, r->trainer.algorithm.proximal == RECIPE_PROXIMAL_RECOMPUTE
                         ? "recomputed at the start of the step"
                         : "interpolated");
}

/* The formula of the recipe's loss (RECIPE_LOSSES, docs/losses.md) with its values. */
static void policy_text(struct buf *out, const struct recipe *r) {
#define FORMULA(name, word, low, high, formula) formula,
    static const char *const formulas[] = {RECIPE_LOSSES(FORMULA)};
    for (const char *at = formulas[r->trainer.algorithm.loss]; *at;) {
        size_t n = strcspn(at, "{");
        buf_add(out, at, n);
        at += n;
        if (!*at) break;
        n = strcspn(++at, "}");
        add_value(out, r, at, n);
        at += n + 1;
    }
}

static void correction_text(struct buf *out, const struct recipe *r) {
    if (r->trainer.algorithm.correction.tis != RECIPE_TIS_OFF)
        buf_printf(out, ", times min(w, %g), w = pi_start / pi_behaviour by %s",
                   r->trainer.algorithm.correction.cap,
                   r->trainer.algorithm.correction.tis == RECIPE_TIS_TOKEN ? "token" : "sequence");
    double low = r->trainer.algorithm.correction.low, high = r->trainer.algorithm.correction.high;
    switch (r->trainer.algorithm.correction.mask) {
    case RECIPE_MASK_OFF: break;
    case RECIPE_MASK_TOKEN: buf_printf(out, ", tokens kept where %g <= w <= %g", low, high); break;
    case RECIPE_MASK_SEQUENCE:
        buf_printf(out, ", sequences kept where %g <= w <= %g", low, high);
        break;
    case RECIPE_MASK_GEOMETRIC:
        buf_printf(out, ", sequences kept where %g <= geometric mean of w <= %g", low, high);
        break;
    case RECIPE_MASK_M2PO:
        buf_printf(out, ", largest (log w)^2 dropped until their mean is below %g (m2po)",
                   r->trainer.algorithm.correction.m2);
        break;
    }
}

static void loss_text(struct buf *out, const struct recipe *r) {
    buf_printf(out, "%s, %s: ", recipe_word(r, "trainer.algorithm.loss"),
               recipe_word(r, "trainer.algorithm.aggregation"));
    policy_text(out, r);
    if (r->trainer.algorithm.dual_clip > 0)
        buf_printf(out, ", at most %g |A| for A < 0", r->trainer.algorithm.dual_clip);
    correction_text(out, r);
    if (r->trainer.algorithm.kl.coef > 0)
        buf_printf(out, " %s %g KL(k%d) to %s",
                   r->trainer.algorithm.kl.place == RECIPE_PLACE_LOSS ? "+" : "; reward -",
                   r->trainer.algorithm.kl.coef, (int)r->trainer.algorithm.kl.type + 1,
                   r->trainer.algorithm.kl.reference ? r->trainer.algorithm.kl.reference
                                                     : "the initial policy");
    if (r->trainer.algorithm.entropy != 0)
        buf_printf(out, " - %g entropy", r->trainer.algorithm.entropy);
    if (r->trainer.algorithm.advantage == RECIPE_ADV_GAE)
        buf_printf(out, " + %g value loss", r->trainer.algorithm.critic.coef);
}

static void sampling_text(struct buf *out, const struct recipe *r) {
    switch (r->rollout.sampling.policy) {
    case RECIPE_SAMPLING_PLAIN:
        buf_str(out, "plain: every prompt of the epoch, every group is trained");
        return;
    case RECIPE_SAMPLING_DAPO:
        buf_printf(out,
                   "dapo: a group whose rewards are all equal is replaced by the next prompt's; an "
                   "error at %" PRId64 " between two batches",
                   r->rollout.sampling.max_rejected);
        return;
    case RECIPE_SAMPLING_VADE:
        buf_printf(
            out,
            "vade: of %" PRId64
            " prompts the one with the largest p(1-p)^2, p drawn from what is known of it; a "
            "reward of %g or more counts as right",
            r->rollout.sampling.candidates, r->rollout.sampling.hit);
        return;
    }
}

static void advantage_text(struct buf *out, const struct recipe *r) {
    static const char *const texts[] = {
        "grpo: (R - mean) / (std + 1e-6) within the group",
        "grpo-nostd (Dr.GRPO): R - mean of the group",
        "rloo: R - mean of the others of the group",
        "reinforce++: returns, whitened over the batch's tokens",
        "reinforce++-baseline: R - mean of the group, whitened over the batch's tokens",
        "remax: R - reward of the prompt's greedy response",
        "gae: generalised advantage estimation, whitened over the batch's tokens"};
    buf_str(out, texts[r->trainer.algorithm.advantage]);
    if (r->trainer.algorithm.advantage == RECIPE_ADV_GAE)
        buf_printf(out, "; gamma %g, lambda %g", r->trainer.algorithm.gamma,
                   r->trainer.algorithm.lambda);
    if (r->trainer.algorithm.optimal_baseline)
        buf_str(out, "; the mean replaced by the baseline of least variance");
}

/* Known traps that a recipe walks into; one line each. */
void start_report_warnings(struct buf *out, const struct recipe *r,
                           const struct start_report_plan *p, const struct buf *notes) {
    buf_add(out, notes->data, notes->len);
    traps_warn(out, r, TRAPS_RUN);
    if (r->rollout.concurrency < r->trainer.batch.groups * r->rollout.group_size &&
        r->trainer.staleness.max == 0)
        buf_printf(out,
                   "note: concurrency %" PRId64 " is below one batch (%" PRId64
                   " trajectories): rounds are serialised\n",
                   r->rollout.concurrency, r->trainer.batch.groups * r->rollout.group_size);
    if (p->on_host && r->model.dtype == RECIPE_DTYPE_BF16)
        buf_str(out, "note: model.dtype: bf16 on a CPU saves memory and decodes faster than fp32; "
                     "prefill and training are not faster\n");
    if (r->monitor.http)
        buf_str(
            out,
            "warning: monitor.http is set, the dashboard does not exist yet; see metrics.jsonl\n");
    if (r->relay.delta)
        buf_str(out,
                "note: relay.delta has no effect on one machine: versions are shared memory\n");
}

void start_report_text(struct buf *out, const struct recipe *r, const struct shape *s,
                       const struct start_report_plan *p, const struct buf *notes) {
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
    if (recipe_generated(r) > G)
        buf_printf(
            out, "baseline   %" PRId64 " greedy responses more per step, one for each group\n", B);
    buf_str(out, "sampling   ");
    sampling_text(out, r);
    buf_str(out, "\nadvantage  ");
    advantage_text(out, r);
    buf_str(out, "\nloss       ");
    loss_text(out, r);
    buf_printf(out, "\nmemory     rollout ");
    start_report_size(out, p->rollout);
    buf_str(out, " each (keys and values ");
    start_report_size(out, p->rollout_kv);
    buf_str(out, "), trainer ");
    start_report_size(out, p->trainer);
    if (p->handover) {
        buf_str(out, " (versions handed over on the device ");
        start_report_size(out, p->handover);
        buf_str(out, ")");
    }
    if (r->trainer.ranks > 1) buf_printf(out, " in %" PRId64 " ranks", r->trainer.ranks);
    buf_str(out, ", relay ");
    start_report_size(out, p->relay);
    buf_str(out, ", in all ");
    start_report_size(out, p->total);
    buf_str(out, r->trainer.ranks > 1 ? "\n           a rank " : "\n           trainer ");
    memplan_text(out, &p->room);
    buf_str(out, "\n");
    start_report_warnings(out, r, p, notes);
}

void start_report_json(struct buf *out, const struct recipe *r, const struct shape *s,
                       const struct start_report_plan *p, const struct buf *notes) {
    struct json_write w = json_write_to(out, JSON_LINE);
    struct buf loss = {0}, warned = {0};
    loss_text(&loss, r);
    start_report_warnings(&warned, r, p, notes);
    json_write_object(&w, NULL);
    json_write_str(&w, "event", "start");
    json_write_str(&w, "name", r->name);
    json_write_str(&w, "family", shape_family_name(s->family));
    json_write_int(&w, "parameters", p->parameters);
    json_write_int(&w, "groups_per_step", r->trainer.batch.groups);
    json_write_int(&w, "group_size", r->rollout.group_size);
    json_write_int(&w, "trajectories_per_step", r->trainer.batch.groups * r->rollout.group_size);
    json_write_int(&w, "steps", r->trainer.steps);
    json_write_int(&w, "staleness_max", r->trainer.staleness.max);
    json_write_int(&w, "trainer_ranks", r->trainer.ranks);
    json_write_object(&w, "memory");
    json_write_uint(&w, "weights", p->weights);
    json_write_uint(&w, "rollout", p->rollout);
    json_write_uint(&w, "rollout_kv", p->rollout_kv);
    json_write_uint(&w, "trainer", p->trainer);
    json_write_uint(&w, "handover", p->handover);
    json_write_uint(&w, "relay", p->relay);
    json_write_uint(&w, "total", p->total);
    json_write_end(&w);
    memplan_json(&w, "trainer_rank", &p->room);
    json_write_text(&w, "loss", loss.data, loss.len);
    json_write_text(&w, "warnings", warned.data, warned.len);
    json_write_end(&w);
    buf_close(&loss);
    buf_close(&warned);
}
