#include "tests/unit/fake_manager.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void fake_manager_recipe(const char *rollout, const char *trainer, const char *more) {
    struct buf b = {0};
    char *path = file_join(test_dir(), "recipe.yaml");
    buf_printf(
        &b,
        "name: test\n"
        "model: {path: recipes/tiny, weights: random, chat: plain}\n"
        "data:\n  train: {path: \"builtin:addition\"}\n"
        "rollout: {device: cpu, heartbeat_ms: 50, max_prompt_tokens: 24, group_size: 4, %s}\n"
        "reward: [{type: exact}]\n"
        "trainer: {device: cpu, %s}\n%s\n",
        rollout, trainer, more);
    CHECK_OK(file_write_atomic(path, b.data, b.len));
    mem_free(path);
    buf_close(&b);
}

void fake_manager_open(struct fake_manager *f, uint64_t incarnation) {
    char *e;
    *f = (struct fake_manager){.incarnation = incarnation};
    CHECK_OK(net_open(&f->net));
    CHECK_OK(net_endpoint(&e, f->net, test_dir(), "manager"));
    CHECK_OK(net_serve(&f->sock, f->net, e, WIRE_BYTES_MAX));
    mem_free(e);
}

void fake_manager_close(struct fake_manager *f) {
    net_close(&f->net);
}

bool fake_manager_send(struct fake_manager *f, const struct net_id *to, enum wire_type type,
                       const void *body, const struct wire_frame *frames, size_t n) {
    int rc = link_send(f->sock, to, type, body, frames, n, 0);
    if (rc != ERR_AGAIN) CHECK_OK(rc); /* gone or not reading: the test goes on without it */
    return rc == 0;
}

static bool is_beat(struct fake_manager *f, struct link_msg *m, const struct net_id *from) {
    if (m->wire.type != WIRE_HEARTBEAT) return false;
    Weir__HeartbeatAck a = WEIR__HEARTBEAT_ACK__INIT;
    a.incarnation = f->incarnation;
    a.step = f->step;
    a.done = f->done;
    fake_manager_send(f, from, WIRE_HEARTBEAT_ACK, &a, NULL, 0);
    link_free(m);
    return true;
}

bool fake_manager_next(struct fake_manager *f, int wait_ms, struct link_msg *m,
                       struct net_id *from) {
    for (int i = 0; i <= wait_ms; i++) {
        bool stop = false;
        int rc;
        while ((rc = link_recv(f->sock, m, from)) == 0)
            if (!is_beat(f, m, from)) return true;
        CHECK_INT(rc, ERR_AGAIN);
        CHECK_OK(net_wait(f->net, 1000, NULL, 0, &stop));
    }
    return false;
}

void fake_manager_want(struct fake_manager *f, enum wire_type type, struct link_msg *m,
                       struct net_id *from) {
    for (int i = 0; i < 30000; i++)
        while (fake_manager_next(f, 0, m, from)) {
            if (m->wire.type == type) return;
            link_free(m);
        }
    test_fail(__FILE__, __LINE__, "no %s within 30 s", wire_type_name(type));
}

void fake_manager_welcome(struct fake_manager *f, const struct net_id *to,
                          const struct link_msg *hello, const int32_t *keep) {
    const Weir__Hello *h = hello->wire.body;
    Weir__Welcome w = WEIR__WELCOME__INIT;
    int32_t *none = mem_array(h->n_running + 1, sizeof *none);
    memset(none, 0xff, (h->n_running + 1) * sizeof *none);
    w.incarnation = f->incarnation;
    w.n_running = h->n_running;
    w.step = f->step;
    w.done = f->done;
    struct wire_frame frames[FRAMES_HELLO] = {
        [FRAME_IDS] = hello->wire.frame[FRAME_IDS],
        [FRAME_RECEIVED] = {keep ? keep : none, h->n_running * sizeof *none}};
    fake_manager_send(f, to, WIRE_WELCOME, &w, frames, FRAMES_HELLO);
    mem_free(none);
}

pid_t fake_manager_start(fake_manager_service *service, const char *name) {
    pid_t pid = fork();
    if (pid == 0) exit(err_exit_code(service(test_dir(), name)));
    return pid;
}

static int exit_status(int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int fake_manager_wait(pid_t pid) {
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return exit_status(status);
}

int fake_manager_finish(struct fake_manager *f, pid_t pid) {
    int status;
    f->done = true;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        struct link_msg m;
        struct net_id from;
        if (!fake_manager_next(f, 5, &m, &from)) continue;
        if (m.wire.type == WIRE_HELLO) fake_manager_welcome(f, &from, &m, NULL);
        link_free(&m);
    }
    return exit_status(status);
}
