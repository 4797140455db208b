/* runlog.c - see runlog.h: opening and writing. Records are collected in one RocksDB write batch
 * and committed together, so that the log only ever shows whole events: a batch record never
 * without its groups marked as trained, a rejected group never half rejected (I3). With a writer
 * (runlog_writer.h) a commit hands the event over; reading waits only if what is read could be in
 * an event that is not written yet, which the letters of its keys say.
 *
 * A finished trajectory is one record and its partials are deleted in the same event; who wrote
 * them knows their offsets, so that no search is needed but after a restart. Tokens are
 * thus written twice; the alternative, a trajectory in chunks for ever, makes every reader join
 * them and keeps log-probs of one response apart on disk. */
#include "rollout/log/runlog.h"

#include "base/file.h"
#include "base/mem.h"
#include "proto/reward.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/wire.h"
#include "relay/sealed.h"
#include "rollout/log/runlog_impl.h"

#include <inttypes.h>
#include <string.h>

static void put_big(char *at, uint64_t x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        at[i] = (char)(x >> (8 * (bytes - 1 - i)));
}

struct runlog_key runlog_key(char letter, uint64_t id) {
    struct runlog_key k = {.n = 9};
    k.bytes[0] = letter;
    put_big(k.bytes + 1, id, 8);
    return k;
}

struct runlog_key runlog_key_partial(uint64_t traj, uint32_t offset) {
    struct runlog_key k = runlog_key('P', traj);
    put_big(k.bytes + 9, offset, 4);
    k.n = RUNLOG_KEY;
    return k;
}

/* The meta record is text, so that any later version can say what it does not understand. */
static void meta_text(struct buf *out, const struct runlog_meta *m) {
    char hex[HASH_HEX];
    hash_hex(m->recipe, hex);
    buf_printf(out, "weir-log format=%" PRIu64 " seed=%" PRIu64 " recipe=%s", m->format, m->seed,
               hex);
}

/* "name=digits" out of the meta text. */
static bool meta_number(const char *text, const char *name, uint64_t *out) {
    const char *at = strstr(text, name);
    uint64_t x = 0;
    if (!at) return false;
    at += strlen(name);
    if (*at < '0' || *at > '9') return false;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(x, (uint64_t)10, &x) ||
            __builtin_add_overflow(x, (uint64_t)(*at - '0'), &x))
            return false;
    *out = x;
    return true;
}

static int meta_parse(struct runlog_meta *out, const char *text, const char *dir) {
    struct runlog_meta m = {0};
    const char *hex = strstr(text, " recipe=");
    if (strncmp(text, "weir-log ", 9) != 0 || !meta_number(text, " format=", &m.format))
        return FAIL(ERR_CORRUPT, "%s: key M/run is not a rollout log's", dir);
    if (m.format != RUNLOG_FORMAT)
        return FAIL(ERR_UNSUP, "%s has format %" PRIu64 ", this program reads %d", dir, m.format,
                    RUNLOG_FORMAT);
    if (!meta_number(text, " seed=", &m.seed) || !hex || !hash_from_hex(&m.recipe, hex + 8))
        return FAIL(ERR_CORRUPT, "%s: key M/run: \"%.200s\"", dir, text);
    *out = m;
    return 0;
}

static int meta_read(struct runlog *l) {
    char *text = NULL;
    size_t bytes = 0;
    TRY(kv_get(l->kv, "Mrun", 4, &text, &bytes));
    int rc = meta_parse(&l->meta, text, l->dir);
    mem_free(text);
    return rc;
}

int runlog_is_of(const struct runlog *l, const struct runlog_meta *want) {
    if (l->meta.seed != want->seed)
        return FAIL(ERR_MISMATCH, "%s was made with seed %" PRIu64 ", the recipe says %" PRIu64,
                    l->dir, l->meta.seed, want->seed);
    if (!hash_equal(l->meta.recipe, want->recipe) && !hash_equal(l->meta.recipe, want->text))
        return FAIL(
            ERR_MISMATCH,
            "%s was made with another recipe: recipe.yaml beside it was changed by hand. Put "
            "back what it was; what a continued run may change is given as --set",
            l->dir);
    return 0;
}

/* A new log gets its meta record before anything else. One that is known by its recipe's text gets
 * the identity, so that the run can be extended, which changes the text. */
static int meta_check(struct runlog *l, const struct runlog_meta *want) {
    int rc = meta_read(l);
    if (rc == 0) rc = runlog_is_of(l, want);
    if (rc == 0 && hash_equal(l->meta.recipe, want->recipe)) return 0;
    if (rc != ERR_NOTFOUND) TRY(rc);
    l->meta = *want;
    l->meta.format = RUNLOG_FORMAT;
    buf_reset(&l->value);
    meta_text(&l->value, &l->meta);
    kv_batch_put(l->batch, "Mrun", 4, l->value.data, l->value.len);
    return runlog_commit(l, true);
}

static int open_for_writing(struct runlog **out, const char *dir, const struct runlog_meta *meta,
                            bool create) {
    struct runlog *l = mem_zalloc(sizeof *l);
    int rc = 0;
    l->dir = mem_strdup(dir);
    l->batch = kv_batch_open();
    TRY_OUT(kv_open(&l->kv, dir, create));
    TRY_OUT(meta_check(l, meta));
    *out = l;
    l = NULL;
out:
    runlog_close(&l);
    return rc;
}

int runlog_open(struct runlog **out, const char *dir, const struct runlog_meta *meta) {
    return open_for_writing(out, dir, meta, true);
}

int runlog_open_existing(struct runlog **out, const char *dir, const struct runlog_meta *meta) {
    return open_for_writing(out, dir, meta, false);
}

int runlog_open_readonly(struct runlog **out, const char *dir) {
    struct runlog *l = mem_zalloc(sizeof *l);
    int rc = 0;
    l->dir = mem_strdup(dir);
    TRY_OUT(kv_open_readonly(&l->kv, dir));
    rc = meta_read(l);
    if (rc == ERR_NOTFOUND) rc = FAIL(rc, "%s is empty: it has no record of a run", dir);
    TRY_OUT(rc);
    *out = l;
    l = NULL;
out:
    runlog_close(&l);
    return rc;
}

int runlog_open_damaged(struct runlog **out, const char *dir) {
    struct runlog *l = mem_zalloc(sizeof *l);
    l->dir = mem_strdup(dir);
    int rc = kv_open_damaged(&l->kv, dir);
    if (rc < 0)
        runlog_close(&l);
    else
        *out = l;
    return rc;
}

void runlog_close(struct runlog **l) {
    if (!*l) return;
    runlog_writer_close(&(*l)->writer);
    kv_batch_close(&(*l)->batch);
    kv_close(&(*l)->kv);
    buf_close(&(*l)->value);
    mem_free((*l)->dir);
    mem_free(*l);
    *l = NULL;
}

struct runlog_meta runlog_meta(const struct runlog *l) {
    return l->meta;
}

const char *runlog_dir(const struct runlog *l) {
    return l->dir;
}

static void note_letter(struct runlog *l, char letter) {
    l->letters |= 1U << (letter - 'A');
}

static int put(struct runlog *l, struct runlog_key key, enum wire_type type, const void *body,
               const struct wire_frame *frames, size_t n_frames) {
    struct kv_part part[1 + WIRE_FRAMES_MAX];
    ASSERT(l->batch);
    TRY(err_wrap(wire_flat_head(&l->value, type, body, frames, n_frames), "%s: record %c", l->dir,
                 key.bytes[0]));
    part[0] = (struct kv_part){l->value.data, l->value.len};
    for (size_t i = 0; i < n_frames; i++)
        part[1 + i] = (struct kv_part){frames[i].data, frames[i].bytes};
    kv_batch_put_parts(l->batch, key.bytes, key.n, part, 1 + n_frames);
    note_letter(l, key.bytes[0]);
    return 0;
}

/* protobuf-c's messages hold non-const pointers, also when they only lend. */
static ProtobufCBinaryData lend(const void *data, size_t bytes) {
    union {
        const void *in;
        uint8_t *out;
    } u = {.in = data};
    return (ProtobufCBinaryData){.len = bytes, .data = u.out};
}

static char *lend_text(const char *s) {
    union {
        const char *in;
        char *out;
    } u = {.in = s ? s : ""};
    return u.out;
}

int runlog_put_group(struct runlog *l, const struct runlog_group *r) {
    Weir__GroupRecord m = WEIR__GROUP_RECORD__INIT;
    m.group = r->id;
    m.row = r->row;
    m.epoch = r->epoch;
    m.slot = r->slot;
    m.floor = r->floor;
    m.before = r->before;
    m.greedy = r->greedy;
    m.alpha = r->alpha;
    m.beta = r->beta;
    m.state = (uint32_t)r->state;
    m.reason = lend_text(groups_reason_name(r->reason));
    m.step = r->step;
    m.prompt = lend(r->prompt, r->n_prompt);
    m.answer = lend(r->answer, r->n_answer);
    return put(l, runlog_key('G', r->id), WIRE_GROUP_RECORD, &m, NULL, 0);
}

static int put_tokens(struct runlog *l, struct runlog_key key, const struct runlog_traj *r) {
    Weir__TrajectoryRecord m = WEIR__TRAJECTORY_RECORD__INIT;
    m.trajectory = r->id;
    m.group = r->group;
    m.n_prompt = (uint32_t)r->n_prompt;
    m.n_response = (uint32_t)r->n_response;
    m.finish = r->finish;
    m.rollout = lend_text(r->rollout);
    m.started_us = r->started;
    m.finished_us = r->finished;
    m.step = r->step;
    size_t n = (size_t)r->n_response;
    struct wire_frame frames[4] = {
        {r->prompt, (size_t)r->n_prompt * sizeof *r->prompt},
        {r->response, n * sizeof *r->response},
        {r->logprob, n * sizeof *r->logprob},
        {r->version, n * sizeof *r->version},
    };
    return put(l, key, WIRE_TRAJECTORY_RECORD, &m, frames, 4);
}

int runlog_put_partial(struct runlog *l, const struct runlog_traj *r, int32_t offset) {
    return put_tokens(l, runlog_key_partial(r->id, (uint32_t)offset), r);
}

static void drop(struct runlog *l, struct runlog_key key) {
    kv_batch_delete(l->batch, key.bytes, key.n);
    note_letter(l, key.bytes[0]);
}

void runlog_drop_partial(struct runlog *l, uint64_t traj, uint32_t offset) {
    drop(l, runlog_key_partial(traj, offset));
}

int runlog_drop_partials(struct runlog *l, uint64_t traj) {
    struct runlog_key prefix = runlog_key('P', traj);
    struct kv_iter *it = NULL;
    const char *key = NULL, *value = NULL;
    size_t n_key = 0, bytes = 0;
    TRY(runlog_settle(l, 'P'));
    int rc = kv_iter_open(&it, l->kv, prefix.bytes, prefix.n, NULL, 0);
    TRY(rc);
    while ((rc = kv_iter_next(it, &key, &n_key, &value, &bytes)) > 0)
        kv_batch_delete(l->batch, key, n_key);
    note_letter(l, 'P');
    kv_iter_close(&it);
    return rc;
}

int runlog_put_traj(struct runlog *l, const struct runlog_traj *r) {
    return put_tokens(l, runlog_key('T', r->id), r);
}

int runlog_put_score(struct runlog *l, const struct runlog_score *r) {
    Weir__ScoreRecord m = WEIR__SCORE_RECORD__INIT;
    Weir__Score score[RUNLOG_SCORES_MAX], *list[RUNLOG_SCORES_MAX];
    ASSERT(r->n <= RUNLOG_SCORES_MAX);
    m.trajectory = r->id;
    m.error = r->error;
    m.reason = lend_text(r->reason);
    m.total = r->total;
    m.n_scores = r->n;
    m.scores = list;
    for (size_t i = 0; i < r->n; i++) {
        score[i] = (Weir__Score)WEIR__SCORE__INIT;
        score[i].name = lend_text(r->name[i]);
        score[i].value = r->value[i];
        list[i] = &score[i];
    }
    return put(l, runlog_key('S', r->id), WIRE_SCORE_RECORD, &m, NULL, 0);
}

int runlog_put_batch(struct runlog *l, const struct runlog_batch *r) {
    Weir__BatchRecord m = WEIR__BATCH_RECORD__INIT;
    m.step = r->step;
    m.n = r->n;
    m.staleness_max = r->staleness_max;
    m.level = r->level;
    m.skipped = r->skipped;
    uint8_t before[16], after[16];
    if (r->done) {
        sealed_hash_put(before, r->before);
        sealed_hash_put(after, r->after);
        m.hash_before = lend(before, sizeof before);
        m.hash_after = lend(after, sizeof after);
    }
    struct wire_frame frame = {r->ids, r->n * sizeof *r->ids};
    return put(l, runlog_key('B', (uint64_t)r->step), WIRE_BATCH_RECORD, &m, &frame, 1);
}

void runlog_drop_batch(struct runlog *l, int64_t step) {
    drop(l, runlog_key('B', (uint64_t)step));
}

void runlog_drop_weights(struct runlog *l, int64_t version) {
    drop(l, runlog_key('W', (uint64_t)version));
}

int runlog_put_report(struct runlog *l, const struct runlog_report *r) {
    Weir__StepDone m = WEIR__STEP_DONE__INIT;
    uint8_t none[16] = {0}; /* the hashes are in the batch record */
    m.step = r->step;
    m.hash_before = m.hash_after = lend(none, sizeof none);
    struct wire_frame frame = {r->json, r->bytes};
    return put(l, runlog_key('R', (uint64_t)r->step), WIRE_STEP_DONE, &m, &frame, 1);
}

int runlog_put_eval(struct runlog *l, const struct runlog_report *r) {
    Weir__EvalDone m = WEIR__EVAL_DONE__INIT;
    m.version = r->step;
    struct wire_frame frame = {r->json, r->bytes};
    return put(l, runlog_key('E', (uint64_t)r->step), WIRE_EVAL_DONE, &m, &frame, 1);
}

int runlog_put_weights(struct runlog *l, const struct runlog_weights *r) {
    Weir__WeightsRecord m = WEIR__WEIGHTS_RECORD__INIT;
    uint8_t hash[16];
    sealed_hash_put(hash, r->hash);
    m.version = r->version;
    m.hash = lend(hash, sizeof hash);
    m.rollout = lend_text(r->rollout);
    return put(l, runlog_key('W', (uint64_t)r->version), WIRE_WEIGHTS_RECORD, &m, NULL, 0);
}

size_t runlog_pending(const struct runlog *l) {
    return kv_batch_count(l->batch) ? kv_batch_bytes(l->batch) : 0;
}

int runlog_commit(struct runlog *l, bool sync) {
    if (kv_batch_count(l->batch) == 0) return 0;
    if (!l->writer) return kv_write(l->kv, l->batch, sync);
    TRY(runlog_writer_give(l->writer, &l->batch, sync));
    for (int i = 0; i < RUNLOG_LETTERS; i++)
        if (l->letters >> i & 1) l->last[i] = runlog_writer_given(l->writer);
    l->letters = 0;
    return 0;
}

int runlog_write_behind(struct runlog *l) {
    ASSERT(l->batch && !l->writer && kv_batch_count(l->batch) == 0);
    l->letters = 0;
    return runlog_writer_open(&l->writer, l->kv);
}

int runlog_fd(const struct runlog *l) {
    return runlog_writer_fd(l->writer);
}

uint64_t runlog_event(const struct runlog *l) {
    uint64_t given = l->writer ? runlog_writer_given(l->writer) : 0;
    return given + (kv_batch_count(l->batch) > 0);
}

int runlog_written(struct runlog *l, uint64_t *event) {
    return runlog_writer_written(l->writer, event);
}

int runlog_wait(struct runlog *l) {
    return runlog_writer_wait(l->writer, runlog_writer_given(l->writer));
}

int runlog_settle(struct runlog *l, char letter) {
    return l->writer ? runlog_writer_wait(l->writer, l->last[letter - 'A']) : 0;
}
