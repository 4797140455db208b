/* check.c - see check.h. Tables, not code: for each type the rules of its scalar fields, of its
 * items, and what its frames hold. What a table cannot say (order of items, sums over items) is one
 * small function per type that gives the number of elements each frame must have.
 *
 * Sums cannot overflow: an item counts at most CHECK_TOKENS_MAX * 2 tokens and there are at most
 * CHECK_BATCH_MAX items, so 64 bits are ample; the sizes that really arrived were bounded by the
 * type's payload limit before. */
#include "proto/check.h"

#include "base/utf8.h"
#include "proto/control.pb-c.h"
#include "proto/reward.pb-c.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory.pb-c.h"
#include "proto/trajectory_wire.h"
#include "proto/weights.pb-c.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum kind { I32, U32, I64, U64, F32, F64, STR, WORD, BYTES };

struct rule { /* min, max: the value's range, or the range of the length in bytes */
    const char *name;
    size_t offset;
    enum kind kind;
    int64_t min, max;
};

enum frame { NO_FRAME, IDS, LOGPROBS, VERSIONS, MASK, TURNS, COUNTS, NUMBERS, TEXT, RAW };

static const struct frame_kind {
    const char *name;
    size_t bytes;
} frame_kinds[] = {
    [NO_FRAME] = {"none", 1},      [IDS] = {"token ids", 4},
    [LOGPROBS] = {"log-probs", 4}, [VERSIONS] = {"versions", 8},
    [MASK] = {"mask", 1},          [COUNTS] = {"counts", 4},
    [NUMBERS] = {"ids", 8},        [TEXT] = {"text", 1},
    [RAW] = {"bytes", 1},          [TURNS] = {"turns", sizeof(struct trajectory_turn)},
};

enum { ANY = -1 }; /* a frame of any length */

/* Fills want[i] with the elements of frame i (ANY: not determined by the body). */
typedef int count_fn(const void *body, int64_t want[WIRE_FRAMES_MAX]);

struct spec {
    const struct rule *rules;
    size_t n_rules;
    const struct rule *item_rules;
    size_t n_item_rules;
    size_t n_items, items; /* offsets in the body */
    int64_t items_max;
    count_fn *count;
    enum frame frame[WIRE_FRAMES_MAX];
    bool trajectories; /* the items are Trajectory messages, or the body is one */
    bool empty;        /* the body has no fields: there is nothing to check */
};

#define RULE(type, field, kind, min, max)                                                          \
    { #field, offsetof(Weir__##type, field), kind, min, max }
#define NAME(type, field) RULE(type, field, STR, 1, CHECK_NAME_MAX)
#define SERVICE(type, field) RULE(type, field, WORD, 1, CHECK_NAME_MAX)
#define VERSION(type, field, min) RULE(type, field, I64, min, INT64_MAX)
#define COUNT(type, field) RULE(type, field, I64, 0, INT64_MAX)
#define TOKENS(type, field, min) RULE(type, field, U32, min, CHECK_TOKENS_MAX)
#define HASH_OR_NONE(type, field) RULE(type, field, BYTES, 0, 16)
#define HASH(type, field) RULE(type, field, BYTES, 16, 16)
#define ERROR_CODE(type, field) RULE(type, field, I32, -64, 0)
#define PID(type, field) RULE(type, field, I64, 1, INT32_MAX)

static const struct rule hello_rules[] = {SERVICE(Hello, service), SERVICE(Hello, name),
                                          PID(Hello, pid), VERSION(Hello, version, -1),
                                          RULE(Hello, n_running, U32, 0, CHECK_ITEMS_MAX)};
static const struct rule welcome_rules[] = {RULE(Welcome, n_running, U32, 0, CHECK_ITEMS_MAX),
                                            VERSION(Welcome, step, 0)};
static const struct rule heartbeat_rules[] = {
    VERSION(Heartbeat, version, -1), COUNT(Heartbeat, running),  COUNT(Heartbeat, waiting),
    COUNT(Heartbeat, kv_used),       COUNT(Heartbeat, kv_total), COUNT(Heartbeat, tokens),
    RULE(Heartbeat, busy, F64, 0, 1)};
static const struct rule heartbeat_ack_rules[] = {VERSION(HeartbeatAck, step, 0)};
static const struct rule status_rules[] = {RULE(Status, json, STR, 0, 1 << 20)};
static const struct rule work_request_rules[] = {
    RULE(WorkRequest, trajectories, U32, 0, CHECK_ITEMS_MAX), VERSION(WorkRequest, version, -1),
    RULE(WorkRequest, places, U32, 0, CHECK_ITEMS_MAX)};
static const struct rule work_rules[] = {VERSION(Work, min_version, -1)};
static const struct rule trajectory_rules[] = {
    TOKENS(Trajectory, n_prompt, 0),
    TOKENS(Trajectory, offset, 0),
    TOKENS(Trajectory, n_response, 0),
    TOKENS(Trajectory, n_turns, 0),
    RULE(Trajectory, finish, U32, 0, TRAJECTORY_FINISHES - 1),
    RULE(Trajectory, rollout, STR, 0, CHECK_NAME_MAX),
    VERSION(Trajectory, step, 0),
    TOKENS(Trajectory, max_new_tokens, 0),
    RULE(Trajectory, reward, F32, INT64_MIN, INT64_MAX),
    RULE(Trajectory, baseline, F32, INT64_MIN, INT64_MAX)};
static const struct rule tokens_ack_items[] = {
    RULE(TokensAckItem, received, I32, -1, CHECK_TOKENS_MAX)};
static const struct rule score_request_items[] = {
    RULE(ScoreItem, prompt, U32, 0, 8 << 20), RULE(ScoreItem, response, U32, 0, 8 << 20),
    RULE(ScoreItem, answer, U32, 0, 1 << 20), TOKENS(ScoreItem, n_tokens, 0),
    TOKENS(ScoreItem, max_tokens, 0)};
static const struct rule score_record_rules[] = {
    ERROR_CODE(ScoreRecord, error), RULE(ScoreRecord, reason, STR, 0, CHECK_TEXT_MAX),
    RULE(ScoreRecord, total, F64, INT64_MIN, INT64_MAX)};
static const struct rule score_items[] = {NAME(Score, name),
                                          RULE(Score, value, F64, INT64_MIN, INT64_MAX)};
static const struct rule batch_request_rules[] = {VERSION(BatchRequest, step, 0),
                                                  HASH_OR_NONE(BatchRequest, hash)};
static const struct rule batch_rules[] = {VERSION(Batch, step, 0),
                                          HASH_OR_NONE(Batch, expect_hash)};
static const struct rule step_done_rules[] = {
    VERSION(StepDone, step, 0), HASH(StepDone, hash_before), HASH(StepDone, hash_after)};
static const struct rule step_ack_rules[] = {VERSION(StepAck, step, 0)};
static const struct rule eval_done_rules[] = {VERSION(EvalDone, version, 0)};
static const struct rule offer_rules[] = {VERSION(Offer, version, 0), HASH(Offer, hash),
                                          RULE(Offer, bytes, U64, 1, (int64_t)1 << 44),
                                          PID(Offer, pid), RULE(Offer, fd, I32, 0, INT32_MAX)};
static const struct rule offered_rules[] = {VERSION(Offered, version, 0),
                                            ERROR_CODE(Offered, error),
                                            RULE(Offered, reason, STR, 0, CHECK_TEXT_MAX)};
static const struct rule pull_rules[] = {VERSION(Pull, version, -1), VERSION(Pull, held, -1),
                                         SERVICE(Pull, name)};
static const struct rule version_rules[] = {
    VERSION(Version, version, -1), HASH_OR_NONE(Version, hash),
    RULE(Version, bytes, U64, 0, (int64_t)1 << 44), RULE(Version, pid, I64, 0, INT32_MAX),
    RULE(Version, fd, I32, -1, INT32_MAX)};
static const struct rule group_record_rules[] = {VERSION(GroupRecord, slot, -1),
                                                 VERSION(GroupRecord, floor, 0),
                                                 VERSION(GroupRecord, step, -1),
                                                 VERSION(GroupRecord, before, 0),
                                                 RULE(GroupRecord, alpha, F64, 0, INT64_MAX),
                                                 RULE(GroupRecord, beta, F64, 0, INT64_MAX),
                                                 RULE(GroupRecord, state, U32, 0, CHECK_STATE_MAX),
                                                 RULE(GroupRecord, reason, STR, 0, CHECK_TEXT_MAX),
                                                 RULE(GroupRecord, answer, BYTES, 0, 1 << 20),
                                                 RULE(GroupRecord, prompt, BYTES, 0, 8 << 20)};
static const struct rule batch_record_rules[] = {
    VERSION(BatchRecord, step, 0),          RULE(BatchRecord, n, U32, 0, CHECK_BATCH_MAX),
    VERSION(BatchRecord, staleness_max, 0), VERSION(BatchRecord, level, 0),
    HASH_OR_NONE(BatchRecord, hash_before), HASH_OR_NONE(BatchRecord, hash_after)};

static const struct rule tokens_weights[] = {VERSION(TokensWeights, version, 0),
                                             HASH(TokensWeights, hash)};
static const struct rule weights_record_rules[] = {
    VERSION(WeightsRecord, version, 0), HASH(WeightsRecord, hash),
    RULE(WeightsRecord, rollout, STR, 0, CHECK_NAME_MAX)};

static int check_rules(const struct rule *rules, size_t n, const void *message);

static int count_hello(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__Hello *m = body;
    want[FRAME_IDS] = want[FRAME_RECEIVED] = m->n_running;
    return 0;
}

static int count_welcome(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__Welcome *m = body;
    want[FRAME_IDS] = want[FRAME_RECEIVED] = m->n_running;
    return 0;
}

static int count_item(Weir__Trajectory *const *items, size_t i, int64_t want[WIRE_FRAMES_MAX]) {
    return err_wrap(trajectory_count(items[i], i ? items[i - 1] : NULL, want), "items[%zu]", i);
}

/* What is handed out has a prompt and room for at least one token more than it has, or none. */
static int count_work(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__Work *m = body;
    for (size_t i = 0; i < m->n_items; i++) {
        const Weir__Trajectory *x = m->items[i];
        if (x->n_prompt == 0 || x->max_new_tokens == 0)
            return FAIL(ERR_CORRUPT, "items[%zu]: n_prompt %u, max_new_tokens %u", i, x->n_prompt,
                        x->max_new_tokens);
        if (x->n_response > x->max_new_tokens)
            return FAIL(ERR_CORRUPT, "items[%zu].n_response: %u, more than max_new_tokens %u", i,
                        x->n_response, x->max_new_tokens);
        if (x->offset != 0)
            return FAIL(ERR_CORRUPT, "items[%zu].offset: %u of a whole one", i, x->offset);
        TRY(count_item(m->items, i, want));
    }
    return 0;
}

/* Parts: new tokens, an end, or both. */
static int count_tokens(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__Tokens *m = body;
    for (size_t i = 0; i < m->n_items; i++) {
        const Weir__Trajectory *x = m->items[i];
        if (x->n_response == 0 && x->finish == 0)
            return FAIL(ERR_CORRUPT, "items[%zu].n_response: 0 without an end", i);
        if (x->offset + x->n_response > CHECK_TOKENS_MAX)
            return FAIL(ERR_CORRUPT, "items[%zu].offset + n_response: %u, limit %d", i,
                        x->offset + x->n_response, CHECK_TOKENS_MAX);
        if (x->n_prompt != 0)
            return FAIL(ERR_CORRUPT, "items[%zu].n_prompt: %u of a part", i, x->n_prompt);
        TRY(count_item(m->items, i, want));
    }
    if (m->n_weights > CHECK_ITEMS_MAX)
        return FAIL(ERR_CORRUPT, "%zu weights, limit %d", m->n_weights, CHECK_ITEMS_MAX);
    for (size_t i = 0; i < m->n_weights; i++)
        TRY(err_wrap(check_rules(tokens_weights, sizeof tokens_weights / sizeof tokens_weights[0],
                                 m->weights[i]),
                     "weights[%zu]", i));
    return 0;
}

/* By group, then trajectory, none twice: the order in which a batch is trained. */
static int count_batch_frames(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__Batch *m = body;
    for (size_t i = 0; i < m->n_items; i++) {
        const Weir__Trajectory *x = m->items[i], *before = i ? m->items[i - 1] : NULL;
        if (before && (before->group > x->group ||
                       (before->group == x->group && before->trajectory >= x->trajectory)))
            return FAIL(ERR_CORRUPT, "items[%zu]: not in order of group and trajectory", i);
        if (x->n_prompt == 0 || x->n_response == 0 || x->offset != 0)
            return FAIL(ERR_CORRUPT, "items[%zu]: n_prompt %u, n_response %u, offset %u", i,
                        x->n_prompt, x->n_response, x->offset);
        TRY(count_item(m->items, i, want));
    }
    if (m->done && m->n_items > 0) return FAIL(ERR_CORRUPT, "items: %zu, but done", m->n_items);
    return 0;
}

static int count_text(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    (void)body;
    want[FRAME_TEXT] = ANY;
    return 0;
}

/* A whole one, or a part as the log keeps it: without the prompt. */
static int count_trajectory(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__Trajectory *m = body;
    if (m->n_prompt == 0 && m->finish != 0) return FAIL(ERR_CORRUPT, "n_prompt: 0 is for parts");
    if (m->offset + m->n_response > CHECK_TOKENS_MAX || (m->n_prompt > 0 && m->offset > 0))
        return FAIL(ERR_CORRUPT, "offset: %u", m->offset);
    return trajectory_count(m, NULL, want);
}

static int count_batch_record(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__BatchRecord *m = body;
    want[FRAME_MEMBERS] = m->n;
    return 0;
}

/* No frames; a version that is there has a hash, a size and a place. */
static int count_version(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__Version *m = body;
    (void)want;
    if (m->version < 0) return 0;
    if (m->hash.len != 16) return FAIL(ERR_CORRUPT, "hash: %zu bytes, wanted 16", m->hash.len);
    if (m->bytes == 0 || m->pid == 0 || m->fd < 0)
        return FAIL(ERR_CORRUPT, "bytes, pid, fd: missing for version %" PRId64, m->version);
    return 0;
}

static const struct spec specs[WIRE_TYPES];
static int check_items(const struct spec *s, const void *body);

static int count_score_request(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__ScoreRequest *m = body;
    for (size_t i = 0; i < m->n_items; i++)
        want[FRAME_TEXT] +=
            (int64_t)m->items[i]->prompt + m->items[i]->response + m->items[i]->answer;
    return 0;
}

/* No frames; the scores of each item are what a record in the log has. */
static int count_score_reply(const void *body, int64_t want[WIRE_FRAMES_MAX]) {
    const Weir__ScoreReply *m = body;
    (void)want;
    for (size_t i = 0; i < m->n_items; i++)
        TRY(err_wrap(check_items(&specs[WIRE_SCORE_RECORD], m->items[i]), "items[%zu]", i));
    return 0;
}

#define RULES(table) .rules = table, .n_rules = sizeof(table) / sizeof(table[0])
#define ITEMS(type, rules, max)                                                                    \
    .item_rules = rules, .n_item_rules = sizeof(rules) / sizeof(rules[0]),                         \
    .n_items = offsetof(Weir__##type, n_items), .items = offsetof(Weir__##type, items),            \
    .items_max = max

#define RUNNING                                                                                    \
    { [FRAME_IDS] = NUMBERS, [FRAME_RECEIVED] = COUNTS }
_Static_assert(TRAJECTORY_COLUMNS == 4, "each column has its place in TRAJECTORIES");
#define COLUMN(name) FRAME_COLUMN + TRAJECTORY_##name
#define TRAJECTORIES                                                                               \
    .trajectories = true, .frame = {[FRAME_PROMPT] = IDS,         [FRAME_TURN] = TURNS,            \
                                    [COLUMN(RESPONSE)] = IDS,     [COLUMN(LOGPROB)] = LOGPROBS,    \
                                    [COLUMN(VERSION)] = VERSIONS, [COLUMN(MASK)] = MASK}

static const struct spec specs[WIRE_TYPES] = {
    [WIRE_HELLO] = {RULES(hello_rules), .count = count_hello, .frame = RUNNING},
    [WIRE_WELCOME] = {RULES(welcome_rules), .count = count_welcome, .frame = RUNNING},
    [WIRE_HEARTBEAT] = {RULES(heartbeat_rules)},
    [WIRE_HEARTBEAT_ACK] = {RULES(heartbeat_ack_rules)},
    [WIRE_STATUS_REQUEST] = {.empty = true},
    [WIRE_STATUS] = {RULES(status_rules)},
    [WIRE_WORK_REQUEST] = {RULES(work_request_rules)},
    [WIRE_WORK] = {RULES(work_rules), ITEMS(Work, trajectory_rules, CHECK_ITEMS_MAX),
                   .count = count_work, TRAJECTORIES},
    [WIRE_TOKENS] = {ITEMS(Tokens, trajectory_rules, CHECK_ITEMS_MAX), .count = count_tokens,
                     TRAJECTORIES},
    [WIRE_TOKENS_ACK] = {ITEMS(TokensAck, tokens_ack_items, CHECK_ITEMS_MAX)},
    [WIRE_SCORE_REQUEST] = {ITEMS(ScoreRequest, score_request_items, CHECK_SCORES_MAX),
                            .count = count_score_request, .frame = {[FRAME_TEXT] = RAW}},
    [WIRE_SCORE_REPLY] = {ITEMS(ScoreReply, score_record_rules, CHECK_SCORES_MAX),
                          .count = count_score_reply},
    [WIRE_SCORE_RECORD] = {RULES(score_record_rules), .item_rules = score_items, .n_item_rules = 2,
                           .n_items = offsetof(Weir__ScoreRecord, n_scores),
                           .items = offsetof(Weir__ScoreRecord, scores), .items_max = 64},
    [WIRE_BATCH_REQUEST] = {RULES(batch_request_rules)},
    [WIRE_BATCH] = {RULES(batch_rules), ITEMS(Batch, trajectory_rules, CHECK_BATCH_MAX),
                    .count = count_batch_frames, TRAJECTORIES},
    [WIRE_STEP_DONE] = {RULES(step_done_rules), .count = count_text,
                        .frame = {[FRAME_TEXT] = TEXT}},
    [WIRE_STEP_ACK] = {RULES(step_ack_rules)},
    [WIRE_EVAL_DONE] = {RULES(eval_done_rules), .count = count_text,
                        .frame = {[FRAME_TEXT] = TEXT}},
    [WIRE_OFFER] = {RULES(offer_rules)},
    [WIRE_OFFERED] = {RULES(offered_rules)},
    [WIRE_PULL] = {RULES(pull_rules)},
    [WIRE_VERSION] = {RULES(version_rules), .count = count_version},
    [WIRE_GROUP_RECORD] = {RULES(group_record_rules)},
    [WIRE_TRAJECTORY_RECORD] = {RULES(trajectory_rules), .count = count_trajectory, TRAJECTORIES},
    [WIRE_BATCH_RECORD] = {RULES(batch_record_rules), .count = count_batch_record,
                           .frame = {[FRAME_MEMBERS] = NUMBERS}},
    [WIRE_WEIGHTS_RECORD] = {RULES(weights_record_rules)},
};

static int check_integer(const struct rule *r, int64_t v) {
    if (v >= r->min && v <= r->max) return 0;
    return FAIL(ERR_CORRUPT, "%s: %" PRId64 " is outside %" PRId64 "..%" PRId64, r->name, v, r->min,
                r->max);
}

/* Finite, and within the rule's range unless that is all of int64. */
static int check_real(const struct rule *r, double v) {
    if (!isfinite(v)) return FAIL(ERR_CORRUPT, "%s: not a finite number", r->name);
    if (r->min != INT64_MIN && (v < (double)r->min || v > (double)r->max))
        return FAIL(ERR_CORRUPT, "%s: %g is outside %" PRId64 "..%" PRId64, r->name, v, r->min,
                    r->max);
    return 0;
}

static int check_byte_count(const struct rule *r, size_t n) {
    bool hash = r->max == 16 && r->kind == BYTES;
    if (hash && n != 16 && !(n == 0 && r->min == 0))
        return FAIL(ERR_CORRUPT, "%s: %zu bytes, a hash has 16", r->name, n);
    if (n < (uint64_t)r->min || n > (uint64_t)r->max)
        return FAIL(ERR_CORRUPT, "%s: %zu bytes, limits %" PRId64 "..%" PRId64, r->name, n, r->min,
                    r->max);
    return 0;
}

static int check_str(const struct rule *r, const char *s) {
    size_t n = s ? strlen(s) : 0;
    TRY(check_byte_count(r, n));
    if (n > 0 && utf8_valid_prefix(s, n) != n)
        return FAIL(ERR_CORRUPT, "%s: not valid UTF-8", r->name);
    return 0;
}

/* Names of services stand in lines of the log and in JSON: they cannot end a line or a string. */
static int check_word(const struct rule *r, const char *s) {
    TRY(check_str(r, s));
    for (const char *c = s; c && *c; c++)
        if (*c <= ' ' || *c > '~' || *c == '"' || *c == '\\')
            return FAIL(ERR_CORRUPT, "%s: character %d is not allowed", r->name, (int)(c - s));
    return 0;
}

static int check_field(const struct rule *r, const void *message) {
    const void *p = (const char *)message + r->offset;
    uint64_t u;
    switch (r->kind) {
    case I32: return check_integer(r, *(const int32_t *)p);
    case U32: return check_integer(r, *(const uint32_t *)p);
    case I64: return check_integer(r, *(const int64_t *)p);
    case U64:
        u = *(const uint64_t *)p;
        return check_integer(r, u > INT64_MAX ? INT64_MAX : (int64_t)u);
    case F32: return check_real(r, (double)*(const float *)p);
    case F64: return check_real(r, *(const double *)p);
    case STR: return check_str(r, *(char *const *)p);
    case WORD: return check_word(r, *(char *const *)p);
    case BYTES: return check_byte_count(r, ((const ProtobufCBinaryData *)p)->len);
    }
    return FAIL(ERR_CORRUPT, "%s: unknown kind", r->name);
}

static int check_rules(const struct rule *rules, size_t n, const void *message) {
    if (((const ProtobufCMessage *)message)->n_unknown_fields > 0)
        return FAIL(ERR_CORRUPT, "unknown field %u",
                    ((const ProtobufCMessage *)message)->unknown_fields[0].tag);
    for (size_t i = 0; i < n; i++)
        TRY(check_field(&rules[i], message));
    return 0;
}

static int check_items(const struct spec *s, const void *body) {
    if (!s->item_rules) return 0;
    size_t n = *(const size_t *)(const void *)((const char *)body + s->n_items);
    ProtobufCMessage *const *items =
        *(ProtobufCMessage *const *const *)(const void *)((const char *)body + s->items);
    if (n > (uint64_t)s->items_max)
        return FAIL(ERR_CORRUPT, "%zu items, limit %" PRId64, n, s->items_max);
    for (size_t i = 0; i < n; i++)
        TRY(err_wrap(check_rules(s->item_rules, s->n_item_rules, items[i]), "items[%zu]", i));
    return 0;
}

/* Whether all elements are allowed: loops without an exit, which the compiler makes wide where it
 * knows their length. */
static inline bool piece_good(enum frame kind, const void *data, size_t n) {
    const int32_t *x = data;
    const int64_t *v = data;
    const uint8_t *m = data;
    uint32_t bad = 0;
    int64_t sign = 0;
    switch (kind) {
    case IDS:
        for (size_t i = 0; i < n; i++)
            bad |= (uint32_t)x[i] & 0x80000000U;
        break;
    case COUNTS:
        for (size_t i = 0; i < n; i++)
            bad |= x[i] < -1;
        break;
    case LOGPROBS: /* an exponent of all ones is not finite; above 0 only by rounding, to 2^-6 */
        for (size_t i = 0; i < n; i++)
            bad |= (x[i] & 0x7f800000) == 0x7f800000 || x[i] > 0x3c800000;
        break;
    case VERSIONS:
        for (size_t i = 0; i < n; i++)
            sign |= v[i];
        bad = sign < 0;
        break;
    case MASK:
        for (size_t i = 0; i < n; i++)
            bad |= m[i] & 0xfeU;
        break;
    case TEXT: bad = n > 0 && utf8_valid_prefix(data, n) < n; break;
    case NO_FRAME:
    case TURNS: /* check_turns */
    case RAW:
    case NUMBERS: break;
    }
    return bad == 0;
}

static bool all_good(enum frame kind, const void *data, size_t n) {
    enum { PIECE = 32 };
    const char *at = data;
    for (; kind != TEXT && n >= PIECE; n -= PIECE, at += PIECE * frame_kinds[kind].bytes)
        if (!piece_good(kind, at, PIECE)) return false;
    return piece_good(kind, at, n);
}

/* Data is aligned: wire.c sees to it. */
static int check_elements(enum frame kind, const void *data, size_t n) {
    const struct frame_kind *k = &frame_kinds[kind];
    if (all_good(kind, data, n)) return 0;
    for (size_t i = 0; kind != TEXT && i < n; i++)
        if (!all_good(kind, (const char *)data + i * k->bytes, 1))
            return FAIL(ERR_CORRUPT, "%s: element %zu is not allowed", k->name, i);
    return FAIL(ERR_CORRUPT, "%s: element %zu is not allowed", k->name, utf8_valid_prefix(data, n));
}

static int check_frame(enum frame kind, const struct wire_frame *f, int64_t want) {
    const struct frame_kind *k = &frame_kinds[kind];
    size_t n = f->bytes / k->bytes;
    if (f->bytes % k->bytes != 0 || (want != ANY && n != (uint64_t)want))
        return FAIL(ERR_CORRUPT, "%s: %zu bytes, wanted %" PRId64 " of %zu", k->name, f->bytes,
                    want, k->bytes);
    return check_elements(kind, f->data, n);
}

/* Turns are in order and within their tokens: what a frame alone cannot say. */
static int check_turns(const struct spec *s, const void *body, const struct wire_frame *frames) {
    Weir__Trajectory *const *items = NULL;
    struct trajectory_reader r = trajectory_read(frames);
    size_t n = 1;
    if (s->items > 0) {
        n = *(const size_t *)(const void *)((const char *)body + s->n_items);
        items = *(Weir__Trajectory *const *const *)(const void *)((const char *)body + s->items);
    }
    for (size_t i = 0; i < n; i++) {
        struct trajectory t = trajectory_next(&r, items ? items[i] : body);
        TRY(err_wrap(trajectory_check(&t), "items[%zu]", i));
    }
    return 0;
}

int check_message(enum wire_type type, const void *body, const struct wire_frame *frames) {
    const struct spec *s = &specs[type];
    int64_t want[WIRE_FRAMES_MAX] = {0};
    ASSERT(type > WIRE_NONE && type < WIRE_TYPES);
    ASSERT(s->rules || s->item_rules || s->count || s->empty); /* a type without a row here */
    int rc = check_rules(s->rules, s->n_rules, body);
    if (rc == 0) rc = check_items(s, body);
    if (rc == 0 && s->count) rc = s->count(body, want);
    for (size_t i = 0; rc == 0 && i < WIRE_FRAMES_MAX && s->frame[i] != NO_FRAME; i++)
        rc = err_wrap(check_frame(s->frame[i], &frames[i], want[i]), "frame %zu", i);
    if (rc == 0 && s->trajectories && frames[FRAME_TURN].bytes > 0)
        rc = check_turns(s, body, frames);
    return rc;
}
