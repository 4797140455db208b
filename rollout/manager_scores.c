/* manager_scores.c - finished trajectories to the reward service, scores back. At most
 * MANAGER_SCORES_OUT requests are with the service; the rest wait here, as ids only. A request
 * without an answer is sent again when the service is back, and after a long time in any case;
 * answers are recognised by the trajectory's id, so a second one does no harm.
 *
 * An error is an error, never a zero: the whole group is rejected with that reason, because the
 * advantages of the others would be computed against a hole. */
#include "base/log.h"
#include "base/mem.h"
#include "proto/reward.pb-c.h"
#include "rollout/engine.h"
#include "rollout/manager_impl.h"

#include <inttypes.h>
#include <string.h>

enum { AGAIN_US = 100000, LOST_US = 30000000 };

void manager_scores_add(struct manager *m, uint64_t trajectory) {
    ASSERT((int64_t)m->n_jobs < groups_capacity(m->groups));
    m->job[m->n_jobs++] = (struct manager_job){.id = trajectory};
}

void manager_scores_lost(struct manager *m) {
    for (size_t i = 0; i < m->n_jobs; i++)
        m->job[i].sent_us = 0;
}

static int send_one(struct manager *m, struct manager_client *c, uint64_t id) {
    uint64_t group = id / (uint64_t)m->recipe->rollout.group_size;
    const struct manager_prompt *p = NULL;
    struct runlog_record r = {0};
    Weir__ScoreRequest q = WEIR__SCORE_REQUEST__INIT;
    char *text = NULL;
    int rc = 0;
    TRY_OUT(manager_prompts_get(m, group, &p));
    TRY_OUT(runlog_get(m->log, RUNLOG_TRAJ, id, &r));
    TRY_OUT(tokenizer_decode(m->tokenizer, r.u.traj.response, (size_t)r.u.traj.n_response, true,
                             &text, &q.response.len));
    const char *answer = dataset_answer(m->data, p->row);
    q.trajectory = id;
    q.prompt = (ProtobufCBinaryData){strlen(p->text), (uint8_t *)p->text};
    q.response.data = (uint8_t *)text;
    q.answer.len = strlen(answer);
    memcpy(&q.answer.data, &answer, sizeof answer); /* protobuf-c has no const bytes */
    q.n_tokens = (uint32_t)r.u.traj.n_response;
    q.max_tokens = (uint32_t)m->recipe->rollout.max_new_tokens;
    q.truncated = r.u.traj.finish == ENGINE_LENGTH;
    TRY_OUT(manager_send(m, &c->id, WIRE_SCORE_REQUEST, &q, NULL, 0));
out:
    mem_free(text);
    runlog_free(&r);
    return rc;
}

/* Forgets jobs that nobody waits for any more: scored, or of a rejected group. */
static void sweep(struct manager *m) {
    /* Even if every request before it took all of its time, an answer would be here by then. */
    uint64_t limit =
        LOST_US + (uint64_t)m->recipe->reward_service.timeout_ms * 1000 * MANAGER_SCORES_OUT;
    size_t kept = 0;
    m->n_sent = 0;
    for (size_t i = 0; i < m->n_jobs; i++) {
        struct manager_job j = m->job[i];
        const struct groups_traj *t = groups_traj(m->groups, j.id);
        if (!t || t->state != GROUPS_GENERATED) continue;
        if (j.sent_us > 0 && m->now_us > j.sent_us + limit) j.sent_us = 0;
        m->n_sent += j.sent_us > 0;
        m->job[kept++] = j;
    }
    m->n_jobs = kept;
}

int manager_scores_send(struct manager *m) {
    struct manager_client *c = manager_clients_reward(m);
    sweep(m);
    if (!c || m->now_us < m->scores_pause_us) return 0;
    for (size_t i = 0; i < m->n_jobs && m->n_sent < MANAGER_SCORES_OUT; i++) {
        if (m->job[i].sent_us > 0) continue;
        int rc = send_one(m, c, m->job[i].id);
        if (rc == ERR_AGAIN) {
            manager_clients_lose(m, c, "it does not read");
            return 0;
        }
        TRY(rc);
        m->job[i].sent_us = m->now_us;
        m->n_sent++;
    }
    return 0;
}

static int put_score(struct manager *m, const Weir__ScoreReply *s) {
    struct runlog_score r = {
        .id = s->trajectory, .error = s->error, .reason = s->reason, .total = s->total};
    for (size_t i = 0; i < s->n_scores && i < RUNLOG_SCORES_MAX; i++) {
        r.name[i] = s->scores[i]->name;
        r.value[i] = s->scores[i]->value;
        r.n = i + 1;
    }
    return runlog_put_score(m->log, &r);
}

/* For the prediction: the longest response of each finished group. */
static void note_tail(struct manager *m, uint64_t group) {
    int64_t size = m->recipe->rollout.group_size;
    int32_t longest = 0;
    for (int64_t i = 0; i < size; i++) {
        int32_t n = groups_traj(m->groups, group * (uint64_t)size + (uint64_t)i)->received;
        if (n > longest) longest = n;
    }
    m->tail_max += (double)longest;
    m->tail_groups++;
}

int manager_scores_reply(struct manager *m, const struct wire_msg *msg) {
    const Weir__ScoreReply *s = msg->body;
    uint64_t group = s->trajectory / (uint64_t)m->recipe->rollout.group_size;
    const struct groups_traj *t = groups_traj(m->groups, s->trajectory);
    if (!t || t->state != GROUPS_GENERATED) return 0; /* a duplicate, or a rejected group */
    if (s->error == ERR_AGAIN) {
        for (size_t i = 0; i < m->n_jobs; i++)
            if (m->job[i].id == s->trajectory) m->job[i].sent_us = 0;
        m->scores_pause_us = m->now_us + AGAIN_US;
        return 0;
    }
    TRY(put_score(m, s));
    if (s->error != 0) {
        buf_reset(&m->failure);
        buf_printf(&m->failure, "trajectory=%" PRIu64 " reward error %s: %s", s->trajectory,
                   err_name(s->error), s->reason);
        LOG(WARN, MANAGER, "group=%" PRIu64 " rejected: %s", group, m->failure.data);
        TRY(manager_prompts_leave(m, group, GROUPS_REJECTED, GROUPS_REWARD, -1));
    } else {
        groups_score(m->groups, s->trajectory, (float)s->total);
        if (groups_group(m->groups, group)->state == GROUPS_FINISHED) note_tail(m, group);
    }
    manager_progress(m);
    return runlog_commit(m->log, false);
}
