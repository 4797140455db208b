/* rollout.c - see rollout.h. One thread: each turn of the loop reads messages, takes new weights if
 * it may, asks for work if it has room, and runs one engine step. Between two steps of a small
 * model lies a millisecond or less, so nothing needs a thread of its own.
 *
 * New weights are made ready between steps (swap.c); changing to them takes no time. With `update:
 * trajectory` they are changed only when nothing runs, and work is asked for only while the newest
 * known version is held. So a new version lets the running set drain, and every trajectory is of
 * one version unless it came here unfinished (then spans say so, I1).
 *
 * The manager may die at any time: generation goes on, tokens pile up in the runset, and the next
 * Welcome says from where to send again. The relay may die at any time: the weights are a copy.
 *
 * Deployment: ERR_CONFIG, ERR_CORRUPT, ERR_MISMATCH and ERR_IO are final (wrong recipe, damaged
 * model folder, another model's weights); anything else may be restarted, and what this process
 * had is continued by another from its streamed tokens. */
#include "rollout/rollout.h"

#include "actor/policy.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/client.h"
#include "proto/control.pb-c.h"
#include "proto/recipe.h"
#include "proto/rollout.pb-c.h"
#include "relay/pull.h"
#include "rollout/engine.h"
#include "rollout/runset.h"
#include "rollout/setup.h"
#include "rollout/swap.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

enum {
    ROLLOUT_MSG_BYTES = (256 << 20) + (16 << 20),
    ROLLOUT_IDLE_US = 5000,
    ROLLOUT_SENDS_MAX = 64, /* Tokens messages per turn */
    ROLLOUT_WARN_US = 1000 * 1000
};

struct rollout {
    struct recipe *recipe;
    struct policy policy;
    const struct kern_backend *backend;
    struct engine *engine;
    struct swap *swap;
    struct runset *runset;
    struct net *net;
    struct client *client;
    struct pull *pull;
    size_t places;
    int64_t version, need; /* held; least version that the manager wants, both -1: none */
    bool asked;            /* a work request is outstanding */
    int64_t steps_unsent;  /* engine steps since tokens were streamed */
    bool ended;            /* a trajectory ended since */
    uint64_t beat_us, busy_us, warned_us, step_us; /* step_us: of the last engine step */
};

/* --- opening ------------------------------------------------------------------------------- */

static int open_model(struct rollout *r, const char *run_dir) {
    char *path = file_join(run_dir, "recipe.yaml");
    int rc = recipe_load(&r->recipe, path, NULL, 0);
    mem_free(path);
    TRY(rc);
    TRY(policy_open(&r->policy, r->recipe->model.path, r->recipe->model.chat));
    TRY(kern_open(&r->backend, r->recipe->rollout.device, (int)r->recipe->rollout.threads));
    struct engine_config cfg =
        setup_engine(r->recipe, &r->policy.shape, r->policy.tokenizer, r->backend);
    cfg.spare = true;
    r->places = (size_t)cfg.seqs_max;
    return engine_open(&r->engine, &cfg);
}

static int open_all(struct rollout *r, const char *run_dir, const char *name) {
    TRY(net_open(&r->net));
    TRY(open_model(r, run_dir));
    struct client_config client = {.run_dir = run_dir,
                                   .service = "rollout",
                                   .name = name,
                                   .heartbeat_us = (uint64_t)r->recipe->rollout.heartbeat_ms * 1000,
                                   .msg_bytes_max = ROLLOUT_MSG_BYTES};
    TRY(client_open(&r->client, r->net, &client));
    char *endpoint;
    TRY(net_endpoint(&endpoint, r->net, run_dir, "relay"));
    int rc = pull_open(&r->pull, r->net, endpoint, name);
    mem_free(endpoint);
    TRY(rc);
    struct swap_config swap = {r->pull, r->engine, r->backend, r->policy.shape};
    return swap_open(&r->swap, &swap);
}

static void close_all(struct rollout *r) {
    swap_close(&r->swap);
    pull_close(&r->pull);
    client_close(&r->client);
    net_close(&r->net);
    engine_close(&r->engine);
    policy_close(&r->policy);
    runset_close(&r->runset);
    if (r->backend) kern_close(r->backend);
    recipe_close(&r->recipe);
}

/* --- weights ------------------------------------------------------------------------------- */

static void warn(struct rollout *r, const char *what) {
    uint64_t now_us = clock_us();
    if (r->warned_us && now_us < r->warned_us + ROLLOUT_WARN_US) return;
    r->warned_us = now_us;
    LOG(WARN, ROLLOUT, "%s: %s", what, err_text());
}

/* Gets a newer version ready between steps, and changes to it if it may be taken now. */
static int take_weights(struct rollout *r, uint64_t now_us) {
    bool idle = engine_idle(r->engine);
    bool may = r->recipe->rollout.update == RECIPE_UPDATE_TOKEN || idle;
    TRY(swap_turn(r->swap, now_us, idle ? ROLLOUT_IDLE_US : swap_budget(r->step_us), may));
    if (swap_version(r->swap) == r->version) return 0;
    struct swap_stats st = swap_stats(r->swap);
    r->version = swap_version(r->swap);
    r->asked = false; /* an outstanding request named the old version: ask anew */
    LOG(INFO, ROLLOUT,
        "version=%" PRId64 " taken_ms=%" PRIu64 " slices=%" PRId64 " longest_us=%" PRIu64,
        r->version, st.total_us / 1000, st.slices, st.longest_us);
    return 0;
}

/* --- work in ------------------------------------------------------------------------------- */

/* Ids and the like of one item of a Work message, with its tokens. */
struct item {
    const Weir__WorkItem *w;
    const int32_t *prompt, *resume;
    const float *logprob;
    const int64_t *version;
};

static int engine_request(struct rollout *r, const struct item *i) {
    const struct recipe *c = r->recipe;
    struct engine_request q = {.id = i->w->trajectory,
                               .prompt = i->prompt,
                               .n_prompt = (int32_t)i->w->n_prompt,
                               .resume = i->resume,
                               .resume_logprob = i->logprob,
                               .resume_version = i->version,
                               .n_resume = (int32_t)i->w->n_resume,
                               .max_new_tokens = (int32_t)i->w->max_new_tokens,
                               .temperature = (float)c->rollout.temperature,
                               .top_p = (float)c->rollout.top_p,
                               .top_k = (int32_t)c->rollout.top_k,
                               .stop_ids = r->policy.stop_ids,
                               .n_stop_ids = r->policy.n_stop_ids,
                               .stop = (const char *const *)c->rollout.stop,
                               .n_stop = (int32_t)c->rollout.n_stop};
    return engine_add(r->engine, &q);
}

/* What the engine refuses goes back to the manager, which tries elsewhere and counts. */
static int add_item(struct rollout *r, const struct item *i) {
    if (runset_find(r->runset, i->w->trajectory)) return 0; /* the same work again */
    struct runset_traj *t = runset_add(r->runset, i->w->trajectory, i->resume, i->logprob,
                                       i->version, (int32_t)i->w->n_resume);
    if (!t) return FAIL(ERR_CLOSED, "more than %d trajectories were handed out", RUNSET_MAX);
    if (i->w->n_resume == i->w->max_new_tokens) {
        t->finish = ENGINE_LENGTH;
        r->ended = true;
        return 0;
    }
    if (engine_request(r, i) < 0) {
        warn(r, "work given back");
        t->finish = ENGINE_ABORTED;
        r->ended = true;
    }
    return 0;
}

/* Frame sizes agree with the counts: the validator saw to it. */
static int on_work(struct rollout *r, const struct wire_msg *m) {
    const Weir__Work *w = m->body;
    const int32_t *prompt = m->frame[0].data;
    struct item i = {NULL, prompt, m->frame[1].data, m->frame[2].data, m->frame[3].data};
    r->asked = false;
    if (w->min_version > r->need) r->need = w->min_version;
    for (size_t k = 0; k < w->n_items; k++) {
        i.w = w->items[k];
        if (k == 0 || w->items[k - 1]->group != i.w->group) {
            i.prompt = prompt;
            prompt += i.w->n_prompt;
        }
        TRY(add_item(r, &i));
        i.resume += i.w->n_resume;
        i.logprob += i.w->n_resume;
        i.version += i.w->n_resume;
    }
    return 0;
}

static void forget_or_keep(struct rollout *r, uint64_t id, int32_t received, bool again) {
    if (runset_ack(r->runset, id, received, again)) engine_abort(r->engine, id);
}

static void on_ack(struct rollout *r, const Weir__TokensAck *a) {
    for (size_t i = 0; i < a->n_items; i++)
        forget_or_keep(r, a->items[i]->trajectory, a->items[i]->received, false);
}

static void on_welcome(struct rollout *r, const struct wire_msg *m) {
    const Weir__Welcome *w = m->body;
    const uint64_t *ids = m->frame[0].data;
    const int32_t *received = m->frame[1].data;
    for (uint32_t i = 0; i < w->n_running; i++)
        forget_or_keep(r, ids[i], received[i], true);
    r->asked = false;
    r->ended = true; /* send what the manager lacks soon */
}

static int read_messages(struct rollout *r, uint64_t now_us) {
    for (;;) {
        struct link_msg m;
        int rc = client_recv(r->client, now_us, &m);
        if (rc == ERR_AGAIN) return 0;
        TRY(rc);
        if (m.wire.type == WIRE_WELCOME)
            on_welcome(r, &m.wire);
        else if (!client_welcome(r->client))
            ; /* from before the Hello that is under way: the manager will say it again */
        else if (m.wire.type == WIRE_WORK)
            rc = on_work(r, &m.wire);
        else if (m.wire.type == WIRE_TOKENS_ACK)
            on_ack(r, m.wire.body);
        link_free(&m);
        TRY(rc);
    }
}

/* --- tokens and requests out --------------------------------------------------------------- */

static int send_tokens(struct rollout *r, const struct runset_out *o) {
    Weir__Tokens m = WEIR__TOKENS__INIT;
    Weir__TokensItem *item = mem_array(o->n_pieces, sizeof *item), **items;
    items = mem_array(o->n_pieces, sizeof *items);
    for (size_t i = 0; i < o->n_pieces; i++) {
        items[i] = &item[i];
        item[i] = (Weir__TokensItem)WEIR__TOKENS_ITEM__INIT;
        item[i].trajectory = o->piece[i].id;
        item[i].offset = o->piece[i].offset;
        item[i].n = o->piece[i].n;
        item[i].finish = o->piece[i].finish;
    }
    m.n_items = o->n_pieces;
    m.items = items;
    struct wire_frame frames[3] = {{o->token, o->n_tokens * sizeof *o->token},
                                   {o->logprob, o->n_tokens * sizeof *o->logprob},
                                   {o->version, o->n_tokens * sizeof *o->version}};
    int rc = client_send(r->client, WIRE_TOKENS, &m, frames, 3);
    mem_free(item);
    mem_free(items);
    return rc;
}

/* Streams when it is time to; a manager that does not read gets it at a later turn. */
static int stream(struct rollout *r, uint64_t now_us) {
    struct runset_out out;
    bool due = r->steps_unsent >= r->recipe->rollout.stream_every;
    if (!client_welcome(r->client) || (!due && !r->ended)) return 0;
    for (int i = 0; i < ROLLOUT_SENDS_MAX; i++) {
        if (!runset_collect(r->runset, !due, &out)) {
            if (due) r->steps_unsent = 0;
            r->ended = false;
            return 0;
        }
        int rc = send_tokens(r, &out);
        if (rc == ERR_AGAIN) return 0;
        TRY(rc);
        runset_sent(r->runset, now_us);
    }
    return 0;
}

static int ask_for_work(struct rollout *r) {
    size_t have = runset_count(r->runset);
    bool newest = r->version >= r->need && r->version >= pull_newest(r->pull);
    if (r->recipe->rollout.update == RECIPE_UPDATE_TOKEN) newest = r->version >= r->need;
    if (r->asked || r->version < 0 || !newest || have >= r->places) return 0;
    if (!client_welcome(r->client)) return 0;
    Weir__WorkRequest q = WEIR__WORK_REQUEST__INIT;
    q.trajectories = (uint32_t)(r->places - have);
    q.version = r->version;
    int rc = client_send(r->client, WIRE_WORK_REQUEST, &q, NULL, 0);
    if (rc == ERR_AGAIN) return 0;
    TRY(rc);
    r->asked = true;
    return 0;
}

static int beat(struct rollout *r, uint64_t now_us) {
    Weir__Heartbeat h = WEIR__HEARTBEAT__INIT;
    struct engine_stats s;
    engine_stats(r->engine, &s);
    uint64_t span = now_us - r->beat_us;
    h.version = r->version;
    h.running = s.running;
    h.waiting = s.waiting;
    h.kv_used = s.pages_used;
    h.kv_total = s.pages_total;
    h.tokens = s.decode_tokens;
    h.busy = r->busy_us < span ? (double)r->busy_us / (double)span : 1;
    r->beat_us = now_us;
    r->busy_us = 0;
    runset_expire(r->runset, now_us);
    r->ended = true; /* look for what has expired */
    return client_beat(r->client, now_us, &h);
}

static int speak(struct rollout *r, uint64_t now_us) {
    const uint64_t *ids;
    const int32_t *received;
    if (client_hello_due(r->client, now_us)) {
        size_t n = runset_list(r->runset, &ids, &received);
        TRY(client_hello(r->client, now_us, r->version, ids, received, (uint32_t)n));
    }
    if (client_beat_due(r->client, now_us)) TRY(beat(r, now_us));
    TRY(stream(r, now_us));
    return ask_for_work(r);
}

/* --- the loop ------------------------------------------------------------------------------ */

static int generate(struct rollout *r) {
    const struct engine_token *events;
    int32_t n;
    uint64_t start = clock_us();
    TRY(engine_step(r->engine, &events, &n));
    for (int32_t i = 0; i < n; i++) {
        runset_append(r->runset, &events[i]);
        r->ended |= events[i].finish != ENGINE_RUNNING;
    }
    r->steps_unsent++;
    r->step_us = clock_us() - start;
    r->busy_us += r->step_us;
    return 0;
}

static int serve(struct rollout *r) {
    bool stop = false;
    r->beat_us = clock_us();
    while (!stop && !client_done(r->client)) {
        bool idle = engine_idle(r->engine) && !swap_working(r->swap);
        TRY(net_wait(r->net, idle ? ROLLOUT_IDLE_US : 0, NULL, 0, &stop));
        uint64_t now_us = clock_us();
        TRY(read_messages(r, now_us));
        TRY(take_weights(r, now_us));
        TRY(speak(r, now_us));
        if (!engine_idle(r->engine)) TRY(generate(r));
    }
    return 0;
}

int rollout_service(const char *run_dir, const char *name) {
    struct rollout r = {.version = -1, .need = -1, .runset = runset_open()};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int rc = open_all(&r, run_dir, name);
    if (rc == 0) rc = serve(&r);
    if (rc < 0) LOG(ERROR, ROLLOUT, "%s ends: %s (%s)", name, err_text(), err_name(rc));
    close_all(&r);
    return rc;
}
