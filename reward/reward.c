/* reward.c - see reward.h. The service keeps nothing: a request is a job in the pool, a result is a
 * reply, and whatever dies in between is asked again by the manager. So a reply that cannot be sent
 * is dropped, and the same trajectory asked twice is scored twice, with the same result.
 *
 * When the pool is full, one request waits here with what of it is not in the pool, and no more are
 * read: the queue is then in the sockets, and the manager sees its limit (I9).
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
#include "proto/recipe/recipe.h"
#include "proto/reward.pb-c.h"
#include "reward/verify/verify_spec.h"
#include "reward/worker_pool.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

enum {
    REWARD_JOBS_MAX = 256,
    REWARD_REPLY_ITEMS = 128, /* results of one message */
    REWARD_MSG_BYTES = 64 << 20,
    REWARD_IDLE_US = 200 * 1000,
    REWARD_FULL_US = 1000
};

struct reward {
    struct recipe *recipe;
    struct worker_pool *workers;
    struct net *net;
    struct client *client;
    struct link_msg held; /* a request of which not all is in the pool; held.net NULL: none */
    size_t next, text_at; /* of it: the first item that is not, and where its text is */
    struct result {
        uint64_t id;
        struct verify_result v;
    } * result; /* [REWARD_REPLY_ITEMS] not sent yet */
    size_t n_results;
    bool unsent; /* they found the socket full */
    uint64_t in_pool;
    uint64_t beat_us, busy_us, busy_since; /* busy: some job in the pool; busy_since 0: none */
};

/* The pool forks: before there are threads, and before sockets that a worker could inherit. */
static int open_workers(struct reward *r) {
    struct verify *verify;
    struct worker_pool_config pool = {.n = (uint32_t)r->recipe->reward_service.workers,
                                      .jobs_max = REWARD_JOBS_MAX,
                                      .cpu_ms = (uint32_t)r->recipe->reward_service.timeout_ms};
    TRY(verify_spec_open(&verify, r->recipe));
    int rc = worker_pool_open(&r->workers, &pool, verify);
    verify_close(&verify);
    return rc;
}

static int open_reward(struct reward *r, const char *run_dir, const char *name) {
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

static void close_reward(struct reward *r) {
    if (r->held.net) link_free(&r->held);
    client_close(&r->client);
    net_close(&r->net);
    worker_pool_close(&r->workers);
    recipe_close(&r->recipe);
    mem_free(r->result);
}

static void fill_record(Weir__ScoreRecord *m, Weir__Score *score, Weir__Score **scores,
                        struct result *r) {
    struct verify_result *v = &r->v;
    *m = (Weir__ScoreRecord)WEIR__SCORE_RECORD__INIT;
    m->trajectory = r->id;
    m->error = v->error;
    m->reason = v->reason;
    m->total = v->error ? 0 : v->total;
    m->n_scores = v->error ? 0 : (size_t)v->n_scores;
    m->scores = scores;
    for (size_t i = 0; i < m->n_scores; i++) {
        score[i] = (Weir__Score)WEIR__SCORE__INIT;
        score[i].name = v->scores[i].name;
        score[i].value = v->scores[i].value;
        scores[i] = &score[i];
    }
}

/* Sends what is there. When nobody is, it is forgotten: the manager asks again when it is back. */
static int send_results(struct reward *r) {
    size_t n = r->n_results;
    r->unsent = false;
    if (n == 0) return 0;
    Weir__ScoreReply reply = WEIR__SCORE_REPLY__INIT;
    Weir__ScoreRecord *item = mem_array(n, sizeof *item), **list = mem_array(n, sizeof *list);
    Weir__Score *score = mem_array(n * VERIFY_MAX, sizeof *score);
    Weir__Score **scores = mem_array(n * VERIFY_MAX, sizeof *scores);
    for (size_t i = 0; i < n; i++) {
        fill_record(&item[i], score + i * VERIFY_MAX, scores + i * VERIFY_MAX, &r->result[i]);
        list[i] = &item[i];
    }
    reply.n_items = n;
    reply.items = list;
    int rc =
        client_welcome(r->client) ? client_send(r->client, WIRE_SCORE_REPLY, &reply, NULL, 0) : 0;
    mem_free(scores);
    mem_free(score);
    mem_free(list);
    mem_free(item);
    r->unsent = rc == ERR_AGAIN; /* the manager does not read just now */
    if (r->unsent) return 0;
    r->n_results = 0;
    return rc;
}

/* Verifiers take C strings. A NUL in a response becomes the control character SUBSTITUTE, so that
 * what follows it is still seen. */
static char *copy_text(const char *from, size_t n) {
    char *s = mem_alloc(n + 1);
    for (size_t i = 0; i < n; i++)
        s[i] = from[i] ? from[i] : '\x1a';
    s[n] = '\0';
    return s;
}

/* A job that the pool refuses is answered with its error. */
static void refuse_request(struct reward *r, uint64_t id, int error) {
    struct result *x = &r->result[r->n_results++];
    *x = (struct result){.id = id, .v = {.error = error}};
    snprintf(x->v.reason, sizeof x->v.reason, "%s", err_text());
}

/* One item, its texts from `text` on. ERR_AGAIN: there is no room in the pool or for an answer. */
static int submit(struct reward *r, const Weir__ScoreItem *q, const char *text) {
    if (r->n_results == REWARD_REPLY_ITEMS) return ERR_AGAIN;
    char *prompt = copy_text(text, q->prompt), *response = copy_text(text + q->prompt, q->response);
    char *answer = copy_text(text + q->prompt + q->response, q->answer);
    struct verify_input in = {.prompt = prompt,
                              .response = response,
                              .answer = answer,
                              .n_tokens = (int32_t)q->n_tokens,
                              .max_tokens = (int32_t)q->max_tokens,
                              .truncated = q->truncated};
    int rc = worker_pool_submit(r->workers, q->trajectory, &in);
    mem_free(prompt);
    mem_free(response);
    mem_free(answer);
    if (rc == ERR_AGAIN) return rc;
    if (rc < 0) refuse_request(r, q->trajectory, rc);
    r->in_pool += rc == 0;
    return 0;
}

/* The rest of the held request, as far as there is room. */
static void submit_held(struct reward *r) {
    if (!r->held.net) return;
    const Weir__ScoreRequest *q = r->held.wire.body;
    const char *text = r->held.wire.frame[0].data;
    for (; r->next < q->n_items; r->next++) {
        const Weir__ScoreItem *x = q->items[r->next];
        if (submit(r, x, text + r->text_at) == ERR_AGAIN) return;
        r->text_at += (size_t)x->prompt + x->response + x->answer;
    }
    link_free(&r->held);
}

/* As many messages of results as there are; while one does not get through, none is taken. */
static int take_results(struct reward *r) {
    for (;;) {
        if (r->unsent) TRY(send_results(r));
        while (r->n_results < REWARD_REPLY_ITEMS) {
            struct result *x = &r->result[r->n_results];
            if (!worker_pool_take(r->workers, &x->id, &x->v)) break;
            r->n_results++;
            r->in_pool--;
        }
        if (r->unsent || r->n_results == 0) return 0;
        TRY(send_results(r));
    }
}

static int read_requests(struct reward *r, uint64_t now_us) {
    submit_held(r);
    while (!r->held.net) {
        struct link_msg m;
        int rc = client_recv(r->client, now_us, &m);
        if (rc == ERR_AGAIN) return 0;
        TRY(rc);
        if (m.wire.type != WIRE_SCORE_REQUEST) {
            link_free(&m);
            continue;
        }
        r->held = m;
        r->next = r->text_at = 0;
        submit_held(r);
    }
    return 0;
}

/* Time with a job in the pool, for the share that the heartbeat says. */
static void count_busy(struct reward *r, uint64_t now_us) {
    if (r->busy_since) r->busy_us += now_us - r->busy_since;
    r->busy_since = r->in_pool > 0 ? now_us : 0;
}

static int beat_manager(struct reward *r, uint64_t now_us) {
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
    uint64_t wake = worker_pool_wake_us(r->workers), idle = REWARD_IDLE_US;
    uint64_t beat = (uint64_t)r->recipe->rollout.heartbeat_ms * 1000;
    if (beat < idle) idle = beat;
    if (r->unsent) idle = REWARD_FULL_US;
    if (wake <= now_us) return 0;
    return wake - now_us < idle ? wake - now_us : idle;
}

static int serve_reward(struct reward *r) {
    bool stop = false;
    while (!stop && !client_done(r->client)) {
        int fd = worker_pool_fd(r->workers);
        TRY(net_wait(r->net, wait_us(r, clock_us()), &fd, 1, &stop));
        uint64_t now_us = clock_us();
        TRY(worker_pool_step(r->workers, now_us));
        TRY(take_results(r));
        TRY(read_requests(r, now_us));
        TRY(worker_pool_step(r->workers, now_us)); /* what came in just now starts now */
        TRY(take_results(r));                      /* and what it refused is answered now */
        count_busy(r, now_us);
        TRY(beat_manager(r, now_us));
    }
    return client_done(r->client) ? 0 : net_stopped();
}

int reward_service(const char *run_dir, const char *name) {
    struct reward r = {0};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    r.result = mem_array(REWARD_REPLY_ITEMS, sizeof *r.result);
    int rc = open_reward(&r, run_dir, name);
    if (rc == 0) rc = serve_reward(&r);
    if (rc < 0 && rc != ERR_STOPPED)
        LOG(ERROR, REWARD, "%s ends: %s (%s)", name, err_text(), err_name(rc));
    close_reward(&r);
    return rc;
}
