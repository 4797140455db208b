#include "proto/wire.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "proto/check.h"
#include "proto/control.pb-c.h"
#include "proto/link.h"
#include "proto/reward.pb-c.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory.pb-c.h"
#include "proto/weights.pb-c.h"
#include "tests/test.h"

#include <stdbool.h>

/* One good message of each type, and the arrays it points to. */
static uint8_t hash16[16] = {1, 2, 3};
static const int32_t ids[16] = {5, 6, 7, 8, 9, 10, 11, 12};
static const float logprobs[16] = {-1.5f, -0.25f};
static const int64_t versions[16] = {3, 3, 4};
static const uint64_t numbers[4] = {1ull << 63, 7};
static const int32_t counts[4] = {10, 0};
static const uint8_t mask[16] = {1, 1, 0, 1};
static const struct trajectory_turn turns[2] = {{0, TRAJECTORY_ASSISTANT, 1, {0}},
                                                {1, TRAJECTORY_TOOL, 0, {0}}};
enum { /* frames of trajectories */
       RESPONSES = FRAME_COLUMN + TRAJECTORY_RESPONSE,
       LOGPROBS = FRAME_COLUMN + TRAJECTORY_LOGPROB,
       VERSIONS = FRAME_COLUMN + TRAJECTORY_VERSION,
       MASKS = FRAME_COLUMN + TRAJECTORY_MASK
};
static const char json[] = "{\"reward/mean\": 0.5}";

#define HASH16                                                                                     \
    { 16, hash16 }

static Weir__Hello hello;
static Weir__Welcome welcome;
static Weir__Heartbeat heartbeat;
static Weir__HeartbeatAck heartbeat_ack;
static Weir__StatusRequest status_request;
static Weir__Status status;
static Weir__WorkRequest work_request;
static Weir__Trajectory work_item[3], *work_items[3];
static Weir__Work work;
static Weir__Trajectory tokens_item[2], *tokens_items[2];
static Weir__Tokens tokens;
static Weir__TokensWeights tokens_weights, *tokens_weights_list[1];
static Weir__TokensAckItem tokens_ack_item, *tokens_ack_items[1];
static Weir__TokensAck tokens_ack;
static Weir__ScoreItem score_item, *score_items[1];
static Weir__ScoreRequest score_request;
static Weir__Score score, *scores[1];
static Weir__ScoreRecord score_record, *score_records[1];
static Weir__ScoreReply score_reply;
static Weir__BatchRequest batch_request;
static Weir__Trajectory batch_item[2], *batch_items[2];
static Weir__Batch batch;
static Weir__StepDone step_done;
static Weir__StepAck step_ack;
static Weir__EvalDone eval_done;
static Weir__Offer offer;
static Weir__Offered offered;
static Weir__Pull pull;
static Weir__Version version;
static Weir__GroupRecord group_record;
static Weir__Trajectory trajectory;
static Weir__BatchRecord batch_record;
static Weir__WeightsRecord weights_record;

static struct wire_frame frames[WIRE_TYPES][WIRE_FRAMES_MAX];
static size_t n_frames[WIRE_TYPES];
static void *bodies[WIRE_TYPES] = {
#define BODY(name, lower, type, body, payload, nf) [WIRE_##name] = &lower,
    WIRE_TABLE(BODY)
#undef BODY
};

static void set_frames(enum wire_type t, size_t n, struct wire_frame a, struct wire_frame b) {
    frames[t][0] = a;
    frames[t][1] = b;
    n_frames[t] = n;
}

/* prompts, tokens, turns: how many; a mask of as many tokens as masked says. */
static void set_columns(enum wire_type t, size_t prompts, size_t n, size_t n_turns, size_t masked) {
    struct wire_frame *f = frames[t];
    f[FRAME_PROMPT] = (struct wire_frame){ids, prompts * sizeof *ids};
    f[FRAME_TURN] = (struct wire_frame){turns, n_turns * sizeof *turns};
    f[RESPONSES] = (struct wire_frame){ids, n * sizeof *ids};
    f[LOGPROBS] = (struct wire_frame){logprobs, n * sizeof *logprobs};
    f[VERSIONS] = (struct wire_frame){versions, n * sizeof *versions};
    f[MASKS] = (struct wire_frame){mask, masked};
    n_frames[t] = FRAMES_TRAJECTORY;
}

#define F(array, n)                                                                                \
    (struct wire_frame) {                                                                          \
        array, (n) * sizeof(array)[0]                                                              \
    }
#define NONE F(ids, 0)

static void good_control(void) {
    hello = (Weir__Hello)WEIR__HELLO__INIT;
    hello.service = (char *)"rollout";
    hello.name = (char *)"rollout-1";
    hello.incarnation = 77;
    hello.pid = 42;
    hello.version = -1;
    hello.n_running = 2;
    set_frames(WIRE_HELLO, 2, F(numbers, 2), F(counts, 2));
    welcome = (Weir__Welcome)WEIR__WELCOME__INIT;
    welcome.n_running = 2;
    set_frames(WIRE_WELCOME, 2, F(numbers, 2), F(counts, 2));
    heartbeat = (Weir__Heartbeat)WEIR__HEARTBEAT__INIT;
    heartbeat.busy = 0.5;
    heartbeat_ack = (Weir__HeartbeatAck)WEIR__HEARTBEAT_ACK__INIT;
    heartbeat_ack.step = 3;
    status_request = (Weir__StatusRequest)WEIR__STATUS_REQUEST__INIT;
    status = (Weir__Status)WEIR__STATUS__INIT;
    status.json = (char *)json;
}

static void good_rollout(void) {
    work_request = (Weir__WorkRequest)WEIR__WORK_REQUEST__INIT;
    work_request.trajectories = 8;
    work = (Weir__Work)WEIR__WORK__INIT;
    for (int i = 0; i < 3; i++) {
        work_item[i] = (Weir__Trajectory)WEIR__TRAJECTORY__INIT;
        work_item[i].trajectory = (uint64_t)i;
        work_item[i].group = i < 2 ? 4 : 9;
        work_item[i].n_prompt = i < 2 ? 3 : 2;
        work_item[i].same_prompt = i == 1;
        work_item[i].n_response = i == 1 ? 2 : 0;
        work_item[i].max_new_tokens = 10;
        work_items[i] = &work_item[i];
    }
    work.n_items = 3;
    work.items = work_items;
    set_columns(WIRE_WORK, 5, 2, 0, 0);
    tokens = (Weir__Tokens)WEIR__TOKENS__INIT;
    for (int i = 0; i < 2; i++) {
        tokens_item[i] = (Weir__Trajectory)WEIR__TRAJECTORY__INIT;
        tokens_item[i].n_response = 3;
        tokens_items[i] = &tokens_item[i];
    }
    tokens.n_items = 2;
    tokens.items = tokens_items;
    tokens_weights = (Weir__TokensWeights)WEIR__TOKENS_WEIGHTS__INIT;
    tokens_weights.hash = (ProtobufCBinaryData)HASH16;
    tokens_weights_list[0] = &tokens_weights;
    tokens.n_weights = 1;
    tokens.weights = tokens_weights_list;
    set_columns(WIRE_TOKENS, 0, 6, 0, 0);
    tokens_ack = (Weir__TokensAck)WEIR__TOKENS_ACK__INIT;
    tokens_ack_item = (Weir__TokensAckItem)WEIR__TOKENS_ACK_ITEM__INIT;
    tokens_ack_item.received = -1;
    tokens_ack_items[0] = &tokens_ack_item;
    tokens_ack.n_items = 1;
    tokens_ack.items = tokens_ack_items;
}

static void good_reward(void) {
    score_request = (Weir__ScoreRequest)WEIR__SCORE_REQUEST__INIT;
    score_item = (Weir__ScoreItem)WEIR__SCORE_ITEM__INIT;
    score_item.response = 5;
    score_item.answer = 1;
    score_item.n_tokens = 2;
    score_item.max_tokens = 4;
    score_items[0] = &score_item;
    score_request.n_items = 1;
    score_request.items = score_items;
    set_frames(WIRE_SCORE_REQUEST, 1, F("\xff\0\0\0\0x", 6), NONE);
    score_record = (Weir__ScoreRecord)WEIR__SCORE_RECORD__INIT;
    score_reply = (Weir__ScoreReply)WEIR__SCORE_REPLY__INIT;
    score = (Weir__Score)WEIR__SCORE__INIT;
    score.name = (char *)"gsm8k";
    score.value = 1;
    scores[0] = &score;
    score_record.n_scores = 1;
    score_record.scores = scores;
    score_record.total = -3.5;
    score_records[0] = &score_record;
    score_reply.n_items = 1;
    score_reply.items = score_records;
}

static void good_train(void) {
    batch_request = (Weir__BatchRequest)WEIR__BATCH_REQUEST__INIT;
    batch = (Weir__Batch)WEIR__BATCH__INIT;
    batch.expect_hash = (ProtobufCBinaryData)HASH16;
    for (int i = 0; i < 2; i++) {
        batch_item[i] = (Weir__Trajectory)WEIR__TRAJECTORY__INIT;
        batch_item[i].trajectory = (uint64_t)i;
        batch_item[i].n_prompt = 2;
        batch_item[i].n_response = i == 0 ? 2 : 4;
        batch_item[i].columns = i == 0 ? 0 : 1 << TRAJECTORY_MASK;
        batch_item[i].n_turns = i == 0 ? 2 : 0;
        batch_item[i].reward = 1;
        batch_items[i] = &batch_item[i];
    }
    batch.n_items = 2;
    batch.items = batch_items;
    set_columns(WIRE_BATCH, 4, 6, 2, 4);
    step_done = (Weir__StepDone)WEIR__STEP_DONE__INIT;
    step_done.hash_before = step_done.hash_after = (ProtobufCBinaryData)HASH16;
    set_frames(WIRE_STEP_DONE, 1, F(json, 20), NONE);
    step_ack = (Weir__StepAck)WEIR__STEP_ACK__INIT;
    eval_done = (Weir__EvalDone)WEIR__EVAL_DONE__INIT;
    set_frames(WIRE_EVAL_DONE, 1, F(json, 20), NONE);
    group_record = (Weir__GroupRecord)WEIR__GROUP_RECORD__INIT;
    group_record.step = -1;
    trajectory = (Weir__Trajectory)WEIR__TRAJECTORY__INIT;
    trajectory.n_prompt = 3;
    trajectory.n_response = 2;
    set_columns(WIRE_TRAJECTORY_RECORD, 3, 2, 0, 0);
    batch_record = (Weir__BatchRecord)WEIR__BATCH_RECORD__INIT;
    batch_record.n = 2;
    batch_record.hash_before = (ProtobufCBinaryData)HASH16;
    set_frames(WIRE_BATCH_RECORD, 1, F(numbers, 2), NONE);
    weights_record = (Weir__WeightsRecord)WEIR__WEIGHTS_RECORD__INIT;
    weights_record.hash = (ProtobufCBinaryData)HASH16;
}

static void good_weights(void) {
    offer = (Weir__Offer)WEIR__OFFER__INIT;
    offer.hash = (ProtobufCBinaryData)HASH16;
    offer.bytes = 1000;
    offer.pid = 42;
    offer.fd = 7;
    offered = (Weir__Offered)WEIR__OFFERED__INIT;
    pull = (Weir__Pull)WEIR__PULL__INIT;
    pull.version = -1;
    pull.name = (char *)"rollout-1";
    version = (Weir__Version)WEIR__VERSION__INIT;
    version.hash = (ProtobufCBinaryData)HASH16;
    version.bytes = 1000;
    version.pid = 42;
    version.fd = 7;
}

static void good(void) {
    good_control();
    good_rollout();
    good_reward();
    good_train();
    good_weights();
}

static int pack(struct buf *head, enum wire_type t) {
    return wire_pack(head, t, bodies[t], frames[t], n_frames[t], 99);
}

static int flatten(struct buf *out, enum wire_type t) {
    return wire_flatten(out, t, bodies[t], frames[t], n_frames[t]);
}

static size_t parts_of(struct wire_frame parts[2 + WIRE_FRAMES_MAX], const struct buf *head,
                       enum wire_type t) {
    parts[0] = (struct wire_frame){head->data, WIRE_HEADER};
    parts[1] = (struct wire_frame){head->data + WIRE_HEADER, head->len - WIRE_HEADER};
    for (size_t i = 0; i < n_frames[t]; i++)
        parts[2 + i] = frames[t][i];
    return 2 + n_frames[t];
}

/* The body packs to the same bytes again and the frames are the same. */
static void check_same(const struct wire_msg *m, enum wire_type t) {
    struct buf a = {0}, b = {0};
    CHECK_INT(m->type, t);
    CHECK_OK(wire_flatten(&a, t, bodies[t], frames[t], n_frames[t]));
    CHECK_OK(wire_flatten(&b, t, m->body, m->frame, m->n_frames));
    CHECK_INT(a.len, b.len);
    CHECK(memcmp(a.data, b.data, a.len) == 0);
    for (size_t i = 0; i < m->n_frames; i++)
        CHECK_INT((uintptr_t)m->frame[i].data % 8, 0);
    buf_close(&a);
    buf_close(&b);
}

TEST(every_type_comes_back_as_it_was) {
    struct buf head = {0}, flat = {0};
    good();
    for (int i = WIRE_NONE + 1; i < WIRE_TYPES; i++) {
        enum wire_type t = (enum wire_type)i;
        struct wire_frame parts[2 + WIRE_FRAMES_MAX];
        struct wire_msg m;
        CHECK_OK(pack(&head, t));
        CHECK_OK(wire_unpack(&m, parts, parts_of(parts, &head, t)));
        CHECK_INT(m.trace, 99);
        check_same(&m, t);
        wire_free(&m);
        CHECK_OK(flatten(&flat, t));
        char *odd = mem_alloc(flat.len + 8); /* at every alignment */
        for (size_t shift = 0; shift < 8; shift++) {
            memcpy(odd + shift, flat.data, flat.len);
            CHECK_OK(wire_unflatten(&m, odd + shift, flat.len, t));
            check_same(&m, t);
            wire_free(&m);
        }
        mem_free(odd);
    }
    buf_close(&head);
    buf_close(&flat);
}

TEST(frames_left_out_are_empty) {
    struct buf flat = {0};
    struct wire_msg m;
    good();
    work.n_items = 0;
    CHECK_OK(wire_flatten(&flat, WIRE_WORK, &work, NULL, 0));
    CHECK_OK(wire_unflatten(&m, flat.data, flat.len, WIRE_WORK));
    CHECK_INT(m.n_frames, FRAMES_TRAJECTORY);
    CHECK_INT(m.frame[VERSIONS].bytes, 0);
    wire_free(&m);
    good();
    CHECK_OK(wire_flatten(&flat, WIRE_WORK, &work, frames[WIRE_WORK], MASKS)); /* it is empty */
    CHECK_OK(wire_unflatten(&m, flat.data, flat.len, WIRE_WORK));
    CHECK_INT(m.frame[VERSIONS].bytes, 2 * sizeof *versions);
    CHECK_INT(m.frame[MASKS].bytes, 0);
    wire_free(&m);
    buf_close(&flat);
}

TEST(every_cut_and_every_flipped_bit_is_refused) {
    struct buf flat = {0};
    struct wire_msg m;
    good();
    for (int i = WIRE_NONE + 1; i < WIRE_TYPES; i++) {
        enum wire_type t = (enum wire_type)i;
        CHECK_OK(flatten(&flat, t));
        for (size_t n = 0; n < flat.len; n++) {
            char *cut = mem_alloc(n); /* of exactly this size: a sanitizer sees any overrun */
            memcpy(cut, flat.data, n);
            CHECK_INT(wire_unflatten(&m, cut, n, t), ERR_CORRUPT);
            mem_free(cut);
        }
        for (size_t bit = 0; bit < 8 * flat.len; bit++) {
            flat.data[bit / 8] = (char)(flat.data[bit / 8] ^ (1 << bit % 8));
            CHECK_INT(wire_unflatten(&m, flat.data, flat.len, t), ERR_CORRUPT);
            flat.data[bit / 8] = (char)(flat.data[bit / 8] ^ (1 << bit % 8));
        }
        buf_add(&flat, "x", 1);
        CHECK_ERR(wire_unflatten(&m, flat.data, flat.len, t), ERR_CORRUPT, "after its end");
    }
    CHECK_OK(flatten(&flat, WIRE_OFFER));
    CHECK_ERR(wire_unflatten(&m, flat.data, flat.len, WIRE_PULL), ERR_CORRUPT,
              "record of type Offer, wanted Pull");
    buf_close(&flat);
}

/* Each line breaks one field of a good message; packing must name it. */
#define BAD(TYPE, field, mutation)                                                                 \
    do {                                                                                           \
        good();                                                                                    \
        mutation;                                                                                  \
        CHECK_ERR(pack(&head, WIRE_##TYPE), ERR_CONFIG, field);                                    \
    } while (0)

static char *long_text(size_t n) {
    static char text[CHECK_TEXT_MAX + 2];
    memset(text, 'x', n);
    text[n] = '\0';
    return text;
}

TEST(hostile_control_messages) {
    struct buf head = {0};
    static int32_t low[2] = {-2, 0};
    BAD(HELLO, "Hello: service", hello.service = NULL);
    BAD(HELLO, "Hello: name", hello.name = long_text(65));
    BAD(HELLO, "name: not valid UTF-8", hello.name = (char *)"\xff");
    BAD(HELLO, "pid", hello.pid = 0);
    BAD(HELLO, "pid", hello.pid = 1ll << 40);
    BAD(HELLO, "version", hello.version = -2);
    BAD(HELLO, "frame 0", hello.n_running = 1);
    BAD(HELLO, "n_running", hello.n_running = UINT32_MAX);
    BAD(HELLO, "frame 1: counts", frames[WIRE_HELLO][FRAME_RECEIVED].data = low);
    BAD(HELLO, "frame 1: counts: 0 bytes, wanted 2", n_frames[WIRE_HELLO] = 1);
    BAD(WELCOME, "frame 1", frames[WIRE_WELCOME][FRAME_RECEIVED].bytes = 7);
    BAD(WELCOME, "step", welcome.step = -1);
    BAD(HEARTBEAT, "busy: not a finite", heartbeat.busy = (double)NAN);
    BAD(HEARTBEAT, "busy: 1.5 is outside 0..1", heartbeat.busy = 1.5);
    BAD(HEARTBEAT, "running", heartbeat.running = -1);
    BAD(HEARTBEAT, "waiting", heartbeat.waiting = -1);
    BAD(HELLO, "name: character 7", hello.name = (char *)"rollout\n-1");
    BAD(HELLO, "name: character 0", hello.name = (char *)"\"x");
    BAD(HELLO, "service: character 0", hello.service = (char *)"\xc3\xa9");
    BAD(HEARTBEAT, "kv_used", heartbeat.kv_used = -1);
    BAD(HEARTBEAT, "kv_total", heartbeat.kv_total = -1);
    BAD(HEARTBEAT, "tokens", heartbeat.tokens = INT64_MIN);
    BAD(HEARTBEAT, "version", heartbeat.version = -2);
    BAD(HEARTBEAT_ACK, "step", heartbeat_ack.step = -5);
    BAD(STATUS, "json: not valid UTF-8", status.json = (char *)"\xc3(");
    BAD(STATUS_REQUEST, "2 frames, wanted 0", n_frames[WIRE_STATUS_REQUEST] = 2);
    buf_close(&head);
}

TEST(hostile_rollout_messages) {
    struct buf head = {0};
    static int32_t negative[5] = {1, 2, -1, 4, 5};
    static float nan_at_1[6] = {0, NAN}, above[6] = {0, -0.0F, 0.1F}, minus[6] = {-INFINITY};
    static int64_t old[6] = {0, -1};
    BAD(WORK_REQUEST, "trajectories", work_request.trajectories = 1u << 20);
    BAD(WORK_REQUEST, "version", work_request.version = -2);
    BAD(WORK, "min_version", work.min_version = -2);
    BAD(WORK, "items[2]: n_prompt 0", work_item[2].n_prompt = 0);
    BAD(WORK, "items[1]: same_prompt: 4 tokens, but 3", work_item[1].n_prompt = 4);
    BAD(WORK, "items[0]: same_prompt", work_item[0].same_prompt = true);
    BAD(WORK, "n_prompt: 4294967295", work_item[2].n_prompt = UINT32_MAX);
    BAD(WORK, "n_response: 11, more than", work_item[1].n_response = 11);
    BAD(WORK, "max_new_tokens 0", work_item[0].max_new_tokens = 0);
    BAD(WORK, "offset: 1", work_item[0].offset = 1);
    BAD(WORK, "frame 0", work_item[2].same_prompt = true; work_item[2].n_prompt = 3);
    BAD(WORK, "frame 2", work_item[0].n_response = 1);
    BAD(WORK, "frame 3", frames[WIRE_WORK][LOGPROBS].bytes = 12);
    BAD(WORK, "frame 4", frames[WIRE_WORK][VERSIONS].bytes = 15);
    BAD(WORK, "token ids: element 2", frames[WIRE_WORK][FRAME_PROMPT].data = negative);
    BAD(TOKENS, "items[0].n_response: 0 without an end", tokens_item[0].n_response = 0);
    BAD(TOKENS, "offset", tokens_item[0].offset = 1u << 30);
    BAD(TOKENS, "offset + n", tokens_item[0].offset = 1u << 20);
    BAD(TOKENS, "finish", tokens_item[1].finish = 4);
    BAD(TOKENS, "n_prompt: 1 of a part", tokens_item[1].n_prompt = 1);
    BAD(TOKENS, "columns: 32", tokens_item[1].columns = 32);
    BAD(TOKENS, "columns: 1", tokens_item[1].columns = 1 << TRAJECTORY_RESPONSE);
    BAD(TOKENS, "frame 5", tokens_item[1].columns = 1 << TRAJECTORY_MASK);
    BAD(TOKENS, "frame 2", tokens_item[1].n_response = 2);
    BAD(TOKENS, "log-probs: element 1", frames[WIRE_TOKENS][LOGPROBS].data = nan_at_1);
    BAD(TOKENS, "log-probs: element 2", frames[WIRE_TOKENS][LOGPROBS].data = above);
    BAD(TOKENS, "log-probs: element 0", frames[WIRE_TOKENS][LOGPROBS].data = minus);
    BAD(TOKENS, "versions: element 1", frames[WIRE_TOKENS][VERSIONS].data = old);
    BAD(TOKENS, "weights[0]: version", tokens_weights.version = -1);
    BAD(TOKENS, "weights[0]: hash: 15 bytes", tokens_weights.hash.len = 15);
    BAD(TOKENS, "weights[0]: hash: 0 bytes", tokens_weights.hash.len = 0);
    BAD(TOKENS, "70000 weights, limit 65536", tokens.n_weights = 70000);
    BAD(TOKENS_ACK, "items[0]: received", tokens_ack_item.received = -2);
    BAD(TOKENS_ACK, "70000 items, limit 65536", tokens_ack.n_items = 70000);
    buf_close(&head);
}

TEST(hostile_reward_and_train_messages) {
    struct buf head = {0};
    static uint8_t two[4] = {0, 1, 2, 1};
    static struct trajectory_turn at_once[2],
        behind[2] = {{.start = 0}, {.start = 2}},
        stranger[2] = {{.role = TRAJECTORY_ROLES}, {.start = 1}};
    BAD(SCORE_REQUEST, "items[0]: n_tokens", score_item.n_tokens = 1u << 31);
    BAD(SCORE_REQUEST, "items[0]: max_tokens", score_item.max_tokens = 1u << 31);
    BAD(SCORE_REQUEST, "items[0]: answer", score_item.answer = 2 << 20);
    BAD(SCORE_REQUEST, "items[0]: response", score_item.response = UINT32_MAX);
    BAD(SCORE_REQUEST, "frame 0: bytes: 6 bytes, wanted 7", score_item.prompt = 1);
    BAD(SCORE_REQUEST, "5000 items, limit 4096", score_request.n_items = 5000);
    BAD(SCORE_REPLY, "items[0]: error", score_record.error = 1);
    BAD(SCORE_REPLY, "items[0]: reason", score_record.reason = long_text(CHECK_TEXT_MAX + 1));
    BAD(SCORE_REPLY, "items[0]: total", score_record.total = (double)INFINITY);
    BAD(SCORE_REPLY, "items[0]: items[0]: value", score.value = (double)NAN);
    BAD(SCORE_REPLY, "items[0]: items[0]: name", score.name = NULL);
    BAD(SCORE_REPLY, "items[0]: 65 items, limit 64", score_record.n_scores = 65);
    BAD(SCORE_REPLY, "5000 items, limit 4096", score_reply.n_items = 5000);
    BAD(SCORE_RECORD, "ScoreRecord: items[0]: name", score.name = NULL);
    BAD(SCORE_RECORD, "total", score_record.total = (double)NAN);
    BAD(BATCH_REQUEST, "step", batch_request.step = -1);
    BAD(BATCH, "step", batch.step = -1);
    BAD(BATCH, "expect_hash: 8 bytes", batch.expect_hash.len = 8);
    BAD(BATCH, "items[1]: not in order", batch_item[1].trajectory = 0);
    BAD(BATCH, "items[1]: not in order", batch_item[0].group = 1);
    BAD(BATCH, "but done", batch.done = true);
    BAD(BATCH, "items[0]: n_prompt 0", batch_item[0].n_prompt = 0);
    BAD(BATCH, "items[0]: n_prompt 2, n_response 0", batch_item[0].n_response = 0);
    BAD(BATCH, "items[1]: reward", batch_item[1].reward = (float)INFINITY);
    BAD(BATCH, "frame 0", frames[WIRE_BATCH][FRAME_PROMPT].bytes = 28);
    BAD(BATCH, "frame 1", batch_item[1].n_turns = 1);
    BAD(BATCH, "frame 3", frames[WIRE_BATCH][LOGPROBS].bytes = 28);
    BAD(BATCH, "frame 5: mask: element 2", frames[WIRE_BATCH][MASKS].data = two);
    BAD(BATCH, "frame 4", frames[WIRE_BATCH][VERSIONS].bytes = 28);
    BAD(BATCH, "items[0]: turn 1 starts at 0", frames[WIRE_BATCH][FRAME_TURN].data = at_once);
    BAD(BATCH, "items[0]: turn 1 starts at 2", frames[WIRE_BATCH][FRAME_TURN].data = behind);
    BAD(BATCH, "items[0]: turn 0: role 4", frames[WIRE_BATCH][FRAME_TURN].data = stranger);
    BAD(STEP_DONE, "hash_before", step_done.hash_before.len = 0);
    BAD(STEP_DONE, "hash_after", step_done.hash_after.len = 17);
    BAD(STEP_DONE, "step", step_done.step = -1);
    BAD(STEP_DONE, "text", frames[WIRE_STEP_DONE][FRAME_TEXT].data = "\xff...................");
    BAD(STEP_ACK, "step", step_ack.step = -1);
    BAD(EVAL_DONE, "version", eval_done.version = -1);
    buf_close(&head);
}

TEST(hostile_weights_messages_and_records) {
    struct buf head = {0};
    BAD(OFFER, "version", offer.version = -1);
    BAD(OFFER, "hash", offer.hash.len = 0);
    BAD(OFFER, "bytes", offer.bytes = 0);
    BAD(OFFER, "bytes", offer.bytes = UINT64_MAX);
    BAD(OFFER, "pid", offer.pid = -1);
    BAD(OFFER, "fd", offer.fd = -1);
    BAD(OFFERED, "error", offered.error = -1000);
    BAD(OFFERED, "version", offered.version = -1);
    BAD(OFFERED, "reason", offered.reason = long_text(CHECK_TEXT_MAX + 1));
    BAD(PULL, "version", pull.version = -2);
    BAD(PULL, "held", pull.held = -2);
    BAD(PULL, "name", pull.name = (char *)"");
    BAD(VERSION, "version", version.version = -2);
    BAD(VERSION, "hash: 0 bytes, wanted 16", version.hash.len = 0);
    BAD(VERSION, "missing for version", version.bytes = 0);
    BAD(VERSION, "missing for version", version.pid = 0);
    BAD(VERSION, "missing for version", version.fd = -1);
    BAD(VERSION, "fd", version.fd = -2);
    BAD(GROUP_RECORD, "slot", group_record.slot = -2);
    BAD(GROUP_RECORD, "floor", group_record.floor = -1);
    BAD(GROUP_RECORD, "step", group_record.step = -2);
    BAD(GROUP_RECORD, "state", group_record.state = 99);
    BAD(GROUP_RECORD, "reason", group_record.reason = long_text(CHECK_TEXT_MAX + 1));
    BAD(TRAJECTORY_RECORD, "frame 0", trajectory.n_prompt = 0);
    BAD(TRAJECTORY_RECORD, "step", trajectory.step = -1);
    BAD(TRAJECTORY_RECORD, "n_response", trajectory.n_response = UINT32_MAX);
    BAD(TRAJECTORY_RECORD, "finish", trajectory.finish = 9);
    BAD(TRAJECTORY_RECORD, "rollout", trajectory.rollout = long_text(65));
    BAD(TRAJECTORY_RECORD, "offset", trajectory.offset = 1);
    BAD(TRAJECTORY_RECORD, "same_prompt", trajectory.same_prompt = true);
    BAD(TRAJECTORY_RECORD, "frame 2", trajectory.n_response = 1);
    BAD(BATCH_RECORD, "n: ", batch_record.n = UINT32_MAX);
    BAD(BATCH_RECORD, "frame 0", batch_record.n = 1);
    BAD(BATCH_RECORD, "staleness_max", batch_record.staleness_max = -1);
    BAD(BATCH_RECORD, "hash_before", batch_record.hash_before.len = 5);
    BAD(BATCH_RECORD, "step", batch_record.step = -1);
    BAD(WEIGHTS_RECORD, "version", weights_record.version = -1);
    BAD(WEIGHTS_RECORD, "hash", weights_record.hash.len = 0);
    buf_close(&head);
}

static void put_le(unsigned char *p, uint64_t v, int n) {
    for (int i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

/* A header with a right checksum over any body, as a hostile peer would make it. */
static void forge(unsigned char head[WIRE_HEADER], unsigned type, const void *body, size_t n) {
    memcpy(head, "WEIR", 4);
    put_le(head + 4, WIRE_FORMAT, 2);
    put_le(head + 6, type, 2);
    put_le(head + 8, n, 4);
    put_le(head + 12, 0, 8);
    put_le(head + 20, 0, 8);
    put_le(head + 28, hash64(body, n, hash64(head, 28, 0)), 4);
}

static int unpack_forged(unsigned type, const void *body, size_t n) {
    unsigned char head[WIRE_HEADER];
    struct wire_frame parts[2] = {{head, WIRE_HEADER}, {body, n}};
    struct wire_msg m;
    forge(head, type, body, n);
    int rc = wire_unpack(&m, parts, 2);
    if (rc == 0) wire_free(&m);
    return rc;
}

TEST(forged_bodies) {
    size_t n = 4 << 20;
    unsigned char *body = mem_zalloc(n + 1);
    for (size_t i = 0; i < n; i += 2) /* two million empty items: 80 bytes each in memory */
        body[i] = 0x0a;
    CHECK_ERR(unpack_forged(WIRE_TOKENS_ACK, body, n), ERR_CORRUPT, "malformed");
    CHECK_ERR(unpack_forged(WIRE_TOKENS_ACK, body, n + 1), ERR_CORRUPT, "limit 4194304");
    CHECK_ERR(unpack_forged(WIRE_STEP_ACK, "\x08", 1), ERR_CORRUPT, "malformed");
    CHECK_ERR(unpack_forged(WIRE_STEP_ACK, "\x50\x01", 2), ERR_CORRUPT, "unknown field 10");
    CHECK_ERR(unpack_forged(WIRE_TYPES, "", 0), ERR_CORRUPT, "unknown");
    CHECK_ERR(unpack_forged(0, "", 0), ERR_CORRUPT, "unknown");
    CHECK_OK(unpack_forged(WIRE_STEP_ACK, "\x08\x05", 2));
    mem_free(body);
}

TEST(random_bodies_never_crash) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (uint64_t i = 0; i < 20000; i++) {
        uint32_t r[4];
        unsigned char body[64];
        for (size_t j = 0; j < sizeof body; j += 16) {
            rng_block(key, i, j, r);
            memcpy(body + j, r, 16);
        }
        for (size_t j = 0; j < 8; j++) /* mostly plausible tags: fields 1..8, small lengths */
            body[j * 8] = (unsigned char)((body[j * 8] & 0x3f) | 0x08), body[j * 8 + 1] &= 0x07;
        int rc = unpack_forged((unsigned)(1 + i % (WIRE_TYPES - 1)), body, body[63] % 64);
        CHECK(rc == 0 || rc == ERR_CORRUPT);
    }
}

static struct link_msg receive(struct net *n, struct net_sock *s, struct net_id *from) {
    for (int i = 0; i < 2000; i++) {
        struct link_msg m;
        bool stop = false;
        int rc = link_recv(s, &m, from);
        if (rc == 0) return m;
        CHECK_INT(rc, ERR_AGAIN);
        CHECK_OK(net_wait(n, 10000, NULL, 0, &stop));
    }
    test_fail(__FILE__, __LINE__, "no message within 20 s");
}

TEST(every_type_over_a_socket) {
    struct net *n;
    struct net_sock *server, *client;
    char *e;
    good();
    CHECK_OK(net_open(&n));
    CHECK_OK(net_endpoint(&e, n, test_dir(), "manager"));
    CHECK_OK(net_serve(&server, n, e, WIRE_BYTES_MAX));
    CHECK_OK(net_connect(&client, n, e, "rollout-1", WIRE_BYTES_MAX));
    for (int i = WIRE_NONE + 1; i < WIRE_TYPES; i++) {
        enum wire_type t = (enum wire_type)i;
        struct net_id from;
        CHECK_OK(link_send(client, NULL, t, bodies[t], frames[t], n_frames[t], 1));
        struct link_msg m = receive(n, server, &from);
        check_same(&m.wire, t);
        CHECK_OK(link_send(server, &from, t, m.wire.body, m.wire.frame, m.wire.n_frames, 2));
        link_free(&m);
        m = receive(n, client, NULL);
        check_same(&m.wire, t);
        link_free(&m);
    }
    mem_free(e);
    net_close(&n);
}
