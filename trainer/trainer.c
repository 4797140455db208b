/* trainer.c - see trainer.h. A straight line rather than a state machine: ask for the batch of the
 * version that is held, train it, publish, report, go on. Publishing is a copy that goes on beside
 * the report and the next step (publish.c), up to where that changes the weights; a checkpoint is
 * copied to host memory and written beside the next steps (saver.c). Where it waits
 * for the manager (ask_manager) it answers the relay, sends heartbeats and says again what a
 * restarted manager cannot know; saver_wait and publish_wait only block. During a step only
 * `between` runs: it offers a finished copy and looks after the saver. Nobody else needs the
 * trainer then: it holds no leases, and readers of the relay have their own mappings.
 *
 * After a crash it continues from the newest checkpoint and repeats the steps since; the manager
 * hands out the same batches with the hash that the first time had, and any difference ends the run
 * (I3, I7): from there on the log would not explain the weights.
 *
 * Deployment: ERR_CONFIG, ERR_CORRUPT, ERR_MISMATCH (a hash differs) and ERR_IO (a full disk) are
 * final; anything else may be restarted and repeats at most trainer.checkpoint.every steps. */
#include "trainer/trainer.h"

#include "base/env.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/client.h"
#include "proto/control.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory.pb-c.h"
#include "proto/trajectory_wire.h"
#include "relay/push.h"
#include "trainer/checkpoint/export.h"
#include "trainer/checkpoint/saver.h"
#include "trainer/learn/logprob_audit.h"
#include "trainer/learn/step.h"
#include "trainer/learn/step_metrics.h"
#include "trainer/publish.h"
#include "trainer/publish_device.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>

enum {
    TRAINER_IDLE_US = 20 * 1000,
    TRAINER_REPEAT_US = 5 * 1000 * 1000, /* a question without an answer is asked again */
    TRAINER_LAST_US = 2 * 1000 * 1000    /* wait for the relay to take the last version */
};

struct trainer {
    struct recipe *recipe;
    struct step *step;
    struct env env;
    struct client *client;
    struct push *push;
    struct publish_device *handover; /* NULL: none */
    struct publish *publish;
    struct saver *saver;
    struct logprob_audit *audit;
    struct {
        int64_t tokens, trajectories, unequal;
    } compared; /* log-probs of rollouts, since the start */
    char *checkpoints, *hf;
    struct hash hash;      /* of the current weights */
    int64_t saved, tokens; /* newest checkpoint, -1; trained since start */
    bool stop;
    uint64_t beat_us, busy_us;
};

/* Before each microbatch of a step: checkpoints and versions go on beside it. */
static int between(void *ctx) {
    struct trainer *t = ctx;
    TRY(saver_turn(t->saver, &t->saved));
    return publish_turn(t->publish);
}

static int before_update(void *ctx) {
    struct trainer *t = ctx;
    return publish_wait(t->publish);
}

/* Where the device refuses its memory, all rollouts copy through host memory. */
static int open_handover(struct trainer *t) {
    const struct params *w = step_policy(t->step);
    size_t bytes = params_policy_bytes(params_shape(w));
    if (step_memory(t->step)->handover == 0) return 0;
    int rc = publish_device_open(&t->handover, params_backend(w), bytes);
    if (rc < 0) LOG(WARN, TRAINER, "no hand-over on the device: %s", err_text());
    return 0;
}

/* The newest checkpoint is loaded before anybody is told that the trainer is there; on failure
 * close_trainer closes what was opened. */
static int open_trainer(struct trainer *t, const char *run_dir) {
    char *path = file_join(run_dir, "recipe.yaml"), *endpoint = NULL;
    int rc;
    t->checkpoints = file_join(run_dir, "checkpoints");
    t->hf = file_join(run_dir, "hf");
    TRY_OUT(env_open(&t->env));
    t->beat_us = env_now_us(&t->env);
    TRY_OUT(recipe_load(&t->recipe, path, NULL, 0));
    TRY_OUT(step_open(&t->step, t->recipe, t->recipe->model.path));
    rc = step_load(t->step, t->checkpoints, -1);
    if (rc == 0) t->saved = step_version(t->step);
    if (rc != ERR_NOTFOUND) TRY_OUT(rc);
    TRY_OUT(step_hash(&t->hash, t->step));
    struct client_config client = {.run_dir = run_dir,
                                   .service = "trainer",
                                   .name = "trainer",
                                   .heartbeat_us = (uint64_t)t->recipe->rollout.heartbeat_ms * 1000,
                                   .msg_bytes_max = WIRE_BYTES_MAX};
    TRY_OUT(client_open(&t->client, &t->env, &client));
    TRY_OUT(net_endpoint(&endpoint, t->env.net, run_dir, "relay"));
    TRY_OUT(push_open(&t->push, t->env.net, endpoint, "trainer"));
    TRY_OUT(open_handover(t));
    TRY_OUT(publish_open(&t->publish, params_backend(step_policy(t->step)), t->push, t->handover));
    TRY_OUT(logprob_audit_open(&t->audit, step_policy(t->step), t->recipe,
                               step_memory(t->step)->device));
    TRY_OUT(saver_open(&t->saver, t->checkpoints, t->recipe->trainer.checkpoint.keep));
    struct step_watch watch = {.between = between, .before_update = before_update, .ctx = t};
    step_watch(t->step, &watch);
out:
    mem_free(path);
    mem_free(endpoint);
    return rc;
}

static void close_trainer(struct trainer *t) {
    saver_close(&t->saver);
    logprob_audit_close(&t->audit);
    publish_close(&t->publish);
    publish_device_close(&t->handover);
    push_close(&t->push);
    client_close(&t->client);
    env_close(&t->env);
    step_close(&t->step);
    recipe_close(&t->recipe);
    mem_free(t->checkpoints);
    mem_free(t->hf);
}

static int publish_version(struct trainer *t) {
    return publish_begin(t->publish, step_policy(t->step), step_version(t->step), t->hash,
                         step_stream(t->step));
}

/* --- waiting ------------------------------------------------------------------------------- */

static int send_heartbeat(struct trainer *t, uint64_t now_us) {
    Weir__Heartbeat h = WEIR__HEARTBEAT__INIT;
    uint64_t span = now_us - t->beat_us;
    h.version = step_version(t->step);
    h.tokens = t->tokens;
    h.busy = span == 0 ? 0 : t->busy_us < span ? (double)t->busy_us / (double)span : 1;
    t->beat_us = now_us;
    t->busy_us = 0;
    return client_beat(t->client, now_us, &h);
}

/* A question to the manager: the message that is said (a request or a report), and the type and
 * step of the message that answers it. */
struct wait {
    enum wire_type say, want;
    const void *body;
    struct wire_frame frame;
    size_t n_frames;
    int64_t step;
};

static bool is_answer(const struct wait *w, const struct wire_msg *m) {
    if (m->type != w->want) return false;
    int64_t step = w->want == WIRE_BATCH ? ((const Weir__Batch *)m->body)->step
                                         : ((const Weir__StepAck *)m->body)->step;
    return step == w->step;
}

/* Reads messages until one answers w. *again becomes true when a manager that has just started
 * welcomed the trainer: the new manager has not heard the question. */
static int receive_answer(struct trainer *t, const struct wait *w, struct link_msg *out, bool *got,
                          bool *again) {
    for (;;) {
        struct link_msg m;
        int rc = client_recv(t->client, env_now_us(&t->env), &m);
        if (rc == ERR_AGAIN) return 0;
        TRY(rc);
        if (is_answer(w, &m.wire)) {
            *out = m;
            *got = true;
            return 0;
        }
        if (m.wire.type == WIRE_WELCOME) *again = true;
        link_free(&m);
    }
}

/* Returns at a message, at the end of a copy, or after a little while. */
static int wait_briefly(struct trainer *t) {
    int fd = publish_fd(t->publish);
    return net_wait(t->env.net, TRAINER_IDLE_US, &fd, 1, &t->stop);
}

/* Repeats the question until its answer comes or the trainer is told to stop; then *got stays
 * false. Publishing, saving and heartbeats go on meanwhile. */
static int ask_manager(struct trainer *t, const struct wait *w, struct link_msg *out, bool *got) {
    uint64_t said_us = 0;
    while (!t->stop) {
        bool again = false;
        uint64_t now_us = env_now_us(&t->env);
        TRY(publish_turn(t->publish));
        TRY(saver_turn(t->saver, &t->saved));
        TRY(push_tick(t->push, now_us));
        TRY(receive_answer(t, w, out, got, &again));
        if (*got) return 0;
        if (client_hello_due(t->client, now_us))
            TRY(client_hello(t->client, now_us, step_version(t->step), NULL, NULL, 0));
        if (client_beat_due(t->client, now_us)) TRY(send_heartbeat(t, now_us));
        bool due = again || said_us == 0 || now_us >= said_us + TRAINER_REPEAT_US;
        if (client_welcome(t->client) && due) {
            int rc = client_send(t->client, w->say, w->body, &w->frame, w->n_frames);
            if (rc < 0 && rc != ERR_AGAIN) return rc;
            if (rc == 0) said_us = now_us;
        }
        TRY(wait_briefly(t));
    }
    return 0;
}

/* --- one step ------------------------------------------------------------------------------ */

/* Items come by group: the validator saw to it. */
static struct batch *batch_of_message(const struct wire_msg *m) {
    const Weir__Batch *w = m->body;
    struct trajectory_reader r = trajectory_read(m->frame);
    struct batch *b = batch_open((uint32_t)w->n_items);
    b->step = w->step;
    for (uint32_t i = 0; i < b->n; i++) {
        struct trajectory t = trajectory_next(&r, w->items[i]);
        bool same = i > 0 && w->items[i - 1]->group == t.group;
        batch_put(b, i, &t, b->n_groups - same);
    }
    return b;
}

static int check_expected(const Weir__Batch *m, struct hash after) {
    char was[HASH_HEX], now[HASH_HEX];
    if (m->expect_hash.len == 0) return 0;
    struct hash before = hash_get(m->expect_hash.data);
    if (hash_equal(before, after)) return 0;
    hash_hex(before, was);
    hash_hex(after, now);
    return FAIL(ERR_MISMATCH,
                "step %" PRId64 " was done before with weights %s after it; done again it gives %s",
                m->step + 1, was, now);
}

/* Starts a checkpoint beside the training. The saver has memory for one copy, so the checkpoint
 * before this one is waited for first. It counts as saved when it is on disk (saver.c). */
static int save_checkpoint(struct trainer *t) {
    struct ckpt c;
    TRY(saver_wait(t->saver, &t->saved));
    TRY(step_checkpoint(t->step, &c));
    int rc = saver_begin(t->saver, &c);
    if (rc != ERR_NOMEM) return rc;
    LOG(WARN, TRAINER, "training waits for this checkpoint: %s", err_text());
    TRY(ckpt_save(&c, t->checkpoints, t->recipe->trainer.checkpoint.keep));
    t->saved = c.version;
    return 0;
}

/* Tells the manager what was done, until it has stored it. */
static int report_step(struct trainer *t, const struct step_report *r, struct hash before,
                       bool skipped, const struct step_times *times) {
    Weir__StepDone d = WEIR__STEP_DONE__INIT;
    uint8_t hash_before[16], hash_after[16];
    struct buf text = {0};
    struct json_write w = json_write_to(&text, JSON_COMPACT);
    struct metrics metrics = {.json = &w};
    struct link_msg m;
    bool got = false;
    hash_put(hash_before, before);
    hash_put(hash_after, t->hash);
    json_write_object(&w, NULL);
    step_metrics(&metrics, r);
    step_metrics_times(&metrics, r, times);
    json_write_end(&w);
    d.step = r->step;
    d.hash_before = (ProtobufCBinaryData){sizeof hash_before, hash_before};
    d.hash_after = (ProtobufCBinaryData){sizeof hash_after, hash_after};
    d.skipped = skipped;
    struct wait done = {WIRE_STEP_DONE, WIRE_STEP_ACK, &d, {text.data, text.len}, 1, r->step};
    int rc = ask_manager(t, &done, &m, &got);
    if (got) link_free(&m);
    buf_close(&text);
    return rc;
}

/* Before the step: the weights are still those that the newest tokens of the batch can be of, so
 * they are kept for later batches. */
static int audit_batch(struct trainer *t, const struct batch *b, struct logprob_audit_result *out) {
    int64_t version = step_version(t->step);
    TRY(err_wrap(logprob_audit_batch(t->audit, b, version, out), "comparing log-probs"));
    return logprob_audit_keep(t->audit, step_policy(t->step), version);
}

/* The step has compared the tokens of its own version, the audit those of older ones; the report
 * says both as one. */
static void add_audit(struct trainer *t, struct step_report *r,
                      const struct logprob_audit_result *a) {
    struct step_diff *e = &r->logprob_engine;
    if (a->tokens > 0) {
        int64_t n = r->checked_tokens;
        double sum = n > 0 ? e->mean * (double)n : 0;
        *e = (struct step_diff){(sum + a->sum) / (double)(n + a->tokens), fmax(e->max, a->max)};
    }
    r->checked_tokens += a->tokens;
    r->checked_trajectories += a->trajectories;
    r->unequal_tokens += a->unequal;
    t->compared.tokens += r->checked_tokens;
    t->compared.trajectories += r->checked_trajectories;
    t->compared.unequal += r->unequal_tokens;
}

/* Trains the batch; *skipped: the weights are as before, under the next version number. */
static int train_batch(struct trainer *t, const struct wire_msg *m, struct step_report *r,
                       bool *skipped) {
    struct batch *b = batch_of_message(m);
    int64_t before = step_version(t->step);
    uint64_t start = env_now_us(&t->env);
    struct logprob_audit_result compared = {0};
    int rc = audit_batch(t, b, &compared);
    if (rc == 0) rc = step_run(t->step, b, r);
    batch_close(&b);
    if (rc == ERR_CORRUPT || rc == ERR_CONFIG || rc == ERR_STALE)
        return FAIL(rc,
                    "step %" PRId64 ": %s (if the batch cannot be trained: `weir replay RUN reject "
                    "--trajectory N` takes the group of that trajectory out, then resume)",
                    before + 1, err_text());
    TRY(err_wrap(rc, "step %" PRId64, before + 1));
    add_audit(t, r, &compared);
    *skipped = step_version(t->step) == before;
    if (*skipped) step_advance(t->step);
    TRY(check_expected(m->body, r->weights_hash));
    t->hash = r->weights_hash;
    t->tokens += r->tokens;
    t->busy_us += env_now_us(&t->env) - start;
    return 0;
}

static double seconds_between(uint64_t from_us, uint64_t to_us) {
    return (double)(to_us - from_us) * 1e-6;
}

static int do_step(struct trainer *t, const struct wire_msg *m, uint64_t asked_us) {
    struct step_report r;
    struct hash before = t->hash;
    bool skipped = false;
    uint64_t start = env_now_us(&t->env);
    struct step_times times = {.wait = seconds_between(asked_us, start)};
    TRY(train_batch(t, m, &r, &skipped));
    times.step = seconds_between(start, env_now_us(&t->env));
    times.publish = publish_times(t->publish).took;
    times.publish_wait = publish_times(t->publish).waited;
    TRY(publish_version(t));
    LOG(INFO, TRAINER, "step=%" PRId64 " reward=%.4f grad_norm=%.4g staleness=%.2f step_s=%.3f%s",
        r.step + 1, r.reward_mean, r.grad_norm, r.staleness_mean, times.step,
        skipped ? " skipped" : "");
    TRY(report_step(t, &r, before, skipped, &times));
    if (!t->stop && step_version(t->step) % t->recipe->trainer.checkpoint.every == 0)
        return save_checkpoint(t);
    return 0;
}

/* --- the run ------------------------------------------------------------------------------- */

/* Waits for the relay to take the last version, which an evaluation may still want. */
static int hand_over_last(struct trainer *t) {
    uint64_t until = env_now_us(&t->env) + TRAINER_LAST_US;
    TRY(publish_wait(t->publish));
    while (!t->stop && push_taken(t->push) < step_version(t->step) && env_now_us(&t->env) < until) {
        TRY(push_tick(t->push, env_now_us(&t->env)));
        TRY(wait_briefly(t));
    }
    return 0;
}

/* Says at the end how many log-probs were compared (I6), and warns where none were. */
static void say_compared(const struct trainer *t) {
    bool exact = t->recipe->model.exact || kern_always_exact(params_backend(step_policy(t->step)));
    bool wrong = exact && (t->compared.unequal > 0 || t->compared.tokens == 0);
    log_write(wrong && t->tokens > 0 ? LOG_WARN : LOG_INFO, LOG_TRAINER,
              "log-probs of rollouts compared with the weights they name: %" PRId64
              " tokens of %" PRId64 " trajectories, %" PRId64 " differ%s",
              t->compared.tokens, t->compared.trajectories, t->compared.unequal,
              t->compared.tokens == 0 ? ": nothing was compared" : "");
}

static int finish_run(struct trainer *t) {
    say_compared(t);
    TRY(saver_wait(t->saver, &t->saved));
    if (t->saved != step_version(t->step)) TRY(save_checkpoint(t));
    TRY(saver_wait(t->saver, &t->saved));
    TRY(export_hf(step_weights(t->step), t->recipe->model.path, t->hf, KERN_F32, 0));
    TRY(hand_over_last(t));
    LOG(INFO, TRAINER, "done version=%" PRId64 " model=%s", step_version(t->step), t->hf);
    return 0;
}

/* Asks for batch after batch until one says that the run is done, or the trainer is stopped. */
static int run_steps(struct trainer *t) {
    TRY(publish_version(t));
    struct buf memory = {0};
    memplan_text(&memory, step_memory(t->step));
    LOG(INFO, TRAINER, "starts at version=%" PRId64 " memory: %s", step_version(t->step),
        memory.data);
    buf_close(&memory);
    while (!t->stop) {
        Weir__BatchRequest q = WEIR__BATCH_REQUEST__INIT;
        struct link_msg m;
        bool got = false;
        uint64_t asked_us = env_now_us(&t->env);
        uint8_t hash[16];
        hash_put(hash, t->hash);
        q.step = step_version(t->step);
        q.hash = (ProtobufCBinaryData){sizeof hash, hash};
        struct wait w = {WIRE_BATCH_REQUEST, WIRE_BATCH, &q, {NULL, 0}, 0, q.step};
        TRY(ask_manager(t, &w, &m, &got));
        if (!got) break;
        bool done = ((const Weir__Batch *)m.wire.body)->done;
        int rc = done ? finish_run(t) : do_step(t, &m.wire, asked_us);
        link_free(&m);
        if (rc < 0 || done) return rc;
    }
    TRY(saver_wait(t->saver, &t->saved));
    return net_stopped();
}

int trainer_service(const char *run_dir) {
    struct trainer t = {.saved = -1};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int rc = open_trainer(&t, run_dir);
    if (rc == 0) rc = run_steps(&t);
    if (rc < 0 && rc != ERR_STOPPED)
        LOG(ERROR, TRAINER, "trainer ends: %s (%s)", err_text(), err_name(rc));
    close_trainer(&t);
    return rc;
}
