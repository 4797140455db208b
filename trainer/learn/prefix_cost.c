/* prefix_cost.c - see prefix_cost.h.
 *
 * Three batches without anything shared: many short trajectories in one pass, the same in several
 * passes, and a long one. The first two differ by passes only, the first and the last by attention
 * only, because a trajectory trains one token and so the head is nothing. What they take is linear
 * in passes, rows, and pairs of row and key: three equations for the three costs. */
#include "trainer/learn/prefix_cost.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "trainer/learn/memplan.h"
#include "trainer/learn/passes.h"

#include <inttypes.h>
#include <string.h>

enum { SHORT = 32, SEQS = 16, PASSES = 8, LONG_MAX = 1024, LONG_MIN = 2 * SHORT };

struct trial {
    struct passes *passes;
    struct batch *batch;
    double best_us;
};

/* n trajectories of `rows` rows, the last of which predicts the one trained token. */
static struct batch *batch_of_equals(const struct shape *s, uint32_t n, int32_t rows) {
    struct batch *b = batch_open(n);
    int32_t *ids = mem_array((size_t)rows + 1, sizeof *ids);
    b->n_groups = 1;
    for (uint32_t i = 0; i < n; i++) {
        for (int32_t k = 0; k <= rows; k++)
            ids[k] = (int32_t)rng_below(rng_key(1, RNG_DATA), i, (uint64_t)k, (uint64_t)s->vocab);
        batch_set(b, i, ids, rows, ids + rows, 1, NULL, NULL, NULL, 0);
    }
    mem_free(ids);
    return b;
}

static int open_trial(struct trial *t, const struct params *w, uint32_t n, int32_t rows,
                      int32_t budget) {
    struct recipe *r;
    char *yaml = mem_printf("rollout: {group_size: %" PRIu32 ", max_prompt_tokens: %" PRId32
                            ", max_new_tokens: 1}\n"
                            "trainer: {prefix: off, batch: {groups: 1, tokens: %" PRId32 "}}\n",
                            n, rows, budget);
    int rc = recipe_parse(&r, yaml, strlen(yaml), "fit", NULL, 0);
    mem_free(yaml);
    TRY(rc);
    rc = passes_open(&t->passes, params_backend(w), params_shape(w), r,
                     memplan_recomputed(r, params_shape(w)->layers));
    recipe_close(&r);
    TRY(rc);
    t->batch = batch_of_equals(params_shape(w), n, rows);
    return passes_use(t->passes, PASSES_POLICY, w);
}

static int constant_loss(void *ctx, const int64_t *element, const struct loss_rows *rows) {
    (void)ctx, (void)element;
    for (int64_t i = 0; i < rows->n; i++) {
        rows->g_logprob[i] = 1e-3F;
        rows->g_entropy[i] = 0;
        if (rows->g_value) rows->g_value[i] = 0;
    }
    return 0;
}

/* On the host the time that the processor gave to other processes does not count. */
static uint64_t trial_clock_us(const struct kern_backend *b) {
    return b->on_host ? clock_cpu_us() : clock_us();
}

static int run_trial(struct trial *t, struct params *grads) {
    bool flat[SEQS] = {false};
    float logprob[SEQS], entropy[SEQS], value[SEQS];
    bool critic = params_shape(grads)->value_head;
    passes_begin(t->passes, t->batch);
    passes_plan(t->passes, flat);
    uint64_t start = trial_clock_us(params_backend(grads));
    TRY(passes_gradient(t->passes, 1, constant_loss, NULL, grads, logprob, entropy,
                        critic ? value : NULL));
    TRY(kern_sync(params_backend(grads), passes_stream(t->passes)));
    double us = (double)(trial_clock_us(params_backend(grads)) - start);
    if (us < t->best_us || t->best_us == 0) t->best_us = us;
    return 0;
}

static void close_trial(struct trial *t) {
    passes_close(&t->passes);
    batch_close(&t->batch);
}

static double clamp_cost(double x, double most) {
    return x < 0 ? 0 : x < most ? x : most;
}

/* Times in us, rows of the long one -> costs. Noise may leave nothing for a row: passes and keys
 * take half of the time at most. */
static void solve_costs(struct prefix_cost_measure *out, const struct shape *s, double whole,
                        double parts, double one, double rows) {
    double d = s->d, q = (double)s->heads * s->head_width, kv = (double)s->kv_heads * s->head_width;
    double layer = 2 * d * kv + 2 * d * q + 3 * d * s->ffn;
    double pass = clamp_cost((parts - whole) / (PASSES - 1), whole / 2);
    double near = (whole - pass) / (SEQS * SHORT), far = (one - pass) / rows;
    double key = clamp_cost(2 * (far - near) / (rows - SHORT), near / SHORT);
    out->row_us = near - key * SHORT / 2;
    out->pass = pass / out->row_us;
    out->attention = key / out->row_us * layer / (2 * q);
}

static int32_t long_rows(const struct shape *s) {
    int32_t rows = s->context - 1 < LONG_MAX ? s->context - 1 : LONG_MAX;
    return s->window > 0 && s->window < rows ? s->window : rows;
}

/* The three kinds of trial take turns, so that a busy moment of the machine hits all of them. */
int prefix_cost_measure(struct prefix_cost_measure *out, const struct params *weights, int rounds) {
    const struct shape *s = params_shape(weights);
    struct shape sums = *s; /* gradients are f32 */
    struct trial t[3] = {0};
    struct params *grads = NULL;
    int32_t rows = long_rows(s);
    int rc = 0;
    if (rows < LONG_MIN)
        return FAIL(ERR_CONFIG, "fit: the context of %d tokens is too short to fit", s->context);
    sums.bf16 = false;
    TRY_OUT(params_open(&grads, params_backend(weights), &sums));
    TRY_OUT(open_trial(&t[0], weights, SEQS, SHORT, SEQS * SHORT));
    TRY_OUT(open_trial(&t[1], weights, SEQS, SHORT, SEQS * SHORT / PASSES));
    TRY_OUT(open_trial(&t[2], weights, 1, rows, rows));
    for (int k = 0; k < rounds; k++)
        for (int i = 0; i < 3; i++)
            TRY_OUT(run_trial(&t[i], grads));
    solve_costs(out, s, t[0].best_us, t[1].best_us, t[2].best_us, rows);
out:
    for (int i = 0; i < 3; i++)
        close_trial(&t[i]);
    params_close(&grads);
    return rc;
}
