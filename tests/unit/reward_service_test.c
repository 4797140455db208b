#include "reward/reward.h"

#include "base/file.h"
#include "base/mem.h"
#include "proto/reward.pb-c.h"
#include "tests/test.h"
#include "tests/unit/fake_manager.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Everything that a service forked becomes our child when the service dies, so that it can be seen
 * to end. */
static pid_t start(void) {
    CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    return fake_manager_start(reward_service, "reward-1");
}

static void check_nobody_left(void) {
    while (waitpid(-1, NULL, 0) > 0) {
    }
    CHECK_INT(errno, ECHILD);
}

enum { ASK_MAX = 8 };

/* n questions with ids from `id` on in one message. */
static bool ask_many(struct fake_manager *f, const struct net_id *to, uint64_t id, size_t n,
                     const char *response, const char *answer) {
    Weir__ScoreRequest q = WEIR__SCORE_REQUEST__INIT;
    Weir__ScoreItem item[ASK_MAX], *list[ASK_MAX];
    char text[ASK_MAX * 64];
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        item[i] = (Weir__ScoreItem)WEIR__SCORE_ITEM__INIT;
        item[i].trajectory = id + i;
        item[i].prompt = 2;
        item[i].response = (uint32_t)strlen(response);
        item[i].answer = (uint32_t)strlen(answer);
        item[i].n_tokens = 3;
        item[i].max_tokens = 8;
        list[i] = &item[i];
        bytes += (size_t)snprintf(text + bytes, sizeof text - bytes, "p?%s%s", response, answer);
    }
    struct wire_frame frame = {text, bytes};
    q.n_items = n;
    q.items = list;
    return fake_manager_send(f, to, WIRE_SCORE_REQUEST, &q, &frame, 1);
}

static bool ask(struct fake_manager *f, const struct net_id *to, uint64_t id, const char *response,
                const char *answer) {
    return ask_many(f, to, id, 1, response, answer);
}

static void expect(struct fake_manager *f, uint64_t id, double total) {
    struct link_msg m;
    struct net_id from;
    fake_manager_want(f, WIRE_SCORE_REPLY, &m, &from);
    const Weir__ScoreReply *reply = m.wire.body;
    CHECK_INT(reply->n_items, 1);
    const Weir__ScoreRecord *r = reply->items[0];
    CHECK_INT(r->trajectory, id);
    CHECK_INT(r->error, 0);
    CHECK_NEAR(r->total, total, 0);
    CHECK_INT(r->n_scores, 1);
    CHECK_STR(r->scores[0]->name, "exact");
    link_free(&m);
}

static uint64_t greet(struct fake_manager *f, struct net_id *from) {
    struct link_msg m;
    fake_manager_want(f, WIRE_HELLO, &m, from);
    const Weir__Hello *h = m.wire.body;
    uint64_t incarnation = h->incarnation;
    CHECK_STR(h->service, "reward");
    CHECK_STR(h->name, "reward-1");
    fake_manager_welcome(f, from, &m, NULL);
    link_free(&m);
    return incarnation;
}

TEST(scores_and_survives_a_new_manager) {
    struct fake_manager f;
    struct net_id from;
    fake_manager_recipe("workers: 1", "steps: 1", "");
    pid_t pid = start();
    fake_manager_open(&f, 100);
    uint64_t first = greet(&f, &from);
    ask(&f, &from, 7, "42", "42");
    expect(&f, 7, 1);
    ask(&f, &from, 7, "42", "42"); /* again: again the same */
    expect(&f, 7, 1);
    ask(&f, &from, 1ull << 60, "41", "42");
    expect(&f, 1ull << 60, 0);
    f.incarnation = 101; /* the manager believes that it was lost */
    CHECK_INT(greet(&f, &from), first);
    ask(&f, &from, 8, "42", "42");
    expect(&f, 8, 1);
    ask(&f, &from, 9, "1", "2"); /* its reply goes nowhere */
    fake_manager_close(&f);
    fake_manager_open(&f, 200);
    CHECK_INT(greet(&f, &from), first);
    ask(&f, &from, 9, "1", "2");
    for (;;) { /* a reply to the first question may arrive too */
        struct link_msg m;
        fake_manager_want(&f, WIRE_SCORE_REPLY, &m, &from);
        CHECK_INT(((const Weir__ScoreReply *)m.wire.body)->items[0]->trajectory, 9);
        link_free(&m);
        if (!fake_manager_next(&f, 100, &m, &from)) break;
        link_free(&m);
    }
    CHECK_INT(fake_manager_finish(&f, pid), 0);
    check_nobody_left();
    fake_manager_close(&f);
}

TEST(killed_service_leaves_no_process_and_starts_again) {
    struct fake_manager f;
    struct net_id from;
    fake_manager_recipe("workers: 1", "steps: 1", "reward_service: {workers: 3}");
    fake_manager_open(&f, 100);
    pid_t pid = start();
    uint64_t first = greet(&f, &from);
    ask(&f, &from, 1, "42", "42");
    kill(pid, SIGKILL);
    CHECK_INT(fake_manager_wait(pid), -SIGKILL);
    check_nobody_left();
    pid = start();
    CHECK(greet(&f, &from) != first);
    ask(&f, &from, 1, "42", "42");
    expect(&f, 1, 1);
    kill(pid, SIGTERM);
    CHECK_INT(fake_manager_wait(pid), err_exit_code(ERR_STOPPED));
    check_nobody_left();
    fake_manager_close(&f);
}

/* More requests than the pool takes: none is lost, and nothing grows without bound. */
TEST(more_requests_than_places) {
    /* Unanswered at a time: more than the pool's 256 places, fewer than the sockets hold. */
    enum { REQUESTS = 1500, UNANSWERED = 400, TOGETHER = 5 };
    static bool seen[REQUESTS];
    struct fake_manager f;
    struct net_id from;
    struct link_msg m;
    int sent = 0, got = 0;
    fake_manager_recipe("workers: 1", "steps: 1", "");
    fake_manager_open(&f, 100);
    pid_t pid = start();
    greet(&f, &from);
    while (got < REQUESTS) {
        bool more = sent < REQUESTS && sent - got < UNANSWERED;
        if (more && ask_many(&f, &from, (uint64_t)sent, TOGETHER, "42", "42")) sent += TOGETHER;
        if (!fake_manager_next(&f, more ? 0 : 20000, &m, &from)) {
            CHECK(more);
            continue;
        }
        const Weir__ScoreReply *r = m.wire.body;
        for (size_t i = 0; m.wire.type == WIRE_SCORE_REPLY && i < r->n_items; i++) {
            uint64_t id = r->items[i]->trajectory;
            CHECK(id < REQUESTS && !seen[id] && r->items[i]->total == 1);
            seen[id] = true;
            got++;
        }
        link_free(&m);
    }
    kill(pid, SIGTERM);
    CHECK_INT(fake_manager_wait(pid), err_exit_code(ERR_STOPPED));
    check_nobody_left();
    fake_manager_close(&f);
}

TEST(wrong_settings_are_final) {
    char *path = file_join(test_dir(), "recipe.yaml");
    CHECK_INT(fake_manager_wait(start()), err_exit_code(ERR_NOTFOUND));
    CHECK_OK(file_write_atomic(path, "name: [", 7));
    CHECK(fake_manager_wait(start()) != 0);
    fake_manager_recipe("workers: 1", "steps: 1", "");
    char *text;
    size_t n;
    CHECK_OK(file_read(&text, &n, path, 1 << 20));
    char *at = strstr(text, "type: exact");
    CHECK(at != NULL);
    memcpy(at, "type: regex", 11); /* without its pattern */
    CHECK_OK(file_write_atomic(path, text, n));
    CHECK_INT(fake_manager_wait(start()), err_exit_code(ERR_CONFIG));
    mem_free(text);
    mem_free(path);
    check_nobody_left();
}
