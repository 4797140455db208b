/* manager_refuse_test.c - what the manager refuses: data that no batch can be formed of, and peers
 * that speak before they said who they are. One manager process, its stderr in a file. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"
#include "proto/link.h"
#include "proto/reward.pb-c.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory.pb-c.h"
#include "proto/trajectory_wire.h"
#include "rollout/manager/manager.h"
#include "tests/test.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_recipe(const char *data, int groups, int prompt) {
    char *path = file_join(test_dir(), "recipe.yaml");
    char *text = mem_printf("name: test\n"
                            "model: {path: recipes/tiny, chat: plain}\n"
                            "data: {train: {%s}}\n"
                            "rollout: {group_size: 2, max_new_tokens: 4, max_prompt_tokens: %d}\n"
                            "reward: [{type: exact}]\n"
                            "trainer: {steps: 2, batch: {groups: %d}, staleness: {max: 1}}\n",
                            data, prompt, groups);
    CHECK_OK(file_write_atomic(path, text, strlen(text)));
    mem_free(text);
    mem_free(path);
}

static pid_t start(void) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char *path = file_join(test_dir(), "stderr");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    mem_free(path);
    if (fd < 0 || dup2(fd, 2) != 2) _exit(1);
    close(fd);
    log_open(LOG_INFO, "manager");
    int rc = manager_service(test_dir());
    if (rc < 0) log_write(LOG_ERROR, LOG_MANAGER, "%s", err_text());
    fflush(NULL);
    exit(err_exit_code(rc));
}

static int end(pid_t pid) {
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static char *said(void) {
    char *path = file_join(test_dir(), "stderr"), *text = NULL;
    size_t bytes = 0;
    CHECK_OK(file_read(&text, &bytes, path, 1 << 20));
    mem_free(path);
    return text;
}

static void check_said(const char *part) {
    char *text = said();
    if (!strstr(text, part)) test_fail(__FILE__, __LINE__, "\"%s\" is not in: %s", part, text);
    mem_free(text);
}

static void check_data(const char *data, int groups, int prompt, const char *part) {
    write_recipe(data, groups, prompt);
    CHECK_INT(end(start()), err_exit_code(ERR_CONFIG));
    check_said(part);
}

TEST(manager_refuses_too_few_rows) {
    check_data("path: 'builtin:addition', limit: 3", 4, 16,
               "builtin:addition has 3 rows, trainer.batch.groups is 4");
}

TEST(manager_refuses_rows_that_are_all_too_long) {
    check_data("path: 'builtin:addition', limit: 9", 4, 2,
               "none of the 9 rows of builtin:addition gives a prompt of 1 to 2 tokens "
               "(rollout.max_prompt_tokens); the shortest has ");
}

static void say(struct net_sock *s, enum wire_type type, const void *body,
                const struct wire_frame *f, size_t n) {
    CHECK_OK(link_send(s, NULL, type, body, f, n, 0));
}

static void say_hello(struct net_sock *s, const char *service, const char *name) {
    Weir__Hello h = WEIR__HELLO__INIT;

    h.service = (char *)(uintptr_t)service;
    h.name = (char *)(uintptr_t)name;
    h.incarnation = 1;
    h.pid = getpid();
    say(s, WIRE_HELLO, &h, NULL, 0);
}

/* One of each; the words are those of a peer that knows what it may say. */
static void say_all(struct net_sock *s) {
    Weir__WorkRequest work = WEIR__WORK_REQUEST__INIT;
    Weir__Tokens tokens = WEIR__TOKENS__INIT;
    Weir__ScoreReply score = WEIR__SCORE_REPLY__INIT;
    Weir__BatchRequest batch = WEIR__BATCH_REQUEST__INIT;
    Weir__StepDone done = WEIR__STEP_DONE__INIT;
    Weir__EvalDone eval = WEIR__EVAL_DONE__INIT;
    Weir__Heartbeat beat = WEIR__HEARTBEAT__INIT;
    uint8_t zero[16] = {0};
    struct wire_frame text = {"{}", 2};
    beat.incarnation = 1;
    done.hash_before = done.hash_after = (ProtobufCBinaryData){16, zero};
    say(s, WIRE_WORK_REQUEST, &work, NULL, 0);
    say(s, WIRE_TOKENS, &tokens, NULL, 0);
    say(s, WIRE_SCORE_REPLY, &score, NULL, 0);
    say(s, WIRE_BATCH_REQUEST, &batch, NULL, 0);
    say(s, WIRE_STEP_DONE, &done, &text, 1);
    say(s, WIRE_EVAL_DONE, &eval, &text, 1);
    say(s, WIRE_HEARTBEAT, &beat, NULL, 0);
}

/* Reads what the manager answers until it says its status: how many of a type. */
static int answers(struct net *net, struct net_sock *s, enum wire_type type, int *all) {
    struct link_msg m;
    bool end = false, stop = false;
    int n = 0;
    *all = 0;
    Weir__StatusRequest q = WEIR__STATUS_REQUEST__INIT;
    say(s, WIRE_STATUS_REQUEST, &q, NULL, 0);
    while (!end) {
        CHECK_OK(net_wait(net, 100000, NULL, 0, &stop));
        while (link_recv(s, &m, NULL) == 0) {
            end |= m.wire.type == WIRE_STATUS;
            n += m.wire.type == type;
            ++*all;
            link_free(&m);
        }
    }
    return n;
}

/* A stranger gets nothing but the answer that makes a service say hello; one that is known as
 * something else gets no batch and no acknowledgement either. */
TEST(manager_refuses_strangers) {
    struct net *net = NULL;
    struct net_sock *s = NULL;
    char *endpoint = NULL;
    int all = 0;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    CHECK_OK(net_endpoint(&endpoint, net, test_dir(), "manager"));
    CHECK_OK(net_connect(&s, net, endpoint, "evil", 1 << 20));
    say_all(s);
    CHECK_INT(answers(net, s, WIRE_HEARTBEAT_ACK, &all), 7);
    CHECK_INT(all, 7 + 1);
    check_said("peer=evil WorkRequest: refused: it has not said hello to this manager");
    say_hello(s, "monitor", "monitor");
    CHECK_INT(answers(net, s, WIRE_WELCOME, &all), 1);
    CHECK_INT(all, 1 + 1);
    say_all(s);
    CHECK_INT(answers(net, s, WIRE_HEARTBEAT_ACK, &all), 1); /* of the heartbeat */
    CHECK_INT(all, 1 + 1);
    Weir__BatchRequest batch = WEIR__BATCH_REQUEST__INIT;
    say(s, WIRE_BATCH_REQUEST, &batch, NULL, 0);
    CHECK_INT(answers(net, s, WIRE_BATCH, &all), 0);
    check_said("peer=evil BatchRequest: refused: not from this kind of service (");
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK_INT(end(pid), err_exit_code(ERR_STOPPED));
    mem_free(endpoint);
    net_close(&net);
}

/* Tokens of trajectory 0, which came with the first work, or none; hash: of version 0, or nothing
 * is said of it. */
static void say_tokens(struct net_sock *s, bool any, const char *hash) {
    Weir__Tokens t = WEIR__TOKENS__INIT;
    Weir__Trajectory item, *items = &item;
    Weir__TokensWeights weights = WEIR__TOKENS_WEIGHTS__INIT, *list = &weights;
    static const int32_t token[1] = {7};
    static const float logprob[1] = {-1};
    static const int64_t version[1] = {0};
    struct trajectory part = {.n_response = any};
    struct wire_frame f[FRAMES_TRAJECTORY];
    part.response = token;
    part.logprob = logprob;
    part.version = version;
    size_t n = trajectory_encode(&item, f, &part);
    t.n_items = any;
    t.items = &items;
    t.n_weights = hash != NULL;
    t.weights = &list;
    if (hash) weights.hash = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)hash};
    say(s, WIRE_TOKENS, &t, f, n);
}

static void connect_rollout(struct net *net, struct net_sock **s, const char *name) {
    char *endpoint = NULL;
    int all = 0;
    CHECK_OK(net_endpoint(&endpoint, net, test_dir(), "manager"));
    CHECK_OK(net_connect(s, net, endpoint, name, 1 << 20));
    mem_free(endpoint);
    say_hello(*s, "rollout", name);
    CHECK_INT(answers(net, *s, WIRE_WELCOME, &all), 1);
}

/* I1: tokens are not taken before somebody said which bytes their version is, and a second rollout
 * that has other bytes as this version ends the run. */
TEST(manager_refuses_other_weights) {
    struct net *net = NULL;
    struct net_sock *a = NULL, *b = NULL;
    Weir__WorkRequest work = WEIR__WORK_REQUEST__INIT;
    int all = 0;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    connect_rollout(net, &a, "rollout-1");
    connect_rollout(net, &b, "rollout-2");
    work.trajectories = 1;
    say(a, WIRE_WORK_REQUEST, &work, NULL, 0);
    while (answers(net, a, WIRE_WORK, &all) == 0) {
    }
    say_tokens(a, true, NULL);
    while (answers(net, a, WIRE_TOKENS_ACK, &all) == 0) {
    }
    check_said("rollout-1 tokens refused: trajectory 0: nobody said the hash of their weights");
    say_tokens(a, false, "0123456789abcdef");
    CHECK_INT(answers(net, a, WIRE_TOKENS_ACK, &all), 0);
    say_tokens(b, false, "0123456789abcdef");
    CHECK_INT(answers(net, b, WIRE_TOKENS_ACK, &all), 0);
    say_tokens(b, false, "0123456789abcdeX");
    CHECK_INT(end(pid), err_exit_code(ERR_MISMATCH));
    check_said("version 0 of the weights: rollout-2 generates by 37363534333231305865646362613938, "
               "but rollouts have 37363534333231306665646362613938");
    net_close(&net);
}

TEST(manager_refuses_another_run) {
    struct net *net = NULL;
    struct net_sock *s = NULL;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    connect_rollout(net, &s, "rollout-1"); /* it runs: its log exists */
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK_INT(end(pid), err_exit_code(ERR_STOPPED));
    net_close(&net);
    write_recipe("path: 'builtin:addition', limit: 8", 2, 16);
    CHECK_INT(end(start()), err_exit_code(ERR_MISMATCH));
    check_said("was made with another recipe");
}

/* --- tokens that must not be stored ---------------------------------------------------------- */

struct say { /* of trajectory `id`, which is leased; max_new_tokens is 4 */
    uint64_t id;
    int32_t offset, n;
    enum trajectory_finish finish;
    int32_t token[5];
    float logprob[5];
    int64_t version[5];
    bool masked; /* of all tokens */
};

static const struct say good = {.n = 2, .token = {7, 257}, .logprob = {-1, 0}};

/* broken: not as its checksum says. */
static void say_span(struct net_sock *s, const struct say *x, bool broken) {
    static const uint8_t none[5] = {0};
    Weir__Tokens t = WEIR__TOKENS__INIT;
    Weir__Trajectory item, *items = &item;
    Weir__TokensWeights weights = WEIR__TOKENS_WEIGHTS__INIT, *list = &weights;
    struct wire_frame f[FRAMES_TRAJECTORY];
    struct trajectory part = {
        .id = x->id, .offset = x->offset, .n_response = x->n, .finish = x->finish};
    part.response = x->token;
    part.logprob = x->logprob;
    part.version = x->version;
    part.mask = x->masked ? none : NULL;
    size_t n = trajectory_encode(&item, f, &part);
    t.n_items = t.n_weights = 1;
    t.items = &items;
    t.weights = &list;
    weights.hash = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t) "0123456789abcdef"};
    if (!broken) {
        say(s, WIRE_TOKENS, &t, f, n);
        return;
    }
    struct buf head = {0};
    CHECK_OK(wire_pack(&head, WIRE_TOKENS, &t, f, n, 0));
    f[FRAME_COLUMN + TRAJECTORY_RESPONSE] = (struct wire_frame){"\xff\xff\xff\xff", 4};
    struct net_part parts[2 + FRAMES_TRAJECTORY] = {
        {head.data, WIRE_HEADER}, {head.data + WIRE_HEADER, head.len - WIRE_HEADER}};
    for (size_t i = 0; i < n; i++)
        parts[2 + i] = (struct net_part){f[i].data, f[i].bytes};
    CHECK_OK(net_send(s, NULL, parts, 2 + n));
    buf_close(&head);
}

/* Asks for one trajectory until there is one. */
static uint64_t lease(struct net *net, struct net_sock *s) {
    Weir__WorkRequest q = WEIR__WORK_REQUEST__INIT;
    struct link_msg m;
    bool stop = false;
    q.trajectories = 1;
    say(s, WIRE_WORK_REQUEST, &q, NULL, 0);
    for (;;) {
        CHECK_OK(net_wait(net, 100000, NULL, 0, &stop));
        while (link_recv(s, &m, NULL) == 0) {
            const Weir__Work *w = m.wire.body;
            bool got = m.wire.type == WIRE_WORK && w->n_items == 1;
            uint64_t id = got ? w->items[0]->trajectory : 0;
            link_free(&m);
            if (got) return id;
        }
    }
}

/* What is acknowledged for a span: tokens stored, or -1. -2: nothing, the message was dropped and
 * the sender is told to say hello again. */
static int ack_of(struct net *net, struct net_sock *s, uint64_t session) {
    struct link_msg m;
    bool stop = false;
    for (;;) {
        Weir__Heartbeat beat = WEIR__HEARTBEAT__INIT; /* answered with the session */
        beat.incarnation = 1;
        CHECK_OK(net_wait(net, 10000, NULL, 0, &stop));
        clock_sleep_us(2000); /* what lies unread for another peer ends the wait at once */
        int rc = link_send(s, NULL, WIRE_HEARTBEAT, &beat, NULL, 0, 0);
        CHECK(rc == 0 || rc == ERR_AGAIN);
        while (link_recv(s, &m, NULL) == 0) {
            int got = INT32_MAX;
            if (m.wire.type == WIRE_TOKENS_ACK)
                got = ((const Weir__TokensAck *)m.wire.body)->items[0]->received;
            if (m.wire.type == WIRE_HEARTBEAT_ACK &&
                ((const Weir__HeartbeatAck *)m.wire.body)->incarnation != session)
                got = -2;
            link_free(&m);
            if (got != INT32_MAX) return got;
        }
    }
}

static uint64_t hello_session(struct net *net, struct net_sock *s, const char *name) {
    struct link_msg m;
    bool stop = false;
    say_hello(s, "rollout", name);
    for (;;) {
        CHECK_OK(net_wait(net, 100000, NULL, 0, &stop));
        while (link_recv(s, &m, NULL) == 0) {
            uint64_t session =
                m.wire.type == WIRE_WELCOME ? ((const Weir__Welcome *)m.wire.body)->incarnation : 0;
            link_free(&m);
            if (session) return session;
        }
    }
}

static struct net_sock *join(struct net *net, const char *name, uint64_t *session) {
    struct net_sock *s = NULL;
    char *endpoint = NULL;
    CHECK_OK(net_endpoint(&endpoint, net, test_dir(), "manager"));
    CHECK_OK(net_connect(&s, net, endpoint, name, 1 << 20));
    mem_free(endpoint);
    *session = hello_session(net, s, name);
    return s;
}

/* Mutations of `good`; each is a rollout of its own, which first sends the good ones where the
 * mutation comes after them. */
static const struct hostile {
    const char *said; /* in the log, after the rollout's name */
    int ack;          /* as ack_of */
    bool after;
    struct say x;
} hostile[] = {
    {"token 1 has id 258, the vocabulary has 258", -1, false, {.n = 2, .token = {7, 258}}},
    {"token 0 has id 2147483647, the", -1, false, {.n = 1, .token = {INT32_MAX}}},
    {"Tokens: checksum differs", -2, false, {.n = 1}},
    {"nobody said the hash of their weights", -1, false, {.n = 2, .version = {0, 1}}},
    {"token 1 is of version 0 after one of 1", -1, false, {.n = 2, .version = {1, 0}}},
    {"5 tokens after a prompt of", -1, false, {.n = 5}},
    {"6 tokens after a prompt of", -1, false, {.offset = 5, .n = 1}},
    {"ends at the length limit with 2 of 4", -1, false, {.n = 2, .finish = 2}},
    {"ends at the length limit with 0 of 4", -1, false, {.finish = 2}},
    {"none of its tokens is trained", -1, false, {.n = 2, .finish = 1, .masked = true}},
    {"none of its tokens is trained", -1, true, {.offset = 2, .n = 1, .finish = 1, .masked = true}},
    {"token 1 is another one than was", -1, true, {.n = 2, .token = {7, 8}, .logprob = {-1, 0}}},
    {"token 0 is another one than was", -1, true, {.n = 3, .token = {7, 257}, .logprob = {-2, 0}}},
    {"token 1 is another one than was", -1, true, {.offset = 1, .n = 1, .token = {3}}},
};

static void be_hostile(struct net *net, int i) {
    const struct hostile *h = &hostile[i];
    uint64_t session = 0;
    char name[32];
    snprintf(name, sizeof name, "rollout-%d", i + 1);
    struct net_sock *s = join(net, name, &session);
    struct say x = h->x, first = good;
    x.id = first.id = lease(net, s);
    first.masked = x.masked;
    if (h->after) {
        say_span(s, &first, false);
        CHECK_INT(ack_of(net, s, session), 2);
    }
    say_span(s, &x, h->ack == -2);
    CHECK_INT(ack_of(net, s, session), h->ack);
    char *text = said(), *line = strstr(text, h->said);
    while (line && line > text && line[-1] != '\n')
        line--;
    if (!line || !strstr(line, name))
        test_fail(__FILE__, __LINE__, "%s \"%s\" is not in: %s", name, h->said, text);
    mem_free(text);
    net_sock_close(&s);
}

/* I10, I12: nothing that was refused is in the log, and what was stored before goes to the next. */
TEST(manager_refuses_hostile_tokens) {
    struct net *net = NULL;
    uint64_t session = 0;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    for (int i = 0; i < (int)(sizeof hostile / sizeof hostile[0]); i++)
        be_hostile(net, i);
    struct net_sock *s = join(net, "rollout-100", &session);
    struct say x = good;
    x.id = lease(net, s);
    say_span(s, &x, false);
    CHECK_INT(ack_of(net, s, session), 2);
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK_INT(end(pid), err_exit_code(ERR_STOPPED));
    pid = start(); /* the log is one that a manager can begin with */
    net_sock_close(&s);
    s = join(net, "rollout-101", &session);
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK_INT(end(pid), err_exit_code(ERR_STOPPED));
    net_close(&net);
}

/* Again and again: the rollout is banned, and without another one the run ends by its name. */
TEST(manager_bans_a_rollout) {
    struct net *net = NULL;
    uint64_t session = 0;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    struct net_sock *s = join(net, "rollout-1", &session);
    for (int i = 0; i < 16; i++) {
        struct say x = {.id = lease(net, s), .n = 1, .token = {300}};
        say_span(s, &x, false);
        CHECK(ack_of(net, s, session) < 0);
    }
    CHECK_INT(end(pid), err_exit_code(ERR_CORRUPT));
    check_said("rollout-1 broke the rules 16 times, at last: tokens refused: trajectory ");
    check_said("token 0 has id 300, the vocabulary has 258; no other service can do its work");
    net_close(&net);
}

/* --- false hashes ---------------------------------------------------------------------------- */

static void ask_batch(struct net_sock *s, const char *hash) {
    Weir__BatchRequest q = WEIR__BATCH_REQUEST__INIT;
    q.hash = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)hash};
    say(s, WIRE_BATCH_REQUEST, &q, NULL, 0);
}

static struct net_sock *join_trainer(struct net *net) {
    struct net_sock *s = NULL;
    char *endpoint = NULL;
    int all = 0;
    CHECK_OK(net_endpoint(&endpoint, net, test_dir(), "manager"));
    CHECK_OK(net_connect(&s, net, endpoint, "trainer", 1 << 20));
    mem_free(endpoint);
    say_hello(s, "trainer", "trainer");
    CHECK_INT(answers(net, s, WIRE_WELCOME, &all), 1);
    return s;
}

/* The trainer has said what version 0 is: who has something else is banned, the others go on. */
TEST(manager_bans_other_weights) {
    struct net *net = NULL;
    uint64_t session = 0;
    int all = 0;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    struct net_sock *trainer = join_trainer(net);
    ask_batch(trainer, "0123456789abcdef");
    CHECK_INT(answers(net, trainer, WIRE_BATCH, &all), 0);
    struct net_sock *bad = join(net, "rollout-1", &session);
    say_tokens(bad, false, "0123456789abcdeX");
    CHECK_INT(ack_of(net, bad, session), -2);
    check_said("rollout-1 weights refused: version 0 of the weights: rollout-1 generates by ");
    struct net_sock *right = join(net, "rollout-2", &session);
    struct say x = good;
    x.id = lease(net, right);
    say_span(right, &x, false);
    CHECK_INT(ack_of(net, right, session), 2);
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK_INT(end(pid), err_exit_code(ERR_STOPPED));
    net_close(&net);
}

/* The rollout spoke first, and what it made is in the log: the run ends, and can go on (I12). */
TEST(manager_forgets_other_weights) {
    struct net *net = NULL;
    uint64_t session = 0;
    int all = 0;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    struct net_sock *s = join(net, "rollout-1", &session), *trainer = join_trainer(net);
    struct say x = good;
    x.id = lease(net, s);
    say_span(s, &x, false);
    CHECK_INT(ack_of(net, s, session), 2);
    ask_batch(trainer, "0123456789abcdeX");
    CHECK_INT(end(pid), err_exit_code(ERR_MISMATCH));
    check_said("what was generated by it is rejected, resume goes on");
    net_sock_close(&s);
    net_sock_close(&trainer);
    pid = start();
    trainer = join_trainer(net);
    ask_batch(trainer, "0123456789abcdeX");
    CHECK_INT(answers(net, trainer, WIRE_BATCH, &all), 0);
    s = join(net, "rollout-1", &session);
    CHECK(lease(net, s) >= 2); /* of another group */
    say_tokens(s, false, "0123456789abcdeX");
    CHECK_INT(answers(net, s, WIRE_TOKENS_ACK, &all), 0);
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK_INT(end(pid), err_exit_code(ERR_STOPPED));
    net_close(&net);
}

/* What the trainer says of weights is the truth here: nobody else can say it beside it. */
TEST(manager_knows_one_trainer) {
    struct net *net = NULL;
    struct net_sock *liar = NULL;
    char *endpoint = NULL;
    uint64_t session = 0;
    int all = 0;
    write_recipe("path: 'builtin:addition', limit: 9", 2, 16);
    pid_t pid = start();
    CHECK_OK(net_open(&net));
    CHECK_OK(net_endpoint(&endpoint, net, test_dir(), "manager"));
    CHECK_OK(net_connect(&liar, net, endpoint, "liar", 1 << 20));
    say_hello(liar, "trainer", "liar");
    ask_batch(liar, "0123456789abcdeX");
    CHECK_INT(answers(net, liar, WIRE_BATCH, &all), 0);
    check_said("peer=liar BatchRequest: refused: not from this kind of service");
    struct net_sock *s = join(net, "rollout-1", &session);
    struct say x = good;
    x.id = lease(net, s);
    say_span(s, &x, false);
    CHECK_INT(ack_of(net, s, session), 2);
    CHECK(kill(pid, SIGTERM) == 0);
    CHECK_INT(end(pid), err_exit_code(ERR_STOPPED));
    mem_free(endpoint);
    net_close(&net);
}
