/* memplan_test.c - what is kept of a forward pass for its reverse changes memory, never a bit:
 * log-probs and gradients under every policy of recomputation and offload, with every way of
 * sharing prefixes, in both types, on every backend that runs here; and the plan is what is taken.
 */
#include "trainer/learn/memplan.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/op/op.h"
#include "tests/test.h"
#include "trainer/learn/passes.h"
#include "trainer/learn/step.h"

#include <stdio.h>

enum { LAYERS = 5, PROMPT = 11, ANSWER = 6, GROUPS = 2, SIZE = 3 };

static const struct shape deep = {.family = SHAPE_QWEN3,
                                  .d = 16,
                                  .layers = LAYERS,
                                  .heads = 4,
                                  .kv_heads = 2,
                                  .head_width = 8,
                                  .ffn = 24,
                                  .vocab = 40,
                                  .context = 64,
                                  .qk_norm = true,
                                  .norm_eps = 1e-6f,
                                  .rope_theta = 10000,
                                  .rope_attn = 1,
                                  .bos = -1};

static int32_t word(uint64_t what, int32_t k) {
    return (int32_t)rng_below(rng_key(test_seed(), RNG_TEST), what, (uint64_t)k, 40);
}

/* Groups with one prompt each, answers of unequal length. */
static struct batch *batch_of(uint32_t groups) {
    struct batch *b = batch_open(groups * SIZE);
    b->n_groups = groups;
    for (uint32_t i = 0; i < b->n; i++) {
        int32_t ids[PROMPT + ANSWER], n = PROMPT + 1 + (int32_t)i % ANSWER;
        for (int32_t k = 0; k < n; k++)
            ids[k] = word(k < PROMPT ? i / SIZE : 100 + i, k);
        batch_set(b, i, ids, PROMPT, ids + PROMPT, n - PROMPT, NULL, NULL, NULL, 0);
        b->traj[i].group = i / SIZE;
    }
    return b;
}

static int on_tokens(void *ctx, const int64_t *element, const struct loss_rows *rows) {
    (void)ctx;
    for (int64_t j = 0; j < rows->n; j++) {
        rows->g_logprob[j] = (float)(sin((double)element[j]) + 0.1 * (double)rows->logprob[j]);
        rows->g_entropy[j] = 0.1f;
    }
    return 0;
}

/* The gradient of two passes over a batch, and the log-probs of both. */
static struct hash bits_of(const struct kern_backend *b, const struct shape *shape,
                           const struct recipe *r) {
    struct shape sums = *shape;
    struct params *w, *g;
    struct passes *p;
    struct hash h[2];
    float lp[GROUPS * SIZE * ANSWER] = {0}, ent[GROUPS * SIZE * ANSWER];
    const bool flat[GROUPS * SIZE] = {false};
    bool slow = !b->on_host; /* simulated */
    struct batch *batch = batch_of(slow ? 1 : GROUPS);
    sums.bf16 = false;
    CHECK_OK(params_open(&w, b, shape));
    CHECK_OK(params_init(w, 5));
    CHECK_OK(params_open(&g, b, &sums));
    CHECK_OK(passes_open(&p, b, shape, r, memplan_recomputed(r, shape->layers)));
    CHECK_OK(passes_use(p, PASSES_POLICY, w));
    passes_begin(p, batch);
    passes_plan(p, flat);
    for (int again = 0; again < (slow ? 1 : 2); again++)
        CHECK_OK(passes_gradient(p, 1, on_tokens, NULL, g, lp, ent, NULL));
    CHECK_OK(kern_sync(b, passes_stream(p)));
    CHECK_OK(params_hash(&h[0], g));
    h[1] = hash_bytes(lp, sizeof lp);
    passes_close(&p);
    params_close(&w);
    params_close(&g);
    batch_close(&batch);
    return hash_bytes(h, sizeof h);
}

static struct recipe *recipe_of(const char *const *sets, size_t n) {
    struct recipe *r = NULL;
    char yaml[256];
    snprintf(yaml, sizeof yaml,
             "rollout: {group_size: %d, max_prompt_tokens: %d, max_new_tokens: %d, page: 4}\n"
             "trainer: {batch: {groups: %d, tokens: 40}, prefix_cost: [0, 1]}\n",
             SIZE, PROMPT, ANSWER, GROUPS);
    CHECK_OK(recipe_parse(&r, yaml, strlen(yaml), "room", sets, n));
    return r;
}

static const char *const prefixes[][2] = {
    {"trainer.prefix=schedule", "trainer.prefix_offload=true"},
    {"trainer.prefix=schedule", "trainer.prefix_offload=false"},
    {"trainer.prefix=packed", "trainer.prefix_offload=false"},
    {"trainer.prefix=off", "trainer.prefix_offload=false"}};
static const char *const policies[][2] = {
    {"trainer.recompute_layers=5", "trainer.offload_activations=true"},
    {"trainer.recompute_layers=3", "trainer.offload_activations=false"},
    {"trainer.recompute_layers=4", "trainer.offload_activations=true"},
    {"trainer.recompute_layers=3", "trainer.offload_activations=true"},
    {"trainer.recompute_layers=1", "trainer.offload_activations=true"},
    {"trainer.recompute_layers=0", "trainer.offload_activations=false"}};

/* The first of the prefix modes and policies, against no recomputation. */
static void same_bits(const char *device, bool bf16, size_t n_prefixes, size_t n_policies) {
    const struct kern_backend *b = op_device(device, 1);
    struct shape shape = deep;
    shape.bf16 = bf16;
    for (size_t i = 0; i < n_prefixes; i++) {
        const char *sets[5] = {prefixes[i][0], prefixes[i][1], "trainer.recompute=none"};
        struct recipe *r = recipe_of(sets, 3);
        struct hash want = bits_of(b, &shape, r);
        recipe_close(&r);
        for (size_t n = 0; n < n_policies; n++) {
            sets[2] = "trainer.recompute=layers";
            sets[3] = policies[n][0];
            sets[4] = policies[n][1];
            r = recipe_of(sets, 5);
            struct hash got = bits_of(b, &shape, r);
            if (!hash_equal(got, want))
                test_fail(__FILE__, __LINE__, "%s, %s, %s, %s, %s, %s: other bits than with none",
                          device, bf16 ? "bf16" : "f32", sets[0], sets[1], sets[3], sets[4]);
            recipe_close(&r);
        }
    }
    kern_close(b);
}

TEST(memplan_policies_have_the_same_bits) {
    same_bits("ref", false, 4, 6);
    same_bits("cpu", false, 4, 6);
    same_bits("cpu", true, 4, 6);
}

TEST_TIMEOUT(memplan_policies_have_the_same_bits_cudasim, 120) {
    same_bits("cudasim:2", true, 2, 1);
}

/* The plan of a larger network, and what auto makes of a limit. */
TEST(memplan_auto_takes_the_fewest_layers) {
    struct shape shape = deep;
    const struct kern_backend *b = op_device("ref", 1);
    struct recipe *r = recipe_of(NULL, 0);
    struct memplan none, m;
    CHECK_OK(memplan_plan(&none, b, &shape, r));
    CHECK_INT(none.recomputed, 0);
    CHECK_INT(none.limit, 0);
    for (int offload = 0; offload < 2; offload++) {
        r->trainer.offload_activations = offload;
        for (int32_t n = LAYERS; n >= 0; n--) {
            r->trainer.recompute = n ? RECIPE_RECOMPUTE_LAYERS : RECIPE_RECOMPUTE_NONE;
            r->trainer.recompute_layers = n;
            r->trainer.memory = 0;
            CHECK_OK(memplan_plan(&m, b, &shape, r));
            CHECK_INT(m.recomputed, n);
            CHECK_INT(m.policy.inputs > 0, offload && n > 2);
            size_t exact = m.device;
            r->trainer.recompute = RECIPE_RECOMPUTE_AUTO;
            r->trainer.memory = exact;
            CHECK_OK(memplan_plan(&m, b, &shape, r));
            CHECK(m.device <= exact && m.recomputed <= n);
            r->trainer.memory = exact - 1;
            if (n < LAYERS) {
                CHECK_OK(memplan_plan(&m, b, &shape, r));
                CHECK(m.recomputed > n || m.device < exact);
            } else {
                CHECK_ERR(memplan_plan(&m, b, &shape, r), ERR_NOMEM, "the trainer does not fit: ");
                CHECK_ERR(memplan_plan(&m, b, &shape, r), ERR_NOMEM,
                          "lower trainer.batch.tokens (now 40)");
            }
        }
    }
    recipe_close(&r);
    kern_close(b);
}

/* A device that says what is left: everything that stays free for others counts. */
TEST_TIMEOUT(memplan_auto_asks_the_device, 60) {
    const struct kern_backend *b = op_device("cudasim:0", 1);
    struct recipe *r = recipe_of(NULL, 0);
    struct memplan m;
    size_t left, total;
    CHECK_OK(kern_memory(b, &left, &total));
    CHECK_OK(memplan_plan(&m, b, &deep, r));
    CHECK(m.limit > 0 && m.limit < left);
    CHECK_INT(m.recomputed, 0);
    recipe_close(&r);
    kern_close(b);
}

static const struct kern_backend *inner;
static size_t taken, taken_host;

static int count_alloc(void **out, size_t bytes) {
    taken += bytes;
    return inner->alloc(out, bytes);
}

static int count_host(void **out, size_t bytes) {
    taken_host += bytes;
    return inner->alloc_host(out, bytes);
}

static int count_stream(struct kern_stream **out, size_t scratch) {
    taken += scratch;
    return inner->stream_open(out, scratch);
}

/* Of each policy, what actor_open takes from the backend is what its plan says, part by part. */
TEST(memplan_plan_is_what_is_taken) {
    inner = op_device("cpu", 1);
    struct kern_backend counting = *inner;
    counting.alloc = count_alloc;
    counting.alloc_host = count_host;
    counting.stream_open = count_stream;
    size_t batch = 0;
    for (int32_t n = 0; n <= LAYERS; n++) {
        for (int way = 0; way < 8; way++) {
            struct actor_config cfg = {.backend = &counting,
                                       .shape = deep,
                                       .rows_max = 24,
                                       .seqs_max = 4,
                                       .context = 32,
                                       .pages = 16,
                                       .page = 4,
                                       .train = true,
                                       .recompute = n,
                                       .offload_inputs = way & 1,
                                       .segment_keys = way & 2 ? 16 : 0,
                                       .offload_segments = way & 2,
                                       .pack = way & 4};
            struct actor *a;
            struct actor_plan p;
            cfg.shape.bf16 = way & 4;
            CHECK_OK(actor_plan(&p, &cfg));
            taken = taken_host = 0;
            CHECK_OK(actor_open(&a, &cfg));
            CHECK_INT(taken, p.device);
            if (n == 0 && way == 0) batch = taken_host; /* the batch's arrays */
            CHECK_INT(taken_host - batch, p.segments + p.inputs);
            CHECK_INT(p.device, p.activations + p.keys + p.gradients + p.head + p.packed + p.rest);
            actor_close(&a);
        }
    }
    kern_close(inner);
}
