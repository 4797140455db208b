/* prefix_bench.c - what sharing prompts in training saves, in time and in memory.
 *
 * A group of N trajectories of P prompt and S response tokens goes forward and in reverse as a
 * training step does it (trainer/learn/passes.h), dense and in each mode of trainer.prefix, in
 * turn. The bound is what counting operations allows: the prompt forward once (A), N responses
 * forward and in reverse (B), the prompt in reverse once (C), against N whole trajectories. The
 * prompt's last layer counts up to its keys, because nobody reads more of it.
 *
 * The published figures are of prompts and responses of 12288 tokens together on an 8 B model; here
 * they have a sixteenth of that, and the network is so wide that attention takes the same share of
 * the work. Memory is that of a process of its own per mode, less what it had before the network's
 * activations were there. */
#include "bench/bench.h"
#include "bench/dims.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "trainer/learn/memplan.h"
#include "trainer/learn/passes.h"
#include "trainer/learn/prefix_cost.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SCALE = 16, WHOLE = 12288 / SCALE, BUDGET = 4 * WHOLE, SETS = 4 };

static const struct shape shape = DIMS_LLAMA(192, 4, 3, 1, 64, 640, 768, 2048);

struct group {
    int32_t prompt, response, n, budget; /* budget: trainer.batch.tokens */
};

struct run {
    const struct kern_backend *b;
    struct params *weights, *grads;
    struct passes *passes;
    struct batch *batch;
};

/* --- one step ------------------------------------------------------------------------------ */

static struct batch *batch_of(const struct group *g) {
    struct batch *b = batch_open((uint32_t)g->n);
    int32_t n = g->prompt + g->response, *ids = mem_array((size_t)n, sizeof *ids);
    b->n_groups = 1;
    for (uint32_t i = 0; i < b->n; i++) {
        for (int32_t k = 0; k < n; k++)
            ids[k] = (int32_t)rng_below(rng_key(1, RNG_TEST), k < g->prompt ? 0 : 1 + i,
                                        (uint64_t)k, (uint64_t)shape.vocab);
        batch_set(b, i, ids, g->prompt, ids + g->prompt, g->response, NULL, NULL, NULL, 0);
    }
    mem_free(ids);
    return b;
}

static struct recipe *recipe_for(const struct group *g, const char *const *sets) {
    struct recipe *r = NULL;
    char yaml[256];
    size_t n = 0;
    while (n < SETS && sets[n])
        n++;
    snprintf(yaml, sizeof yaml,
             "rollout: {concurrency: 1024, group_size: %d, max_prompt_tokens: %d,\n"
             "          max_new_tokens: %d}\n"
             "trainer: {batch: {groups: 1, tokens: %d}}\n",
             g->n, g->prompt, g->response, g->budget);
    bench_must(recipe_parse(&r, yaml, strlen(yaml), "bench", sets, n), "recipe");
    return r;
}

static int on_tokens(void *ctx, const int64_t *element, const struct loss_rows *rows) {
    (void)ctx;
    for (int64_t j = 0; j < rows->n; j++) {
        rows->g_logprob[j] = element[j] % 2 ? 1e-3F : -1e-3F;
        rows->g_entropy[j] = 0;
    }
    return 0;
}

static void open_weights(struct run *r) {
    bench_must(kern_open(&r->b, "cpu", 1), "backend");
    bench_must(params_open(&r->weights, r->b, &shape), "weights");
    bench_must(params_init(r->weights, 1), "weights");
    bench_must(params_open(&r->grads, r->b, &shape), "gradients");
}

static void close_weights(struct run *r) {
    params_close(&r->weights);
    params_close(&r->grads);
    kern_close(r->b);
}

static void open_mode(struct run *r, const struct group *g, const char *const *sets) {
    struct recipe *recipe = recipe_for(g, sets);
    bench_must(
        passes_open(&r->passes, r->b, &shape, recipe, memplan_recomputed(recipe, shape.layers)),
        "passes");
    recipe_close(&recipe);
    bench_must(passes_use(r->passes, PASSES_POLICY, r->weights), "use");
}

static void step_once(struct run *r) {
    bool *flat = mem_array(r->batch->n, sizeof *flat);
    memset(flat, 0, r->batch->n);
    passes_begin(r->passes, r->batch);
    passes_plan(r->passes, flat);
    float *lp = mem_array((size_t)passes_tokens(r->passes), 2 * sizeof *lp);
    bench_must(passes_gradient(r->passes, 1, on_tokens, NULL, r->grads, lp,
                               lp + passes_tokens(r->passes), NULL),
               "gradient");
    mem_free(lp);
    mem_free(flat);
}

/* --- the bound ----------------------------------------------------------------------------- */

/* Operations of a layer for rows from .. to-1, forward and reverse: products take three times those
 * of the forward, attention 2 + 5 (scores are computed again). keys: up to the keys only. */
static double layer_flop(double from, double to, bool keys) {
    double d = shape.d, q = (double)shape.heads * shape.head_width;
    double kv = (double)shape.kv_heads * shape.head_width, rows = to - from;
    double key_products = 3 * 2 * 2 * d * kv, rest = 3 * 2 * (2 * d * q + 3 * d * shape.ffn);
    double pairs = (to * (to + 1) - from * (from + 1)) / 2;
    return keys ? rows * key_products : rows * (key_products + rest) + 14 * q * pairs;
}

static double bound(const struct group *g) {
    double p = g->prompt - 1, end = p + g->response, layers = shape.layers;
    double head = 3 * 2 * (double)shape.d * shape.vocab * g->response;
    double dense = layers * layer_flop(0, end, false) + head;
    double own = layers * layer_flop(p, end, false) + head;
    double shared = (layers - 1) * layer_flop(0, p, false) + layer_flop(0, p, true);
    double bound = g->n * dense / (shared + g->n * own);
    return bound > 1 ? bound : 1;
}

/* --- lines --------------------------------------------------------------------------------- */

enum { MODES = 4, ROUNDS_MAX = 9 };
static const char *const modes[MODES] = {"off", "auto", "packed", "schedule"};

/* One thread does all: its time without that which the machine gave to other processes. */
static double step_us(struct run *r) {
    uint64_t start = clock_cpu_us();
    step_once(r);
    return (double)(clock_cpu_us() - start);
}

static void line(const struct group *g, const char *mode, const struct run *r, double *us,
                 double *off_us, int n) {
    double dense[ROUNDS_MAX];
    memcpy(dense, off_us, sizeof dense);
    struct bench_pair p = bench_summary(us, dense, n);
    printf("{\"bench\": \"prefix\", \"prompt\": %d, \"response\": %d, \"group\": %d, "
           "\"batch_tokens\": %d, \"mode\": \"%s\", \"threads\": 1, \"passes\": %" PRId64
           ", \"against\": \"off\", \"ratio\": %.3f, \"min\": %.3f, \"max\": %.3f, \"n\": %d, "
           "\"bound\": %.3f, \"of_bound\": %.3f, \"cpu_ms\": %.1f, \"off_cpu_ms\": %.1f}\n",
           g->prompt, g->response, g->n, g->budget, mode, passes_microbatches(r->passes), p.ratio,
           p.ratio_min, p.ratio_max, p.n, bound(g), p.ratio / bound(g), p.a_us / 1e3, p.b_us / 1e3);
    fflush(stdout);
}

/* The first `n_modes` modes in turn, `rounds` times. */
static void lines(const struct run *base, const struct group *g, int rounds, int n_modes) {
    struct run r[MODES];
    double us[MODES][ROUNDS_MAX];
    struct batch *b = batch_of(g);
    for (int m = 0; m < n_modes; m++) {
        char set[64];
        snprintf(set, sizeof set, "trainer.prefix=%s", modes[m]);
        r[m] = *base;
        open_mode(&r[m], g, (const char *const[SETS]){set});
        struct group few = {g->prompt, g->response, m == 0 && g->n > 4 ? 4 : g->n, g->budget};
        r[m].batch = batch_of(&few); /* memory is touched; of `off`, four fill a pass */
        step_once(&r[m]);
        batch_close(&r[m].batch);
        r[m].batch = b;
    }
    for (int k = 0; k < rounds; k++)
        for (int m = 0; m < n_modes; m++)
            us[m][k] = step_us(&r[m]);
    for (int m = 1; m < n_modes; m++)
        line(g, modes[m], &r[m], us[m], us[0], rounds);
    for (int m = 0; m < n_modes; m++)
        passes_close(&r[m].passes);
    batch_close(&b);
}

/* --- memory -------------------------------------------------------------------------------- */

struct memory {
    double peak, host; /* MiB of a step beyond weights and gradients; of them, waiting segments */
};

static double peak_mib(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)use.ru_maxrss / 1024;
}

static void measure(const struct group *g, const char *const *sets, struct memory *out) {
    struct run r = {0};
    open_weights(&r);
    bench_must(params_zero(r.grads), "zero");
    r.batch = batch_of(g);
    double before = peak_mib(), packed = (double)params_slab_elements(&shape) * 4 / (1 << 20);
    open_mode(&r, g, sets);
    step_once(&r);
    out->peak = peak_mib() - before - packed;
    struct recipe *recipe = recipe_for(g, sets);
    struct actor_plan plan;
    bench_must(
        passes_policy_memory(&plan, r.b, &shape, recipe, memplan_recomputed(recipe, shape.layers)),
        "plan");
    out->host = (double)plan.segments / (1 << 20) * (g->prompt - 1) /
                (g->prompt + g->response); /* room for a whole context, as much as was used */
    recipe_close(&recipe);
}

/* In a process that did nothing else. */
static struct memory step_memory(const struct group *g, const char *const *sets) {
    int fd[2];
    struct memory m = {-1, 0};
    if (pipe(fd) != 0) return m;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        measure(g, sets, &m);
        _exit(write(fd[1], &m, sizeof m) == (ssize_t)sizeof m ? 0 : 71);
    }
    close(fd[1]);
    if (pid < 0 || read(fd[0], &m, sizeof m) != (ssize_t)sizeof m) m.peak = -1;
    close(fd[0]);
    if (pid > 0) waitpid(pid, NULL, 0);
    return m;
}

/* Dense, a pass holds a trajectory, as little as it can; shared, a response. */
static void memory_line(int32_t prompt, int32_t n) {
    static const char *const off[SETS] = {"trainer.prefix=off"};
    static const char *const host[SETS] = {"trainer.prefix=auto", "trainer.prefix_offload=true"};
    static const char *const again[SETS] = {"trainer.prefix=auto", "trainer.prefix_offload=true",
                                            "trainer.recompute=layers"};
    struct group dense = {prompt, WHOLE - prompt, n, WHOLE}, shared = dense;
    shared.budget = WHOLE - prompt;
    struct memory a = step_memory(&dense, off), b = step_memory(&shared, host);
    struct memory c = step_memory(&shared, again);
    printf("{\"bench\": \"prefix_memory\", \"prompt\": %d, \"response\": %d, \"group\": %d, "
           "\"off_mib\": %.1f, \"offload_mib\": %.1f, \"offload_host_mib\": %.1f, "
           "\"recompute_mib\": %.1f, \"recompute_host_mib\": %.1f, "
           "\"saved_device\": %.3f, \"saved_all_recompute\": %.3f}\n",
           dense.prompt, dense.response, n, a.peak, b.peak, b.host, c.peak, c.host,
           1 - (b.peak - b.host) / a.peak, 1 - c.peak / a.peak);
    fflush(stdout);
}

/* --- the cost model ------------------------------------------------------------------------ */

static void fit_line(const struct run *base) {
    struct prefix_cost_measure fit;
    bench_must(prefix_cost_measure(&fit, base->weights, 9), "fit");
    printf("{\"bench\": \"prefix_fit\", \"pass_rows\": %.1f, \"attention\": %.2f, "
           "\"row_us\": %.1f}\n",
           fit.pass, fit.attention, fit.row_us);
    fflush(stdout);
}

/* --- benchmarks ---------------------------------------------------------------------------- */

static struct group split_of(int32_t prompt_k, int32_t n) {
    int32_t prompt = prompt_k * 1024 / SCALE;
    return (struct group){prompt, WHOLE - prompt, n, BUDGET};
}

int bench_prefix(void) {
    static const struct {
        int32_t prompt_k, n;
        int rounds, modes;
    } some[] = {{2, 2, 5, 2}, {10, 2, 5, 2}, {2, 8, 3, 2}, {6, 8, 3, 4}, {10, 32, 1, 4}};
    struct run base = {0};
    memory_line(10 * 1024 / SCALE, 16);
    open_weights(&base);
    fit_line(&base);
    lines(&base, &(struct group){512, 64, 8, 4608}, 7, MODES);
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        struct group g = split_of(some[i].prompt_k, some[i].n);
        lines(&base, &g, some[i].rounds, some[i].modes);
    }
    close_weights(&base);
    return 0;
}

int bench_prefix_grid(void) {
    struct run base = {0};
    for (int32_t k = 2; k <= 10; k += 2)
        memory_line(k * 1024 / SCALE, 16);
    open_weights(&base);
    fit_line(&base);
    for (int32_t n = 2; n <= 128; n *= n < 32 ? 2 : 4)
        for (int32_t k = 2; k <= 10; k += 2) {
            struct group g = split_of(k, n);
            lines(&base, &g, n <= 4 ? 3 : n <= 8 ? 2 : 1, n <= 32 ? MODES : 2);
        }
    close_weights(&base);
    return 0;
}
