/* sim_engine.c - the model of an engine and its weights: a token is a hash of its trajectory, its
 * position and the version, a length is a hash with a tail, a step takes a few milliseconds. */
#include "base/mem.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_token.h"

#include <string.h>

enum { PLACES = 6, TOKENS_MAX = PLACES };

struct running {
    uint64_t id;
    int32_t n, end;
    enum trajectory_finish finish; /* at the end */
};

struct sim_engine {
    struct sim_facts *facts;
    struct running run[PLACES];
    size_t n;
    int64_t version, tokens;
    uint64_t lag_us, step_us, took_us; /* lag_us: until a version that was published is here */
    struct engine_token event[TOKENS_MAX];
};

int32_t sim_token(uint64_t id, int32_t position, int64_t version) {
    uint64_t key[3] = {id, (uint64_t)position, (uint64_t)version};
    return (int32_t)(hash64(key, sizeof key, 1) % 64);
}

float sim_logprob(int32_t token, int64_t version) {
    return -(float)(token + version + 1) / 64;
}

struct sim_engine *sim_engine_open(struct sim_facts *f) {
    struct sim_engine *e = mem_zalloc(sizeof *e);
    e->facts = f;
    e->version = -1;
    e->lag_us = 1000 + sim_net_below(f->net, 50000);
    e->step_us = 500 + sim_net_below(f->net, 10000);
    return e;
}

void sim_engine_close(struct sim_engine **e) {
    mem_free(*e);
    *e = NULL;
}

uint64_t sim_engine_took(struct sim_engine *e) {
    uint64_t us = e->took_us;
    e->took_us = 0;
    return us;
}

static int add_work(void *self, const struct trajectory *w) {
    struct sim_engine *e = self;
    struct sim_facts *f = e->facts;
    uint64_t h = hash64(&w->id, sizeof w->id, 2);
    /* Half are short; each further doubling is half as likely. */
    int32_t length = 1 + (int32_t)(h % 3);
    for (h >>= 8; length < f->max_new && h % 2 == 0; h >>= 1)
        length *= 2;
    if (e->n == PLACES) return FAIL(ERR_AGAIN, "%d are running", PLACES);
    if (sim_net_chance(f->net, 300)) return FAIL(ERR_AGAIN, "no room by chance");
    for (int32_t i = 0; i < w->n_response; i++)
        if (w->response[i] != sim_token(w->id, i, w->version[i]))
            sim_wrong(f, "trajectory %d is handed out again with another token", (int)w->id);
    struct running *r = &e->run[e->n++];
    *r = (struct running){.id = w->id, .n = w->n_response, .finish = TRAJECTORY_STOP};
    r->end = length < w->max_new_tokens ? length : w->max_new_tokens;
    if (r->end <= r->n) r->end = r->n + 1; /* a stop that was not sampled by the one before */
    if (r->end == w->max_new_tokens) r->finish = TRAJECTORY_LENGTH;
    return 0;
}

static void abort_work(void *self, uint64_t id) {
    struct sim_engine *e = self;
    for (size_t i = 0; i < e->n; i++)
        if (e->run[i].id == id) e->run[i--] = e->run[--e->n];
}

static bool is_idle(void *self) {
    return ((struct sim_engine *)self)->n == 0;
}

static int make_step(void *self, const struct engine_token **events, int32_t *n) {
    struct sim_engine *e = self;
    *n = 0;
    e->took_us = e->step_us / 2 + sim_net_below(e->facts->net, e->step_us);
    for (size_t i = e->n; i-- > 0;) {
        struct running *r = &e->run[i];
        struct engine_token *t = &e->event[(*n)++];
        *t = (struct engine_token){.id = r->id, .position = r->n, .version = e->version};
        t->token = sim_token(r->id, r->n, e->version);
        t->logprob = sim_logprob(t->token, e->version);
        r->n++;
        t->finish = r->n == r->end ? r->finish : TRAJECTORY_RUNNING;
        e->tokens++;
        if (r->n == r->end) *r = e->run[--e->n];
    }
    *events = e->event;
    return 0;
}

static void tell_stats(void *self, struct engine_stats *out) {
    const struct sim_engine *e = self;
    *out = (struct engine_stats){.running = (int32_t)e->n, .decode_tokens = e->tokens};
}

static int64_t newest(void *self) {
    const struct sim_engine *e = self;
    int64_t v = e->facts->published;
    while (v >= 0 && e->facts->published_us[v] + e->lag_us > sim_net_now(e->facts->net))
        v--;
    return v > e->version ? v : e->version;
}

static int take(void *self, uint64_t now_us, uint64_t step_us, bool may) {
    struct sim_engine *e = self;
    (void)now_us;
    (void)step_us;
    if (may) e->version = newest(e);
    return 0;
}

static bool is_taking(void *self) {
    (void)self;
    return false;
}

static int64_t held(void *self, struct hash *hash) {
    const struct sim_engine *e = self;
    *hash = e->version >= 0 ? e->facts->weights[e->version] : (struct hash){0, 0};
    return e->version;
}

struct generator sim_engine_generator(struct sim_engine *e) {
    return (struct generator){e,          PLACES, add_work,  abort_work, is_idle, make_step,
                              tell_stats, take,   is_taking, held,       newest};
}
