/* runlog_read.c - see runlog.h: reading. The log is input like any other (I10): every value passes
 * the frame's checksum and the message's validator, then must agree with its key. What is handed
 * out is copied into an arena, because frames inside a value are not aligned for their element
 * type. */
#include "base/arena.h"
#include "base/mem.h"
#include "proto/reward.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/wire.h"
#include "relay/sealed.h"
#include "rollout/log/runlog_impl.h"

#include <inttypes.h>
#include <string.h>

struct runlog_scan {
    struct runlog *log;
    struct kv_iter *it;
    struct arena *arena;
    struct runlog_record record;
};

static const struct kind {
    char letter;
    enum wire_type type;
} kinds[RUNLOG_KINDS] = {
    [RUNLOG_GROUP] = {'G', WIRE_GROUP_RECORD},     [RUNLOG_TRAJ] = {'T', WIRE_TRAJECTORY_RECORD},
    [RUNLOG_SCORE] = {'S', WIRE_SCORE_RECORD},     [RUNLOG_BATCH] = {'B', WIRE_BATCH_RECORD},
    [RUNLOG_REPORT] = {'R', WIRE_STEP_DONE},       [RUNLOG_EVAL] = {'E', WIRE_EVAL_DONE},
    [RUNLOG_WEIGHTS] = {'W', WIRE_WEIGHTS_RECORD},
};

static void *copy(struct arena *a, const void *data, size_t bytes) {
    void *to = arena_alloc(a, bytes ? bytes : 1);
    if (bytes) memcpy(to, data, bytes);
    return to;
}

static const char *copy_text(struct arena *a, ProtobufCBinaryData d) {
    return arena_strndup(a, d.len ? (const char *)d.data : "", d.len);
}

/* A value under another record's key is damage that no checksum sees. */
static int same_id(uint64_t id, uint64_t key) {
    if (id == key) return 0;
    return FAIL(ERR_CORRUPT, "holds the record of %" PRIu64, id);
}

static int frame_is(const struct wire_msg *m, size_t i, size_t n, size_t size) {
    if (i < m->n_frames && m->frame[i].bytes == n * size) return 0;
    return FAIL(ERR_CORRUPT, "frame %zu has not %zu elements", i, n);
}

static int read_group(struct runlog_group *out, const struct wire_msg *msg, uint64_t key,
                      struct arena *a) {
    const Weir__GroupRecord *m = msg->body;
    TRY(same_id(m->group, key));
    if (m->state != GROUPS_RUNNING && m->state != GROUPS_TRAINED && m->state != GROUPS_REJECTED)
        return FAIL(ERR_CORRUPT, "state is %" PRIu32, m->state);
    enum groups_reason reason = groups_reason_from(m->reason);
    if ((reason != GROUPS_KEPT) != (m->state == GROUPS_REJECTED))
        return FAIL(ERR_CORRUPT, "state %" PRIu32 " with reason \"%.40s\"", m->state, m->reason);
    *out = (struct runlog_group){.id = m->group,
                                 .row = m->row,
                                 .epoch = m->epoch,
                                 .slot = m->slot,
                                 .floor = m->floor,
                                 .step = m->step,
                                 .before = m->before,
                                 .greedy = m->greedy,
                                 .alpha = m->alpha,
                                 .beta = m->beta,
                                 .state = (enum groups_state)m->state,
                                 .reason = reason,
                                 .prompt = copy_text(a, m->prompt),
                                 .answer = copy_text(a, m->answer),
                                 .n_prompt = m->prompt.len,
                                 .n_answer = m->answer.len};
    return 0;
}

static int read_traj(struct runlog_traj *out, const struct wire_msg *msg, uint64_t key,
                     struct arena *a) {
    const Weir__TrajectoryRecord *m = msg->body;
    size_t n = m->n_response;
    TRY(same_id(m->trajectory, key));
    if (m->n_prompt > INT32_MAX || m->n_response > INT32_MAX)
        return FAIL(ERR_CORRUPT, "%" PRIu32 " and %" PRIu32 " tokens", m->n_prompt, m->n_response);
    TRY(frame_is(msg, 0, m->n_prompt, sizeof(int32_t)));
    TRY(frame_is(msg, 1, n, sizeof(int32_t)));
    TRY(frame_is(msg, 2, n, sizeof(float)));
    TRY(frame_is(msg, 3, n, sizeof(int64_t)));
    *out = (struct runlog_traj){.id = m->trajectory,
                                .group = m->group,
                                .n_prompt = (int32_t)m->n_prompt,
                                .n_response = (int32_t)n,
                                .finish = m->finish,
                                .rollout = arena_strndup(a, m->rollout, strlen(m->rollout)),
                                .started = m->started_us,
                                .finished = m->finished_us,
                                .step = m->step,
                                .prompt = copy(a, msg->frame[0].data, msg->frame[0].bytes),
                                .response = copy(a, msg->frame[1].data, msg->frame[1].bytes),
                                .logprob = copy(a, msg->frame[2].data, msg->frame[2].bytes),
                                .version = copy(a, msg->frame[3].data, msg->frame[3].bytes)};
    return 0;
}

static int read_score(struct runlog_score *out, const struct wire_msg *msg, uint64_t key,
                      struct arena *a) {
    const Weir__ScoreRecord *m = msg->body;
    TRY(same_id(m->trajectory, key));
    if (m->n_scores > RUNLOG_SCORES_MAX)
        return FAIL(ERR_CORRUPT, "%zu scores, at most %d", m->n_scores, RUNLOG_SCORES_MAX);
    *out = (struct runlog_score){.id = m->trajectory,
                                 .error = m->error,
                                 .reason = arena_strndup(a, m->reason, strlen(m->reason)),
                                 .total = m->total,
                                 .n = m->n_scores};
    for (size_t i = 0; i < m->n_scores; i++) {
        out->name[i] = arena_strndup(a, m->scores[i]->name, strlen(m->scores[i]->name));
        out->value[i] = m->scores[i]->value;
    }
    return 0;
}

static int read_hash(struct hash *out, ProtobufCBinaryData d) {
    if (d.len != sizeof *out) return FAIL(ERR_CORRUPT, "a hash of %zu bytes", d.len);
    *out = sealed_hash_get(d.data);
    return 0;
}

static int read_batch(struct runlog_batch *out, const struct wire_msg *msg, uint64_t key,
                      struct arena *a) {
    const Weir__BatchRecord *m = msg->body;
    struct runlog_batch b = {.step = m->step,
                             .staleness_max = m->staleness_max,
                             .level = m->level,
                             .n = m->n,
                             .skipped = m->skipped,
                             .done = m->hash_after.len > 0};
    TRY(same_id((uint64_t)m->step, key));
    TRY(frame_is(msg, 0, m->n, sizeof(uint64_t)));
    if (b.done) {
        TRY(read_hash(&b.before, m->hash_before));
        TRY(read_hash(&b.after, m->hash_after));
    }
    b.ids = copy(a, msg->frame[0].data, msg->frame[0].bytes);
    *out = b;
    return 0;
}

static int read_report(struct runlog_report *out, const struct wire_msg *msg, int64_t step,
                       uint64_t key, struct arena *a) {
    TRY(same_id((uint64_t)step, key));
    if (msg->n_frames != 1) return FAIL(ERR_CORRUPT, "no report");
    *out = (struct runlog_report){
        .step = step,
        .json =
            arena_strndup(a, msg->frame[0].bytes ? msg->frame[0].data : "", msg->frame[0].bytes),
        .bytes = msg->frame[0].bytes};
    return 0;
}

static int read_weights(struct runlog_weights *out, const struct wire_msg *msg, uint64_t key,
                        struct arena *a) {
    const Weir__WeightsRecord *m = msg->body;
    struct runlog_weights w = {.version = m->version};
    TRY(same_id((uint64_t)m->version, key));
    TRY(read_hash(&w.hash, m->hash));
    w.rollout = arena_strndup(a, m->rollout, strlen(m->rollout));
    *out = w;
    return 0;
}

static int decode(struct runlog_record *out, enum runlog_kind kind, uint64_t key, const void *value,
                  size_t bytes, struct arena *a) {
    struct wire_msg msg;
    TRY(wire_unflatten(&msg, value, bytes, kinds[kind].type));
    int rc = 0;
    out->kind = kind;
    switch (kind) {
    case RUNLOG_GROUP: rc = read_group(&out->u.group, &msg, key, a); break;
    case RUNLOG_TRAJ: rc = read_traj(&out->u.traj, &msg, key, a); break;
    case RUNLOG_SCORE: rc = read_score(&out->u.score, &msg, key, a); break;
    case RUNLOG_BATCH: rc = read_batch(&out->u.batch, &msg, key, a); break;
    case RUNLOG_REPORT: {
        const Weir__StepDone *m = msg.body;
        rc = read_report(&out->u.report, &msg, m->step, key, a);
        break;
    }
    case RUNLOG_EVAL: {
        const Weir__EvalDone *m = msg.body;
        rc = read_report(&out->u.report, &msg, m->version, key, a);
        break;
    }
    case RUNLOG_WEIGHTS: rc = read_weights(&out->u.weights, &msg, key, a); break;
    case RUNLOG_KINDS: ASSERT(false);
    }
    wire_free(&msg);
    return rc;
}

int runlog_get(struct runlog *l, enum runlog_kind kind, uint64_t id, struct runlog_record *out) {
    struct runlog_key key = runlog_key(kinds[kind].letter, id);
    struct runlog_record r = {0};
    char *value = NULL;
    size_t bytes = 0;
    TRY(runlog_settle(l, kinds[kind].letter));
    int rc = kv_get(l->kv, key.bytes, key.n, &value, &bytes);
    if (rc == ERR_NOTFOUND)
        return FAIL(ERR_NOTFOUND, "%s: no key %c/%" PRIu64, l->dir, kinds[kind].letter, id);
    TRY(rc);
    struct arena *a = arena_open(bytes + 512);
    rc = decode(&r, kind, id, value, bytes, a);
    mem_free(value);
    if (rc < 0) {
        arena_close(&a);
        return err_wrap(rc, "%s: key %c/%" PRIu64, l->dir, kinds[kind].letter, id);
    }
    r.owned = a;
    *out = r;
    return 0;
}

void runlog_free(struct runlog_record *r) {
    struct arena *a = r->owned;
    if (a) arena_close(&a);
    r->owned = NULL;
}

static uint64_t get_big(const char *at, size_t bytes) {
    uint64_t x = 0;
    for (size_t i = 0; i < bytes; i++)
        x = x << 8 | (uint8_t)at[i];
    return x;
}

/* Arrays that grow while chunks are joined. */
struct joined {
    size_t n, cap[3];
    int32_t *response;
    float *logprob;
    int64_t *version;
};

static void join(struct joined *j, const struct runlog_traj *t) {
    size_t n = (size_t)t->n_response;
    mem_grow(&j->response, &j->cap[0], j->n + n, sizeof *j->response);
    mem_grow(&j->logprob, &j->cap[1], j->n + n, sizeof *j->logprob);
    mem_grow(&j->version, &j->cap[2], j->n + n, sizeof *j->version);
    memcpy(j->response + j->n, t->response, n * sizeof *t->response);
    memcpy(j->logprob + j->n, t->logprob, n * sizeof *t->logprob);
    memcpy(j->version + j->n, t->version, n * sizeof *t->version);
    j->n += n;
}

/* Reads chunk after chunk; each must start where the one before ended. */
static int read_chunks(struct runlog *l, uint64_t traj, struct joined *j, struct runlog_traj *last,
                       struct arena *a) {
    struct runlog_key prefix = runlog_key('P', traj);
    struct runlog_record chunk = {0};
    struct kv_iter *it = NULL;
    const char *key = NULL, *value = NULL;
    size_t n_key = 0, bytes = 0;
    TRY(runlog_settle(l, 'P'));
    int rc = kv_iter_open(&it, l->kv, prefix.bytes, prefix.n, NULL, 0);
    TRY(rc);
    while ((rc = kv_iter_next(it, &key, &n_key, &value, &bytes)) > 0) {
        if (n_key != RUNLOG_KEY || get_big(key + 9, 4) != j->n || j->n > INT32_MAX / 2) {
            rc = FAIL(ERR_CORRUPT, "the partial after %zu tokens is not there", j->n);
            break;
        }
        rc = decode(&chunk, RUNLOG_TRAJ, traj, value, bytes, a);
        if (rc < 0) break;
        join(j, &chunk.u.traj);
        *last = chunk.u.traj;
    }
    kv_iter_close(&it);
    return err_wrap(rc, "%s: key P/%" PRIu64, l->dir, traj);
}

int runlog_get_partial(struct runlog *l, uint64_t traj, struct runlog_record *out) {
    struct runlog_record r = {.kind = RUNLOG_TRAJ};
    struct joined j = {0};
    struct arena *a = arena_open(4096);
    int rc = 0;
    TRY_OUT(read_chunks(l, traj, &j, &r.u.traj, a));
    if (j.n == 0) {
        rc = FAIL(ERR_NOTFOUND, "%s: no key P/%" PRIu64, l->dir, traj);
        goto out;
    }
    r.u.traj.n_response = (int32_t)j.n;
    r.u.traj.response = copy(a, j.response, j.n * sizeof *j.response);
    r.u.traj.logprob = copy(a, j.logprob, j.n * sizeof *j.logprob);
    r.u.traj.version = copy(a, j.version, j.n * sizeof *j.version);
    r.owned = a;
    a = NULL;
    *out = r;
out:
    mem_free(j.response);
    mem_free(j.logprob);
    mem_free(j.version);
    arena_close(&a);
    return rc;
}

int runlog_scan_open(struct runlog_scan **out, struct runlog *l, enum runlog_kind kind,
                     uint64_t from) {
    struct runlog_key key = runlog_key(kinds[kind].letter, from);
    struct kv_iter *it = NULL;
    TRY(runlog_settle(l, kinds[kind].letter));
    TRY(kv_iter_open(&it, l->kv, key.bytes, 1, key.bytes, key.n));
    struct runlog_scan *s = mem_zalloc(sizeof *s);
    s->log = l;
    s->it = it;
    s->arena = arena_open(64 << 10);
    s->record.kind = kind;
    *out = s;
    return 0;
}

int runlog_scan_next(struct runlog_scan *s, const struct runlog_record **out) {
    const char *key = NULL, *value = NULL, letter = kinds[s->record.kind].letter;
    size_t n_key = 0, bytes = 0;
    int rc = kv_iter_next(s->it, &key, &n_key, &value, &bytes);
    if (rc <= 0) return rc;
    if (n_key != 9)
        return FAIL(ERR_CORRUPT, "%s: a key %c/ of %zu bytes", s->log->dir, letter, n_key);
    uint64_t id = get_big(key + 1, 8);
    arena_reset(s->arena);
    TRY(err_wrap(decode(&s->record, s->record.kind, id, value, bytes, s->arena),
                 "%s: key %c/%" PRIu64, s->log->dir, letter, id));
    *out = &s->record;
    return 1;
}

void runlog_scan_close(struct runlog_scan **s) {
    if (!*s) return;
    kv_iter_close(&(*s)->it);
    arena_close(&(*s)->arena);
    mem_free(*s);
    *s = NULL;
}
