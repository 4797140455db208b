/* runlog_read.c - see runlog.h: reading. The log is input like any other (I10): every value passes
 * the frame's checksum and the message's validator, then must agree with its key. What is handed
 * out is copied into an arena, because frames inside a value are not aligned for their element
 * type. */
#include "base/arena.h"
#include "base/mem.h"
#include "proto/reward.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory_wire.h"
#include "proto/wire.h"
#include "rollout/log/runlog_impl.h"

#include <inttypes.h>
#include <math.h>
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

static int read_traj(struct trajectory *out, const struct wire_msg *msg, uint64_t key,
                     struct arena *a) {
    const Weir__Trajectory *m = msg->body;
    struct trajectory_reader r = trajectory_read(msg->frame);
    struct trajectory t = trajectory_next(&r, m);
    TRY(same_id(t.id, key));
    *out = trajectory_copy(a, &t);
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
    *out = hash_get(d.data);
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
    if (b.done) {
        TRY(read_hash(&b.before, m->hash_before));
        TRY(read_hash(&b.after, m->hash_after));
    }
    b.ids = copy(a, msg->frame[FRAME_MEMBERS].data, msg->frame[FRAME_MEMBERS].bytes);
    *out = b;
    return 0;
}

static int read_report(struct runlog_report *out, const struct wire_msg *msg, int64_t step,
                       uint64_t key, struct arena *a) {
    const struct wire_frame *text = &msg->frame[FRAME_TEXT];
    TRY(same_id((uint64_t)step, key));
    *out =
        (struct runlog_report){.step = step,
                               .json = arena_strndup(a, text->bytes ? text->data : "", text->bytes),
                               .bytes = text->bytes};
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

/* Appends the next part, which must start where the ones before ended; it is what the newest one
 * says who has the trajectory. */
static int join_part(struct trajectory *all, const struct trajectory *part, uint64_t offset) {
    if (offset != (uint64_t)all->n_response || part->offset != all->n_response ||
        part->n_response > INT32_MAX / 2 - part->offset)
        return FAIL(ERR_CORRUPT, "the part after %d tokens is not there", all->n_response);
    trajectory_append(all, part);
    all->id = part->id;
    all->group = part->group;
    all->rollout = part->rollout;
    all->started = part->started;
    all->finished = part->finished;
    all->step = part->step;
    return 0;
}

static int read_parts(struct runlog *l, uint64_t traj, struct trajectory *all, struct arena *a) {
    struct runlog_key prefix = runlog_key('P', traj);
    struct runlog_record part = {0};
    struct kv_iter *it = NULL;
    const char *key = NULL, *value = NULL;
    size_t n_key = 0, bytes = 0;
    TRY(runlog_settle(l, 'P'));
    int rc = kv_iter_open(&it, l->kv, prefix.bytes, prefix.n, NULL, 0);
    TRY(rc);
    while ((rc = kv_iter_next(it, &key, &n_key, &value, &bytes)) > 0) {
        uint64_t offset = n_key == RUNLOG_KEY ? get_big(key + 9, 4) : UINT64_MAX;
        rc = decode(&part, RUNLOG_TRAJ, traj, value, bytes, a);
        if (rc == 0) rc = join_part(all, &part.u.traj, offset);
        if (rc < 0) break;
    }
    kv_iter_close(&it);
    return err_wrap(rc, "%s: key P/%" PRIu64, l->dir, traj);
}

int runlog_get_partial(struct runlog *l, uint64_t traj, struct runlog_record *out) {
    struct runlog_record r = {.kind = RUNLOG_TRAJ};
    struct trajectory all = {.baseline = NAN};
    struct arena *a = arena_open(4096);
    int rc = 0;
    TRY_OUT(read_parts(l, traj, &all, a));
    if (all.n_response == 0) {
        rc = FAIL(ERR_NOTFOUND, "%s: no key P/%" PRIu64, l->dir, traj);
        goto out;
    }
    r.u.traj = trajectory_copy(a, &all);
    r.owned = a;
    a = NULL;
    *out = r;
out:
    trajectory_free(&all);
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
