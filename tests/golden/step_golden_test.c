/* step_golden_test.c - optimizer steps against PyTorch in float64 (tests/golden/make_step.py):
 * every combination of aggregation, KL and advantage, with the clip acting on both sides.
 *
 * Measure: largest difference of a tensor's update over the largest update of that tensor. AdamW's
 * first step is lr * g / (|g| + eps), and g carries the float rounding of its largest terms (about
 * 1e-9 here), so an element with |g| near eps 1e-8 can be off by percents in any float system; one
 * in some 50000 was. Most cases therefore have eps 1e-4, three the default 1e-8, one an eps so
 * large that the update is proportional to the gradient. */
#include "trainer/learn/step.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tests/test.h"
#include "trainer/checkpoint/export.h"

#include <stdio.h>

static const char *const golden = "tests/golden/step";

static const char *const golden_recipe = "trainer:\n"
                                         "  device: cpu\n"
                                         "  batch: {groups: 4, tokens: 64}\n"
                                         "  steps: 100\n"
                                         "  prefix_cost: [0, 1]\n"
                                         "rollout: {group_size: 4, max_prompt_tokens: 16,\n"
                                         "          max_new_tokens: 16}\n";

static char *path_of(const char *name) {
    return file_join(golden, name);
}

static struct step *open_case(const struct json *c, const char *extra) {
    const char *sets[64];
    char reference[128];
    size_t n = 0;
    struct recipe *r = NULL;
    struct step *s = NULL;
    for (const struct json *v = json_first(json_get(c, "sets")); v; v = json_next(v))
        sets[n++] = json_str(v);
    snprintf(reference, sizeof reference, "trainer.algorithm.kl.reference=%s/reference", golden);
    if (json_bool(json_get(c, "reference"), false)) sets[n++] = reference;
    if (extra) sets[n++] = extra;
    CHECK_OK(recipe_parse(&r, golden_recipe, strlen(golden_recipe), "golden", sets, n));
    char *dir = path_of("model");
    CHECK_OK(step_open(&s, r, dir));
    recipe_close(&r);
    mem_free(dir);
    return s;
}

static float *slab_of(const struct params *p, size_t *n) {
    struct kern_tensor t = params_slab(p);
    *n = (size_t)kern_elements(&t);
    float *x = mem_array(*n, sizeof *x);
    CHECK_OK(params_get(p, x, *n * sizeof *x));
    return x;
}

/* The largest relative difference of updates over the tensors. */
static double worst(const struct params *like, const float *before, const float *got,
                    const float *want, const char **where) {
    double most = 0;
    for (size_t i = 0; i < params_count(like); i++) {
        const struct params_entry *e = params_entry(like, i);
        double diff = 0, size = 0;
        for (int64_t k = e->offset; k < e->offset + e->n; k++) {
            diff = fmax(diff, fabs((double)got[k] - (double)want[k]));
            size = fmax(size, fabs((double)want[k] - (double)before[k]));
        }
        CHECK(size > 0);
        if (diff / size > most) {
            most = diff / size;
            *where = e->name;
        }
    }
    return most;
}

static void check_report(const struct step_report *got, const struct json *want, const char *name) {
    static const char *const keys[] = {"loss", "grad_norm", "entropy", "kl", "clip_fraction"};
    const double values[] = {got->loss, got->grad_norm, got->entropy, got->kl, got->clip_fraction};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        double w = json_num(json_get(want, keys[i]), (double)NAN);
        if (!(fabs(values[i] - w) <= 2e-5 * (1 + fabs(w))))
            test_fail(__FILE__, __LINE__, "%s: %s = %.9g, wanted %.9g", name, keys[i], values[i],
                      w);
    }
    const struct json *cosine = json_get(want, "gac.cosine");
    if (json_is(cosine, JSON_NULL))
        CHECK(isnan(got->gac_cosine));
    else
        CHECK_NEAR(got->gac_cosine, json_num(cosine, 9), 1e-4);
}

/* Runs the case's batches; the last report's step is one more each time. */
static void run_batches(struct step *s, const struct json *c, const char *name) {
    const struct json *want = json_first(json_get(c, "reports"));
    for (const struct json *f = json_first(json_get(c, "batches")); f; f = json_next(f)) {
        struct batch *b = NULL;
        struct step_report r;
        char *path = path_of(json_str(f));
        const struct shape *shape = params_shape(step_weights(s));
        CHECK_OK(batch_read(&b, path, shape->vocab, shape->context));
        CHECK_OK(step_run(s, b, &r));
        check_report(&r, want, name);
        want = json_next(want);
        batch_close(&b);
        mem_free(path);
    }
}

static struct json_doc *read_cases(void) {
    struct json_doc *doc = NULL;
    char *path = path_of("cases.json");
    CHECK_OK(json_parse_file(&doc, path, 1 << 20));
    mem_free(path);
    return doc;
}

static void check_case(const struct json *c, const char *prefix) {
    const char *name = json_str(json_get(c, "name")), *where = "";
    size_t n;
    struct step *s = open_case(c, prefix);
    float *before = slab_of(step_weights(s), &n);
    run_batches(s, c, name);
    float *got = slab_of(step_weights(s), &n);
    struct params *expected = NULL;
    char *dir = path_of(name);
    CHECK_OK(
        params_open(&expected, params_backend(step_weights(s)), params_shape(step_weights(s))));
    CHECK_OK(params_load(expected, dir));
    float *want = slab_of(expected, &n);
    double most = worst(expected, before, got, want, &where);
    fprintf(stderr, "  %-16s %-24s %.2e (%s)\n", name, prefix, most, where);
    if (most > 1e-3)
        test_fail(__FILE__, __LINE__, "%s: update of %s differs by %g", name, where, most);
    params_close(&expected);
    step_close(&s);
    mem_free(dir);
    mem_free(before);
    mem_free(got);
    mem_free(want);
}

TEST(step_golden_updates) {
    static const char *const prefixes[] = {"trainer.prefix=off", "trainer.prefix=packed",
                                           "trainer.prefix=schedule", "trainer.prefix=auto"};
    enum { MODES = sizeof prefixes / sizeof prefixes[0] };
    struct json_doc *doc = read_cases();
    int n = 0;
    for (const struct json *c = json_first(json_root(doc)); c; c = json_next(c))
        for (int k = 0; k < MODES; k++, n++)
            check_case(c, prefixes[k]);
    CHECK_INT(n, 19 * MODES);
    json_close(&doc);
}

/* Sum and norm of each tensor's update against those of PyTorch. */
static void check_updates(const struct json *c, const struct params *p, const float *before,
                          const float *after, const char *name) {
    const struct json *updates = json_get(c, "updates");
    for (size_t i = 0; i < params_count(p); i++) {
        const struct params_entry *e = params_entry(p, i);
        const struct json *want = json_first(json_get(updates, e->name));
        double sum = json_num(want, (double)NAN), norm = json_num(json_next(want), (double)NAN);
        double got = 0, square = 0;
        for (int64_t k = e->offset; k < e->offset + e->n; k++) {
            double u = (double)after[k] - (double)before[k];
            got += u;
            square += u * u;
        }
        double close = 1e-4 * norm * sqrt((double)e->n) + 1e-5;
        if (!(fabs(got - sum) <= close && fabs(sqrt(square) - norm) <= 1e-4 * norm + 1e-5))
            test_fail(__FILE__, __LINE__, "%s: %s: sum %g norm %g, wanted %g %g", name, e->name,
                      got, sqrt(square), sum, norm);
    }
}

static void check_algorithm(const struct json *c) {
    const char *name = json_str(json_get(c, "name"));
    struct step *s = open_case(c, NULL);
    const struct shape *shape = params_shape(step_weights(s));
    char *path = path_of(json_str(json_get(c, "batch")));
    struct batch *b = NULL;
    struct step_report r;
    size_t n;
    float *before = slab_of(step_weights(s), &n);
    step_set_version(s, 5);
    CHECK_OK(batch_read(&b, path, shape->vocab, shape->context));
    CHECK_OK(step_run(s, b, &r));
    double loss = json_num(json_get(c, "loss"), (double)NAN);
    double norm = json_num(json_get(c, "grad_norm"), (double)NAN);
    if (!(fabs(r.loss - loss) <= 2e-5 * (1 + fabs(loss)) &&
          fabs(r.grad_norm - norm) <= 1e-4 * norm))
        test_fail(__FILE__, __LINE__, "%s: loss %.9g norm %.9g, wanted %.9g %.9g", name, r.loss,
                  r.grad_norm, loss, norm);
    float *after = slab_of(step_weights(s), &n);
    check_updates(c, step_weights(s), before, after, name);
    mem_free(before);
    mem_free(after);
    mem_free(path);
    batch_close(&b);
    step_close(&s);
}

/* Losses, advantages, corrections, aggregations, KL, critic in random combinations
 * (tests/golden/fuzz_step.py golden). */
TEST(step_golden_algorithms) {
    struct json_doc *doc = NULL;
    char *path = path_of("algorithms.json");
    int n = 0;
    CHECK_OK(json_parse_file(&doc, path, 1 << 20));
    for (const struct json *c = json_first(json_root(doc)); c; c = json_next(c), n++)
        check_algorithm(c);
    CHECK_INT(n, 28);
    json_close(&doc);
    mem_free(path);
}

static const struct json *find_case(const struct json_doc *doc, const char *name) {
    for (const struct json *c = json_first(json_root(doc)); c; c = json_next(c))
        if (strcmp(json_str(json_get(c, "name")), name) == 0) return c;
    test_fail(__FILE__, __LINE__, "no case %s", name);
}

static float *weights_after(const struct json *c, const char *extra, struct hash *h, size_t *n) {
    struct step *s = open_case(c, extra);
    run_batches(s, c, "split");
    CHECK_OK(step_hash(h, s));
    float *w = slab_of(step_weights(s), n);
    step_close(&s);
    return w;
}

/* The same bits on repetition; the same update to 1e-5 whatever the microbatches are. The case with
 * a large eps: its update is proportional to the gradient, so the measure is the gradient's. */
TEST(step_split_changes_rounding_only) {
    static const char *const splits[] = {"trainer.batch.tokens=1",  "trainer.batch.tokens=17",
                                         "trainer.batch.tokens=40", "trainer.batch.tokens=100000",
                                         "trainer.prefix=off",      "trainer.prefix=packed",
                                         "trainer.prefix=schedule"};
    struct json_doc *doc = read_cases();
    const struct json *c = find_case(doc, "linear");
    const char *where = "";
    struct hash h, other;
    size_t n;
    struct step *s = open_case(c, NULL);
    float *before = slab_of(step_weights(s), &n), *first = weights_after(c, NULL, &h, &n);
    float *again = weights_after(c, NULL, &other, &n);
    CHECK(hash_equal(h, other));
    CHECK(memcmp(first, again, n * sizeof *first) == 0);
    for (size_t i = 0; i < sizeof splits / sizeof splits[0]; i++) {
        float *w = weights_after(c, splits[i], &other, &n);
        double most = worst(step_weights(s), before, w, first, &where);
        fprintf(stderr, "  %-28s %.2e\n", splits[i], most);
        CHECK(most <= 1e-5);
        mem_free(w);
    }
    step_close(&s);
    json_close(&doc);
    mem_free(before);
    mem_free(first);
    mem_free(again);
}
