/* manager_trainer.c - batches out, steps done in. The record of a batch is on disk before the
 * trainer sees the batch, and it never changes afterwards: asked again, after a crash of either
 * side, the manager reads it back and sends the same trajectories in the same order (I3, I7). A
 * batch carries the hash that its step gave before, if it was done before; the trainer compares. */
#include "rollout/manager/manager_trainer.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/metrics/metrics.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory.pb-c.h"
#include "proto/trajectory_wire.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_level.h"
#include "rollout/manager/manager_metrics.h"
#include "rollout/manager/manager_outbox.h"
#include "rollout/manager/manager_predict.h"
#include "rollout/manager/manager_prompts.h"
#include "rollout/manager/manager_sampling.h"
#include "rollout/manager/manager_weights.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct manager_trainer { /* the trainer's batch request that waits */
    bool pending;
    struct net_id id;
    int64_t step;
    uint64_t since_us;
    uint64_t *form; /* [batch.groups] scratch */
};

void manager_trainer_open(struct manager *m) {
    m->trainer = mem_zalloc(sizeof *m->trainer);
    m->trainer->form = mem_array((size_t)m->recipe->trainer.batch.groups, sizeof *m->trainer->form);
}

void manager_trainer_close(struct manager *m) {
    if (!m->trainer) return;
    mem_free(m->trainer->form);
    mem_free(m->trainer);
}

bool manager_trainer_waits(const struct manager *m, int64_t *step, uint64_t *since_us) {
    *step = m->trainer->step;
    *since_us = m->trainer->since_us;
    return m->trainer->pending;
}

struct send { /* a Batch message being built */
    Weir__Batch body;
    struct trajectory_list list;
};

static void note_facts(struct manager_batch_facts *f, int64_t step, const struct trajectory *t) {
    int64_t oldest = trajectory_oldest(t);
    int64_t last = (int64_t)(sizeof f->histogram / sizeof f->histogram[0]) - 1;
    int64_t stale = step - oldest, flight = t->step - oldest;
    f->n++;
    f->staleness += (double)stale;
    f->in_flight += flight > 0 ? (double)(flight < stale ? flight : stale) : 0;
    if (stale > f->staleness_max) f->staleness_max = stale;
    f->histogram[stale < 0 ? 0 : stale < last ? stale : last]++;
}

/* In the pool the reward is known; of one that left it, the log has the score. */
static int reward_of(struct manager *m, uint64_t id, float *reward) {
    const struct groups_traj *t = groups_traj(m->groups, id);
    struct runlog_record score = {0};
    if (!t) TRY(runlog_get(m->log, RUNLOG_SCORE, id, &score));
    *reward = t ? t->reward : (float)score.u.score.total;
    runlog_free(&score);
    return 0;
}

/* One trajectory with its score and, with remax, that of the group's greedy one. */
static int add_trajectory(struct manager *m, struct send *s, uint64_t id,
                          struct manager_batch_facts *f) {
    struct runlog_record hold = {0};
    struct trajectory t = {0};
    int rc = 0;
    TRY_OUT(manager_prompts_load(m, id, &t, &hold));
    TRY_OUT(reward_of(m, id, &t.reward));
    uint64_t greedy = manager_prompts_greedy(m, t.group);
    if (greedy > 0) TRY_OUT(reward_of(m, greedy - 1, &t.baseline));
    trajectory_list_add(&s->list, &t);
    note_facts(f, s->body.step, &t);
out:
    runlog_free(&hold);
    return rc;
}

static int64_t count_zero(const struct send *s, int64_t size) {
    const Weir__Trajectory *x = s->list.item;
    int64_t zero = 0, n = (int64_t)s->list.n;
    for (int64_t i = 0; i < n; i += size) {
        bool equal = true;
        for (int64_t k = i + 1; k < i + size && k < n; k++)
            equal = equal && x[k].reward == x[i].reward;
        if (x[i].has_baseline) equal = equal && x[i].baseline == x[i].reward;
        zero += equal;
    }
    return zero;
}

/* The batch of a step, and the facts about it for its line of metrics. */
static int build(struct manager *m, int64_t step, const uint64_t *ids, uint32_t n, struct send *s) {
    struct manager_batch_facts f = {.step = step};
    s->body = (Weir__Batch)WEIR__BATCH__INIT;
    s->body.step = step;
    for (uint32_t i = 0; i < n; i++)
        TRY(add_trajectory(m, s, ids[i], &f));
    trajectory_list_end(&s->list);
    s->body.n_items = s->list.n;
    s->body.items = s->list.items;
    f.zero_groups = count_zero(s, m->recipe->rollout.group_size);
    const struct manager_batch_facts *before = manager_counts_batch(m);
    f.formed_us = before->step == step && before->n > 0 ? before->formed_us : m->now_us;
    f.asked_us = m->trainer->pending ? m->trainer->since_us : m->now_us;
    f.answered_us = m->now_us;
    manager_counts_formed(m, &f);
    return 0;
}

static int send_batch(struct manager *m, struct send *s, const struct runlog_batch *record) {
    uint8_t after[16];
    hash_put(after, record->after);
    if (record->done) s->body.expect_hash = (ProtobufCBinaryData){sizeof after, after};
    return manager_outbox_say(m, &m->trainer->id, WIRE_BATCH, &s->body, s->list.frames,
                              s->list.n_frames);
}

/* The trainer that asked gets it; one that is gone asks again. */
static int give_out(struct manager *m, struct send *s, const struct runlog_batch *record) {
    m->trainer->pending = false;
    return send_batch(m, s, record);
}

static int answer_recorded(struct manager *m) {
    struct runlog_record r = {0};
    struct send s = {0};
    int rc = 0;
    TRY_OUT(runlog_get(m->log, RUNLOG_BATCH, (uint64_t)m->trainer->step, &r));
    TRY_OUT(build(m, m->trainer->step, r.u.batch.ids, r.u.batch.n, &s));
    TRY_OUT(give_out(m, &s, &r.u.batch));
    LOG_LIMITED(INFO, MANAGER, "batch of step=%" PRId64 " given out again", r.u.batch.step + 1);
out:
    trajectory_list_free(&s.list);
    runlog_free(&r);
    return rc;
}

static int answer_done(struct manager *m) {
    Weir__Batch b = WEIR__BATCH__INIT;
    b.step = m->trainer->step;
    b.done = true;
    m->trainer->pending = false;
    return manager_outbox_say(m, &m->trainer->id, WIRE_BATCH, &b, NULL, 0);
}

/* Records the chosen groups, with what is still in memory of them as the message to be, and only
 * then lets the state machine forget them. */
static int record_batch(struct manager *m, struct runlog_batch *r, uint64_t *ids, struct send *s) {
    int64_t b = m->recipe->trainer.batch.groups, size = m->recipe->rollout.group_size;
    int64_t eta = m->recipe->trainer.staleness.max;
    uint64_t late = 0;
    for (int64_t i = 0; i < b; i++) {
        int64_t stale = r->step - (groups_deadline(m->groups, m->trainer->form[i]) - eta);
        ASSERT(stale <= eta); /* I2 */
        if (stale > r->staleness_max) r->staleness_max = stale;
        for (int64_t k = 0; k < size; k++)
            ids[i * size + k] = manager_trajectory(m, m->trainer->form[i], k);
    }
    TRY(build(m, r->step, ids, r->n, s));
    for (int64_t i = 0; i < b; i++) {
        const struct manager_prompt *p = NULL;
        TRY(manager_prompts_get(m, m->trainer->form[i], &p));
        manager_sampling_trained(m, m->trainer->form[i], p->row, r->step);
        TRY(manager_prompts_leave(m, m->trainer->form[i], GROUPS_TRAINED, GROUPS_KEPT, r->step));
    }
    TRY(runlog_put_batch(m->log, r));
    groups_train(m->groups, m->trainer->form);
    while (groups_expire(m->groups, &late))
        TRY(manager_prompts_leave(m, late, GROUPS_REJECTED, GROUPS_STALE, -1));
    return runlog_commit(m->log, true);
}

/* The next batch, when there can be one. */
static int answer_new(struct manager *m) {
    uint32_t n = (uint32_t)(m->recipe->trainer.batch.groups * m->recipe->rollout.group_size);
    struct send s = {0};
    int rc = 0;
    if (!groups_form(m->groups, m->trainer->form)) return 0;
    uint64_t *ids = mem_array(n, sizeof *ids);
    struct runlog_batch r = {
        .step = m->trainer->step, .n = n, .ids = ids, .level = groups_level(m->groups)};
    TRY_OUT(record_batch(m, &r, ids, &s));
    manager_level_formed(m);
    manager_progress(m);
    TRY_OUT(give_out(m, &s, &r));
out:
    trajectory_list_free(&s.list);
    mem_free(ids);
    return rc;
}

int manager_trainer_ask(struct manager *m, const struct net_id *from, const struct wire_msg *msg) {
    const Weir__BatchRequest *q = msg->body;
    bool can_be = q->step <= groups_counts(m->groups).formed;
    if (can_be && q->hash.len > 0)
        TRY(manager_weights_published(m, q->step, hash_get(q->hash.data)));
    if (!m->trainer->pending || m->trainer->step != q->step) {
        m->trainer->since_us = m->now_us;
        manager_level_asked(m);
    }
    m->trainer->pending = true;
    m->trainer->id = *from;
    m->trainer->step = q->step;
    m->work_changed = true;
    return 0;
}

int manager_trainer_answer(struct manager *m) {
    struct groups_counts n = groups_counts(m->groups);
    if (!m->trainer->pending) return 0;
    if (m->trainer->step > n.done) /* a step is stored before the trainer may save what it gave */
        return FAIL(ERR_CORRUPT,
                    "the trainer holds step %" PRId64 ", but %s ends at step %" PRId64
                    ": the log is behind the checkpoint; `weir run --resume` says what to do",
                    m->trainer->step, runlog_dir(m->log), n.done);
    if (m->trainer->step >= m->recipe->trainer.steps) return answer_done(m);
    if (m->trainer->step < n.formed) return answer_recorded(m);
    return answer_new(m);
}

static int ack_step(struct manager *m, const struct net_id *to, int64_t step) {
    Weir__StepAck a = WEIR__STEP_ACK__INIT;
    a.step = step;
    return manager_outbox_say(m, to, WIRE_STEP_ACK, &a, NULL, 0);
}

/* What the manager itself learns from the metrics of a step. */
static void learn_from(struct manager *m, const struct buf *line) {
    struct json_doc *doc = NULL;
    const struct json *root = NULL;
    if (json_parse(&doc, line->data, line->len, "report") == 0) root = json_root(doc);
    manager_counts_done(m, metrics_get_num(root, METRIC_REWARD_MEAN, NAN));
    if (root) manager_level_step(m, root);
    json_close(&doc);
}

/* The first report of a step: hashes into the batch record, the line of metrics beside it. */
static int record_step(struct manager *m, const Weir__StepDone *d, const struct wire_frame *report,
                       struct runlog_batch *r) {
    const struct manager_batch_facts *facts = manager_counts_batch(m);
    struct buf line = {0};
    int rc = 0;
    if (facts->step != d->step || facts->answered_us == 0) { /* this manager is new */
        struct send s = {0};
        rc = build(m, d->step, r->ids, r->n, &s);
        trajectory_list_free(&s.list);
        TRY_OUT(rc);
    }
    manager_predict_step(m);
    r->before = hash_get(d->hash_before.data);
    r->after = hash_get(d->hash_after.data);
    TRY_OUT(manager_weights_published(m, d->step, r->before));
    TRY_OUT(manager_weights_published(m, d->step + 1, r->after));
    r->done = true;
    r->skipped = d->skipped;
    manager_metrics_line(m, d->step, report->data, report->bytes, &line);
    struct runlog_report text = {d->step, line.data, line.len};
    TRY_OUT(runlog_put_batch(m->log, r));
    TRY_OUT(runlog_put_report(m->log, &text));
    TRY_OUT(runlog_commit(m->log, true));
    TRY_OUT(groups_step_done(m->groups, d->step));
    learn_from(m, &line);
    manager_outbox_line(m, &line);
    manager_counts_start(m);
    manager_progress(m);
out:
    buf_close(&line);
    return rc;
}

int manager_trainer_done(struct manager *m, const struct net_id *from, const struct wire_msg *msg) {
    const Weir__StepDone *d = msg->body;
    struct runlog_record r = {0};
    int rc = runlog_get(m->log, RUNLOG_BATCH, (uint64_t)d->step, &r);
    if (rc == ERR_NOTFOUND) {
        manager_warn(m, from, "step report refused", "no batch was given out for it");
        return 0;
    }
    TRY(rc);
    if (!r.u.batch.done) {
        rc = record_step(m, d, &msg->frame[FRAME_TEXT], &r.u.batch);
    } else if (!hash_equal(r.u.batch.after, hash_get(d->hash_after.data))) {
        char old[HASH_HEX], now[HASH_HEX];
        hash_hex(r.u.batch.after, old);
        hash_hex(hash_get(d->hash_after.data), now);
        LOG_LIMITED(ERROR, MANAGER,
                    "step=%" PRId64 " done again with other weights: hash %s, before it was %s",
                    d->step + 1, now, old);
    }
    runlog_free(&r);
    TRY(rc);
    return ack_step(m, from, d->step);
}

int manager_trainer_eval(struct manager *m, const struct net_id *from, const struct wire_msg *msg) {
    const Weir__EvalDone *d = msg->body;
    struct runlog_record old = {0};
    struct buf line = {0};
    int rc = 0;
    if (d->version > groups_counts(m->groups).formed) {
        manager_warn(m, from, "evaluation refused", "of a version that cannot exist");
        return 0;
    }
    buf_add(&line, msg->frame[FRAME_TEXT].data, msg->frame[FRAME_TEXT].bytes);
    for (size_t i = 0; i < line.len; i++) /* one report is one line of a file */
        if (line.data[i] == '\n' || line.data[i] == '\r') line.data[i] = ' ';
    struct json_doc *doc = NULL;
    rc = json_parse(&doc, line.len ? line.data : "", line.len, "report");
    if (rc < 0 || !json_is(json_root(doc), JSON_OBJECT)) {
        manager_warn(m, from, "evaluation refused", rc < 0 ? err_text() : "not a JSON object");
        rc = 0;
        goto out;
    }
    rc = runlog_get(m->log, RUNLOG_EVAL, (uint64_t)d->version, &old);
    if (rc == ERR_NOTFOUND) { /* else it was sent again, or done again: the first one counts */
        struct runlog_report r = {d->version, line.data, line.len};
        TRY_OUT(runlog_put_eval(m->log, &r));
        TRY_OUT(runlog_commit(m->log, true));
        manager_outbox_line(m, &line);
        rc = 0;
    }
    TRY_OUT(rc);
    TRY_OUT(ack_step(m, from, d->version));
out:
    json_close(&doc);
    runlog_free(&old);
    buf_close(&line);
    return rc;
}
