/* manager_outbox_test.c - what the manager says leaves after what it follows from was written, in
 * the order in which it was said, and not at all when it could not be written. */
#include "base/file.h"
#include "base/mem.h"
#include "proto/control.pb-c.h"
#include "proto/train.pb-c.h"
#include "rollout/manager/manager_outbox.h"
#include "tests/test.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

struct pair { /* a manager without a loop, and a peer */
    struct manager m;
    char *metrics;
    struct net *net;
    struct net_sock *peer;
    struct net_id id;
};

/* The step of the next StepAck; -1: nothing came within a while. */
static int64_t heard(struct pair *p, uint64_t wait_us) {
    struct link_msg msg;
    bool stop = false;
    int64_t step = -1;
    if (link_recv(p->peer, &msg, NULL) == ERR_AGAIN) {
        CHECK_OK(net_wait(p->net, wait_us, NULL, 0, &stop));
        if (link_recv(p->peer, &msg, NULL) < 0) return -1;
    }
    if (msg.wire.type == WIRE_STEP_ACK) step = ((const Weir__StepAck *)msg.wire.body)->step;
    link_free(&msg);
    return step;
}

static void open_pair(struct pair *p) {
    char *dir = file_join(test_dir(), "log"), *endpoint = NULL;
    struct runlog_meta meta = {.seed = 1};
    struct link_msg msg;
    bool stop = false;
    *p = (struct pair){.id = {.n = 0}};
    CHECK_OK(runlog_open(&p->m.log, dir, &meta));
    CHECK_OK(runlog_write_behind(p->m.log));
    p->m.run_dir = mem_strdup(test_dir());
    p->metrics = file_join(test_dir(), "metrics.jsonl");
    manager_outbox_open(&p->m);
    CHECK_OK(net_open(&p->net));
    CHECK_OK(net_endpoint(&endpoint, p->net, test_dir(), "manager"));
    CHECK_OK(net_serve(&p->m.sock, p->net, endpoint, 1 << 20));
    CHECK_OK(net_connect(&p->peer, p->net, endpoint, "peer", 1 << 20));
    Weir__StatusRequest q = WEIR__STATUS_REQUEST__INIT;
    CHECK_OK(link_send(p->peer, NULL, WIRE_STATUS_REQUEST, &q, NULL, 0, 0));
    while (link_recv(p->m.sock, &msg, &p->id) == ERR_AGAIN)
        CHECK_OK(net_wait(p->net, 1000000, NULL, 0, &stop));
    link_free(&msg);
    mem_free(endpoint);
    mem_free(dir);
}

static void close_pair(struct pair *p) {
    manager_outbox_close(&p->m);
    runlog_close(&p->m.log);
    net_close(&p->net);
    mem_free(p->m.run_dir);
    mem_free(p->metrics);
}

static void say(struct pair *p, int64_t step) {
    Weir__StepAck a = WEIR__STEP_ACK__INIT;
    a.step = step;
    CHECK_OK(manager_outbox_send_now(&p->m, &p->id, WIRE_STEP_ACK, &a, NULL, 0));
}

static void put(struct pair *p, uint64_t id) {
    struct runlog_score s = {.id = id, .reason = ""};
    CHECK_OK(runlog_put_score(p->m.log, &s));
}

TEST(manager_outbox_waits_for_the_log) {
    struct pair p;
    size_t bytes = 0;
    struct buf line = {0};
    open_pair(&p);
    say(&p, 1); /* follows from nothing */
    CHECK(heard(&p, 1000000) == 1);
    put(&p, 1);
    say(&p, 2);
    CHECK_OK(manager_outbox_send(&p.m));
    CHECK(heard(&p, 20000) == -1); /* its record is not even committed */
    CHECK_OK(runlog_commit(p.m.log, true));
    put(&p, 2);
    say(&p, 3);
    buf_str(&line, "{\"step\": 3}");
    manager_outbox_line(&p.m, &line);
    CHECK(!file_exists(p.metrics));
    CHECK_OK(runlog_wait(p.m.log));
    CHECK_OK(manager_outbox_send(&p.m));
    CHECK(heard(&p, 1000000) == 2);
    CHECK(heard(&p, 20000) == -1);
    CHECK_OK(manager_outbox_send_all(&p.m));
    CHECK(heard(&p, 1000000) == 3);
    char *text = NULL;
    CHECK_OK(file_read(&text, &bytes, p.metrics, 100));
    CHECK(text && strcmp(text, "{\"step\": 3}\n") == 0);
    mem_free(text);
    CHECK(manager_outbox_direct(&p.m));
    close_pair(&p);
}

TEST(manager_outbox_keeps_the_order) {
    struct pair p;
    open_pair(&p);
    for (int i = 1; i <= 100; i++) { /* as many as a queue of the socket takes */
        if (i % 3 == 0) put(&p, (uint64_t)i);
        say(&p, i);
        if (i % 7 == 0) CHECK_OK(runlog_commit(p.m.log, false));
        if (i % 5 == 0) CHECK_OK(manager_outbox_send(&p.m));
    }
    CHECK_OK(manager_outbox_send_all(&p.m));
    for (int i = 1; i <= 100; i++)
        CHECK(heard(&p, 1000000) == i);
    close_pair(&p);
}

TEST(manager_outbox_says_nothing_that_was_not_written) {
    struct pair p;
    struct rlimit l = {1 << 20, 1 << 20};
    open_pair(&p);
    signal(SIGXFSZ, SIG_IGN);
    while (runlog_pending(p.m.log) < 2 << 20)
        put(&p, runlog_pending(p.m.log));
    say(&p, 1);
    CHECK(setrlimit(RLIMIT_FSIZE, &l) == 0); /* a full disk */
    CHECK_ERR(manager_outbox_send_all(&p.m), ERR_IO, "cannot write to");
    CHECK_ERR(manager_outbox_send(&p.m), ERR_IO, "File too large");
    CHECK(heard(&p, 20000) == -1);
    close_pair(&p);
}
