/* step.c - see step.h.
 *
 * A step has two kinds of memory: what the network needs, taken from the backend when opened (the
 * limits come from the recipe), and a few host numbers per trained token, which grow to the largest
 * batch seen and stay. Everything that the loss needs of a token (advantage, weight, behaviour and
 * reference log-prob) is written down before the first microbatch; log-probs and entropies come
 * back into the order of the batch. So the reports do not depend on the packing at all, and the
 * gradient only by rounding.
 *
 * Trajectories whose gradient is zero whatever happens (a group of equal rewards, no KL, no
 * entropy bonus) are packed apart and see only the forward pass, for the statistics and the
 * mismatch check. */
#include "trainer/step.h"

#include "actor/actor.h"
#include "base/log.h"
#include "base/mem.h"
#include "trainer/adv.h"
#include "trainer/ckpt.h"
#include "trainer/feed.h"
#include "trainer/loss.h"
#include "trainer/split.h"
#include "trainer/update.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct step {
    const struct kern_backend *backend;
    struct shape shape;
    struct params *weights, *reference;
    struct actor *actor, *reference_actor; /* the latter only where KL is used */
    struct update *update;
    struct feed feed;
    struct split active, flat; /* forward and reverse; forward only */
    char *model_dir;
    size_t bytes; /* taken at open */
    int64_t version, staleness_max;
    int32_t budget; /* rows of a microbatch, unless one trajectory alone has more */
    float inv_temp;
    bool divide_by_std, sequence_mean, share; /* share: prompts of a group computed once */
    struct loss_config loss;

    /* by trajectory */
    int32_t *rows;
    int64_t *first; /* of its trained tokens */
    double *reward, *advantage;
    int32_t *group;
    size_t rows_cap, first_cap, reward_cap, advantage_cap, group_cap;
    /* by trained token, in the order of the batch */
    struct loss_token *token;
    float *logprob, *entropy;
    size_t token_cap, logprob_cap, entropy_cap;
    int64_t n_tokens;
    /* by trained token of the microbatch */
    struct loss_token *mb_token;
    int64_t *mb_element;
    float *mb_logprob, *mb_entropy;
};

/* --- opening ------------------------------------------------------------------------------- */

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Prompts are shared by whole pages. On the host a page may as well be one key: nothing of the
 * prompt is computed twice then. */
static int32_t page_of(const struct kern_backend *b, const struct recipe *r) {
    bool host = strcmp(b->name, "cpu") == 0 || strcmp(b->name, "ref") == 0;
    return host && r->trainer.prefix == RECIPE_PREFIX_AUTO ? 1 : (int32_t)r->rollout.page;
}

static void limits_of(struct feed_limits *l, const struct kern_backend *b,
                      const struct shape *shape, const struct recipe *r) {
    int64_t context =
        min64(shape->context, r->rollout.max_prompt_tokens + r->rollout.max_new_tokens);
    int64_t seqs = r->trainer.batch.groups * r->rollout.group_size;
    int64_t rows = min64(r->trainer.batch.tokens, seqs * context);
    if (rows < context) rows = context;
    *l = (struct feed_limits){.rows_max = (int32_t)rows,
                              .seqs_max = (int32_t)min64(seqs, rows),
                              .context = (int32_t)context,
                              .page = page_of(b, r)};
}

/* Rows of logits at a time: about 8 MB of them, so that they are still in the cache when the
 * reverse pass of the head comes, but enough rows for a matrix product to be one. */
static int32_t head_rows_of(const struct shape *s) {
    int32_t rows = (2 << 20) / s->vocab;
    rows = rows < 64 ? 64 : rows > 512 ? 512 : rows;
    return rows / 16 * 16;
}

static struct actor_config actor_config_of(const struct kern_backend *b, const struct shape *shape,
                                           const struct feed_limits *l, const struct recipe *r,
                                           bool train) {
    return (struct actor_config){.backend = b,
                                 .shape = *shape,
                                 .rows_max = l->rows_max,
                                 .seqs_max = l->seqs_max,
                                 .context = l->context,
                                 .pages = feed_pages(l),
                                 .page = l->page,
                                 .head_rows = head_rows_of(shape),
                                 .train = train,
                                 .recompute = train && r->trainer.recompute,
                                 .pack = true};
}

static size_t bytes_of(const struct kern_backend *b, const struct shape *shape,
                       const struct feed_limits *l, const struct recipe *r) {
    size_t slab = (size_t)params_slab_elements(shape) * sizeof(float);
    size_t row = sizeof(struct loss_token) + sizeof(int64_t) + 2 * sizeof(float); /* mb_... */
    struct actor_config cfg = actor_config_of(b, shape, l, r, true);
    size_t bytes =
        slab + update_bytes(shape) + actor_bytes(&cfg) + feed_bytes(l) + (size_t)l->rows_max * row;
    if (r->trainer.algorithm.kl.coef == 0) return bytes;
    cfg = actor_config_of(b, shape, l, r, false);
    return bytes + slab + actor_bytes(&cfg);
}

static int load_weights(struct params *p, const struct recipe *r, const char *dir) {
    if (r->model.weights == RECIPE_WEIGHTS_RANDOM) return params_init(p, r->seed);
    return params_load(p, dir);
}

static int open_reference(struct step *s, const struct recipe *r) {
    const char *dir = r->trainer.algorithm.kl.reference;
    if (r->trainer.algorithm.kl.coef == 0) return 0;
    TRY(params_open(&s->reference, s->backend, &s->shape));
    if (dir)
        TRY(err_wrap(params_load(s->reference, dir), "trainer.algorithm.kl.reference"));
    else
        TRY(load_weights(s->reference, r, s->model_dir));
    struct actor_config cfg = actor_config_of(s->backend, &s->shape, &s->feed.limits, r, false);
    TRY(actor_open(&s->reference_actor, &cfg));
    return actor_use(s->reference_actor, s->reference);
}

static void read_recipe(struct step *s, const struct recipe *r) {
    s->staleness_max = r->trainer.staleness.max;
    s->share = r->trainer.prefix == RECIPE_PREFIX_AUTO;
    s->inv_temp = (float)(1 / (r->rollout.temperature > 0 ? r->rollout.temperature : 1));
    s->divide_by_std = r->trainer.algorithm.advantage == RECIPE_ADV_GRPO;
    s->sequence_mean = r->trainer.algorithm.aggregation == RECIPE_SEQUENCE_MEAN;
    s->loss = (struct loss_config){.clip_low = r->trainer.algorithm.clip_low,
                                   .clip_high = r->trainer.algorithm.clip_high,
                                   .kl_coef = r->trainer.algorithm.kl.coef,
                                   .kl = r->trainer.algorithm.kl.type,
                                   .entropy_coef = r->trainer.algorithm.entropy};
}

static int open_model(struct step *s, const struct recipe *r) {
    struct feed_limits limits;
    TRY(kern_open(&s->backend, r->trainer.device, (int)r->trainer.threads));
    TRY(shape_read(&s->shape, s->model_dir));
    limits_of(&limits, s->backend, &s->shape, r);
    s->budget = (int32_t)min64(limits.rows_max, r->trainer.batch.tokens);
    feed_open(&s->feed, &limits);
    s->mb_token = mem_array((size_t)limits.rows_max, sizeof *s->mb_token);
    s->mb_element = mem_array((size_t)limits.rows_max, sizeof *s->mb_element);
    s->mb_logprob = mem_array((size_t)limits.rows_max, sizeof *s->mb_logprob);
    s->mb_entropy = mem_array((size_t)limits.rows_max, sizeof *s->mb_entropy);
    s->bytes = bytes_of(s->backend, &s->shape, &limits, r);
    TRY(params_open(&s->weights, s->backend, &s->shape));
    TRY(load_weights(s->weights, r, s->model_dir));
    TRY(update_open(&s->update, s->backend, &s->shape, r));
    struct actor_config cfg = actor_config_of(s->backend, &s->shape, &s->feed.limits, r, true);
    TRY(actor_open(&s->actor, &cfg));
    TRY(actor_use(s->actor, s->weights));
    return open_reference(s, r);
}

int step_open(struct step **out, const struct recipe *r, const char *model_dir) {
    struct step *s = mem_zalloc(sizeof *s);
    s->model_dir = mem_strdup(model_dir);
    read_recipe(s, r);
    int rc = open_model(s, r);
    if (rc < 0)
        step_close(&s);
    else
        *out = s;
    return rc;
}

static void free_host(struct step *s) {
    mem_free(s->rows);
    mem_free(s->first);
    mem_free(s->reward);
    mem_free(s->advantage);
    mem_free(s->group);
    mem_free(s->token);
    mem_free(s->logprob);
    mem_free(s->entropy);
    mem_free(s->mb_token);
    mem_free(s->mb_element);
    mem_free(s->mb_logprob);
    mem_free(s->mb_entropy);
    mem_free(s->model_dir);
    split_close(&s->active);
    split_close(&s->flat);
    feed_close(&s->feed);
}

void step_close(struct step **s) {
    struct step *p = *s;
    if (!p) return;
    actor_close(&p->actor);
    actor_close(&p->reference_actor);
    update_close(&p->update);
    params_close(&p->weights);
    params_close(&p->reference);
    free_host(p);
    if (p->backend) kern_close(p->backend);
    mem_free(p);
    *s = NULL;
}

int step_plan_bytes(size_t *out, const struct recipe *r, const struct shape *shape) {
    const struct kern_backend *b;
    struct feed_limits limits;
    TRY(kern_open(&b, r->trainer.device, 1));
    limits_of(&limits, b, shape, r);
    *out = bytes_of(b, shape, &limits, r);
    kern_close(b);
    return 0;
}

size_t step_bytes(const struct step *s) {
    return s->bytes;
}

/* --- checking ------------------------------------------------------------------------------ */

static int check_ids(const struct step *s, const struct batch_traj *t) {
    for (int32_t k = 0; k < t->n_prompt + t->n_response; k++)
        if (t->ids[k] < 0 || t->ids[k] >= s->shape.vocab)
            return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": token id %d, the vocabulary has %d",
                        t->id, t->ids[k], s->shape.vocab);
    return 0;
}

static int check_values(const struct step *s, const struct batch_traj *t) {
    if (!isfinite(t->reward))
        return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": the reward is not finite", t->id);
    for (int32_t k = 0; k < t->n_response; k++) {
        if (!t->mask[k]) continue;
        if (!isfinite(t->logprob[k]))
            return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": log-prob %d is not finite", t->id, k);
        if (t->version[k] > s->version)
            return FAIL(ERR_MISMATCH,
                        "trajectory %" PRIu64 ": a token of version %" PRId64
                        ", but the weights are version %" PRId64,
                        t->id, t->version[k], s->version);
    }
    return 0;
}

static int check_trajectories(const struct step *s, const struct batch *b, bool supervised) {
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        if (t->n_prompt < 1 || t->n_response < 0 ||
            t->n_response > s->feed.limits.context - t->n_prompt)
            return FAIL(ERR_CONFIG,
                        "trajectory %" PRIu64
                        " has %d + %d tokens; allowed are 1 or more prompt tokens and %d in all "
                        "(rollout.max_prompt_tokens + rollout.max_new_tokens, and the model's "
                        "context)",
                        t->id, t->n_prompt, t->n_response, s->feed.limits.context);
        if (t->group >= b->n_groups)
            return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": group %u of %u", t->id, t->group,
                        b->n_groups);
        TRY(check_ids(s, t));
        if (!supervised) TRY(check_values(s, t));
    }
    return 0;
}

static int check_batch(const struct step *s, const struct batch *b, bool supervised) {
    TRY(check_trajectories(s, b, supervised));
    int64_t trained = batch_trained(b);
    if (trained < 1) return FAIL(ERR_CORRUPT, "the batch has no trained token");
    if (trained > INT32_MAX)
        return FAIL(ERR_CORRUPT, "the batch has %" PRId64 " trained tokens, the limit is %d",
                    trained, INT32_MAX);
    return 0;
}

/* I2, the second time: whatever the manager believed, nothing staler than the bound is trained. */
static int check_staleness(const struct step *s, const struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        int64_t oldest = batch_oldest(&b->traj[i]);
        if (oldest == INT64_MAX || s->version - oldest <= s->staleness_max) continue;
        return FAIL(ERR_STALE,
                    "trajectory %" PRIu64 " has a token of version %" PRId64
                    ", the weights are version %" PRId64
                    ": staler than trainer.staleness.max %" PRId64,
                    b->traj[i].id, oldest, s->version, s->staleness_max);
    }
    return 0;
}

/* --- before the first microbatch ----------------------------------------------------------- */

static void grow(struct step *s, size_t n, size_t tokens) {
    mem_grow(&s->rows, &s->rows_cap, n, sizeof *s->rows);
    mem_grow(&s->first, &s->first_cap, n, sizeof *s->first);
    mem_grow(&s->reward, &s->reward_cap, n, sizeof *s->reward);
    mem_grow(&s->advantage, &s->advantage_cap, n, sizeof *s->advantage);
    mem_grow(&s->group, &s->group_cap, n, sizeof *s->group);
    mem_grow(&s->token, &s->token_cap, tokens, sizeof *s->token);
    mem_grow(&s->logprob, &s->logprob_cap, tokens, sizeof *s->logprob);
    mem_grow(&s->entropy, &s->entropy_cap, tokens, sizeof *s->entropy);
}

static void set_advantages(struct step *s, struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        s->reward[i] = (double)b->traj[i].reward;
        s->group[i] = (int32_t)b->traj[i].group;
    }
    adv_grpo(s->advantage, s->reward, s->group, b->n, b->n_groups, s->divide_by_std);
    for (uint32_t i = 0; i < b->n; i++)
        b->traj[i].advantage = (float)s->advantage[i];
}

static int64_t trained_of(const struct batch_traj *t) {
    int64_t n = 0;
    for (int32_t k = 0; k < t->n_response; k++)
        n += t->mask[k];
    return n;
}

/* Token table and denominators. */
static void set_tokens(struct step *s, const struct batch *b, int64_t trained, bool sequence_mean) {
    int64_t sequences = 0;
    s->n_tokens = 0;
    for (uint32_t i = 0; i < b->n; i++)
        sequences += trained_of(&b->traj[i]) > 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        int64_t own = trained_of(t);
        double weight = sequence_mean ? 1 / ((double)sequences * (double)own) : 1 / (double)trained;
        s->first[i] = s->n_tokens;
        for (int32_t k = 0; k < t->n_response; k++)
            if (t->mask[k])
                s->token[s->n_tokens++] = (struct loss_token){.weight = weight,
                                                              .advantage = (double)t->advantage,
                                                              .behaviour = t->logprob[k]};
    }
}

/* flat: plan those without gradient, else those with. */
static void make_plan(struct step *s, const struct loss_config *cfg, const struct batch *b,
                      bool flat) {
    struct split_limits l = {.budget = s->budget,
                             .seqs_max = s->feed.limits.seqs_max,
                             .page = s->feed.limits.page,
                             .share = s->share};
    for (uint32_t i = 0; i < b->n; i++) {
        s->rows[i] = feed_rows(&b->traj[i], false);
        if (s->rows[i] > 0 && loss_is_flat(cfg, &s->token[s->first[i]]) != flat) s->rows[i] = 0;
    }
    split_make(flat ? &s->flat : &s->active, b, s->rows, &l);
}

/* --- microbatches -------------------------------------------------------------------------- */

static void feed_bin(struct step *s, const struct batch *b, struct split *p, int32_t bin) {
    struct feed *f = &s->feed;
    int32_t n;
    const struct feed_item *items = split_bin(p, bin, &n);
    feed_fill(f, b, items, n, false);
    for (int32_t j = 0; j < f->n; j++) {
        bool same = j > 0 && f->seq[j] == f->seq[j - 1];
        s->mb_element[j] = same ? s->mb_element[j - 1] + 1 : s->first[f->seq[j]];
        s->mb_token[j] = s->token[s->mb_element[j]];
    }
}

static int add_reference(struct step *s, const struct batch *b, struct split *p) {
    struct feed *f = &s->feed;
    for (int32_t bin = 0; s->reference_actor && bin < p->pack.n_bins; bin++) {
        feed_bin(s, b, p, bin);
        TRY(actor_forward(s->reference_actor, &f->in));
        TRY(actor_logprobs(s->reference_actor, f->row, f->target, f->n, s->inv_temp, s->mb_logprob,
                           NULL));
        for (int32_t j = 0; j < f->n; j++)
            s->token[s->mb_element[j]].reference = s->mb_logprob[j];
    }
    return 0;
}

struct chunk_ctx {
    struct step *step;
    const struct loss_config *cfg;
};

/* The loss as the head sees it (actor_loss_fn): elements first.. of the microbatch. */
static int on_chunk(void *ctx, int64_t first, int64_t n, const float *logprob, const float *entropy,
                    float *g_logprob, float *g_entropy) {
    const struct chunk_ctx *c = ctx;
    struct step *s = c->step;
    loss_gradient(c->cfg, s->mb_token + first, logprob, (size_t)n, g_logprob, g_entropy);
    for (int64_t j = 0; j < n; j++) {
        s->logprob[s->mb_element[first + j]] = logprob[j];
        s->entropy[s->mb_element[first + j]] = entropy[j];
    }
    return 0;
}

static int run_active(struct step *s, const struct loss_config *cfg, const struct batch *b,
                      float inv_temp, struct params *grads) {
    struct feed *f = &s->feed;
    struct chunk_ctx ctx = {s, cfg};
    for (int32_t bin = 0; bin < s->active.pack.n_bins; bin++) {
        feed_bin(s, b, &s->active, bin);
        TRY(actor_forward(s->actor, &f->in));
        TRY(actor_backward(s->actor, &f->in, f->row, f->target, f->n, inv_temp, on_chunk, &ctx,
                           grads));
    }
    return 0;
}

static int run_flat(struct step *s, const struct batch *b, float inv_temp) {
    struct feed *f = &s->feed;
    for (int32_t bin = 0; bin < s->flat.pack.n_bins; bin++) {
        feed_bin(s, b, &s->flat, bin);
        TRY(actor_forward(s->actor, &f->in));
        TRY(actor_logprobs(s->actor, f->row, f->target, f->n, inv_temp, s->mb_logprob,
                           s->mb_entropy));
        for (int32_t j = 0; j < f->n; j++) {
            s->logprob[s->mb_element[j]] = s->mb_logprob[j];
            s->entropy[s->mb_element[j]] = s->mb_entropy[j];
        }
    }
    return 0;
}

/* --- reports ------------------------------------------------------------------------------- */

static void report_rewards(const struct batch *b, struct step_report *out) {
    double sum = 0, squares = 0, n = (double)b->n;
    for (uint32_t i = 0; i < b->n; i++)
        sum += (double)b->traj[i].reward;
    out->reward_mean = sum / n;
    for (uint32_t i = 0; i < b->n; i++) {
        double x = (double)b->traj[i].reward - out->reward_mean;
        squares += x * x;
    }
    out->reward_std = b->n > 1 ? sqrt(squares / (n - 1)) : 0;
}

static void report_lengths(const struct step *s, const struct batch *b, struct step_report *out) {
    double trained = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        int64_t oldest = batch_oldest(t);
        out->tokens += t->n_prompt + t->n_response;
        out->response_length_mean += (double)t->n_response / (double)b->n;
        out->response_length_max = fmax(out->response_length_max, t->n_response);
        if (oldest == INT64_MAX) continue;
        trained++;
        out->staleness_mean += (double)(s->version - oldest);
        out->staleness_max = fmax(out->staleness_max, (double)(s->version - oldest));
    }
    out->staleness_mean /= trained;
    out->sequences = b->n;
}

/* Groups of equal rewards: nothing to learn from them. */
static int64_t count_zero_groups(struct step *s, const struct batch *b) {
    int64_t zero = 0;
    memset(s->group, 0, b->n * sizeof *s->group);
    for (uint32_t i = 0; i < b->n; i++)
        if (b->traj[i].advantage != 0) s->group[b->traj[i].group] = 1;
    for (uint32_t g = 0; g < b->n_groups; g++)
        zero += s->group[g] == 0;
    return zero;
}

/* Rollout against trainer at equal weights: the same bits are expected (I6). */
static void report_mismatch(const struct step *s, const struct batch *b, struct step_report *out) {
    int64_t e = 0, same = 0;
    double kl = 0, most = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        for (int32_t k = 0; k < t->n_response; k++) {
            if (!t->mask[k]) continue;
            double x = (double)s->logprob[e++] - (double)t->logprob[k];
            if (t->version[k] != s->version) continue;
            same++;
            kl += exp(fmin(x, 20)) - 1 - x;
            most = fmax(most, fabs(x));
        }
    }
    out->mismatch_kl = same ? kl / (double)same : (double)NAN;
    out->logprob_diff_max = same ? most : (double)NAN;
    if (most > 0)
        LOG(WARN, TRAINER,
            "version=%" PRId64 " rollout and trainer disagree at equal weights: "
            "logprob_diff_max=%.3g mismatch_kl=%.3g tokens=%" PRId64,
            s->version, most, out->mismatch_kl, same);
}

static void report_loss(const struct step *s, const struct loss_config *cfg,
                        struct step_report *out) {
    struct loss_sums sums;
    loss_sum(cfg, s->token, s->logprob, s->entropy, (size_t)s->n_tokens, &sums);
    out->loss = sums.loss;
    out->pg_loss = sums.pg_loss;
    out->kl_loss = sums.kl_loss;
    out->kl = sums.kl;
    out->entropy = sums.entropy;
    out->clip_fraction = sums.clip_fraction;
    out->ratio_mean = sums.ratio_mean;
    out->ratio_max = sums.ratio_max;
    out->ess = sums.ess;
    out->trained_tokens = s->n_tokens;
    out->microbatches = s->active.pack.n_bins + s->flat.pack.n_bins;
}

/* --- the step ------------------------------------------------------------------------------ */

static int finish(struct step *s, bool control, struct step_report *out) {
    struct update_report u;
    TRY(update_apply(s->update, actor_stream(s->actor), s->weights, control, &u));
    out->grad_norm = u.grad_norm;
    out->lr = u.lr;
    out->gac_cosine = u.cosine;
    out->gac_action = align_name(u.action);
    if (!isfinite(u.grad_norm))
        LOG(WARN, TRAINER, "version=%" PRId64 " gradient is not finite: step not taken",
            s->version);
    if (u.applied) {
        TRY(actor_use(s->actor, s->weights));
        s->version++;
    }
    return params_hash(&out->weights_hash, s->weights);
}

static int run_passes(struct step *s, const struct loss_config *cfg, struct batch *b,
                      float inv_temp) {
    struct params *grads;
    make_plan(s, cfg, b, false);
    make_plan(s, cfg, b, true);
    if (!cfg->supervised) {
        TRY(add_reference(s, b, &s->active));
        TRY(add_reference(s, b, &s->flat));
    }
    TRY(update_begin(s->update, &grads));
    TRY(run_active(s, cfg, b, inv_temp, grads));
    return run_flat(s, b, inv_temp);
}

int step_run(struct step *s, struct batch *b, struct step_report *out) {
    struct step_report r = {.step = s->version};
    TRY(check_batch(s, b, false));
    TRY(check_staleness(s, b));
    int64_t trained = batch_trained(b);
    grow(s, b->n, (size_t)trained);
    set_advantages(s, b);
    set_tokens(s, b, trained, s->sequence_mean);
    TRY(run_passes(s, &s->loss, b, s->inv_temp));
    report_rewards(b, &r);
    report_lengths(s, b, &r);
    report_mismatch(s, b, &r);
    report_loss(s, &s->loss, &r);
    r.zero_groups = count_zero_groups(s, b);
    TRY(finish(s, true, &r));
    *out = r;
    return 0;
}

int step_run_sft(struct step *s, struct batch *b, struct step_report *out) {
    static const struct loss_config supervised = {.supervised = true};
    struct step_report r = {.step = s->version};
    TRY(check_batch(s, b, true));
    int64_t trained = batch_trained(b);
    grow(s, b->n, (size_t)trained);
    set_tokens(s, b, trained, false);
    TRY(run_passes(s, &supervised, b, 1));
    report_lengths(s, b, &r);
    report_loss(s, &supervised, &r);
    r.staleness_mean = r.staleness_max = 0;
    r.mismatch_kl = r.logprob_diff_max = (double)NAN;
    TRY(finish(s, false, &r)); /* supervised gradients are aligned by nature */
    *out = r;
    return 0;
}

int step_score(struct step *s, const struct batch *b, uint32_t i, float inv_temp, float *logprob) {
    const struct batch one = {.n = 1, .n_groups = b->traj[i].group + 1, .traj = &b->traj[i]};
    const struct feed_item item = {.traj = 0, .leader = -1};
    TRY(check_trajectories(s, &one, true));
    if (b->traj[i].n_response == 0) return 0;
    feed_fill(&s->feed, &one, &item, 1, true);
    TRY(actor_forward(s->actor, &s->feed.in));
    return actor_logprobs(s->actor, s->feed.row, s->feed.target, s->feed.n, inv_temp, logprob,
                          NULL);
}

const struct params *step_weights(const struct step *s) {
    return s->weights;
}

int64_t step_version(const struct step *s) {
    return s->version;
}

void step_advance(struct step *s) {
    s->version++;
}

void step_set_version(struct step *s, int64_t version) {
    ASSERT(version >= s->version);
    s->version = version;
}

int step_hash(struct hash *out, const struct step *s) {
    return params_hash(out, s->weights);
}

/* --- checkpoints --------------------------------------------------------------------------- */

int step_save(const struct step *s, const char *dir, int64_t keep) {
    struct ckpt c = {.version = s->version,
                     .state = update_state(s->update),
                     .model_dir = s->model_dir,
                     .weights = s->weights,
                     .update = s->update};
    return ckpt_save(&c, dir, keep);
}

int step_load(struct step *s, const char *dir, int64_t at) {
    struct ckpt c = {.weights = s->weights, .update = s->update};
    TRY(ckpt_load(&c, dir, at));
    update_restore(s->update, &c.state);
    s->version = c.version;
    return actor_use(s->actor, s->weights);
}
