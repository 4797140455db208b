#include "base/net.h"

#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT = 1 << 20 };

static struct net_part part(const char *s) {
    return (struct net_part){s, strlen(s)};
}

/* Waits for a message; fails the test after 20 s. */
static int recv_soon(struct net *n, struct net_sock *s, struct net_msg **m, struct net_id *from) {
    for (int i = 0; i < 2000; i++) {
        bool stop = false;
        int rc = net_recv(s, m, from);
        if (rc != ERR_AGAIN) return rc;
        CHECK_OK(net_wait(n, 10000, NULL, 0, &stop));
    }
    test_fail(__FILE__, __LINE__, "no message within 20 s");
}

static void check_part(const struct net_msg *m, size_t i, const char *want) {
    struct net_part p = net_msg_part(m, i);
    CHECK_INT(p.bytes, strlen(want));
    CHECK(memcmp(p.data, want, p.bytes) == 0);
}

struct pair {
    struct net *a, *b;
    struct net_sock *server, *client;
    char *endpoint;
};

static struct pair pair_open(const char *run) {
    struct pair p;
    char *again;
    CHECK_OK(net_open(&p.a));
    CHECK_OK(net_open(&p.b));
    CHECK_OK(net_endpoint(&p.endpoint, p.a, run, "manager"));
    CHECK_OK(net_serve(&p.server, p.a, p.endpoint, LIMIT));
    CHECK_OK(net_endpoint(&again, p.b, run, "manager"));
    CHECK_OK(net_connect(&p.client, p.b, again, "rollout-1", LIMIT));
    mem_free(again);
    return p;
}

static void pair_close(struct pair *p) {
    net_close(&p->a);
    net_close(&p->b);
    mem_free(p->endpoint);
}

static void round_trip(struct pair *p) {
    struct net_msg *m;
    struct net_id from;
    struct net_part ask[3] = {part("head"), part(""), part("frame")}, answer = part("yes");
    CHECK_OK(net_send(p->client, NULL, ask, 3));
    CHECK_OK(recv_soon(p->a, p->server, &m, &from));
    CHECK_INT(net_msg_parts(m), 3);
    check_part(m, 0, "head");
    check_part(m, 1, "");
    check_part(m, 2, "frame");
    CHECK_INT(from.n, 9);
    CHECK(memcmp(from.bytes, "rollout-1", 9) == 0);
    net_msg_free(&m);
    CHECK_OK(net_send(p->server, &from, &answer, 1));
    CHECK_OK(recv_soon(p->b, p->client, &m, NULL));
    check_part(m, 0, "yes");
    net_msg_free(&m);
}

static int files_in(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    CHECK(d != NULL);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

TEST(round_trip_leaves_no_socket_file) {
    struct pair p = pair_open(test_dir());
    char *ipc = file_join(test_dir(), "ipc");
    round_trip(&p);
    CHECK_INT(files_in(ipc), 1);
    pair_close(&p);
    CHECK_INT(files_in(ipc), 0);
    mem_free(ipc);
}

TEST(endpoint_of_a_very_long_run_directory) {
    char *dir = mem_strdup(test_dir());
    for (int i = 0; i < 5; i++) {
        char *next = mem_printf("%s/%032d-a-directory-name-of-fifty-letters", dir, i);
        mem_free(dir);
        dir = next;
    }
    struct pair p = pair_open(dir);
    CHECK(strlen(p.endpoint) < 107);
    round_trip(&p);
    pair_close(&p);
    char *ipc = file_join(dir, "ipc");
    CHECK_INT(files_in(ipc), 0);
    mem_free(ipc);
    mem_free(dir);
}

TEST(endpoint_names_are_checked) {
    struct net *n;
    char *e;
    CHECK_OK(net_open(&n));
    CHECK_ERR(net_endpoint(&e, n, test_dir(), "../x"), ERR_CONFIG, "bad endpoint name");
    CHECK_ERR(net_endpoint(&e, n, test_dir(), ""), ERR_CONFIG, "bad endpoint name");
    CHECK(net_endpoint(&e, n, "/proc/nothing", "x") < 0);
    CHECK(strstr(err_text(), "/proc/nothing") != NULL);
    CHECK(chdir(test_dir()) == 0);
    CHECK_OK(net_endpoint(&e, n, "@run", "x"));
    CHECK_STR(e, "ipc://./@run/ipc/x");
    mem_free(e);
    net_close(&n);
}

/* A message that leaves while the connection dies may be lost: clients ask again. */
static struct net_msg *ask_until_heard(struct net_sock *client, struct net *a,
                                       struct net_sock *server, struct net_id *from) {
    struct net_part p = part("still there?");
    for (int i = 0; i < 200; i++) {
        struct net_msg *m;
        bool stop = false;
        CHECK_OK(net_send(client, NULL, &p, 1));
        CHECK_OK(net_wait(a, 100000, NULL, 0, &stop));
        if (net_recv(server, &m, from) == 0) return m;
    }
    test_fail(__FILE__, __LINE__, "the server never heard the client");
}

TEST(client_before_server_and_server_restart) {
    struct net *a, *b;
    struct net_sock *server, *client;
    struct net_msg *m;
    struct net_id from;
    char *e;
    CHECK_OK(net_open(&a));
    CHECK_OK(net_open(&b));
    CHECK_OK(net_endpoint(&e, b, test_dir(), "relay"));
    CHECK_OK(net_connect(&client, b, e, "trainer", LIMIT));
    for (int i = 0; i < 3; i++) {
        struct net_part p = part("yes");
        CHECK_OK(net_serve(&server, a, e, LIMIT));
        m = ask_until_heard(client, a, server, &from);
        net_msg_free(&m);
        CHECK_OK(net_send(server, &from, &p, 1));
        CHECK_OK(recv_soon(b, client, &m, NULL));
        net_msg_free(&m);
        net_sock_close(&server);
    }
    net_close(&a);
    net_close(&b);
    mem_free(e);
}

static void hello_and_die(const char *endpoint) {
    struct net *n;
    struct net_sock *c;
    struct net_msg *m;
    struct net_part p = part("hello");
    CHECK_OK(net_open(&n));
    CHECK_OK(net_connect(&c, n, endpoint, "rollout-1", LIMIT));
    CHECK_OK(net_send(c, NULL, &p, 1));
    CHECK_OK(recv_soon(n, c, &m, NULL));
    raise(SIGKILL);
}

/* A client killed with -9 and started again under its name takes the name over. */
TEST(restarted_client_takes_over_its_name) {
    struct net *a;
    struct net_sock *server;
    char *e;
    CHECK_OK(net_open(&a));
    CHECK_OK(net_endpoint(&e, a, test_dir(), "manager"));
    CHECK_OK(net_serve(&server, a, e, LIMIT));
    for (int i = 0; i < 3; i++) {
        struct net_msg *m;
        struct net_id from;
        struct net_part p = part("welcome");
        int status;
        pid_t pid = fork();
        if (pid == 0) hello_and_die(e);
        CHECK_OK(recv_soon(a, server, &m, &from));
        check_part(m, 0, "hello");
        net_msg_free(&m);
        CHECK_OK(net_send(server, &from, &p, 1));
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status));
    }
    mem_free(e);
    net_close(&a);
}

TEST(full_queue_and_unknown_peer_say_again) {
    struct net *n;
    struct net_sock *server, *client;
    struct net_id nobody = {{'x'}, 1};
    struct net_part p = part("x");
    char *e;
    int rc = 0, sent = 0;
    CHECK_OK(net_open(&n));
    CHECK_OK(net_endpoint(&e, n, test_dir(), "a"));
    CHECK_OK(net_serve(&server, n, e, LIMIT));
    CHECK_ERR(net_send(server, &nobody, &p, 1), ERR_AGAIN, "not connected");
    mem_free(e);
    CHECK_OK(net_endpoint(&e, n, test_dir(), "nobody-serves"));
    CHECK_OK(net_connect(&client, n, e, "c", LIMIT));
    while (sent < 100000 && (rc = net_send(client, NULL, &p, 1)) == 0)
        sent++;
    CHECK_INT(rc, ERR_AGAIN);
    CHECK(sent > 0 && sent <= 1000);
    mem_free(e);
    net_close(&n);
}

/* What breaks a limit is dropped with an error; the next good message arrives. */
TEST(limits_on_parts_and_bytes) {
    struct net *n;
    struct net_sock *server, *big, *good;
    struct net_msg *m;
    struct net_part ok = part("ok"), two[2];
    char *e, *bytes = mem_zalloc(3000);
    CHECK_OK(net_open(&n));
    CHECK_OK(net_endpoint(&e, n, test_dir(), "a"));
    CHECK_OK(net_serve(&server, n, e, 2000));
    CHECK_OK(net_connect(&big, n, e, "big", LIMIT));
    CHECK_OK(net_connect(&good, n, e, "good", 2000));
    two[0] = (struct net_part){bytes, 1500};
    two[1] = (struct net_part){bytes, 1500};
    CHECK_OK(net_send(big, NULL, two, 2));
    CHECK_ERR(recv_soon(n, server, &m, NULL), ERR_CORRUPT, "too many bytes");
    CHECK_ERR(net_send(good, NULL, two, 2), ERR_CONFIG, "2000 bytes");
    two[0].bytes = 3000;
    CHECK_OK(net_send(big, NULL, two, 1)); /* the library hangs up on this one */
    CHECK_OK(net_send(good, NULL, &ok, 1));
    CHECK_OK(recv_soon(n, server, &m, NULL));
    check_part(m, 0, "ok");
    net_msg_free(&m);
    mem_free(bytes);
    mem_free(e);
    net_close(&n);
}

TEST(stop_signals_and_extra_fds_wake_the_loop) {
    struct net *n;
    int fds[2];
    bool stop = false;
    CHECK(pipe(fds) == 0);
    CHECK_OK(net_open(&n));
    CHECK_OK(net_wait(n, 0, fds, 1, &stop));
    CHECK(!stop);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK_OK(net_wait(n, UINT64_MAX, fds, 1, &stop));
    CHECK(!stop);
    raise(SIGTERM);
    CHECK_OK(net_wait(n, UINT64_MAX, NULL, 0, &stop));
    CHECK(stop);
    stop = false;
    CHECK_OK(net_wait(n, UINT64_MAX, NULL, 0, &stop)); /* and stays so */
    CHECK(stop);
    raise(SIGINT); /* pending at close: must not kill */
    net_close(&n);
    close(fds[0]);
    close(fds[1]);
}

/* Whoever bound the name last keeps it when an older server closes. */
TEST(closing_does_not_remove_a_successors_socket) {
    struct net *a, *b;
    struct net_sock *old, *new, *client;
    struct net_msg *m;
    struct net_part p = part("x");
    char *e;
    CHECK_OK(net_open(&a));
    CHECK_OK(net_open(&b));
    CHECK_OK(net_endpoint(&e, a, test_dir(), "manager"));
    CHECK_OK(net_serve(&old, a, e, LIMIT));
    CHECK_OK(net_serve(&new, b, e, LIMIT));
    net_close(&a);
    CHECK_OK(net_connect(&client, b, e, "c", LIMIT));
    CHECK_OK(net_send(client, NULL, &p, 1));
    CHECK_OK(recv_soon(b, new, &m, NULL));
    net_msg_free(&m);
    mem_free(e);
    net_close(&b);
}
