#include "actor/params.h"
#include "trainer/trainer.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory_wire.h"
#include "relay/pull.h"
#include "relay/relay.h"
#include "relay/sealed.h"
#include "tests/test.h"
#include "tests/unit/fake_manager.h"

#include <signal.h>

/* Batches of 2 groups of 4, made up from the step's number; one record per step, as the log has. */
enum { ITEMS = 8, PROMPT = 5, RESPONSE = 6, STEPS = 5 };

static struct hash after[STEPS + 1]; /* the manager's memory: hash of the weights after a step */
static bool done[STEPS + 1];

static int service(const char *run_dir, const char *name) {
    (void)name;
    return trainer_service(run_dir);
}

static int relay_main(const char *run_dir, const char *name) {
    (void)name;
    return relay_service(run_dir);
}

static pid_t start(void) {
    return fake_manager_start(service, "trainer");
}

static void recipe(const char *extra) {
    char *trainer =
        mem_printf("steps: 5, batch: {groups: 2, tokens: 256}, optimizer: {lr: 1.0e-3}, "
                   "checkpoint: {every: 2, keep: 2}%s",
                   extra);
    fake_manager_recipe("max_new_tokens: 16, concurrency: 8", trainer, "");
    mem_free(trainer);
}

static void send_batch(struct fake_manager *f, const struct net_id *to, int64_t step) {
    struct trajectory_list l = {.n = 0};
    Weir__Batch b = WEIR__BATCH__INIT;
    float logprob[RESPONSE];
    int64_t version[RESPONSE];
    uint8_t hash[16];
    for (int k = 0; k < RESPONSE; k++) {
        logprob[k] = -5.0f;
        version[k] = step;
    }
    for (int i = 0; i < ITEMS; i++) {
        int32_t ids[PROMPT + RESPONSE];
        for (int k = 0; k < PROMPT + RESPONSE; k++)
            ids[k] = (int32_t)(7 + (step * 31 + (i / 4) * 5 + k * 11 + (k >= PROMPT ? i * 13 : 0)) %
                                       250);
        struct trajectory t = {.id = (uint64_t)(step * ITEMS + i),
                               .group = (uint64_t)(step * 2 + i / 4),
                               .n_prompt = PROMPT,
                               .n_response = RESPONSE,
                               .reward = (float)(i % 3),
                               .baseline = NAN,
                               .prompt = ids};
        t.response = ids + PROMPT;
        t.logprob = logprob;
        t.version = version;
        trajectory_list_add(&l, &t);
    }
    trajectory_list_end(&l);
    b.step = step;
    b.n_items = l.n;
    b.items = l.items;
    if (done[step]) {
        hash_put(hash, after[step]);
        b.expect_hash = (ProtobufCBinaryData){16, hash};
    }
    fake_manager_send(f, to, WIRE_BATCH, &b, l.frames, l.n_frames);
    trajectory_list_free(&l);
}

static void send_done(struct fake_manager *f, const struct net_id *to, int64_t step) {
    Weir__Batch b = WEIR__BATCH__INIT;
    b.step = step;
    b.done = true;
    fake_manager_send(f, to, WIRE_BATCH, &b, NULL, 0);
}

static void check_report(const struct wire_frame *f, int64_t step) {
    struct json_doc *doc;
    double x;
    CHECK_OK(json_parse(&doc, f->data, f->bytes, "report"));
    const struct json *r = json_root(doc);
    CHECK_NEAR(json_num(json_get(r, "step"), -1), (double)step + 1, 0);
    CHECK_OK(json_read_num(&x, r, "reward/mean", 0, 2, "report"));
    CHECK_OK(json_read_num(&x, r, "actor/grad_norm", 1e-9, 1e9, "report"));
    CHECK_OK(json_read_num(&x, r, "response_length/max", RESPONSE, RESPONSE, "report"));
    CHECK_OK(json_read_num(&x, r, "off_policy/max", 0, 0, "report"));
    CHECK(json_str(json_get(r, "gac/action")) != NULL);
    json_close(&doc);
}

/* A step was reported: the first time it is remembered, later it must be the same. */
static int64_t store(const struct link_msg *m) {
    const Weir__StepDone *d = m->wire.body;
    struct hash h = hash_get(d->hash_after.data);
    CHECK(d->step >= 0 && d->step < STEPS);
    check_report(&m->wire.frame[FRAME_TEXT], d->step);
    if (done[d->step]) CHECK(hash_equal(h, after[d->step]));
    if (d->step > 0 && done[d->step - 1])
        CHECK(hash_equal(hash_get(d->hash_before.data), after[d->step - 1]));
    done[d->step] = true;
    after[d->step] = h;
    return d->step;
}

/* Serves until a step was reported (and confirmed, but for step mute), or the run is done: STEPS.
 */
static int64_t serve(struct fake_manager *f, int64_t mute) {
    for (int i = 0; i < 30000; i++) {
        struct link_msg m;
        struct net_id from;
        int64_t reported = -1;
        if (!fake_manager_next(f, 1, &m, &from)) continue;
        if (m.wire.type == WIRE_HELLO) fake_manager_welcome(f, &from, &m, NULL);
        if (m.wire.type == WIRE_BATCH_REQUEST) {
            int64_t step = ((const Weir__BatchRequest *)m.wire.body)->step;
            CHECK(step <= STEPS);
            if (step == STEPS) {
                send_done(f, &from, step);
                reported = STEPS;
            } else {
                send_batch(f, &from, step);
                send_batch(f, &from, step); /* an answer twice is one batch */
            }
        }
        if (m.wire.type == WIRE_STEP_DONE) {
            reported = store(&m);
            Weir__StepAck a = WEIR__STEP_ACK__INIT;
            a.step = reported;
            if (reported != mute) fake_manager_send(f, &from, WIRE_STEP_ACK, &a, NULL, 0);
        }
        link_free(&m);
        if (reported >= 0) return reported;
    }
    test_fail(__FILE__, __LINE__, "no step was reported within 30 s");
}

static void check_file(const char *name) {
    char *path = file_join(test_dir(), name);
    if (!file_exists(path)) test_fail(__FILE__, __LINE__, "no %s", path);
    mem_free(path);
}

/* The whole run without disturbance, in `after`. */
static void undisturbed(struct fake_manager *f) {
    pid_t pid = start();
    for (int64_t i = 0; i <= STEPS; i++)
        CHECK_INT(serve(f, -1), i);
    CHECK_INT(fake_manager_finish(f, pid), 0);
    f->done = false;
}

TEST(trains_to_the_end) {
    struct fake_manager f;
    recipe("");
    pid_t relay = fake_manager_start(relay_main, "relay");
    fake_manager_open(&f, 100);
    undisturbed(&f);
    check_file("hf/model.safetensors");
    check_file("hf/config.json");
    check_file("hf/tokenizer.json");
    check_file("checkpoints/step-5/manifest.json");
    pid_t pid = start(); /* a run that is complete: nothing is trained again */
    CHECK_INT(serve(&f, -1), STEPS);
    CHECK_INT(fake_manager_finish(&f, pid), 0);
    fake_manager_close(&f);
    kill(relay, SIGTERM);
    CHECK_INT(fake_manager_wait(relay), err_exit_code(ERR_STOPPED));
}

TEST(killed_after_any_step_it_repeats_to_the_same_bits) {
    struct fake_manager f;
    char *checkpoints = file_join(test_dir(), "checkpoints");
    recipe("");
    pid_t relay = fake_manager_start(relay_main, "relay");
    fake_manager_open(&f, 100);
    undisturbed(&f);
    CHECK_OK(file_remove_tree(checkpoints));
    for (int64_t kill_at = 0; kill_at < STEPS; kill_at++) { /* `after` is what is expected */
        pid_t pid = start();
        while (serve(&f, kill_at % 2 ? kill_at : -1) < kill_at) {
        }
        kill(pid, SIGKILL);
        CHECK_INT(fake_manager_wait(pid), -SIGKILL);
    }
    pid_t pid = start();
    while (serve(&f, -1) < STEPS) {
    }
    CHECK_INT(fake_manager_finish(&f, pid), 0);
    mem_free(checkpoints);
    fake_manager_close(&f);
    kill(relay, SIGTERM);
    CHECK_INT(fake_manager_wait(relay), err_exit_code(ERR_STOPPED));
}

TEST(another_result_the_second_time_ends_the_run) {
    struct fake_manager f;
    recipe("");
    fake_manager_open(&f, 100);
    pid_t pid = start();
    done[0] = true;
    after[0] = (struct hash){1, 2};
    for (int i = 0; i < 30000; i++) {
        struct link_msg m;
        struct net_id from;
        if (kill(pid, 0) == 0 && fake_manager_next(&f, 1, &m, &from)) {
            if (m.wire.type == WIRE_HELLO) fake_manager_welcome(&f, &from, &m, NULL);
            if (m.wire.type == WIRE_BATCH_REQUEST) {
                send_batch(&f, &from, 0);
                i = 30000;
            }
            CHECK(m.wire.type != WIRE_STEP_DONE);
            link_free(&m);
        }
    }
    CHECK_INT(fake_manager_wait(pid), err_exit_code(ERR_MISMATCH));
    fake_manager_close(&f);
}

TEST(manager_dies_before_it_confirms) {
    struct fake_manager f;
    recipe("");
    fake_manager_open(&f, 100);
    pid_t pid = start();
    CHECK_INT(serve(&f, 0), 0);
    fake_manager_close(&f);
    fake_manager_open(&f, 200);
    CHECK_INT(serve(&f, -1), 0); /* said again */
    f.incarnation = 201;         /* and to one that lost it while it waits for a batch */
    CHECK_INT(serve(&f, -1), 1);
    kill(pid, SIGTERM);
    CHECK_INT(fake_manager_wait(pid), err_exit_code(ERR_STOPPED));
    fake_manager_close(&f);
}

/* Versions reach the relay with the hashes that the manager heard. */
TEST(publishes_what_it_reports) {
    struct fake_manager f;
    struct net *net;
    struct pull *pull;
    struct pull_version v;
    char *e;
    recipe("");
    pid_t relay = fake_manager_start(relay_main, "relay"), pid = start();
    fake_manager_open(&f, 100);
    for (int64_t i = 0; i < 3; i++)
        CHECK_INT(serve(&f, -1), i);
    CHECK_OK(net_open(&net));
    CHECK_OK(net_endpoint(&e, net, test_dir(), "relay"));
    CHECK_OK(pull_open(&pull, net, e, "reader"));
    mem_free(e);
    for (int i = 0; i < 6000 && pull_newest(pull) < 3; i++) {
        bool stop = false;
        CHECK_OK(net_wait(net, 5000, NULL, 0, &stop));
        CHECK_OK(pull_tick(pull, clock_us()));
    }
    CHECK_INT(pull_newest(pull), 3);
    struct shape shape;
    CHECK_OK(shape_read(&shape, "recipes/tiny"));
    size_t bytes = (size_t)params_slab_elements(&shape) * sizeof(float);
    CHECK_OK(pull_map(pull, 3, bytes, &v));
    CHECK(hash_equal(v.hash, after[2]));
    pull_release(pull, &v);
    pull_close(&pull);
    net_close(&net);
    kill(pid, SIGTERM);
    CHECK_INT(fake_manager_wait(pid), err_exit_code(ERR_STOPPED));
    fake_manager_close(&f);
    kill(relay, SIGTERM);
    CHECK_INT(fake_manager_wait(relay), err_exit_code(ERR_STOPPED));
}
