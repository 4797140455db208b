/* trajectory_test.c - a trajectory comes back as it was: from parts in any cut, from a message of
 * many, from a batch that is trained. What cannot be is named. */
#include "proto/trajectory.h"

#include "base/mem.h"
#include "base/rng.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory.pb-c.h"
#include "proto/trajectory_wire.h"
#include "proto/wire.h"
#include "tests/test.h"
#include "trainer/batch/batch.h"

enum { LONGEST = 40, PROMPT = 6, MANY = 50 };

struct made { /* a trajectory and what it points to */
    struct trajectory t;
    int32_t prompt[PROMPT], response[LONGEST];
    float logprob[LONGEST];
    int64_t version[LONGEST];
    uint8_t mask[LONGEST];
    struct trajectory_turn turn[LONGEST];
};

static uint64_t draws;

static int32_t below(uint64_t n) {
    return (int32_t)rng_below(rng_key(test_seed(), RNG_TEST), 7, draws++, n);
}

static void add_turns(struct made *m) {
    for (int32_t k = below(3); k < m->t.n_response; k += 1 + below(8))
        m->turn[m->t.n_turns++] =
            (struct trajectory_turn){k, (uint8_t)below(TRAJECTORY_ROLES), (uint8_t)below(2), {0}};
    m->t.turn = m->turn;
}

/* Of the group `id / 4`: all of a group have one prompt. */
static void make(struct made *m, uint64_t id, bool masked, bool turns) {
    *m = (struct made){.t = {.id = id, .group = id / 4}};
    struct trajectory *t = &m->t;
    t->n_prompt = PROMPT;
    t->n_response = 1 + below(LONGEST - 1);
    t->finish = TRAJECTORY_STOP;
    t->rollout = id % 2 ? "rollout-1" : "rollout-2";
    t->reward = (float)below(3);
    t->baseline = below(2) ? 0.5F : NAN;
    for (int k = 0; k < PROMPT; k++)
        m->prompt[k] = (int32_t)(id / 4) + k;
    for (int k = 0; k < t->n_response; k++) {
        m->response[k] = below(1000);
        m->logprob[k] = -0.125F * (float)below(100);
        m->version[k] = below(9);
        m->mask[k] = (uint8_t)below(2);
    }
    t->prompt = m->prompt;
    t->response = m->response;
    t->logprob = m->logprob;
    t->version = m->version;
    if (masked) t->mask = m->mask;
    if (turns) add_turns(m);
    CHECK_OK(trajectory_check(t));
}

TEST(trajectory_parts_make_the_whole) {
    for (int round = 0; round < 400; round++) {
        struct made m;
        make(&m, (uint64_t)round, round % 2, round % 3 == 0);
        struct trajectory whole = m.t;
        whole.n_response = whole.n_turns = 0;
        memset(whole.column, 0, sizeof whole.column);
        for (int32_t at = 0, to; at < m.t.n_response; at = to) {
            to = at + 1 + below((uint64_t)(m.t.n_response - at));
            struct trajectory part = trajectory_slice(&m.t, at, to);
            CHECK(part.offset == at && (at == 0) == (part.n_prompt > 0));
            CHECK_OK(trajectory_check(&part));
            CHECK_INT(trajectory_differs(&m.t, &part), -1);
            trajectory_append(&whole, &part);
        }
        CHECK(trajectory_equal(&whole, &m.t));
        CHECK(trajectory_owned(&whole) >= (size_t)m.t.n_response * 16);
        CHECK_INT(trajectory_oldest(&whole), trajectory_oldest(&m.t));
        for (int32_t k = 0; k < m.t.n_response; k++)
            CHECK(trajectory_trains(&whole, k) == trajectory_trains(&m.t, k));
        trajectory_free(&whole);
        CHECK(whole.n_response == 0 && trajectory_owned(&whole) == 0);
    }
}

/* A column that only some parts have means in the others what its absence means: all is trained. */
TEST(trajectory_absent_mask_is_ones) {
    struct made m, plain;
    make(&m, 4, true, false);
    make(&plain, 4, false, false);
    plain.t.n_response = m.t.n_response = 5;
    struct trajectory all = {.id = 4, .group = 1, .baseline = NAN};
    struct trajectory head = trajectory_slice(&plain.t, 0, 3), tail = trajectory_slice(&m.t, 3, 5);
    trajectory_append(&all, &head);
    CHECK(!all.mask);
    trajectory_append(&all, &tail);
    CHECK(all.mask[0] == 1 && all.mask[2] == 1 && all.mask[3] == m.mask[3]);
    struct trajectory again = trajectory_slice(&all, 0, 3);
    CHECK_INT(trajectory_differs(&again, &head), -1); /* ones and nothing are the same */
    m.mask[1] = 0;
    again = trajectory_slice(&m.t, 0, 3);
    memcpy(m.response, plain.response, sizeof m.response);
    memcpy(m.logprob, plain.logprob, sizeof m.logprob);
    memcpy(m.version, plain.version, sizeof m.version);
    m.mask[0] = 1;
    CHECK_INT(trajectory_differs(&again, &head), 1);
    trajectory_free(&all);
}

/* Many in one message, as it is after the wire. */
static void check_message(enum wire_type type, const void *body, struct trajectory_list *l,
                          const struct made *m, struct batch *b) {
    struct buf flat = {0};
    struct wire_msg msg;
    CHECK_OK(wire_flatten(&flat, type, body, l->frames, l->n_frames));
    CHECK_OK(wire_unflatten(&msg, flat.data, flat.len, type));
    struct trajectory_reader r = trajectory_read(msg.frame);
    Weir__Trajectory **items = ((const Weir__Batch *)msg.body)->items;
    if (type == WIRE_WORK) items = ((const Weir__Work *)msg.body)->items;
    for (size_t i = 0; i < l->n; i++) {
        struct trajectory t = trajectory_next(&r, items[i]);
        CHECK(trajectory_equal(&t, &m[i].t));
        CHECK_STR(t.rollout, m[i].t.rollout);
        if (b) batch_put(b, (uint32_t)i, &t, (uint32_t)i / 4);
    }
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        CHECK_INT(r.frame[i].bytes, 0);
    wire_free(&msg);
    buf_close(&flat);
}

TEST(trajectory_messages_and_batches) {
    struct made *m = mem_array(MANY, sizeof *m);
    struct trajectory_list l = {.n = 0};
    struct batch *b = batch_open(MANY);
    Weir__Batch batch = WEIR__BATCH__INIT;
    Weir__Work work = WEIR__WORK__INIT;
    for (int masked = 0; masked < 2; masked++) {
        trajectory_list_reset(&l);
        b->n_groups = 0;
        for (size_t i = 0; i < MANY; i++) {
            make(&m[i], i, masked && i % 3 == 0, masked && i % 5 == 0);
            m[i].t.max_new_tokens = LONGEST;
            trajectory_list_add(&l, &m[i].t);
        }
        trajectory_list_end(&l);
        size_t all = FRAMES_TRAJECTORY;
        CHECK_INT(l.n_frames, masked ? all : all - 1); /* nobody has a mask */
        CHECK_INT(l.frames[FRAME_PROMPT].bytes, (MANY + 3) / 4 * PROMPT * sizeof(int32_t));
        batch.n_items = work.n_items = MANY;
        batch.items = work.items = l.items;
        check_message(WIRE_BATCH, &batch, &l, m, b);
        check_message(WIRE_WORK, &work, &l, m, NULL);
        CHECK_INT(b->n_groups, (MANY + 3) / 4);
        for (uint32_t i = 0; i < MANY; i++)
            for (int32_t k = 0; k < m[i].t.n_response; k++)
                CHECK(b->traj[i].mask[k] == trajectory_trains(&m[i].t, k));
    }
    batch_close(&b);
    trajectory_list_free(&l);
    mem_free(m);
}

TEST(trajectory_check_names_what_cannot_be) {
    struct made m;
    make(&m, 1, true, true);
    m.t.n_response = 10;
    m.t.n_turns = 2;
    m.turn[0] = (struct trajectory_turn){0, TRAJECTORY_ASSISTANT, 1, {0}};
    m.turn[1] = (struct trajectory_turn){4, TRAJECTORY_TOOL, 0, {0}};
    CHECK_OK(trajectory_check(&m.t));
    m.mask[3] = 1;
    CHECK(trajectory_trains(&m.t, 3) && !trajectory_trains(&m.t, 4) && !trajectory_trains(&m.t, 9));
    m.mask[3] = 0;
    CHECK(!trajectory_trains(&m.t, 3));
    m.mask[2] = m.mask[5] = 1;
    m.mask[4] = 0;
    struct trajectory part = trajectory_slice(&m.t, 2, 4); /* its mask begins with token 2 */
    CHECK(trajectory_trains(&part, 2) && !trajectory_trains(&part, 3));
    m.turn[1].start = 0;
    CHECK_ERR(trajectory_check(&m.t), ERR_CORRUPT, "turn 1 starts at 0, allowed are 1 to 9");
    m.turn[1].start = 10;
    CHECK_ERR(trajectory_check(&m.t), ERR_CORRUPT, "turn 1 starts at 10");
    m.turn[1] = (struct trajectory_turn){4, TRAJECTORY_ROLES, 0, {0}};
    CHECK_ERR(trajectory_check(&m.t), ERR_CORRUPT, "turn 1: role 4");
    m.t.n_turns = 0;
    m.mask[7] = 2;
    CHECK_ERR(trajectory_check(&m.t), ERR_CORRUPT, "mask: token 7 has 2");
    m.t.mask = NULL;
    CHECK_OK(trajectory_check(&m.t));
    m.t.version = NULL;
    CHECK_ERR(trajectory_check(&m.t), ERR_CORRUPT, "versions are missing");
    m.t.n_response = -1;
    CHECK_ERR(trajectory_check(&m.t), ERR_CORRUPT, "-1 more from 0 on");
}
