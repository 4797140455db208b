/* preflight.c - see preflight.h. Order is that of a user's corrections: settings, rewards, devices,
 * the model's folder, what fits into its context, then the data, which needs all of them. */
#include "deploy/preflight/preflight.h"

#include "actor/params.h"
#include "deploy/evaluate/evaluate.h"
#include "deploy/preflight/preflight_rows.h"
#include "reward/verify/verify_spec.h"
#include "rollout/engine/seq.h"
#include "rollout/manager/manager_setup.h"
#include "rollout/setup/setup_policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int check_device(const char *name, const char *key) {
    const struct kern_backend *b;
    TRY(err_wrap(kern_open(&b, name, 1), "%s", key));
    kern_close(b);
    return 0;
}

/* The folders that weights are read from. */
static int check_weights(const struct recipe *r, const struct shape *s) {
    const char *reference = r->trainer.algorithm.kl.reference;
    if (r->model.weights == RECIPE_WEIGHTS_LOAD) TRY(params_check(s, r->model.path));
    if (!reference) return 0;
    return err_wrap(params_check(s, reference), "trainer.algorithm.kl.reference");
}

static int64_t eval_tokens(const struct recipe *r) {
    return r->eval.max_new_tokens ? r->eval.max_new_tokens : r->rollout.max_new_tokens;
}

/* What an evaluation generates must fit behind its prompt into the model's context. */
static int check_evals(struct buf *notes, const struct recipe *r, const struct policy *p,
                       const struct verify *v) {
    int64_t room = p->shape.context - eval_tokens(r);
    if (r->data.n_eval > 0 && room < 1)
        return FAIL(ERR_CONFIG,
                    "eval.max_new_tokens %" PRId64
                    " leaves no prompt any room in the model's context of %d tokens; what fits is "
                    "for example eval.max_new_tokens: %d",
                    eval_tokens(r), p->shape.context, p->shape.context / 2);
    for (int64_t i = 0; i < r->data.n_eval; i++) {
        char section[64];
        struct preflight_rows q = {.section = section,
                                   .rows = &r->data.eval[i].rows,
                                   .policy = p,
                                   .verify = v,
                                   .seed = r->seed,
                                   .longest = r->rollout.max_prompt_tokens,
                                   .limit = "rollout.max_prompt_tokens",
                                   .room = room};
        if (room < q.longest) {
            q.longest = room;
            q.limit = "the model's context less eval.max_new_tokens,";
        }
        snprintf(section, sizeof section, "data.eval[%" PRId64 "]", i);
        TRY(preflight_rows(notes, &q));
    }
    return 0;
}

int preflight_eval(struct buf *notes, const struct recipe *r, const struct policy *p) {
    struct verify *v;
    TRY(evaluate_check(r));
    TRY(verify_spec_open(&v, r));
    int rc = check_evals(notes, r, p, v);
    verify_close(&v);
    return rc;
}

static int check_rows(struct buf *notes, const struct recipe *r, const struct policy *p,
                      const struct verify *v) {
    struct preflight_rows q = {.section = "data.train",
                               .rows = &r->data.train,
                               .policy = p,
                               .verify = v,
                               .seed = r->seed,
                               .longest = r->rollout.max_prompt_tokens,
                               .limit = "rollout.max_prompt_tokens",
                               .at_least = r->trainer.batch.groups,
                               .room = p->shape.context - r->rollout.max_new_tokens};
    TRY(preflight_rows(notes, &q));
    TRY(manager_setup_candidates(r, q.n));
    return check_evals(notes, r, p, v);
}

int preflight_sft(struct buf *notes, const struct recipe *r, const struct recipe_data *rows,
                  const char *section, const struct policy *p) {
    struct preflight_rows q = {
        .section = section, .rows = rows, .policy = p, .seed = r->seed, .longest = INT64_MAX};
    return preflight_rows(notes, &q);
}

/* What the services check when they open what the recipe asks for. */
static int check_services(const struct recipe *r) {
    struct groups_config cfg = manager_setup_groups(r);
    struct groups *g;
    for (int64_t i = 0; i < r->rollout.n_stop; i++) {
        size_t n = strlen(r->rollout.stop[i]);
        if (n < 1 || n > SEQ_STOP_BYTES_MAX)
            return FAIL(ERR_CONFIG, "rollout.stop[%" PRId64 "] has %zu bytes, allowed are 1 to %d",
                        i, n, (int)SEQ_STOP_BYTES_MAX);
    }
    TRY(groups_open(&g, &cfg));
    groups_close(&g);
    return evaluate_check(r);
}

/* Some settings of a reward meet the recipe's lengths only when a response is judged. */
static int check_reward(const struct verify *v, const struct recipe *r) {
    struct verify_input in = {.answer = "1", .max_tokens = (int32_t)r->rollout.max_new_tokens};
    struct verify_result out;
    verify_run(v, &in, &out);
    return out.error == ERR_CONFIG ? FAIL(ERR_CONFIG, "reward: %s", out.reason) : 0;
}

/* In the order in which a user would mend it, cheap checks first: the rows may be millions. */
int preflight(struct preflight *out, const struct recipe *r, bool resumed) {
    struct preflight f = {0};
    struct policy p = {0};
    struct verify *v = NULL;
    int rc;
    if (!r->model.path) return FAIL(ERR_CONFIG, "model.path is missing");
    if (!r->data.train.path) return FAIL(ERR_CONFIG, "data.train.path is missing");
    TRY_OUT(verify_spec_open(&v, r));
    TRY_OUT(check_reward(v, r));
    TRY_OUT(check_device(r->rollout.device, "rollout.device"));
    TRY_OUT(check_device(r->trainer.device, "trainer.device"));
    TRY_OUT(check_services(r));
    TRY_OUT(setup_policy(&p, r, NULL));
    f.shape = p.shape;
    f.shape.bf16 = r->model.dtype == RECIPE_DTYPE_BF16;
    TRY_OUT(start_report_plan(&f.plan, r, &f.shape));
    if (!resumed) TRY_OUT(check_weights(r, &p.shape));
    TRY_OUT(check_rows(&f.notes, r, &p, v));
    *out = f;
    f.notes = (struct buf){0};
out:
    preflight_close(&f);
    policy_close(&p);
    verify_close(&v);
    return rc;
}

void preflight_close(struct preflight *p) {
    buf_close(&p->notes);
    *p = (struct preflight){0};
}
