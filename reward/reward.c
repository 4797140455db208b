/* reward.c - see reward.h. The service keeps nothing: a request is a job in the pool, a result is a
 * reply, and whatever dies in between is asked again by the manager. So a reply that cannot be sent
 * is dropped, and the same trajectory asked twice is scored twice, with the same result.
 *
 * When the pool is full, one request waits here and no more are read: the queue is then in the
 * sockets, and the manager sees its limit (I9).
 *
 * Deployment: ERR_CONFIG, ERR_CORRUPT, ERR_MISMATCH and ERR_IO are final (the recipe is wrong, the
 * run directory cannot be read); anything else, a lost keeper process included, may be restarted.
 */
#include "reward/reward.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/client.h"
#include "proto/control.pb-c.h"
#include "proto/recipe.h"
#include "proto/reward.pb-c.h"
#include "reward/spec.h"
#include "reward/workers.h"

#include <signal.h>
#include <sys/prctl.h>

enum {
    REWARD_JOBS_MAX = 256,
    REWARD_MSG_BYTES = 32 << 20,
    REWARD_IDLE_US = 200 * 1000,
    REWARD_FULL_US = 1000
};

struct reward {
    struct recipe *recipe;
    struct workers *workers;
    struct net *net;
    struct client *client;
    struct link_msg held;        /* a request that found the pool full; held.net NULL: none */
    struct verify_result result; /* taken from the pool, not sent yet */
    uint64_t result_id, in_pool;
    bool unsent;                           /* result found the socket full */
    uint64_t beat_us, busy_us, busy_since; /* busy: some job in the pool; busy_since 0: none */
};

/* The pool forks: before there are threads, and before sockets that a worker could inherit. */
static int open_workers(struct reward *r) {
    struct verify *verify;
    struct workers_config pool = {.n = (uint32_t)r->recipe->reward_service.workers,
                                  .jobs_max = REWARD_JOBS_MAX,
                                  .cpu_ms = (uint32_t)r->recipe->reward_service.timeout_ms};
    TRY(spec_open(&verify, r->recipe));
    int rc = workers_open(&r->workers, &pool, verify);
    verify_close(&verify);
    return rc;
}

static int open_all(struct reward *r, const char *run_dir, const char *name) {
    char *path = file_join(run_dir, "recipe.yaml");
    int rc = recipe_load(&r->recipe, path, NULL, 0);
    mem_free(path);
    TRY(rc);
    TRY(open_workers(r));
    TRY(net_open(&r->net));
    struct client_config client = {.run_dir = run_dir,
                                   .service = "reward",
                                   .name = name,
                                   .heartbeat_us = (uint64_t)r->recipe->rollout.heartbeat_ms * 1000,
                                   .msg_bytes_max = REWARD_MSG_BYTES};
    return client_open(&r->client, r->net, &client);
}

static void close_all(struct reward *r) {
    if (r->held.net) link_free(&r->held);
    client_close(&r->client);
    net_close(&r->net);
    workers_close(&r->workers);
    recipe_close(&r->recipe);
}

/* Nobody is there: the manager asks again when it is back. ERR_AGAIN: it does not read just now. */
static int send_reply(struct reward *r, const Weir__ScoreReply *reply) {
    if (!client_welcome(r->client)) return 0;
    return client_send(r->client, WIRE_SCORE_REPLY, reply, NULL, 0);
}

static int reply_error(struct reward *r, uint64_t trajectory, int error) {
    Weir__ScoreReply reply = WEIR__SCORE_REPLY__INIT;
    char *reason = mem_strdup(err_text());
    reply.trajectory = trajectory;
    reply.error = error;
    reply.reason = reason;
    int rc = send_reply(r, &reply);
    mem_free(reason);
    return rc == ERR_AGAIN ? 0 : rc; /* the manager asks again later */
}

static int reply_result(struct reward *r, uint64_t id, struct verify_result *v) {
    Weir__ScoreReply reply = WEIR__SCORE_REPLY__INIT;
    Weir__Score score[VERIFY_MAX], *scores[VERIFY_MAX];
    reply.trajectory = id;
    reply.error = v->error;
    reply.reason = v->reason;
    reply.total = v->error ? 0 : v->total;
    for (int32_t i = 0; i < v->n_scores; i++) {
        score[i] = (Weir__Score)WEIR__SCORE__INIT;
        score[i].name = v->scores[i].name;
        score[i].value = v->scores[i].value;
        scores[i] = &score[i];
    }
    reply.n_scores = v->error ? 0 : (size_t)v->n_scores;
    reply.scores = scores;
    return send_reply(r, &reply);
}

/* Verifiers take C strings. A NUL in a response becomes the control character SUBSTITUTE, so that
 * what follows it is still seen. */
static char *text_of(const ProtobufCBinaryData *b) {
    char *s = mem_alloc(b->len + 1);
    for (size_t i = 0; i < b->len; i++)
        s[i] = b->data[i] ? (char)b->data[i] : '\x1a';
    s[b->len] = '\0';
    return s;
}

/* ERR_AGAIN: the pool is full. */
static int submit(struct reward *r, const Weir__ScoreRequest *q) {
    char *prompt = text_of(&q->prompt), *response = text_of(&q->response);
    char *answer = text_of(&q->answer);
    struct verify_input in = {.prompt = prompt,
                              .response = response,
                              .answer = answer,
                              .n_tokens = (int32_t)q->n_tokens,
                              .max_tokens = (int32_t)q->max_tokens,
                              .truncated = q->truncated};
    int rc = workers_submit(r->workers, q->trajectory, &in);
    mem_free(prompt);
    mem_free(response);
    mem_free(answer);
    if (rc == 0) r->in_pool++;
    if (rc < 0 && rc != ERR_AGAIN) rc = reply_error(r, q->trajectory, rc);
    return rc;
}

static int take_results(struct reward *r) {
    while (r->unsent || workers_take(r->workers, &r->result_id, &r->result)) {
        int rc = reply_result(r, r->result_id, &r->result);
        r->unsent = rc == ERR_AGAIN;
        if (r->unsent) return 0; /* nothing more is taken until it is gone */
        TRY(rc);
        r->in_pool--;
    }
    if (r->held.net) {
        int rc = submit(r, r->held.wire.body);
        if (rc == ERR_AGAIN) return 0;
        link_free(&r->held);
        TRY(rc);
    }
    return 0;
}

static int read_messages(struct reward *r, uint64_t now_us) {
    while (!r->held.net) {
        struct link_msg m;
        int rc = client_recv(r->client, now_us, &m);
        if (rc == ERR_AGAIN) return 0;
        TRY(rc);
        rc = m.wire.type == WIRE_SCORE_REQUEST ? submit(r, m.wire.body) : 0;
        if (rc == ERR_AGAIN)
            r->held = m;
        else
            link_free(&m);
        if (rc < 0 && rc != ERR_AGAIN) return rc;
    }
    return 0;
}

/* Time with a job in the pool, for the share that the heartbeat says. */
static void count_busy(struct reward *r, uint64_t now_us) {
    if (r->busy_since) r->busy_us += now_us - r->busy_since;
    r->busy_since = r->in_pool > 0 ? now_us : 0;
}

static int speak(struct reward *r, uint64_t now_us) {
    if (client_hello_due(r->client, now_us))
        return client_hello(r->client, now_us, -1, NULL, NULL, 0);
    if (!client_beat_due(r->client, now_us)) return 0;
    Weir__Heartbeat beat = WEIR__HEARTBEAT__INIT;
    uint64_t span = now_us - r->beat_us;
    beat.version = -1;
    beat.running = (int64_t)r->in_pool;
    beat.waiting = r->held.net ? 1 : 0;
    beat.busy = span > 0 && r->busy_us < span ? (double)r->busy_us / (double)span : 0;
    if (span > 0 && r->busy_us >= span) beat.busy = 1;
    r->beat_us = now_us;
    r->busy_us = 0;
    return client_beat(r->client, now_us, &beat);
}

static uint64_t wait_us(const struct reward *r, uint64_t now_us) {
    uint64_t wake = workers_wake_us(r->workers), idle = REWARD_IDLE_US;
    uint64_t beat = (uint64_t)r->recipe->rollout.heartbeat_ms * 1000;
    if (beat < idle) idle = beat;
    if (r->unsent) idle = REWARD_FULL_US;
    if (wake <= now_us) return 0;
    return wake - now_us < idle ? wake - now_us : idle;
}

static int serve(struct reward *r) {
    bool stop = false;
    while (!stop && !client_done(r->client)) {
        int fd = workers_fd(r->workers);
        TRY(net_wait(r->net, wait_us(r, clock_us()), &fd, 1, &stop));
        uint64_t now_us = clock_us();
        TRY(workers_step(r->workers, now_us));
        TRY(take_results(r));
        TRY(read_messages(r, now_us));
        TRY(workers_step(r->workers, now_us)); /* what came in just now starts now */
        count_busy(r, now_us);
        TRY(speak(r, now_us));
    }
    return 0;
}

int reward_service(const char *run_dir, const char *name) {
    struct reward r = {0};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int rc = open_all(&r, run_dir, name);
    if (rc == 0) rc = serve(&r);
    if (rc < 0) LOG(ERROR, REWARD, "%s ends: %s (%s)", name, err_text(), err_name(rc));
    close_all(&r);
    return rc;
}
