/* passes_test.c - shared-prefix reuse is exact: whatever the mode, the log-probs, entropies and
 * values are the same bits, and the gradient is that of `off` up to the order of its sums. Groups
 * of 1 to 32 with unequal responses, system prompts, shared turns and equal trajectories; grouped
 * query attention, windows, qk-norm, biases; a critic; recomputation, offload, small budgets. */
#include "trainer/learn/passes.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/golden/rig.h"
#include "tests/test.h"
#include "trainer/learn/memplan.h"

#include <stdio.h>

enum { CONTEXT = 96, PROMPT = 64, ANSWER = 32 };

/* Relative L2 distance of two float gradients of one loss; their roundings differ. */
#define EXACT 1e-6

struct texts { /* how long the parts of a batch's sequences are */
    uint32_t groups, size;
    int32_t system, prompt, answer; /* common to all; to a group; at most, of one */
    bool turns;  /* answers of a group begin with the same trained tokens, then masked ones */
    bool equals; /* some answers are equal */
};

static int32_t letter(uint64_t seed, uint64_t what, int32_t k) {
    return (int32_t)rng_below(rng_key(seed, RNG_TEST), what, (uint64_t)k, 60);
}

static struct batch *batch_of(const struct texts *t, uint64_t seed) {
    struct batch *b = batch_open(t->groups * t->size);
    b->n_groups = t->groups;
    for (uint32_t i = 0; i < b->n; i++) {
        uint64_t g = i / t->size, own = t->equals ? i / 2 : i;
        int32_t ids[CONTEXT], n = 0, prompt, turn = t->turns ? 5 : 0;
        uint8_t mask[CONTEXT];
        for (int32_t k = 0; k < t->system; k++)
            ids[n++] = letter(seed, 1, k);
        for (int32_t k = 0; k < t->prompt; k++)
            ids[n++] = letter(seed, 100 + g, k);
        prompt = n;
        for (int32_t k = 0; k < turn; k++)
            ids[n++] = letter(seed, 200 + g, k);
        int32_t len = 1 + letter(seed, 300 + own, 0) % (t->answer - turn);
        for (int32_t k = 0; k < len; k++)
            ids[n++] = letter(seed, 400 + own, k);
        for (int32_t k = 0; k < n - prompt; k++)
            mask[k] = k < turn ? k < 3 : letter(seed, 500 + i, k) % 8 != 0;
        mask[n - prompt - 1] |= !t->turns;
        batch_set(b, i, ids, prompt, ids + prompt, n - prompt, NULL, mask, NULL, 0);
        b->traj[i].group = (uint32_t)g;
    }
    return b;
}

/* A loss of every kind: ratio, KL, entropy, value, different for each token. */
static int on_tokens(void *ctx, const int64_t *element, const struct loss_rows *rows) {
    double tokens = *(const double *)ctx;
    for (int64_t j = 0; j < rows->n; j++) {
        double w = sin((double)element[j]) / tokens;
        CHECK(rows->entropy[j] >= 0);
        rows->g_logprob[j] = (float)(w * exp(0.1 * (double)rows->logprob[j]) + 0.1 / tokens);
        rows->g_entropy[j] = (float)(-0.3 * w);
        if (rows->value) rows->g_value[j] = (float)((1 + (double)rows->value[j]) / tokens);
    }
    return 0;
}

struct result {
    float *grad, *logprob, *entropy, *value, *again; /* again: log-probs by forward passes alone */
    size_t n;
    int64_t tokens, passes;
};

struct setting {
    const char *model, *device;
    bool critic;
};

static void result_free(struct result *r) {
    mem_free(r->grad);
    mem_free(r->logprob);
    mem_free(r->entropy);
    mem_free(r->value);
    mem_free(r->again);
}

static void run_passes(struct passes *p, const struct batch *b, struct params *grads,
                       struct result *out, bool critic) {
    bool *flat = mem_array(b->n, sizeof *flat);
    passes_begin(p, b);
    for (uint32_t i = 0; i < b->n; i++)
        flat[i] = i % 7 == 6; /* seen by forward passes only */
    passes_plan(p, flat);
    size_t tokens = (size_t)passes_tokens(p);
    double weight = (double)tokens;
    out->logprob = mem_array(tokens, sizeof(float));
    out->entropy = mem_array(tokens, sizeof(float));
    out->value = mem_array(tokens, sizeof(float));
    out->again = mem_array(tokens, sizeof(float));
    CHECK_OK(passes_gradient(p, 0.8f, on_tokens, &weight, grads, out->logprob, out->entropy,
                             critic ? out->value : NULL));
    CHECK_OK(passes_logprobs(p, PASSES_POLICY, 0.8f, out->again, NULL, NULL));
    out->tokens = (int64_t)tokens;
    out->passes = passes_microbatches(p);
    mem_free(flat);
}

static struct result run(const struct setting *s, const struct batch *b, const char *const *sets,
                         size_t n_sets) {
    char yaml[512];
    struct recipe *r = NULL;
    const struct kern_backend *k;
    struct shape shape;
    struct params *w, *g;
    struct passes *p;
    struct result out = {0};
    snprintf(yaml, sizeof yaml,
             "rollout: {group_size: %u, max_prompt_tokens: %d, max_new_tokens: %d}\n"
             "trainer: {batch: {groups: %u, tokens: 100000}}\n",
             b->n / b->n_groups, PROMPT, ANSWER, b->n_groups);
    CHECK_OK(recipe_parse(&r, yaml, strlen(yaml), "passes", sets, n_sets));
    CHECK_OK(kern_open(&k, s->device, 1));
    CHECK_OK(shape_read(&shape, rig_model(s->model)));
    shape.value_head = s->critic;
    CHECK_OK(params_open(&w, k, &shape));
    CHECK_OK(params_load(w, rig_model(s->model)));
    CHECK_OK(params_open(&g, k, &shape));
    CHECK_OK(passes_open(&p, k, &shape, r, memplan_recomputed(r, shape.layers)));
    CHECK_OK(passes_use(p, PASSES_POLICY, w));
    run_passes(p, b, g, &out, s->critic);
    out.n = (size_t)params_slab_elements(&shape);
    out.grad = mem_array(out.n, sizeof *out.grad);
    CHECK_OK(params_get(g, out.grad, out.n * sizeof *out.grad));
    passes_close(&p);
    params_close(&w);
    params_close(&g);
    kern_close(k);
    recipe_close(&r);
    return out;
}

static double distance(const struct result *a, const struct result *b) {
    double diff = 0, size = 0;
    for (size_t i = 0; i < a->n; i++) {
        double d = (double)a->grad[i] - (double)b->grad[i];
        diff += d * d;
        size += (double)b->grad[i] * (double)b->grad[i];
    }
    return sqrt(diff / size);
}

static void check_same(const struct result *got, const struct result *want, const char *name) {
    size_t bytes = (size_t)want->tokens * sizeof(float);
    CHECK(memcmp(got->logprob, want->logprob, bytes) == 0);
    CHECK(memcmp(got->again, want->logprob, bytes) == 0);
    CHECK(memcmp(got->entropy, want->entropy, bytes) == 0);
    CHECK(memcmp(got->value, want->value, bytes) == 0);
    double d = distance(got, want);
    fprintf(stderr, "    %-50s %.1e %3d passes\n", name, d, (int)got->passes);
    if (!(d <= EXACT))
        test_fail(__FILE__, __LINE__, "%s: gradient is off by %g of its norm", name, d);
}

static const char *const ways[][5] = {
    {"trainer.prefix=packed"},
    {"trainer.prefix=packed", "trainer.batch.tokens=1"},
    {"trainer.prefix=schedule", "trainer.prefix_cost=[0, 1]"},
    {"trainer.prefix=schedule", "trainer.prefix_cost=[0, 1]", "trainer.batch.tokens=1"},
    {"trainer.prefix=schedule", "trainer.prefix_cost=[0, 1]", "trainer.batch.tokens=1",
     "trainer.recompute=layers"},
    {"trainer.prefix=schedule", "trainer.prefix_cost=[0, 1]", "trainer.batch.tokens=23",
     "trainer.prefix_offload=true"},
    {"trainer.prefix=schedule", "trainer.prefix_cost=[9, 1]", "trainer.batch.tokens=23",
     "trainer.prefix_offload=true", "trainer.recompute=layers"},
    {"trainer.prefix=auto"},
    {"trainer.prefix=auto", "trainer.batch.tokens=1"},
    {"trainer.prefix=auto", "trainer.batch.tokens=9", "trainer.prefix_offload=true"},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static void check_batch(const struct setting *s, const struct texts *t, uint64_t seed) {
    static const char *const off[] = {"trainer.prefix=off"};
    struct batch *b = batch_of(t, seed);
    struct result want = run(s, b, off, 1);
    fprintf(stderr, "  %s on %s: %u x %u, %d passes\n", s->model, s->device, t->groups, t->size,
            (int)want.passes);
    for (int w = 0; w < WAYS; w++) {
        char name[128] = "";
        size_t n = 0;
        for (; n < 5 && ways[w][n]; n++)
            snprintf(name + strlen(name), sizeof name - strlen(name), " %s", ways[w][n] + 8);
        struct result got = run(s, b, ways[w], n);
        check_same(&got, &want, name);
        result_free(&got);
    }
    result_free(&want);
    batch_close(&b);
}

TEST(passes_share_prefixes_exactly) {
    static const struct setting cpu = {"llama-gqa", "cpu", false};
    for (uint32_t size = 1; size <= 32; size = size < 4 ? size + 1 : 2 * size)
        check_batch(&cpu, &(struct texts){2, size, 0, 40, 24, false, false}, test_seed() + size);
}

TEST(passes_share_trees_exactly) {
    static const struct setting cpu[] = {{"llama-gqa", "cpu", true},
                                         {"mistral-window", "cpu", false},
                                         {"qwen2-tied", "cpu", false},
                                         {"qwen3-norm", "cpu", true}};
    for (size_t i = 0; i < sizeof cpu / sizeof cpu[0]; i++)
        check_batch(&cpu[i], &(struct texts){3, 5, 17, 21, 24, true, true}, test_seed() + i);
}

TEST(passes_share_prefixes_exactly_ref) {
    static const struct setting ref = {"qwen3-norm", "ref", true};
    check_batch(&ref, &(struct texts){2, 4, 9, 20, 16, true, true}, test_seed());
    check_batch(&ref, &(struct texts){1, 32, 0, 30, 10, false, false}, test_seed());
}

/* A trajectory longer than a pass of the actor: scored piece by piece. */
TEST(passes_score_in_pieces) {
    static const struct texts t = {1, 2, 0, 40, 24, false, false};
    static const char *const sets[2][2] = {
        {"trainer.prefix=off", "trainer.batch.tokens=4096"},
        {"trainer.prefix_offload=true", "trainer.batch.tokens=7"}};
    struct batch *b = batch_of(&t, test_seed());
    float lp[2][CONTEXT];
    for (int k = 0; k < 2; k++) {
        struct recipe *r = NULL;
        const struct kern_backend *kern;
        struct shape shape;
        struct params *w;
        struct passes *p;
        CHECK_OK(recipe_parse(&r, "seed: 1\n", 8, "passes", sets[k], 2));
        CHECK_OK(kern_open(&kern, "cpu", 1));
        CHECK_OK(shape_read(&shape, rig_model("llama-gqa")));
        CHECK_OK(params_open(&w, kern, &shape));
        CHECK_OK(params_load(w, rig_model("llama-gqa")));
        CHECK_OK(passes_open(&p, kern, &shape, r, 0));
        CHECK_OK(passes_use(p, PASSES_POLICY, w));
        CHECK_OK(passes_score(p, b, 1, 1, lp[k]));
        passes_close(&p);
        params_close(&w);
        kern_close(kern);
        recipe_close(&r);
    }
    CHECK(memcmp(lp[0], lp[1], (size_t)b->traj[1].n_response * sizeof(float)) == 0);
    batch_close(&b);
}

/* Log-probs of the reference, and those of the policy before the step (proximal, behaviour), follow
 * the plan too: a prompt's rows are computed once. */
TEST(passes_share_prefixes_of_references) {
    enum { GROUP = 6, P = 40, S = 20, PAGES = P - 1 };
    static const char *const sets[][4] = {
        {"trainer.algorithm.kl.coef=0.1", "trainer.batch.tokens=64", "trainer.prefix=off"},
        {"trainer.algorithm.kl.coef=0.1", "trainer.batch.tokens=64", "trainer.prefix=schedule",
         "trainer.prefix_cost=[0, 1]"}};
    struct batch *b = batch_open(GROUP);
    float lp[2][PASSES_REFERENCE + 1][GROUP * S];
    const bool flat[GROUP] = {false};
    int32_t ids[P + S];
    b->n_groups = 1;
    for (uint32_t i = 0; i < GROUP; i++) {
        for (int32_t k = 0; k < P + S; k++)
            ids[k] = k < P ? letter(test_seed(), 1, k) : letter(test_seed(), 60 + i, k);
        ids[P] = (int32_t)i; /* they differ from the first response token on */
        batch_set(b, i, ids, P, ids + P, S, NULL, NULL, NULL, 0);
    }
    for (int k = 0; k < 2; k++) {
        struct recipe *r = NULL;
        const struct kern_backend *kern;
        struct shape shape;
        struct params *w;
        struct passes *p;
        CHECK_OK(recipe_parse(&r, "seed: 1\n", 8, "passes", sets[k], k ? 4 : 3));
        CHECK_OK(kern_open(&kern, "cpu", 1));
        CHECK_OK(shape_read(&shape, rig_model("llama-gqa")));
        CHECK_OK(params_open(&w, kern, &shape));
        CHECK_OK(params_load(w, rig_model("llama-gqa")));
        CHECK_OK(passes_open(&p, kern, &shape, r, 0));
        passes_begin(p, b);
        passes_plan(p, flat);
        for (enum passes_net net = PASSES_POLICY; net <= PASSES_REFERENCE; net++) {
            CHECK_OK(passes_use(p, net, w));
            CHECK_OK(passes_logprobs(p, net, 1, lp[k][net], NULL, NULL));
            int64_t rows = k ? PAGES + GROUP * S : GROUP * (P + S - 1);
            CHECK_INT(passes_rows(p), rows * (net + 1));
        }
        passes_close(&p);
        params_close(&w);
        kern_close(kern);
        recipe_close(&r);
    }
    CHECK(memcmp(lp[0], lp[1], sizeof lp[0]) == 0);
    CHECK(memcmp(lp[0][PASSES_POLICY], lp[0][PASSES_REFERENCE], sizeof lp[0][0]) == 0);
    batch_close(&b);
}
