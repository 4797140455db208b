/* recipe_test.c - defaults, overrides, errors that name line, key and what is allowed, and print ->
 * parse. */
#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "proto/recipe/recipe.h"
#include "tests/test.h"

#include <stdio.h>

static int parse(struct recipe **r, const char *text, const char *set) {
    return recipe_parse(r, text, strlen(text), "r.yaml", &set, set ? 1 : 0);
}

TEST(defaults_and_values) {
    struct recipe *r;
    CHECK_OK(parse(
        &r,
        "model: {path: models/x}\nreward: [{type: math}, {type: format, pattern: '\\\\boxed', "
        "weight: 0.1}]\n"
        "trainer: {optimizer: {lr: 3e-4, betas: [0.8, 0.9]}, staleness: {max: 2, late: drop}}\n"
        "rollout: {kv_memory: 2GiB, stop: [\"\\n\"]}\n",
        NULL));
    CHECK_STR(r->model.path, "models/x");
    CHECK_INT(r->n_reward, 2);
    CHECK_STR(r->reward[1].pattern, "\\\\boxed");
    CHECK_NEAR(r->reward[0].weight, 1.0, 0);
    CHECK_NEAR(r->reward[1].weight, 0.1, 0);
    CHECK_NEAR(r->trainer.optimizer.beta2, 0.9, 0);
    CHECK_INT(r->trainer.staleness.late, RECIPE_LATE_DROP);
    CHECK_INT(r->rollout.kv_memory, 2ll << 30);
    CHECK_STR(r->rollout.stop[0], "\n");
    CHECK_INT(r->rollout.group_size, 8);
    recipe_close(&r);
    CHECK_OK(parse(&r, "", NULL));
    CHECK_NEAR(r->trainer.optimizer.beta1, 0.9, 0);
    CHECK_NEAR(r->trainer.optimizer.beta2, 0.95, 0);
    recipe_close(&r);
}

TEST(set_overrides) {
    struct recipe *r;
    CHECK_OK(parse(&r, "trainer: {steps: 5}\n", "trainer.steps=9"));
    CHECK_INT(r->trainer.steps, 9);
    recipe_close(&r);
    CHECK_OK(parse(&r, "reward: [{type: math}]\n", "reward[0].weight=2"));
    CHECK_NEAR(r->reward[0].weight, 2, 0);
    CHECK_STR(r->reward[0].type, "math");
    recipe_close(&r);
    CHECK_OK(parse(&r, "trainer: {optimizer: {betas: [0.1, 0.2]}}\n",
                   "trainer.optimizer.betas=[0.3, 0.4]"));
    CHECK_NEAR(r->trainer.optimizer.beta2, 0.4, 0);
    recipe_close(&r);
}

TEST(sets_of_held_out_prompts) {
    struct recipe *r;
    CHECK_OK(parse(&r, "data: {eval: {path: a/b.c.jsonl, limit: 3}}\n", NULL)); /* one mapping */
    CHECK_INT(r->data.n_eval, 1);
    CHECK_STR(r->data.eval[0].name, "b.c");
    CHECK_STR(r->data.eval[0].rows.prompt, "prompt");
    CHECK_INT(r->data.eval[0].rows.limit, 3);
    CHECK_INT(r->data.eval[0].samples, 1);
    CHECK(isnan(r->data.eval[0].pass));
    recipe_close(&r);
    CHECK_OK(parse(&r,
                   "data: {eval: [{path: 'builtin:x'}, {name: y, path: p, samples: 8, temperature: "
                   "0.5, pass: 0.9, k: [1, 8]}]}\neval: {temperature: 0.25}\n",
                   NULL));
    CHECK_INT(r->data.n_eval, 2);
    CHECK_STR(r->data.eval[0].name, "x");
    CHECK_NEAR(r->data.eval[0].temperature, 0.25, 0); /* wherever eval.temperature stands */
    CHECK_NEAR(r->data.eval[1].temperature, 0.5, 0);
    CHECK_NEAR(r->data.eval[1].pass, 0.9, 0);
    CHECK_INT(r->data.eval[1].k.n, 2);
    CHECK_INT(r->data.eval[1].k.at[1], 8);
    recipe_close(&r);
    CHECK_OK(parse(&r, "data: {eval: {limit: 3}}\n", NULL)); /* no path: no set */
    CHECK_INT(r->data.n_eval, 0);
    recipe_close(&r);
}

TEST(overrides_of_sets) {
    static const char list[] =
        "data: {eval: [{path: p, samples: 4, temperature: 1, k: [1, 2, 4]}]}";
    static const char map[] = "data: {eval: {path: p, samples: 4, temperature: 1, k: [1, 2, 4]}}";
    static const char *const sets[] = {"data.eval.k=[3]", "data.eval[0].k=[3]"};
    struct recipe *r = NULL;
    for (int i = 0; i < 4; i++) { /* either form overrides either form, all of it */
        CHECK_OK(parse(&r, i & 1 ? list : map, sets[i >> 1]));
        CHECK_INT(r->data.n_eval, 1);
        CHECK_INT(r->data.eval[0].k.n, 1);
        CHECK_INT(r->data.eval[0].k.at[0], 3);
        recipe_close(&r);
    }
    CHECK_OK(parse(&r, map, "data.eval={path: q}"));
    CHECK_INT(r->data.eval[0].k.n, 0);
    recipe_close(&r);
    CHECK_OK(parse(&r, map, "data.eval="));
    CHECK_INT(r->data.n_eval, 0);
    recipe_close(&r);
    CHECK_ERR(parse(&r, "data: {eval: [{path: p}, {path: q}]}", "data.eval.limit=3"), ERR_CONFIG,
              "there are 2 sets; write data.eval[0].limit=3");
}

TEST(sets_that_make_no_sense) {
    static const struct {
        const char *eval, *part;
    } cases[] = {
        {"[{path: p, samples: 4}]", "data.eval[0].samples: 4 greedy answers"},
        {"{path: p, samples: 4, temperature: 1, k: [8]}", "pass@8 needs 8 answers"},
        {"{path: p, samples: 4, temperature: 1, k: [2, 2]}", "2 is there twice"},
        {"{path: p, k: [0]}", "allowed is 1..4096"},
        {"{path: p, k: 1}", "must be a list, such as data.eval[].k[]"},
        {"{path: p, k: [1, 1, 1, 1, 1, 1, 1, 1, 1]}", "has more than 8 elements"},
        {"{path: p, 'k[1]': 1}", "data.eval[0].k[0] has no value"},
        {"{path: p, n: 4}", "in Weir this is data.eval[].samples"},
        {"{path: p, pth: 4}", "the nearest known one is data.eval[].path"},
        {"[{path: p}, {name: x}]", "data.eval[1] has no path"},
        {"[{path: a/p.x}, {path: b/p}]", "both named \"p\""},
        {"[{path: p, name: a/b}]", "letters, digits"},
        {"[{path: p, name: accuracy}]", "eval/accuracy is a metric of all sets"},
        {"[{path: p, temperature: }]", "has no value"},
        {"text", "must be a list"},
    };
    struct recipe *r = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200];
        snprintf(text, sizeof text, "data:\n  eval: %s\n", cases[i].eval);
        CHECK_ERR(parse(&r, text, NULL), ERR_CONFIG, cases[i].part);
    }
    CHECK(r == NULL);
}

TEST(errors_name_the_place) {
    struct recipe *r = NULL;
    CHECK_ERR(parse(&r, "name: x\ntrainer: {stepz: 5}\n", NULL), ERR_CONFIG,
              "r.yaml line 2: trainer.stepz: 5: unknown key; "
              "the nearest known one is trainer.steps");
    CHECK_ERR(parse(&r, "", "reward[0].after=Answer:"), ERR_CONFIG,
              "reward[].after is one value, and this is a mapping: a text with a colon at its end "
              "or before a space needs quotes (\"Answer:\")");
    CHECK_ERR(parse(&r, "", "trainer.optimiser.lr=1"), ERR_CONFIG,
              "the nearest known one is trainer.optimizer.lr");
    CHECK_ERR(parse(&r, "grpo: {num_generations: 5}\n", NULL), ERR_CONFIG,
              "in Weir this is rollout.group_size");
    CHECK_ERR(parse(&r, "max_head_offpolicyness: 4\n", NULL), ERR_CONFIG, "trainer.staleness.max");
    CHECK_ERR(parse(&r, "rollout: {n: 4}\n", NULL), ERR_CONFIG, "rollout.group_size");
    CHECK_ERR(parse(&r, "rollout: {workers: two}\n", NULL), ERR_CONFIG, "must be a whole number");
    CHECK_ERR(parse(&r, "rollout: {workers: 0}\n", NULL), ERR_CONFIG, "allowed is 1..1024");
    CHECK_ERR(parse(&r, "trainer: {staleness: {late: maybe}}\n", NULL), ERR_CONFIG,
              "one of: wait, drop");
    CHECK_ERR(parse(&r, "trainer: 5\n", NULL), ERR_CONFIG, "must be a mapping");
    CHECK_ERR(parse(&r, "a: [", NULL), ERR_CONFIG, "r.yaml line");
    CHECK_ERR(parse(&r, "a: &x 1\nb: *x\n", NULL), ERR_CONFIG, "aliases");
    CHECK_ERR(parse(&r, "seed: 1\nname: x\nseed: 2\n", NULL), ERR_CONFIG,
              "r.yaml line 3: seed is there twice, first in line 1");
    CHECK_ERR(parse(&r, "trainer: {batch: {groups: 1, groups: 1}}\n", NULL), ERR_CONFIG,
              "trainer.batch.groups is there twice");
    CHECK_ERR(parse(&r, "trainer: {optimizer: {betas: [0.9]}}\n", NULL), ERR_CONFIG,
              "trainer.optimizer.betas[] has 1 elements, it must have 2");
    CHECK_ERR(parse(&r, "- 1\n", NULL), ERR_CONFIG, "must be a mapping");
    CHECK_ERR(parse(&r, "", "trainer.stepz=4"), ERR_CONFIG, "--set: trainer.stepz");
    CHECK_ERR(parse(&r, "", "steps"), ERR_CONFIG, "must be key=value");
    CHECK_ERR(parse(&r, "reward: [{weight: 1}]\n", NULL), ERR_CONFIG, "reward[0] has no type");
    CHECK_ERR(parse(&r, "rollout: {stop: [null]}\n", NULL), ERR_CONFIG, "stop[0] has no value");
    CHECK_ERR(parse(&r, "", "rollout.stop[1]=x"), ERR_CONFIG, "rollout.stop[0] has no value");
    CHECK_ERR(parse(&r, "\"rollout.stop[-1]\": x\n", NULL), ERR_CONFIG, "unknown key");
    CHECK_ERR(parse(&r, "\"rollout.stop[]\": x\n", NULL), ERR_CONFIG, "unknown key");
    CHECK_ERR(parse(&r, "rollout: {device: }\n", NULL), ERR_CONFIG, "has no value");
    CHECK(r == NULL);
}

static void refuse(const char *text, const char *part) {
    struct recipe *r = NULL;
    CHECK_ERR(parse(&r, text, NULL), ERR_CONFIG, part);
    CHECK(!r);
}

TEST(values_are_checked) {
    refuse("trainer: {optimizer: {lr: fast}}\n", "lr: fast: must be a number");
    refuse("rollout: {kv_memory: much}\n", "must be a size such as 512MiB");
    refuse("rollout: {kv_memory: 5MB}\n", "has the unit \"MB\"; known are B, KiB");
    refuse("rollout: {kv_memory: 5000TiB}\n", "is larger than 1e15 bytes");
    refuse("trainer: {alignment: {mode: sideways}}\n", "must be one of: ");
    refuse("data: {train: {shuffle: perhaps}}\n", "must be true or false");
    refuse("trainer: {optimizer: {betas: [0.9, 0.9, 0.9]}}\n", "has more than 2 elements");
    refuse("trainer: {batch: {minibatches: 9}}\n", "split by groups");
    refuse("trainer: {algorithm: {loss: gspo, dual_clip: 0.5}}\n", "dual_clip must be above 1");
    refuse("rollout: {update: token}\n", "is not supported yet");
    refuse("trainer: {alignment: {c_low: 0.5, c_high: 0.1}}\n", "is larger than c_high");
    refuse("rollout: {concurrency: 4, group_size: 8}\n", "is less than one group");
}

/* What only YAML can be: odd keys, depth, length, characters. */
TEST(yaml_is_checked) {
    struct buf b = {0};
    refuse("? [a, b]\n: 1\n", "a key must be a plain word");
    refuse("name: \"a\\0b\"\n", "name holds a NUL character");
    for (int i = 0; i < 40; i++)
        buf_str(&b, "a: {");
    for (int i = 0; i < 40; i++)
        buf_str(&b, "}");
    refuse(b.data, "nested deeper than");
    buf_reset(&b);
    for (int i = 0; i < 60; i++)
        buf_str(&b, "long_");
    buf_str(&b, ": 1\n");
    refuse(b.data, "key longer than");
    buf_reset(&b);
    buf_str(&b, "reward: [");
    for (int i = 0; i < 20000; i++)
        buf_str(&b, "1, ");
    buf_str(&b, "1]\n");
    refuse(b.data, "settings");
    buf_close(&b);
}

TEST(print_reads_back) {
    struct recipe *r, *again;
    struct buf a = {0}, b = {0};
    CHECK_OK(parse(
        &r,
        "name: \"a: b\"\nmodel: {path: 'x y'}\nreward: [{type: regex, pattern: \"\\\\d+ #\"}]\n"
        "rollout: {stop: ['\\n', \"#\"]}\ndata: {train: {path: p, system: \"be\\nbrief\"}, eval: "
        "[{path: p}, "
        "{name: q, path: p, samples: 3, temperature: 1, pass: 0.5, k: [1, 3]}]}\n",
        NULL));
    recipe_print(r, &a);
    CHECK_OK(recipe_parse(&again, a.data, a.len, "printed", NULL, 0));
    recipe_print(again, &b);
    CHECK_STR(a.data, b.data);
    CHECK_STR(again->data.train.system, "be\nbrief");
    CHECK_INT(again->rollout.n_stop, 2);
    buf_close(&a);
    buf_close(&b);
    recipe_close(&r);
    recipe_close(&again);
}

TEST(document_is_the_page_in_docs) {
    struct buf b = {0};
    char *text;
    size_t n;
    recipe_document(&b);
    CHECK_OK(file_read(&text, &n, "docs/recipe.md", 1 << 20));
    CHECK_STR(b.data, text); /* after a change: weir run --document > docs/recipe.md */
    mem_free(text);
    buf_close(&b);
}
