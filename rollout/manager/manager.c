/* manager.c - the manager's turn. Messages only change state and the log; what follows from it
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

#include "base/file.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"
#include "rollout/log/runlog_identity.h"
#include "rollout/manager/manager_clients.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_level.h"
#include "rollout/manager/manager_metrics_file.h"
#include "rollout/manager/manager_outbox.h"
#include "rollout/manager/manager_predict.h"
#include "rollout/manager/manager_prompts.h"
#include "rollout/manager/manager_refuse.h"
#include "rollout/manager/manager_restore.h"
#include "rollout/manager/manager_rollouts.h"
#include "rollout/manager/manager_sampling.h"
#include "rollout/manager/manager_scores.h"
#include "rollout/manager/manager_setup.h"
#include "rollout/manager/manager_status.h"
#include "rollout/manager/manager_trainer.h"
#include "rollout/manager/manager_weights.h"
#include "rollout/setup/setup_policy.h"

#include <inttypes.h>

enum {
    TURN_MSGS = 256,
    TURN_EVENTS = 8, /* after so many the turn ends */
    TICK_US = 100000,
    MSG_BYTES_MAX = (256 << 20) + (16 << 20)
};

static void tell_time(struct manager *m) {
    m->now_us = env_now_us(m->env);
    m->wall_us = env_wall_us(m->env);
}

static int send_status(struct manager *m, const struct net_id *from) {
    struct buf text = {0};
    manager_status_json(m, &text);
    Weir__Status s = WEIR__STATUS__INIT;
    s.json = text.data;
    int rc = manager_outbox_say(m, from, WIRE_STATUS, &s, NULL, 0);
    buf_close(&text);
    return rc;
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
        struct manager_client *new = manager_clients_hello(m, from, msg);
        return new ? manager_rollouts_welcome(m, new, msg) : 0;
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
    uint64_t until = runlog_event(m->log) + TURN_EVENTS;
    for (int i = 0; i < TURN_MSGS && runlog_event(m->log) < until; i++) {
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

/* Does what the received messages made possible or due: ends leases that ran out, sends answers to
 * be scored, answers the trainer, hands out work, and commits the log. */
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
    manager_predict_tick(m);
    manager_status_watch(m);
    return runlog_commit(m->log, false);
}

static int send_letters(struct manager *m) {
    TRY(manager_outbox_send(m));
    manager_clients_deaf(m);
    return 0;
}

int manager_turn(struct manager *m, uint64_t *wait_us) {
    bool more = false;
    TRY(send_letters(m));
    TRY(receive(m, &more));
    TRY(manager_rollouts_flush(m));
    TRY(act(m));
    TRY(send_letters(m)); /* what a reader of the log waited for wakes nobody */
    *wait_us = more || m->work_changed ? 0 : TICK_US;
    return 0;
}

static int serve(struct manager *m) {
    bool stop = false;
    uint64_t wait_us = 0;
    int written = runlog_fd(m->log);
    while (!stop) {
        TRY(net_wait(m->env->net, wait_us, &written, 1, &stop));
        TRY(manager_turn(m, &wait_us));
    }
    TRY(manager_outbox_send_all(m));
    LOG(INFO, MANAGER, "stopped step=%" PRId64, groups_counts(m->groups).done);
    return net_stopped();
}

static int open_log(struct manager *m, struct kv_memory *memory) {
    struct runlog_meta meta;
    TRY(runlog_identity(&meta, m->run_dir, m->recipe));
    if (memory) return runlog_open_memory(&m->log, memory, &meta);
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
    return 0;
}

static void open_parts(struct manager *m) {
    manager_outbox_open(m);
    manager_counts_open(m);
    manager_clients_open(m);
    manager_prompts_open(m);
    manager_predict_open(m);
    manager_scores_open(m);
    manager_weights_open(m);
    manager_rollouts_open(m);
    manager_trainer_open(m);
    manager_status_open(m);
}

static int open_socket(struct manager *m) {
    char *endpoint = NULL;
    TRY(net_endpoint(&endpoint, m->env->net, m->run_dir, "manager"));
    int rc = net_serve(&m->sock, m->env->net, endpoint, MSG_BYTES_MAX);
    mem_free(endpoint);
    return rc;
}

void manager_close(struct manager **manager) {
    struct manager *m = *manager;
    if (!m) return;
    manager_status_close(m);
    manager_trainer_close(m);
    manager_rollouts_close(m);
    manager_refuse_close(m);
    manager_weights_close(m);
    manager_scores_close(m);
    manager_predict_close(m);
    manager_prompts_close(m);
    manager_clients_close(m);
    manager_level_close(m);
    manager_counts_close(m);
    manager_outbox_close(m);
    runlog_close(&m->log);
    groups_close(&m->groups);
    sampling_close(&m->sampling);
    dataset_close(&m->data);
    tokenizer_close(&m->tokenizer);
    net_sock_close(&m->sock);
    recipe_close(&m->recipe);
    mem_free(m->run_dir);
    mem_free(m);
    *manager = NULL;
}

static int read_log(struct manager *m, struct kv_memory *memory) {
    int rc = open_log(m, memory);
    if (rc == 0) rc = manager_restore(m);
    if (rc == 0) rc = manager_metrics_file_rewrite(m);
    if (rc != ERR_CORRUPT) return rc;
    return FAIL(rc, "%s (`weir replay %s salvage` keeps what is whole)", err_text(), m->run_dir);
}

/* Order: what can be wrong with the recipe first, the socket last. */
static int open_all(struct manager *m, struct kv_memory *memory) {
    char *path = file_join(m->run_dir, "recipe.yaml");
    int rc = recipe_load(&m->recipe, path, NULL, 0);
    mem_free(path);
    TRY(rc);
    tell_time(m);
    TRY(open_groups(m));
    open_parts(m);
    TRY(open_data(m));
    TRY(read_log(m, memory));
    TRY(runlog_write_behind(m->log));
    TRY(open_socket(m));
    struct groups_counts n = groups_counts(m->groups);
    LOG(INFO, MANAGER,
        "ready step=%" PRId64 " of=%" PRId64 " groups=%" PRIu64 " running=%" PRId64
        " finished=%" PRId64 " rows=%" PRIu64,
        n.done, m->recipe->trainer.steps, n.next, n.running, n.finished, dataset_rows(m->data));
    manager_counts_start(m);
    return 0;
}

int manager_open(struct manager **out, const struct manager_config *cfg) {
    struct manager *m = mem_zalloc(sizeof *m);
    m->run_dir = mem_strdup(cfg->run_dir);
    m->env = cfg->env;
    int rc = open_all(m, cfg->memory);
    if (rc < 0)
        manager_close(&m);
    else
        *out = m;
    return rc;
}

int manager_service(const char *run_dir) {
    struct manager *m = NULL;
    struct env env = {.net = NULL};
    struct manager_config cfg = {.run_dir = run_dir, .env = &env};
    mem_keep_freed();    /* large messages come and go */
    TRY(env_open(&env)); /* from here on a stop signal waits for the loop */
    int rc = manager_open(&m, &cfg);
    if (rc == 0) rc = serve(m);
    if (rc == ERR_IO)
        LOG(ERROR, MANAGER, "%s; everything acknowledged so far is in the log, resume continues",
            err_text());
    manager_close(&m);
    env_close(&env);
    return rc;
}
