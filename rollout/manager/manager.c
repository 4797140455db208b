/* manager.c - the manager's loop. Messages only change state and the log; what follows from it
 * (work for whoever waits, scores to ask for, a batch that has become possible) is done once per
 * turn of the loop, at the manager's own pace. So a burst of messages costs one pass, and no
 * handler calls another.
 *
 * Order of every effect: state machine, log, answer. What a turn's messages bring is one write
 * batch, written by a thread while the next turn goes on, and answers leave after it was written
 * (manager_outbox.c): a record costs its bytes, not a write of its own, and the more there is to
 * do, the more is done at once. If the log cannot be written the process ends before anybody was
 * answered, and peers send again what was not acknowledged; that is the whole recovery
 * (ARCHITECTURE.md, "Exactly once").
 *
 * Limits (I9): as many trajectories as the pool of groups.c has, MANAGER_CLIENTS_MAX peers, one
 * kept work request per rollout, one kept batch request, MANAGER_SCORES_OUT requests at the reward
 * service; everything else waits in the peers' sockets, whose queues are bounded. */
#include "rollout/manager/manager.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"
#include "rollout/log/runlog_identity.h"
#include "rollout/manager/manager_impl.h"
#include "rollout/manager/manager_level.h"
#include "rollout/manager/manager_refuse.h"
#include "rollout/manager/manager_setup.h"
#include "rollout/setup/setup_policy.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { MSGS_PER_TURN = 256, TICK_US = 100000, MSG_BYTES_MAX = (256 << 20) + (16 << 20) };

int manager_send(struct manager *m, const struct net_id *to, enum wire_type type, const void *body,
                 const struct wire_frame *frames, size_t n) {
    if (!manager_outbox_direct(m)) return manager_outbox_add(m, to, type, body, frames, n);
    return link_send(m->sock, to, type, body, frames, n, 0);
}

void manager_warn_at(struct log_limit *limit, struct manager *m, const struct net_id *from,
                     const char *what, const char *why) {
    m->warnings++;
    log_limited(limit, LOG_WARN, LOG_MANAGER, "peer=%.*s %s: %s (%" PRIu64 " such since the start)",
                (int)from->n, (const char *)from->bytes, what, why, m->warnings);
}

void manager_progress(struct manager *m) {
    m->progress_us = m->now_us;
    m->work_changed = true;
}

static void tell_time(struct manager *m) {
    m->now_us = clock_us();
    m->wall_us = clock_wall_us();
}

static int send_status(struct manager *m, const struct net_id *from) {
    struct buf text = {0};
    manager_status_json(m, &text);
    Weir__Status s = WEIR__STATUS__INIT;
    s.json = text.data;
    int rc = manager_send(m, from, WIRE_STATUS, &s, NULL, 0);
    buf_close(&text);
    return rc == ERR_AGAIN ? 0 : rc;
}

/* Who may say it. Anybody may say hello and ask for the status, which changes nothing. */
static enum manager_role role_for(enum wire_type type) {
    switch (type) {
    case WIRE_WORK_REQUEST:
    case WIRE_TOKENS: return MANAGER_ROLLOUT;
    case WIRE_SCORE_REPLY: return MANAGER_REWARD;
    case WIRE_BATCH_REQUEST:
    case WIRE_STEP_DONE: return MANAGER_TRAINER;
    case WIRE_EVAL_DONE: return MANAGER_EVALUATOR;
    default: return MANAGER_NOBODY;
    }
}

/* The client that speaks, if it is known by name and of the right kind; NULL: refused. A real
 * service of this run hears of it in known's answer and says hello. */
static struct manager_client *admit(struct manager *m, const struct net_id *from,
                                    enum wire_type type) {
    enum manager_role role = role_for(type);
    const char *name = wire_type_name(type);
    if (role == MANAGER_NOBODY) {
        manager_warn(m, from, name, "refused: nothing for the manager");
        return NULL;
    }
    struct manager_client *c = manager_clients_known(m, from);
    if (!c) {
        manager_warn(m, from, name, "refused: it has not said hello to this manager");
        return NULL;
    }
    if (c->role == role && !c->banned) return c;
    manager_warn(m, from, name,
                 c->banned ? "refused: it broke the rules too often"
                           : "refused: not from this kind of service");
    return NULL;
}

static int handle(struct manager *m, const struct net_id *from, const struct wire_msg *msg) {
    if (msg->type == WIRE_HELLO) { /* its welcome must not overtake what is due to it */
        TRY(manager_rollouts_flush(m));
        return manager_clients_hello(m, from, msg);
    }
    if (msg->type == WIRE_STATUS_REQUEST) return send_status(m, from);
    if (msg->type == WIRE_HEARTBEAT) {
        manager_clients_heartbeat(m, from, msg);
        return 0;
    }
    struct manager_client *c = admit(m, from, msg->type);
    if (!c) return 0;
    switch (msg->type) {
    case WIRE_WORK_REQUEST: manager_rollouts_request(m, c, msg); return 0;
    case WIRE_TOKENS: return manager_rollouts_tokens(m, c, msg);
    case WIRE_SCORE_REPLY: return manager_scores_reply(m, msg);
    case WIRE_BATCH_REQUEST: return manager_trainer_ask(m, from, msg);
    case WIRE_STEP_DONE: return manager_trainer_done(m, from, msg);
    default: return manager_trainer_eval(m, from, msg);
    }
}

/* Reads what is there; *more: perhaps not all of it. Bad messages were dropped before a handler
 * could see them. */
static int receive(struct manager *m, bool *more) {
    uint64_t until = runlog_event(m->log) + MANAGER_TURN_EVENTS;
    for (int i = 0; i < MSGS_PER_TURN && runlog_event(m->log) < until; i++) {
        struct link_msg msg;
        struct net_id from = {.n = 0};
        int rc = link_recv(m->sock, &msg, &from);
        if (rc == ERR_AGAIN) {
            *more = false;
            return 0;
        }
        if (rc == ERR_CORRUPT) {
            manager_refuse_message(m, &from, err_text());
            continue;
        }
        TRY(rc);
        tell_time(m);
        rc = handle(m, &from, &msg.wire);
        link_free(&msg);
        TRY(rc);
    }
    *more = true;
    return 0;
}

/* What follows from what was received. */
static int act(struct manager *m) {
    tell_time(m);
    manager_clients_tick(m);
    TRY(manager_refuse_tick(m));
    TRY(manager_scores_send(m));
    if (m->work_changed) {
        m->work_changed = false;
        TRY(manager_trainer_answer(m));
        TRY(manager_rollouts_dispatch(m));
    }
    manager_status_watch(m);
    return runlog_commit(m->log, false);
}

static int loop(struct manager *m) {
    bool stop = false, more = false;
    int written = runlog_fd(m->log);
    while (!stop) {
        TRY(net_wait(m->net, more || m->work_changed ? 0 : TICK_US, &written, 1, &stop));
        TRY(manager_outbox_send(m));
        TRY(receive(m, &more));
        TRY(manager_rollouts_flush(m));
        TRY(act(m));
        TRY(manager_outbox_send(m)); /* what a reader of the log waited for wakes nobody */
    }
    TRY(manager_outbox_send_all(m));
    LOG(INFO, MANAGER, "stopped step=%" PRId64, groups_counts(m->groups).done);
    return net_stopped();
}

static int open_log(struct manager *m) {
    struct runlog_meta meta;
    TRY(runlog_identity(&meta, m->run_dir, m->recipe));
    char *dir = file_join(m->run_dir, "log");
    int rc = runlog_open(&m->log, dir, &meta);
    mem_free(dir);
    return rc;
}

static int open_data(struct manager *m) {
    const struct recipe *r = m->recipe;
    TRY(setup_dataset(&m->data, &r->data.train, "data.train", r->seed));
    TRY(tokenizer_open(&m->tokenizer, r->model.path));
    TRY(setup_chat(&m->chat, r, NULL));
    TRY(manager_refuse_open(m));
    TRY(manager_prompts_check(m));
    return manager_sampling_open(m);
}

static int open_groups(struct manager *m) {
    struct groups_config cfg = manager_setup_groups(m->recipe);
    TRY(groups_open(&m->groups, &cfg));
    m->size = cfg.size;
    manager_level_open(m);
    size_t n = (size_t)groups_capacity(m->groups);
    m->tokens = mem_array(n, sizeof *m->tokens);
    m->prompt = mem_array(n / (size_t)cfg.size, sizeof *m->prompt);
    m->job = mem_array(n, sizeof *m->job);
    m->form = mem_array((size_t)cfg.groups, sizeof *m->form);
    return 0;
}

static int open_socket(struct manager *m) {
    char *endpoint = NULL;
    TRY(net_endpoint(&endpoint, m->net, m->run_dir, "manager"));
    int rc = net_serve(&m->sock, m->net, endpoint, MSG_BYTES_MAX);
    mem_free(endpoint);
    return rc;
}

static void manager_free(struct manager *m) {
    for (int64_t i = 0; m->groups && i < groups_capacity(m->groups); i++) {
        manager_prompts_release(m, &m->tokens[i]);
        if (i >= groups_capacity(m->groups) / m->size) continue;
        mem_free(m->prompt[i].text);
        mem_free(m->prompt[i].ids);
    }
    manager_outbox_free(m);
    runlog_close(&m->log);
    groups_close(&m->groups);
    sampling_close(&m->sampling);
    dataset_close(&m->data);
    tokenizer_close(&m->tokenizer);
    net_close(&m->net);
    recipe_close(&m->recipe);
    mem_free(m->client);
    mem_free(m->tokens);
    mem_free(m->prompt);
    mem_free(m->job);
    mem_free(m->form);
    mem_free(m->acks);
    mem_free(m->weights);
    buf_close(&m->failure);
    buf_close(&m->alone.last);
    mem_free(m->metrics_path);
    mem_free(m->run_dir);
    mem_free(m);
}

static int read_log(struct manager *m) {
    int rc = open_log(m);
    if (rc == 0) rc = manager_restore(m);
    if (rc == 0) rc = manager_metrics_rewrite(m);
    if (rc != ERR_CORRUPT) return rc;
    return FAIL(rc, "%s (`weir replay %s salvage` keeps what is whole)", err_text(), m->run_dir);
}

/* Order: what can be wrong with the recipe first, the socket last, so that nobody is answered by a
 * manager that then gives up. */
static int manager_open(struct manager *m) {
    TRY(net_open(&m->net)); /* from here on a stop signal waits for the loop */
    char *path = file_join(m->run_dir, "recipe.yaml");
    int rc = recipe_load(&m->recipe, path, NULL, 0);
    mem_free(path);
    TRY(rc);
    m->silent_us = (uint64_t)m->recipe->rollout.heartbeat_ms * 1000 * MANAGER_SILENT_BEATS;
    TRY(open_groups(m));
    TRY(open_data(m));
    TRY(read_log(m));
    TRY(runlog_write_behind(m->log));
    return open_socket(m);
}

int manager_service(const char *run_dir) {
    struct manager *m = mem_zalloc(sizeof *m);
    uint64_t start[2] = {clock_wall_us(), (uint64_t)getpid()};
    m->run_dir = mem_strdup(run_dir);
    m->metrics_path = file_join(run_dir, "metrics.jsonl");
    m->client = mem_array(MANAGER_CLIENTS_MAX, sizeof *m->client);
    /* Leaves room below for sessions, which count up from it. */
    m->incarnation = hash64(start, sizeof start, 0) >> 16 << 16;
    tell_time(m);
    m->started_us = m->progress_us = m->now_us;
    mem_keep_freed(); /* large messages come and go */
    int rc = manager_open(m);
    if (rc == 0) {
        struct groups_counts n = groups_counts(m->groups);
        LOG(INFO, MANAGER,
            "ready step=%" PRId64 " of=%" PRId64 " groups=%" PRIu64 " running=%" PRId64
            " finished=%" PRId64 " rows=%" PRIu64,
            n.done, m->recipe->trainer.steps, n.next, n.running, n.finished, dataset_rows(m->data));
        manager_metrics_window(m);
        rc = loop(m);
    }
    if (rc == ERR_IO)
        LOG(ERROR, MANAGER, "%s; everything acknowledged so far is in the log, resume continues",
            err_text());
    manager_free(m);
    return rc;
}
