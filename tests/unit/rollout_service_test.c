#include "rollout/rollout.h"

#include "actor/policy.h"
#include "base/clock.h"
#include "base/mem.h"
#include "proto/rollout.pb-c.h"
#include "relay/push.h"
#include "relay/relay.h"
#include "rollout/engine/engine.h"
#include "tests/test.h"
#include "tests/unit/fake_manager.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the manager's end has of each trajectory, and what the engine alone gives for it. */
enum { TRAJ = 8, NEW = 40, VERSIONS = 16, SEED_A = 5, SEED_B = 6 };

static const int32_t prompts[2][5] = {{10, 20, 30, 40, 50}, {11, 21, 31, 41, 51}};

struct traj {
    int32_t token[NEW], n;
    int64_t version[NEW];
    float logprob[NEW];
    uint32_t finish;
};

static struct traj got[TRAJ], want[TRAJ];

struct scene {
    struct fake_manager f;
    struct net *net; /* the trainer's */
    struct push *push;
    pid_t relay, rollout;
    struct net_id who;
    uint32_t credit;
    int64_t asks, version;      /* requests for work, and what the last one said */
    struct hash hash[VERSIONS]; /* of what was published; zero: not by this scene */
};

static void weights_of(struct params **out, const struct policy *p, const struct kern_backend *b,
                       uint64_t seed) {
    CHECK_OK(params_open(out, b, &p->shape));
    CHECK_OK(params_init(*out, seed));
}

static void publish(struct scene *s, int64_t version, uint64_t seed) {
    struct policy p;
    struct params *w;
    const struct kern_backend *b;
    void *area;
    CHECK_OK(policy_open(&p, "recipes/tiny", "plain"));
    CHECK_OK(kern_open(&b, "cpu", 1));
    weights_of(&w, &p, b, seed);
    size_t bytes = (size_t)params_slab_elements(&p.shape) * sizeof(float);
    CHECK_OK(push_begin(s->push, bytes, &area));
    struct hash hash;
    CHECK_OK(params_get_hashed(&hash, w, NULL, area, bytes));
    CHECK_OK(push_publish(s->push, version, hash));
    CHECK(version < VERSIONS);
    s->hash[version] = hash;
    params_close(&w);
    policy_close(&p);
    kern_close(b);
    for (int i = 0; i < 4000 && push_taken(s->push) < version; i++) {
        bool stop = false;
        CHECK_OK(net_wait(s->net, 5000, NULL, 0, &stop));
        CHECK_OK(push_tick(s->push, clock_us()));
    }
    CHECK_INT(push_taken(s->push), version);
}

/* The engine alone, in a process of its own, writes what each trajectory must be. */
static void oracle(uint64_t seed) {
    int fds[2];
    CHECK(pipe(fds) == 0);
    memset(want, 0, sizeof want);
    pid_t pid = fork();
    if (pid == 0) {
        struct policy p;
        struct params *w;
        struct engine *e;
        const struct kern_backend *b;
        CHECK_OK(policy_open(&p, "recipes/tiny", "plain"));
        CHECK_OK(kern_open(&b, "cpu", 1));
        weights_of(&w, &p, b, seed);
        struct engine_config cfg = {.backend = b,
                                    .shape = p.shape,
                                    .tokenizer = p.tokenizer,
                                    .seqs_max = TRAJ,
                                    .context = 64,
                                    .chunk_tokens = 256,
                                    .page = 16,
                                    .waiting_max = TRAJ,
                                    .seed = 1};
        CHECK_OK(engine_open(&e, &cfg));
        CHECK_OK(engine_swap(e, w, 0));
        for (uint64_t i = 0; i < TRAJ; i++) {
            struct engine_request q = {.id = i,
                                       .prompt = prompts[i / 4],
                                       .n_prompt = 5,
                                       .max_new_tokens = NEW,
                                       .temperature = 1,
                                       .top_p = 1,
                                       .stop_ids = p.stop_ids,
                                       .n_stop_ids = p.n_stop_ids};
            CHECK_OK(engine_add(e, &q));
        }
        while (!engine_idle(e)) {
            const struct engine_token *t;
            int32_t n;
            CHECK_OK(engine_step(e, &t, &n));
            for (int32_t i = 0; i < n; i++) {
                struct traj *x = &want[t[i].id];
                x->logprob[x->n] = t[i].logprob;
                x->token[x->n++] = t[i].token;
                x->finish = t[i].finish;
            }
        }
        CHECK(write(fds[1], want, sizeof want) == (ssize_t)sizeof want);
        _exit(0);
    }
    CHECK(read(fds[0], want, sizeof want) == (ssize_t)sizeof want);
    CHECK_INT(fake_manager_wait(pid), 0);
    close(fds[0]);
    close(fds[1]);
}

static int relay_main(const char *run_dir, const char *name) {
    (void)name;
    return relay_service(run_dir);
}

static void scene_open(struct scene *s, const char *rollout) {
    char *e;
    memset(s, 0, sizeof *s);
    fake_manager_recipe(rollout, "steps: 1, batch: {groups: 1}", "");
    s->relay = fake_manager_start(relay_main, "relay");
    s->rollout = fake_manager_start(rollout_service, "rollout-1");
    CHECK_OK(net_open(&s->net));
    CHECK_OK(net_endpoint(&e, s->net, test_dir(), "relay"));
    CHECK_OK(push_open(&s->push, s->net, e, "trainer"));
    mem_free(e);
    fake_manager_open(&s->f, 100);
}

static void scene_close(struct scene *s) {
    CHECK_INT(fake_manager_finish(&s->f, s->rollout), 0);
    push_close(&s->push);
    net_close(&s->net);
    fake_manager_close(&s->f);
    kill(s->relay, SIGTERM);
    CHECK_INT(fake_manager_wait(s->relay), err_exit_code(ERR_STOPPED));
}

/* Hands out trajectories first..first+n-1, each with its first `resume` tokens. */
static void give(struct scene *s, uint64_t first, uint32_t n, int32_t resume) {
    Weir__Work w = WEIR__WORK__INIT;
    Weir__WorkItem item[TRAJ], *items[TRAJ];
    int32_t prompt[2 * 5], tokens[TRAJ * NEW];
    float logprobs[TRAJ * NEW];
    int64_t versions[TRAJ * NEW];
    size_t n_prompt = 0, n_resume = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t id = first + i;
        item[i] = (Weir__WorkItem)WEIR__WORK_ITEM__INIT;
        item[i].trajectory = id;
        item[i].group = id / 4;
        item[i].n_prompt = 5;
        item[i].n_resume = (uint32_t)resume;
        item[i].max_new_tokens = NEW;
        items[i] = &item[i];
        if (i == 0 || id % 4 == 0) {
            memcpy(prompt + n_prompt, prompts[id / 4], sizeof prompts[0]);
            n_prompt += 5;
        }
        for (int32_t k = 0; k < resume; k++, n_resume++) {
            tokens[n_resume] = got[id].token[k];
            logprobs[n_resume] = got[id].logprob[k];
            versions[n_resume] = got[id].version[k];
        }
    }
    w.n_items = n;
    w.items = items;
    struct wire_frame frames[4] = {{prompt, n_prompt * 4},
                                   {tokens, n_resume * 4},
                                   {logprobs, n_resume * 4},
                                   {versions, n_resume * 8}};
    fake_manager_send(&s->f, &s->who, WIRE_WORK, &w, frames, 4);
}

/* Each version of the tokens that was published here comes with its content's hash, once. */
static void check_weights(const struct scene *s, const Weir__Tokens *t, const int64_t *version,
                          size_t n) {
    for (size_t i = 0; i < t->n_weights; i++) {
        bool used = false;
        int64_t v = t->weights[i]->version;
        CHECK(v < VERSIONS && memcmp(t->weights[i]->hash.data, &s->hash[v], 16) == 0);
        for (size_t k = 0; k < n; k++)
            used |= version[k] == v;
        CHECK(used);
        CHECK(i == 0 || v > t->weights[i - 1]->version);
    }
    for (size_t k = 0; k < n; k++) {
        bool said = hash_is_zero(s->hash[version[k]]);
        for (size_t i = 0; i < t->n_weights; i++)
            said |= t->weights[i]->version == version[k];
        CHECK(said);
    }
}

static void store(struct scene *s, const struct link_msg *m, const struct net_id *from, bool ack) {
    const Weir__Tokens *t = m->wire.body;
    const int32_t *token = m->wire.frame[0].data;
    const float *logprob = m->wire.frame[1].data;
    const int64_t *version = m->wire.frame[2].data;
    check_weights(s, t, version, m->wire.frame[2].bytes / sizeof *version);
    Weir__TokensAck a = WEIR__TOKENS_ACK__INIT;
    Weir__TokensAckItem item[TRAJ], *items[TRAJ];
    for (size_t i = 0; i < t->n_items; i++) {
        const Weir__TokensItem *x = t->items[i];
        CHECK(x->trajectory < TRAJ);
        struct traj *g = &got[x->trajectory];
        CHECK((int32_t)x->offset <= g->n && x->offset + x->n <= NEW); /* no gap */
        for (uint32_t k = 0; k < x->n; k++) {
            g->token[x->offset + k] = *token++;
            g->logprob[x->offset + k] = *logprob++;
            g->version[x->offset + k] = *version++;
        }
        if ((int32_t)(x->offset + x->n) > g->n) g->n = (int32_t)(x->offset + x->n);
        if (x->finish) g->finish = x->finish;
        item[i] = (Weir__TokensAckItem)WEIR__TOKENS_ACK_ITEM__INIT;
        item[i].trajectory = x->trajectory;
        item[i].received = g->n;
        items[i] = &item[i];
    }
    a.n_items = t->n_items;
    a.items = items;
    if (ack) fake_manager_send(&s->f, from, WIRE_TOKENS_ACK, &a, NULL, 0);
}

/* One message or nothing within wait_ms. */
static bool turn(struct scene *s, int wait_ms, bool ack) {
    struct link_msg m;
    struct net_id from;
    if (!fake_manager_next(&s->f, wait_ms, &m, &from)) return false;
    if (m.wire.type == WIRE_HELLO) {
        s->who = from;
        fake_manager_welcome(&s->f, &from, &m, NULL);
    } else if (m.wire.type == WIRE_WORK_REQUEST) {
        const Weir__WorkRequest *q = m.wire.body;
        s->credit = q->trajectories;
        s->version = q->version;
        s->asks++;
    } else if (m.wire.type == WIRE_TOKENS) {
        store(s, &m, &from, ack);
    }
    link_free(&m);
    return true;
}

/* Until it asked for work `asks` times since the scene began, holding at least that version. */
static void until_asked(struct scene *s, int64_t asks, int64_t version) {
    for (int i = 0; i < 20000 && (s->asks < asks || s->version < version); i++)
        turn(s, 1, true);
    CHECK(s->asks >= asks);
    CHECK(s->version >= version);
}

static bool all_ended(uint64_t first, uint64_t n) {
    for (uint64_t i = first; i < first + n; i++)
        if (!got[i].finish) return false;
    return true;
}

static void until_ended(struct scene *s, uint64_t first, uint64_t n) {
    for (int i = 0; i < 30000 && !all_ended(first, n); i++)
        turn(s, 1, true);
    CHECK(all_ended(first, n));
}

static void check_same(uint64_t first, uint64_t n, int64_t version) {
    for (uint64_t i = first; i < first + n; i++) {
        CHECK_INT(got[i].n, want[i].n);
        CHECK_INT(got[i].finish, want[i].finish);
        for (int32_t k = 0; k < got[i].n; k++) {
            CHECK_INT(got[i].token[k], want[i].token[k]);
            CHECK(got[i].logprob[k] == want[i].logprob[k]);
            CHECK_INT(got[i].version[k], version);
        }
    }
}

TEST(generates_what_the_engine_generates) {
    struct scene s;
    oracle(SEED_A);
    scene_open(&s, "concurrency: 8, max_new_tokens: 40");
    publish(&s, 0, SEED_A);
    until_asked(&s, 1, 0);
    CHECK_INT(s.credit, 8);
    CHECK_INT(s.version, 0);
    give(&s, 0, 8, 0);
    give(&s, 0, 3, 0); /* handed out twice: generated once */
    until_ended(&s, 0, 8);
    check_same(0, 8, 0);
    until_asked(&s, 2, 0);
    scene_close(&s);
}

TEST(continues_over_a_managers_death) {
    struct scene s;
    struct link_msg m;
    int32_t keep[TRAJ];
    oracle(SEED_A);
    scene_open(&s, "concurrency: 8, max_new_tokens: 40, stream_every: 2");
    publish(&s, 0, SEED_A);
    until_asked(&s, 1, 0);
    give(&s, 0, 8, 0);
    while (got[0].n < 4)
        turn(&s, 1, false); /* stored, but the confirmation is lost */
    fake_manager_close(&s.f);
    clock_sleep_us(20000); /* it goes on without a manager */
    for (int i = 0; i < TRAJ; i++)
        if (got[i].n > 2) got[i].n = 2, got[i].finish = 0; /* not all of it was in the log */
    fake_manager_open(&s.f, 200);
    fake_manager_want(&s.f, WIRE_HELLO, &m, &s.who);
    const Weir__Hello *h = m.wire.body;
    const uint64_t *ids = m.wire.frame[0].data;
    const int32_t *has = m.wire.frame[1].data;
    CHECK_INT(h->n_running, 8);
    for (uint32_t i = 0; i < h->n_running; i++) {
        CHECK(has[i] >= got[ids[i]].n);
        keep[i] = ids[i] == 3 ? -1 : got[ids[i]].n;
    }
    got[3] = (struct traj){.n = 0};
    fake_manager_welcome(&s.f, &s.who, &m, keep);
    link_free(&m);
    until_ended(&s, 0, 3);
    until_ended(&s, 4, 4);
    check_same(0, 3, 0);
    check_same(4, 4, 0);
    CHECK_INT(got[3].n, 0); /* forgotten: nothing more of it */
    scene_close(&s);
}

TEST(another_rollout_continues_a_dead_ones_work) {
    struct scene s;
    oracle(SEED_A);
    scene_open(&s, "concurrency: 8, max_new_tokens: 40, stream_every: 2");
    publish(&s, 0, SEED_A);
    until_asked(&s, 1, 0);
    give(&s, 0, 4, 0);
    while (got[0].n < 4)
        turn(&s, 1, true);
    kill(s.rollout, SIGKILL);
    CHECK_INT(fake_manager_wait(s.rollout), -SIGKILL);
    while (turn(&s, 50, true)) {
    }
    int32_t have = NEW;
    for (int i = 0; i < 4; i++)
        if (!got[i].finish && got[i].n < have) have = got[i].n;
    int64_t asks = s.asks;
    s.rollout = fake_manager_start(rollout_service, "rollout-1");
    until_asked(&s, asks + 1, 0);
    for (int i = 0; i < 4; i++)
        got[i].finish = 0;
    for (uint64_t i = 0; i < 4; i++) { /* those that ended before are shorter */
        int32_t n = got[i].n < have ? got[i].n : have;
        if (n == want[i].n) n--;
        got[i].n = n;
        give(&s, i, 1, n);
    }
    until_ended(&s, 0, 4);
    check_same(0, 4, 0);
    scene_close(&s);
}

TEST(takes_new_weights_only_when_nothing_runs) {
    struct scene s;
    scene_open(&s, "concurrency: 4, max_new_tokens: 40, stream_every: 2");
    oracle(SEED_A);
    publish(&s, 0, SEED_A);
    until_asked(&s, 1, 0);
    give(&s, 0, 4, 0);
    while (got[0].n < 2)
        turn(&s, 1, true);
    publish(&s, 1, SEED_B);
    until_ended(&s, 0, 4);
    check_same(0, 4, 0); /* of one version */
    until_asked(&s, 2, 1);
    oracle(SEED_B);
    Weir__Work pull = WEIR__WORK__INIT;
    pull.min_version = 2;
    fake_manager_send(&s.f, &s.who, WIRE_WORK, &pull, NULL, 0);
    int64_t before = s.asks;
    for (int i = 0; i < 50; i++)
        turn(&s, 2, true);
    CHECK_INT(s.asks, before); /* it does not ask before it has version 2 */
    kill(s.relay, SIGKILL);    /* and a relay that dies meanwhile changes nothing */
    fake_manager_wait(s.relay);
    s.relay = fake_manager_start(relay_main, "relay");
    publish(&s, 2, SEED_B);
    until_asked(&s, before + 1, 2);
    give(&s, 4, 4, 0);
    until_ended(&s, 4, 4);
    check_same(4, 4, 2);
    scene_close(&s);
}

TEST(work_it_cannot_do_goes_back) {
    struct scene s;
    scene_open(&s, "concurrency: 4, max_new_tokens: 4"); /* context 28 < 5 + 40 */
    publish(&s, 0, SEED_A);
    until_asked(&s, 1, 0);
    give(&s, 0, 1, 0);
    until_ended(&s, 0, 1);
    CHECK_INT(got[0].finish, ENGINE_ABORTED);
    CHECK_INT(got[0].n, 0);
    until_asked(&s, 2, 0);
    scene_close(&s);
}

TEST(stops_on_sigterm_before_anything_is_there) {
    fake_manager_recipe("workers: 1", "steps: 1", "");
    pid_t pid = fake_manager_start(rollout_service, "rollout-1");
    clock_sleep_us(50000);
    kill(pid, SIGTERM);
    int status = fake_manager_wait(pid);
    CHECK(status == err_exit_code(ERR_STOPPED) ||
          status == -SIGTERM); /* -SIGTERM: before it got so far */
}
