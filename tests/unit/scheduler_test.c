/* scheduler_test.c - the batching plan against a pool of fingerprints: every slot remembers which
 * prefix its key was computed from, so any page that is shared, copied, evicted or reused wrongly
 * shows.
 */
#include "rollout/engine/scheduler.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

enum { PAGE = 4, PAGES = 14, CONTEXT = 40, SEQS = 5, WAITING = 12, VOCAB = 3 };

struct world {
    struct scheduler *plan;
    uint64_t slot[PAGES * PAGE];
    int64_t version;
    uint64_t rng, draws;
    int64_t rows, tokens, ended, joined;
};

static uint64_t below(struct world *w, uint64_t n) {
    return rng_below(w->rng, w->draws++, 0, n);
}

static uint64_t prefix(const struct seq *s, int32_t n, int64_t version) {
    return hash64(s->tokens, (size_t)n * sizeof *s->tokens, (uint64_t)version);
}

static int32_t slot_of(const struct seq *s, int32_t i) {
    CHECK(i / PAGE < s->n_pages);
    return s->pages[i / PAGE] * PAGE + i % PAGE;
}

static struct seq *make(uint64_t id, const int32_t *prompt, int32_t n, int32_t n_new) {
    struct engine_request r = {
        .id = id, .prompt = prompt, .n_prompt = n, .max_new_tokens = n_new, .top_p = 1};
    struct seq_limits l = {.context = CONTEXT, .vocab = VOCAB, .page = PAGE};
    struct seq *s;
    CHECK_OK(seq_open(&s, &r, &l));
    return s;
}

/* What the engine does, on fingerprints. Tokens are a function of the prefix, as in greedy
 * decoding, so that groups stay together for a while. */
static void check_keys(const struct world *w, const struct seq *s, int32_t n) {
    for (int32_t k = 0; s->shareable && k < n; k++)
        CHECK(w->slot[slot_of(s, k)] == prefix(s, k + 1, w->version));
}

static void copy_pages(struct world *w, const struct scheduler_copy *c, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        CHECK(c[i].keys > 0 && c[i].keys <= PAGE);
        memcpy(w->slot + c[i].dst * PAGE, w->slot + c[i].src * PAGE,
               (size_t)c[i].keys * sizeof *w->slot);
    }
}

static void push(struct world *w, struct seq *s) {
    enum engine_finish finish;
    uint64_t h = hash64(s->tokens, (size_t)s->n * sizeof *s->tokens, 99);
    if (below(w, 8) == 0) h += s->id;
    CHECK_OK(seq_push(s, (int32_t)(h % VOCAB), &finish));
    w->tokens++;
    if (finish == ENGINE_RUNNING) return;
    CHECK(scheduler_remove(w->plan, s->id));
    w->ended++;
}

static void run_step(struct world *w) {
    struct scheduler_step st;
    struct scheduler_joins joins;
    scheduler_next(w->plan, &st);
    pages_check(scheduler_pages(w->plan));
    CHECK(st.n_items <= SEQS);
    copy_pages(w, st.copies, st.n_copies);
    for (int32_t i = 0; i < st.n_items; i++) {
        const struct scheduler_item *it = &st.items[i];
        CHECK(it->rows > 0 && it->first + it->rows <= it->s->n);
        for (int32_t k = it->first; k < it->first + it->rows; k++) {
            CHECK_INT(pages_refs(scheduler_pages(w->plan), it->s->pages[k / PAGE]), 1);
            w->slot[slot_of(it->s, k)] = prefix(it->s, k + 1, w->version);
        }
        w->rows += it->rows;
    }
    for (int32_t i = 0; i < st.n_items; i++)
        check_keys(w, st.items[i].s, st.items[i].first + st.items[i].rows);
    scheduler_done(w->plan, &st, &joins);
    pages_check(scheduler_pages(w->plan));
    copy_pages(w, joins.copies, joins.n_copies);
    for (int32_t i = 0; i < joins.n_joins; i++) {
        const struct seq *s = joins.joins[i].s, *leader = st.items[joins.joins[i].item].s;
        CHECK(st.items[joins.joins[i].item].samples && s != leader);
        CHECK_INT(s->n, leader->n);
        CHECK(memcmp(s->tokens, leader->tokens, (size_t)s->n * sizeof *s->tokens) == 0);
        CHECK_INT(s->computed, s->n);
        check_keys(w, s, s->n);
    }
    w->joined += joins.n_joins;
    for (int32_t i = 0; i < joins.n_joins; i++)
        push(w, joins.joins[i].s);
    for (int32_t i = 0; i < st.n_items; i++)
        if (st.items[i].samples) push(w, st.items[i].s);
}

static struct world open_world(int32_t chunk, int32_t pages) {
    struct scheduler_config cfg = {.seqs_max = SEQS,
                                   .waiting_max = WAITING,
                                   .chunk_tokens = chunk,
                                   .page = PAGE,
                                   .pages = pages};
    struct world w = {
        .plan = scheduler_open(&cfg), .rng = rng_key(test_seed(), RNG_TEST), .version = 1};
    scheduler_use(w.plan, 1);
    return w;
}

static void run_dry(struct world *w) {
    struct scheduler_counts c;
    int steps = 0;
    do {
        run_step(w);
        scheduler_counts(w->plan, &c);
        CHECK(++steps < 10000);
    } while (c.running + c.waiting > 0);
    CHECK_INT(pages_available(scheduler_pages(w->plan)), pages_total(scheduler_pages(w->plan)));
}

TEST(scheduler_random_load_never_shows_wrong_keys) {
    struct world w = open_world(5, PAGES);
    int32_t prompt[CONTEXT] = {0}, n = 1;
    int64_t added = 0, aborted = 0;
    bool swapped = false;
    for (uint64_t i = 0; i < 6000; i++) {
        if (below(&w, 3) > 0) { /* a new prompt that often begins like the one before */
            int32_t keep = (int32_t)below(&w, (uint64_t)n + 1);
            n = 1 + (int32_t)below(&w, 24);
            for (int32_t k = keep; k < n; k++)
                prompt[k] = (int32_t)below(&w, VOCAB);
        }
        for (uint64_t g = 1 + below(&w, 4); g > 0; g--) {
            uint64_t id = (uint64_t)added + 1;
            struct seq *s = make(id, prompt, n, 1 + (int32_t)below(&w, (uint64_t)(CONTEXT - n)));
            int rc = scheduler_add_take(w.plan, s);
            if (rc == ERR_AGAIN)
                seq_close(&s);
            else
                CHECK_OK(rc);
            added += rc == 0;
        }
        run_step(&w);
        if (below(&w, 20) == 0)
            aborted += scheduler_remove(w.plan, 1 + below(&w, (uint64_t)added + 1));
        if (below(&w, swapped ? 3 : 40) == 0) { /* often back before a page is full */
            scheduler_use(w.plan, w.version = 3 - w.version);
            swapped = !swapped;
        }
    }
    run_dry(&w);
    struct scheduler_counts c;
    scheduler_counts(w.plan, &c);
    CHECK_INT(w.ended + aborted, added);
    CHECK(c.preemptions > 0 && c.cached_tokens > 0 && w.joined > 0);
    scheduler_close(&w.plan);
}

TEST(scheduler_computes_a_groups_prompt_once) {
    for (int32_t n = 1; n <= 13; n++) {
        struct world w = open_world(64, 40);
        int32_t prompt[13] = {0, 1, 2, 0, 1, 1, 2, 2, 0, 0, 0, 1, 2};
        for (uint64_t id = 0; id < SEQS; id++)
            CHECK_OK(scheduler_add_take(w.plan, make(id, prompt, n, 3)));
        w.draws = 0;
        run_dry(&w);
        CHECK_INT(w.rows, n + SEQS * 2); /* the last generated token is never fed */
        CHECK_INT(w.joined, SEQS - 1);
        scheduler_close(&w.plan);
    }
}

TEST(scheduler_chunks_and_decodes_in_one_step) {
    struct world w = open_world(3, 40);
    int32_t a[2] = {0, 1}, b[10] = {1};
    struct scheduler_step st;
    CHECK_OK(scheduler_add_take(w.plan, make(1, a, 2, 9)));
    run_step(&w);
    CHECK_OK(scheduler_add_take(w.plan, make(2, b, 10, 9)));
    scheduler_next(w.plan, &st);
    CHECK_INT(st.n_items, 2);
    CHECK_INT(st.items[0].rows, 1);
    CHECK(st.items[0].samples);
    CHECK_INT(st.items[1].rows, 3);
    CHECK(!st.items[1].samples);
    CHECK_INT(st.n_rows, 4);
    scheduler_close(&w.plan);
}

TEST(scheduler_preempts_the_youngest) {
    struct world w = open_world(64, 10); /* 40 keys: one sequence at its longest */
    struct scheduler_counts c;
    int32_t a[4] = {0, 1, 2, 0}, b[4] = {1, 1, 2, 2};
    CHECK_OK(scheduler_add_take(w.plan, make(1, a, 4, 36)));
    CHECK_OK(scheduler_add_take(w.plan, make(2, b, 4, 36)));
    while (w.ended == 0)
        run_step(&w);
    scheduler_counts(w.plan, &c);
    CHECK(c.preemptions > 0);
    CHECK_INT(c.waiting, 1);
    CHECK(scheduler_remove(w.plan, 2)); /* the younger one is still there */
    scheduler_close(&w.plan);
}

TEST(scheduler_refuses_what_is_too_much) {
    struct world w = open_world(4, 10);
    int32_t a[1] = {0};
    for (uint64_t id = 0; id < WAITING; id++)
        CHECK_OK(scheduler_add_take(w.plan, make(id, a, 1, 1)));
    struct seq *s = make(77, a, 1, 1);
    CHECK_ERR(scheduler_add_take(w.plan, s), ERR_AGAIN, "12");
    run_step(&w);
    seq_close(&s);
    s = make(WAITING - 1, a, 1, 1);
    CHECK_ERR(scheduler_add_take(w.plan, s), ERR_CONFIG, "already");
    seq_close(&s);
    CHECK(!scheduler_remove(w.plan, 1234));
    scheduler_close(&w.plan);
}
