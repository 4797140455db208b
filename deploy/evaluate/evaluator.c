/* evaluator.c - see evaluator.h. It holds nothing that a crash could lose: which versions were
 * evaluated is in the run's metrics, and the manager's answer to an EvalDone is what ends its
 * repetition.
 *
 * Training never waits for it: it copies a version out of the relay's shared memory and evaluates
 * that copy with an engine of its own, one version at a time. When training was faster, the newest
 * version is next; those that were due in between are named in its report and not made up for. */
#include "deploy/evaluate/evaluator.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/net.h"
#include "deploy/evaluate/evaluate.h"
#include "proto/client.h"
#include "proto/control.pb-c.h"
#include "proto/metrics/metrics.h"
#include "proto/train.pb-c.h"
#include "relay/pull.h"
#include "rollout/setup/setup_policy.h"

#include <inttypes.h>
#include <string.h>

enum { MESSAGE_BYTES_MAX = 4 << 20, WAIT_US = 20000, REPEAT_US = 500000, SETTLE_US = 300000 };
/* Longer than the trainer waits for the relay to take the last version; after that nobody offers it
 * to a relay that starts again. */
enum { LOST_US = 4000000 };

struct evaluator {
    struct recipe *recipe;
    struct net *net;
    struct client *manager;
    struct pull *pull;
    const struct kern_backend *backend;
    struct policy policy;
    struct params *weights;
    struct evaluate *evaluate;
    const char *name;
    uint64_t sent_us;
    int64_t due;       /* least version to evaluate next, while the run goes on */
    int64_t evaluated; /* newest version evaluated, -1: none */
    int64_t reported;  /* version whose result waits for the manager's answer, -1: none */
    struct buf report;
    bool stop;
    uint64_t done_us; /* since when the manager says that the run is complete, 0: not yet */
    int rc;
};

static int speak(struct evaluator *e, uint64_t now_us) {
    Weir__Heartbeat beat = WEIR__HEARTBEAT__INIT;
    if (client_hello_due(e->manager, now_us))
        return client_hello(e->manager, now_us, -1, NULL, NULL, 0);
    if (!client_beat_due(e->manager, now_us)) return 0;
    beat.version = e->evaluated;
    return client_beat(e->manager, now_us, &beat);
}

/* Said again until the manager has stored it. */
static int report(struct evaluator *e, uint64_t now_us) {
    Weir__EvalDone eval = WEIR__EVAL_DONE__INIT;
    struct wire_frame frame = {e->report.data, e->report.len};
    if (e->reported < 0 || !client_welcome(e->manager) || now_us - e->sent_us < REPEAT_US) return 0;
    e->sent_us = now_us;
    eval.version = e->reported;
    int rc = client_send(e->manager, WIRE_EVAL_DONE, &eval, &frame, 1);
    return rc == ERR_AGAIN ? 0 : rc;
}

static int receive(struct evaluator *e, uint64_t now_us) {
    struct link_msg m;
    int rc;
    while ((rc = client_recv(e->manager, now_us, &m)) == 0) {
        if (m.wire.type == WIRE_STEP_ACK &&
            ((const Weir__StepAck *)m.wire.body)->step == e->reported)
            e->reported = -1;
        link_free(&m);
    }
    if (client_done(e->manager) && !e->done_us) e->done_us = now_us;
    return rc == ERR_AGAIN ? 0 : rc;
}

/* One turn of the loop; also called between the engine's steps during an evaluation. */
static int turn(struct evaluator *e, uint64_t wait_us) {
    uint64_t now_us = clock_us();
    TRY(net_wait(e->net, wait_us, NULL, 0, &e->stop));
    TRY(receive(e, now_us));
    TRY(pull_tick(e->pull, now_us));
    TRY(speak(e, now_us));
    return report(e, now_us);
}

static bool interrupted(void *ctx) {
    struct evaluator *e = ctx;
    e->rc = turn(e, 0);
    return e->rc < 0 || e->stop;
}

/* Versions that were due and passed by while another was evaluated: training does not wait. */
struct skipped {
    int64_t n, first, last;
};

static struct skipped skipped_before(const struct evaluator *e, int64_t version) {
    int64_t every = e->recipe->eval.every;
    struct skipped s = {0};
    if (e->due >= version) return s;
    s.first = e->due;
    s.last = every ? (version - 1) / every * every : e->due;
    s.n = every ? (s.last - s.first) / every + 1 : 1;
    return s;
}

static void write_report(struct evaluator *e, const struct evaluate_report *r,
                         const struct skipped *s) {
    struct json_write w = json_write_to(&e->report, JSON_LINE);
    struct metrics m = {.json = &w};
    buf_reset(&e->report);
    json_write_object(&w, NULL);
    evaluate_metrics(r, &m);
    metrics_int(&m, METRIC_EVAL_SKIPPED, s->n);
    if (s->n > 0) {
        metrics_int(&m, METRIC_EVAL_SKIPPED_FIRST, s->first);
        metrics_int(&m, METRIC_EVAL_SKIPPED_LAST, s->last);
    }
    json_write_end(&w);
    LOG(INFO, DEPLOY, "version=%" PRId64 " accuracy=%.4f n=%" PRId64 " seconds=%.2f", r->version,
        r->accuracy, r->n, r->seconds);
    if (s->n > 0)
        LOG(INFO, DEPLOY,
            "version=%" PRId64 " skipped=%" PRId64 " first=%" PRId64 " last=%" PRId64
            ": training went on during the evaluation before",
            r->version, s->n, s->first, s->last);
}

/* Least version of the next evaluation; without eval.every only the last one is left. */
static int64_t after(const struct evaluator *e, int64_t version) {
    int64_t every = e->recipe->eval.every;
    return every ? (version / every + 1) * every : e->recipe->trainer.steps;
}

/* Of the weights that are loaded. */
static int evaluate_version(struct evaluator *e, int64_t version) {
    struct evaluate_report r;
    int rc = evaluate_run(e->evaluate, e->weights, version, interrupted, e, &r);
    if (rc == ERR_CLOSED) return e->rc < 0 ? e->rc : 0;
    TRY(rc);
    struct skipped s = skipped_before(e, version);
    write_report(e, &r, &s);
    e->reported = version;
    e->sent_us = 0;
    e->due = after(e, version);
    e->evaluated = version;
    return 0;
}

static int evaluate_newest(struct evaluator *e) {
    struct pull_version v;
    size_t bytes = params_slab(e->weights).bytes;
    int rc = pull_map(e->pull, -1, bytes, &v);
    if (rc == ERR_AGAIN || rc == ERR_NOTFOUND) return 0;
    TRY(rc);
    rc = params_put_hashed(e->weights, v.data, v.bytes, v.hash);
    int64_t version = v.version;
    pull_release(e->pull, &v);
    TRY(rc);
    return evaluate_version(e, version);
}

/* The last version from the folder that the trainer wrote at its end: float32, so the same bits.
 * The file of the weights is the last that it writes, whole or not at all. */
static int evaluate_folder(struct evaluator *e, const char *run_dir) {
    char *dir = file_join(run_dir, "hf"), *file = file_join(dir, "model.safetensors");
    int rc = 0;
    if (!file_exists(file)) goto out; /* a trainer that died in its last lines starts again */
    LOG(INFO, DEPLOY, "the relay does not have the last version; reading it from %s", dir);
    TRY_OUT(params_load(e->weights, dir));
    rc = evaluate_version(e, e->recipe->trainer.steps);
out:
    mem_free(dir);
    mem_free(file);
    return rc;
}

/* What is due: nothing while the result before is not stored. *end: nothing will be due. */
static int work(struct evaluator *e, const char *run_dir, bool *end) {
    int64_t newest = pull_newest(e->pull), last = e->recipe->trainer.steps;
    uint64_t done_us = e->done_us ? clock_us() - e->done_us : 0;
    if (e->reported >= 0) return 0;
    *end = e->done_us && e->evaluated >= last;
    if (newest > e->evaluated && (done_us > SETTLE_US || newest >= e->due))
        return evaluate_newest(e);
    return done_us > LOST_US && !*end ? evaluate_folder(e, run_dir) : 0;
}

static int connect_services(struct evaluator *e, const char *run_dir) {
    char *relay;
    struct client_config cfg = {.run_dir = run_dir,
                                .service = "eval",
                                .name = e->name,
                                .heartbeat_us = (uint64_t)e->recipe->rollout.heartbeat_ms * 1000,
                                .msg_bytes_max = MESSAGE_BYTES_MAX};
    TRY(net_open(&e->net));
    TRY(client_open(&e->manager, e->net, &cfg));
    TRY(net_endpoint(&relay, e->net, run_dir, "relay"));
    int rc = pull_open(&e->pull, e->net, relay, e->name);
    mem_free(relay);
    return rc;
}

/* The newest evaluation of the run's metrics, so that a restart repeats none. */
static int read_evaluated(struct evaluator *e, const char *run_dir) {
    char *path = file_join(run_dir, "metrics.jsonl");
    struct file_map m;
    struct json_doc *doc;
    int rc = file_map_open(&m, path);
    mem_free(path);
    if (rc == ERR_NOTFOUND) return 0;
    TRY(rc);
    for (size_t at = 0, n; at < m.bytes; at += n + 1) {
        const char *line = (const char *)m.data + at, *end = memchr(line, '\n', m.bytes - at);
        int64_t version;
        n = end ? (size_t)(end - line) : m.bytes - at;
        if (n < 16 || strncmp(line, "{\"eval/version\"", 15) != 0) continue;
        if (json_parse(&doc, line, n, "metrics") < 0) continue; /* the manager writes it anew */
        if (json_int(metrics_get(json_root(doc), METRIC_EVAL_VERSION), &version) &&
            version > e->evaluated)
            e->evaluated = version;
        json_close(&doc);
    }
    file_map_close(&m);
    if (e->evaluated >= 0) e->due = after(e, e->evaluated);
    return 0;
}

static int open_all(struct evaluator *e, const char *run_dir) {
    char *file = file_join(run_dir, "recipe.yaml");
    int rc = recipe_load(&e->recipe, file, NULL, 0);
    mem_free(file);
    TRY(rc);
    TRY(read_evaluated(e, run_dir));
    TRY(connect_services(e, run_dir));
    TRY(kern_open(&e->backend, e->recipe->rollout.device, (int)e->recipe->rollout.threads));
    TRY(setup_policy(&e->policy, e->recipe, NULL));
    e->policy.shape.bf16 = e->recipe->model.dtype == RECIPE_DTYPE_BF16;
    TRY(params_open(&e->weights, e->backend, &e->policy.shape));
    return evaluate_open(&e->evaluate, e->recipe, &e->policy, e->backend);
}

static void close_all(struct evaluator *e) {
    evaluate_close(&e->evaluate);
    params_close(&e->weights);
    policy_close(&e->policy);
    if (e->backend) kern_close(e->backend);
    pull_close(&e->pull);
    client_close(&e->manager);
    net_close(&e->net);
    recipe_close(&e->recipe);
    buf_close(&e->report);
}

int evaluator_service(const char *run_dir, const char *name) {
    struct evaluator e = {.name = name, .reported = -1, .evaluated = -1};
    int rc;
    bool end = false;
    TRY_OUT(open_all(&e, run_dir));
    while (!end && !e.stop) {
        TRY_OUT(turn(&e, WAIT_US));
        TRY_OUT(work(&e, run_dir, &end));
    }
    if (!end) rc = net_stopped();
out:
    if (rc < 0 && rc != ERR_STOPPED) LOG(ERROR, DEPLOY, "%s", err_text());
    close_all(&e);
    return rc;
}
