/* evaluate_test.c - evaluation of the tiny model with random weights: what a set reports does not
 * depend on its company, sums over rows add up, and settings that make no sense are refused. */
#include "base/json.h"
#include "base/mem.h"
#include "deploy/evaluate/evaluate.h"
#include "tests/test.h"

struct rig {
    struct recipe *recipe;
    const struct kern_backend *backend;
    struct policy policy;
    struct params *weights;
};

static void rig_open(struct rig *g, const char *eval, const char *reward) {
    char *text = mem_printf("model: {path: recipes/tiny, weights: random, chat: plain}\n"
                            "rollout: {max_prompt_tokens: 16, max_new_tokens: 12}\n"
                            "reward: %s\n"
                            "data: {eval: %s}\nseed: 3\n",
                            reward, eval);
    CHECK_OK(recipe_parse(&g->recipe, text, strlen(text), "rig", NULL, 0));
    CHECK_OK(kern_open(&g->backend, "cpu", 1));
    CHECK_OK(policy_open(&g->policy, "recipes/tiny", "plain"));
    CHECK_OK(params_open(&g->weights, g->backend, &g->policy.shape));
    CHECK_OK(params_init(g->weights, 3));
    mem_free(text);
}

static void rig_close(struct rig *g) {
    params_close(&g->weights);
    policy_close(&g->policy);
    kern_close(g->backend);
    recipe_close(&g->recipe);
}

static struct evaluate_report run(const char *eval, const char *reward) {
    struct rig g;
    struct evaluate *e;
    struct evaluate_report r;
    rig_open(&g, eval, reward);
    CHECK_OK(evaluate_open(&e, g.recipe, &g.policy, g.backend));
    CHECK_OK(evaluate_run(e, g.weights, 7, NULL, NULL, &r));
    for (int64_t i = 0; i < r.n_sets; i++) { /* they go with the recipe */
        r.set[i].name = NULL;
        r.set[i].k = NULL;
    }
    evaluate_close(&e);
    rig_close(&g);
    return r;
}

#define DIGIT "[{type: regex, pattern: \"[0-9]\"}]"
#define SAMPLED "path: 'builtin:addition', samples: 5, temperature: 1.0, k: [1, 3, 5]"

TEST(counts_and_means_agree) {
    struct evaluate_report r = run("{" SAMPLED ", limit: 30}", DIGIT);
    const struct evaluate_set *s = &r.set[0];
    CHECK_INT(r.n_sets, 1);
    CHECK_INT(s->prompts, 30);
    CHECK_INT(s->n, 150);
    CHECK_INT(r.version, 7);
    CHECK(s->accuracy > 0.05 && s->accuracy < 0.95);
    CHECK_NEAR(s->pass[0], s->accuracy, 1e-12); /* pass@1 is the mean of a right-or-wrong score */
    CHECK(s->pass[1] > s->pass[0] && s->pass[2] > s->pass[1]);
    CHECK_NEAR(r.accuracy, s->accuracy, 1e-15);
    CHECK(s->accuracy_se > 0 && s->accuracy_se < 0.2);
    CHECK_NEAR(s->reward_se, s->accuracy_se, 1e-15);
}

TEST(a_set_does_not_know_its_company) {
    struct evaluate_report alone = run("{name: a, " SAMPLED ", limit: 20}", DIGIT);
    struct evaluate_report last = run("[{name: b, " SAMPLED ", limit: 50}, "
                                      "{name: c, path: 'builtin:addition', limit: 7}, "
                                      "{name: a, " SAMPLED ", limit: 20}]",
                                      DIGIT);
    CHECK(memcmp(&alone.set[0], &last.set[2], sizeof alone.set[0]) == 0);
    CHECK(last.set[0].tokens != last.set[2].tokens * 5 / 2); /* other names, other numbers */
    CHECK_INT(last.n, 250 + 7 + 100);
    CHECK_NEAR(last.accuracy * 77,
               last.set[0].accuracy * 50 + last.set[1].accuracy * 7 + last.set[2].accuracy * 20,
               1e-9);
}

/* An answer belongs to its row of the file, wherever the set begins and ends. */
TEST(rows_add_up) {
    struct evaluate_report all = run("{name: a, " SAMPLED ", limit: 40}", DIGIT);
    struct evaluate_report one = run("{name: a, " SAMPLED ", limit: 13}", DIGIT);
    struct evaluate_report two = run("{name: a, " SAMPLED ", limit: 27, skip: 13}", DIGIT);
    CHECK_INT(all.tokens, one.tokens + two.tokens);
    CHECK_INT(all.truncated, one.truncated + two.truncated);
    CHECK_NEAR(all.accuracy * 40, one.accuracy * 13 + two.accuracy * 27, 1e-9);
    for (int k = 0; k < 3; k++)
        CHECK_NEAR(all.set[0].pass[k] * 40, one.set[0].pass[k] * 13 + two.set[0].pass[k] * 27,
                   1e-9);
}

TEST(greedy_is_the_default) {
    struct evaluate_report a = run("{path: 'builtin:addition', limit: 9}", DIGIT);
    struct evaluate_report b = run("{name: z, path: 'builtin:addition', limit: 9}", DIGIT);
    CHECK_INT(a.n, 9);
    CHECK_INT(a.tokens, b.tokens);
    CHECK_NEAR(a.accuracy, b.accuracy, 0);
}

TEST(graded_scores_need_a_threshold) {
    static const char *const length = "[{type: length, max_tokens: 12, buffer_tokens: 8}]";
    struct rig g;
    struct evaluate *e;
    rig_open(&g, "{" SAMPLED "}", length);
    CHECK_ERR(evaluate_open(&e, g.recipe, &g.policy, g.backend), ERR_CONFIG, "data.eval[0].pass");
    rig_close(&g);
    struct evaluate_report all = run("{" SAMPLED ", pass: -1.5, limit: 9}", length);
    CHECK_NEAR(all.set[0].pass[0], 1, 0);
    struct evaluate_report none = run("{" SAMPLED ", pass: 0.5, limit: 9}", length);
    CHECK_NEAR(none.set[0].pass[2], 0, 0);
    CHECK(none.accuracy < 0);
}

static bool at_once(void *ctx) {
    return ++*(int *)ctx > 3;
}

TEST(stopped_in_the_middle_and_run_again) {
    struct rig g;
    struct evaluate *e;
    struct evaluate_report a, b;
    int turns = 0;
    rig_open(&g, "{" SAMPLED ", limit: 30}", DIGIT);
    CHECK_OK(evaluate_open(&e, g.recipe, &g.policy, g.backend));
    CHECK_ERR(evaluate_run(e, g.weights, 0, at_once, &turns, &a), ERR_CLOSED, "stopped");
    CHECK_OK(evaluate_run(e, g.weights, 1, NULL, NULL, &a));
    CHECK_OK(evaluate_run(e, g.weights, 2, NULL, NULL, &b));
    CHECK_INT(a.n, 150);
    CHECK_INT(a.tokens, b.tokens);
    CHECK_NEAR(a.accuracy, b.accuracy, 0);
    struct buf json = {0}, line = {0};
    struct json_doc *doc;
    evaluate_json(&a, &json);
    CHECK_OK(json_parse(&doc, json.data, json.len, "json"));
    const struct json *set = json_get(json_get(json_root(doc), "sets"), "addition");
    CHECK_NEAR(json_num(json_get(set, "pass@3"), -1), a.set[0].pass[1], 0);
    CHECK_NEAR(json_num(json_get(json_root(doc), "pass@3"), -1), a.set[0].pass[1], 0);
    json_close(&doc);
    struct json_write w = json_write_to(&line, JSON_LINE);
    json_write_object(&w, NULL);
    evaluate_metrics(&a, &(struct metrics){.json = &w});
    json_write_end(&w);
    CHECK_OK(json_parse(&doc, line.data, line.len, "line"));
    CHECK_NEAR(json_num(json_get(json_root(doc), "eval/addition/pass@5"), -1), a.set[0].pass[2], 0);
    CHECK_NEAR(json_num(json_get(json_root(doc), "eval/addition"), -1), a.accuracy, 0);
    json_close(&doc);
    buf_close(&json);
    buf_close(&line);
    evaluate_close(&e);
    rig_close(&g);
}
