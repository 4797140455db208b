/* traps.c - see traps.h. A row is a condition on the recipe and a sentence that says what happens
 * and what to do instead; nothing else in Weir knows which settings quarrel. The measurements
 * behind the sentences are in docs/losses.md.
 *
 * A recomputed denominator and one step per batch is the most expensive of them: the ratio is
 * exactly 1, so clip, clip fraction and KL are exactly 0 and look healthy while nothing bounds the
 * step. */
#include "proto/recipe/traps.h"

#include "base/buf.h"

#include <inttypes.h>

enum severity { TRAPS_ERROR, TRAPS_WARNING, TRAPS_NOTE };

#define ALGO(r) (&(r)->trainer.algorithm)

/* --- what a recipe is ------------------------------------------------------------------------ */

static bool has_one_step(const struct recipe *r) {
    return r->trainer.batch.minibatches == 1;
}

static bool is_recomputed(const struct recipe *r) {
    return ALGO(r)->denominator == RECIPE_DENOMINATOR_RECOMPUTED;
}

static bool is_decoupled(const struct recipe *r) {
    return ALGO(r)->loss == RECIPE_LOSS_DECOUPLED;
}

static bool has_correction(const struct recipe *r) {
    return ALGO(r)->correction.tis != RECIPE_TIS_OFF || ALGO(r)->correction.mask != RECIPE_MASK_OFF;
}

static bool group_baseline(const struct recipe *r) {
    enum recipe_advantage a = ALGO(r)->advantage;
    return a == RECIPE_ADV_GRPO || a == RECIPE_ADV_GRPO_NOSTD || a == RECIPE_ADV_RLOO ||
           a == RECIPE_ADV_REINFORCE_PP_BASELINE;
}

static bool has_band(const struct recipe *r) {
    enum recipe_mask m = ALGO(r)->correction.mask;
    return m == RECIPE_MASK_TOKEN || m == RECIPE_MASK_SEQUENCE || m == RECIPE_MASK_GEOMETRIC;
}

/* --- errors ---------------------------------------------------------------------------------- */

static bool dual_clip_low(const struct recipe *r) {
    return ALGO(r)->dual_clip > 0 && ALGO(r)->dual_clip <= 1;
}

static bool dual_clip_elsewhere(const struct recipe *r) {
    enum recipe_loss l = ALGO(r)->loss;
    return ALGO(r)->dual_clip > 0 && l != RECIPE_LOSS_PPO_CLIP && l != RECIPE_LOSS_GSPO &&
           l != RECIPE_LOSS_DECOUPLED;
}

static bool kl_reward_without_reference(const struct recipe *r) {
    return ALGO(r)->kl.place == RECIPE_PLACE_REWARD && ALGO(r)->kl.coef == 0;
}

static bool dppo_recomputed(const struct recipe *r) {
    return ALGO(r)->loss == RECIPE_LOSS_DPPO && is_recomputed(r);
}

static bool baseline_elsewhere(const struct recipe *r) {
    return ALGO(r)->optimal_baseline && ALGO(r)->advantage != RECIPE_ADV_GRPO &&
           ALGO(r)->advantage != RECIPE_ADV_GRPO_NOSTD;
}

static bool interpolate_elsewhere(const struct recipe *r) {
    return ALGO(r)->proximal == RECIPE_PROXIMAL_INTERPOLATE && !is_decoupled(r);
}

static bool interpolate_sequence(const struct recipe *r) {
    return ALGO(r)->proximal == RECIPE_PROXIMAL_INTERPOLATE &&
           ALGO(r)->correction.tis == RECIPE_TIS_SEQUENCE;
}

static bool band_empty(const struct recipe *r) {
    return has_band(r) && ALGO(r)->correction.low >= ALGO(r)->correction.high;
}

static bool band_without_one(const struct recipe *r) {
    return has_band(r) && (ALGO(r)->correction.low > 1 || ALGO(r)->correction.high < 1);
}

static bool minibatches_many(const struct recipe *r) {
    return r->trainer.batch.minibatches > r->trainer.batch.groups;
}

static bool dapo_alone(const struct recipe *r) {
    return r->rollout.sampling.policy == RECIPE_SAMPLING_DAPO && recipe_generated(r) == 1;
}

/* --- warnings -------------------------------------------------------------------------------- */

static bool clip_dead(const struct recipe *r) {
    enum recipe_loss l = ALGO(r)->loss;
    return has_one_step(r) && is_recomputed(r) && l != RECIPE_LOSS_DECOUPLED &&
           l != RECIPE_LOSS_DPPO;
}

static bool decoupled_dead(const struct recipe *r) {
    return has_one_step(r) && is_decoupled(r) && ALGO(r)->proximal == RECIPE_PROXIMAL_RECOMPUTE;
}

static bool uncorrected(const struct recipe *r) {
    return is_recomputed(r) && !is_decoupled(r) && ALGO(r)->correction.tis == RECIPE_TIS_OFF &&
           r->trainer.staleness.max > 0;
}

static bool corrected_twice(const struct recipe *r) {
    return ALGO(r)->correction.tis != RECIPE_TIS_OFF && !is_recomputed(r) && !is_decoupled(r);
}

static bool gspo_token_tis(const struct recipe *r) {
    return ALGO(r)->loss == RECIPE_LOSS_GSPO && ALGO(r)->correction.tis == RECIPE_TIS_TOKEN;
}

static bool gspo_wide(const struct recipe *r) {
    return ALGO(r)->loss == RECIPE_LOSS_GSPO &&
           (ALGO(r)->clip_low >= 0.05 || ALGO(r)->clip_high >= 0.05);
}

static bool gspo_aggregation(const struct recipe *r) {
    return ALGO(r)->loss == RECIPE_LOSS_GSPO && ALGO(r)->aggregation != RECIPE_SEQUENCE_MEAN;
}

static bool length_filter(const struct recipe *r) {
    return ALGO(r)->correction.mask == RECIPE_MASK_SEQUENCE;
}

static bool geometric_wide(const struct recipe *r) {
    return ALGO(r)->correction.mask == RECIPE_MASK_GEOMETRIC && ALGO(r)->correction.low <= 0.9 &&
           ALGO(r)->correction.high >= 1.1;
}

static bool m2po_recomputed(const struct recipe *r) {
    return ALGO(r)->correction.mask == RECIPE_MASK_M2PO && (is_recomputed(r) || is_decoupled(r));
}

static bool no_op_on_policy(const struct recipe *r) {
    return r->trainer.staleness.max == 0 && r->model.exact &&
           (has_correction(r) || ALGO(r)->ess_lr);
}

static bool not_exact(const struct recipe *r) {
    return !r->model.exact;
}

static bool interpolate_fresh(const struct recipe *r) {
    return is_decoupled(r) && ALGO(r)->proximal == RECIPE_PROXIMAL_INTERPOLATE &&
           r->trainer.staleness.max <= 1;
}

static bool cap_below_one(const struct recipe *r) {
    return ALGO(r)->correction.tis != RECIPE_TIS_OFF && ALGO(r)->correction.cap < 1;
}

static bool group_of_one(const struct recipe *r) {
    return group_baseline(r) && r->rollout.group_size == 1;
}

static bool sampling_cut(const struct recipe *r) {
    return r->rollout.top_p < 1 || r->rollout.top_k > 0;
}

static bool k1_loss(const struct recipe *r) {
    return ALGO(r)->kl.coef > 0 && ALGO(r)->kl.place == RECIPE_PLACE_LOSS &&
           ALGO(r)->kl.type == RECIPE_KL_K1;
}

static bool critic_untrained(const struct recipe *r) {
    return ALGO(r)->advantage == RECIPE_ADV_GAE && ALGO(r)->critic.coef == 0;
}

static bool ess_recomputed(const struct recipe *r) {
    return ALGO(r)->ess_lr && is_recomputed(r) && ALGO(r)->correction.tis == RECIPE_TIS_OFF;
}

static bool value_clip_dead(const struct recipe *r) {
    return ALGO(r)->advantage == RECIPE_ADV_GAE && ALGO(r)->critic.clip > 0 && has_one_step(r);
}

static bool dapo_with_gradient(const struct recipe *r) {
    return r->rollout.sampling.policy == RECIPE_SAMPLING_DAPO && !group_baseline(r) &&
           ALGO(r)->advantage != RECIPE_ADV_REMAX;
}

static bool idle_ranks(const struct recipe *r) {
    return r->trainer.ranks > r->trainer.batch.groups / r->trainer.batch.minibatches;
}

static bool several_steps(const struct recipe *r) {
    return !has_one_step(r);
}

/* --- the table ------------------------------------------------------------------------------- */

static const struct trap {
    enum severity severity;
    enum traps_where where;
    bool (*is)(const struct recipe *r);
    const char *text;
} traps[] = {
    {TRAPS_ERROR, TRAPS_STEP, dual_clip_low,
     "trainer.algorithm.dual_clip must be above 1 (or 0: off): at 1 or below it would undo the "
     "ratio of every token of negative advantage"},
    {TRAPS_ERROR, TRAPS_STEP, dual_clip_elsewhere,
     "trainer.algorithm.dual_clip belongs to the losses ppo-clip, gspo and decoupled; the others "
     "have no clipped surrogate"},
    {TRAPS_ERROR, TRAPS_STEP, kl_reward_without_reference,
     "trainer.algorithm.kl.place: reward needs trainer.algorithm.kl.coef above 0: without it there "
     "is no reference policy"},
    {TRAPS_ERROR, TRAPS_STEP, dppo_recomputed,
     "trainer.algorithm.loss: dppo compares probabilities with the behaviour policy: "
     "trainer.algorithm.denominator must be behaviour"},
    {TRAPS_ERROR, TRAPS_STEP, baseline_elsewhere,
     "trainer.algorithm.optimal_baseline replaces the group's mean: trainer.algorithm.advantage "
     "must be grpo or grpo-nostd"},
    {TRAPS_ERROR, TRAPS_STEP, interpolate_elsewhere,
     "trainer.algorithm.proximal: interpolate belongs to trainer.algorithm.loss: decoupled; the "
     "other losses have no proximal policy"},
    {TRAPS_ERROR, TRAPS_STEP, interpolate_sequence,
     "trainer.algorithm.proximal: interpolate gives weights token by token only: "
     "trainer.algorithm.correction.tis: sequence needs proximal: recompute"},
    {TRAPS_ERROR, TRAPS_STEP, band_empty,
     "trainer.algorithm.correction.low must be below trainer.algorithm.correction.high"},
    {TRAPS_ERROR, TRAPS_STEP, band_without_one,
     "trainer.algorithm.correction.low..high must contain 1: otherwise every on-policy token is "
     "rejected"},
    {TRAPS_ERROR, TRAPS_STEP, minibatches_many,
     "trainer.batch.minibatches is larger than trainer.batch.groups: a batch is split by groups"},
    {TRAPS_ERROR, TRAPS_RUN, dapo_alone,
     "rollout.sampling.policy: dapo with rollout.group_size 1: the rewards of a group are always "
     "all equal, every group would be rejected"},

    {TRAPS_WARNING, TRAPS_STEP, clip_dead,
     "denominator: recomputed with one step per batch: the ratio is exactly 1, so the clip is dead "
     "and nothing bounds the step; use denominator: behaviour, or trainer.batch.minibatches above "
     "1"},
    {TRAPS_WARNING, TRAPS_STEP, decoupled_dead,
     "loss: decoupled with one step per batch: the recomputed proximal policy is the one that is "
     "trained, so its ratio is exactly 1 and the clip is dead; use trainer.batch.minibatches above "
     "1, or proximal: interpolate"},
    {TRAPS_WARNING, TRAPS_STEP, uncorrected,
     "denominator: recomputed leaves the lag behind the rollouts uncorrected (staleness.max is "
     "above 0): add correction.tis, or use loss: decoupled"},
    {TRAPS_WARNING, TRAPS_STEP, corrected_twice,
     "correction.tis with denominator: behaviour corrects twice: the ratio already is pi / "
     "pi_behaviour, the weight multiplies it once more; use denominator: recomputed, or tis: off "
     "(a mask is enough)"},
    {TRAPS_WARNING, TRAPS_STEP, gspo_token_tis,
     "loss: gspo with correction.tis: token: a sequence ratio with token weights is neither; use "
     "tis: sequence"},
    {TRAPS_WARNING, TRAPS_STEP, gspo_wide,
     "loss: gspo with clip_low or clip_high of 0.05 or more: its ratio is a mean over the sequence "
     "and moves by thousandths, the clip never acts; 3e-4 and 4e-4 are usual"},
    {TRAPS_WARNING, TRAPS_STEP, gspo_aggregation,
     "loss: gspo is a mean over sequences; with another aggregation than sequence-mean long "
     "responses count more"},
    {TRAPS_WARNING, TRAPS_STEP, length_filter,
     "correction.mask: sequence is a length filter: a product of ratios spreads with the length, a "
     "band of 0.5..2 keeps about 38 % of 2k-token and 10 % of 32k-token responses; "
     "mask: geometric does not depend on the length"},
    {TRAPS_WARNING, TRAPS_STEP, geometric_wide,
     "correction.mask: geometric with a band this wide never acts: a mean ratio moves by "
     "thousandths; 0.999..1.001 or 0.99..1.001 are usual"},
    {TRAPS_WARNING, TRAPS_STEP, m2po_recomputed,
     "correction.mask: m2po bounds the second moment of the ratio to the behaviour policy; the "
     "loss does not use that ratio, so the bound does not hold for what is trained (and where old "
     "and current log-probs are compared instead, the mask never acts); use denominator: "
     "behaviour"},
    {TRAPS_WARNING, TRAPS_STEP, no_op_on_policy,
     "correction and ess_lr have no effect with staleness.max 0: rollout and trainer agree bit for "
     "bit, every weight is 1"},
    {TRAPS_WARNING, TRAPS_STEP, interpolate_fresh,
     "proximal: interpolate with staleness.max 0 or 1: the interpolated policy is the behaviour "
     "policy itself; it acts from a lag of 2 on"},
    {TRAPS_WARNING, TRAPS_STEP, cap_below_one,
     "correction.cap below 1 scales down on-policy tokens too: it is a smaller learning rate"},
    {TRAPS_WARNING, TRAPS_STEP, group_of_one,
     "rollout.group_size is 1: every advantage is 0 and nothing is learned; use reinforce++, remax "
     "or gae, or larger groups"},
    {TRAPS_WARNING, TRAPS_STEP, sampling_cut,
     "sampling is cut (rollout.top_p, rollout.top_k) but log-probs are over the whole vocabulary: "
     "the ratio is biased by the kept mass, which is recorded"},
    {TRAPS_WARNING, TRAPS_STEP, k1_loss,
     "kl.type: k1 in the loss: the expected gradient of that estimator is 0, it adds noise and no "
     "pull to the reference; use k2 or k3, or kl.place: reward"},
    {TRAPS_WARNING, TRAPS_STEP, critic_untrained,
     "advantage: gae with critic.coef 0: the critic is never trained and its values stay as they "
     "are"},
    {TRAPS_WARNING, TRAPS_STEP, ess_recomputed,
     "ess_lr with denominator: recomputed and no tis: the effective sample size is that of weights "
     "which the loss does not use"},
    {TRAPS_WARNING, TRAPS_RUN, dapo_with_gradient,
     "rollout.sampling.policy: dapo rejects groups whose rewards are all equal; only advantages "
     "against the group's own mean are 0 for them, this one learns from them"},
    {TRAPS_WARNING, TRAPS_STEP, idle_ranks,
     "trainer.ranks is larger than the groups of one optimizer step (trainer.batch.groups / "
     "minibatches): a group is not divided, so some ranks have nothing to do"},
    {TRAPS_NOTE, TRAPS_STEP, value_clip_dead,
     "critic.clip acts from the second minibatch on; with one step per batch it does nothing"},
    {TRAPS_NOTE, TRAPS_STEP, several_steps,
     "trainer.batch.minibatches above 1: one version and one unit of staleness is several "
     "optimizer steps"},
    {TRAPS_NOTE, TRAPS_STEP, not_exact,
     "model.exact: false: on cuda each batch gets its fastest algorithms. Given up: equal "
     "log-probs "
     "of rollout and trainer (rollout_logprob_abs_diff/max/engine measures the difference), and "
     "final weights that do not depend on workers and kills. Kept: a training step repeated on the "
     "same kind of GPU has the same bits, so replay verify works there. On cpu nothing changes"},
};

int traps_check(const struct recipe *r, enum traps_where where) {
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++)
        if (traps[i].severity == TRAPS_ERROR && traps[i].where <= where && traps[i].is(r))
            return FAIL(ERR_CONFIG, "%s", traps[i].text);
    return 0;
}

void traps_warn(struct buf *out, const struct recipe *r, enum traps_where where) {
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++)
        if (traps[i].severity != TRAPS_ERROR && traps[i].where <= where && traps[i].is(r))
            buf_printf(out, "%s: %s\n", traps[i].severity == TRAPS_NOTE ? "note" : "warning",
                       traps[i].text);
}
