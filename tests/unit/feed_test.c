/* feed_test.c - what the network is fed, with and without a shared prompt, by hand; and that plans
 * made of units stay within their limits. */
#include "trainer/feed.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"
#include "trainer/split.h"

/* Prompt 10 11 12 13 14, responses 1 2 3 and 4 5; the last token of the first is not trained. */
static struct batch *two(void) {
    static const int32_t prompt[] = {10, 11, 12, 13, 14}, a[] = {1, 2, 3}, c[] = {4, 5};
    static const uint8_t mask[] = {1, 1, 0};
    struct batch *b = batch_open(2);
    b->n_groups = 1;
    batch_set(b, 0, prompt, 5, a, 3, NULL, mask, NULL, 0);
    batch_set(b, 1, prompt, 5, c, 2, NULL, NULL, NULL, 0);
    return b;
}

static void same(const int32_t *got, const int32_t *want, int32_t n, const char *what) {
    for (int32_t i = 0; i < n; i++)
        if (got[i] != want[i])
            test_fail(__FILE__, __LINE__, "%s[%d] = %d, wanted %d", what, i, got[i], want[i]);
}
#define SAME(got, ...)                                                                             \
    do {                                                                                           \
        const int32_t w_[] = {__VA_ARGS__};                                                        \
        same(got, w_, (int32_t)(sizeof w_ / sizeof w_[0]), #got);                                  \
    } while (0)

TEST(feed_rows_by_hand) {
    struct batch *b = two();
    const struct feed_limits l = {.rows_max = 20, .seqs_max = 4, .context = 12, .page = 4};
    const struct feed_item items[] = {{0, -1}, {1, -1}};
    struct feed f;
    feed_open(&f, &l);
    CHECK_INT(feed_rows(&b->traj[0], false), 6);
    CHECK_INT(feed_rows(&b->traj[0], true), 7);
    feed_fill(&f, b, items, 2, false);
    CHECK_INT(f.in.n_rows, 12);
    CHECK_INT(f.in.pages_max, 2);
    SAME(f.in.ids, 10, 11, 12, 13, 14, 1, 10, 11, 12, 13, 14, 4);
    SAME(f.in.pos, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5);
    SAME(f.in.slot, 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13);
    SAME(f.in.q_start, 0, 6, 12);
    SAME(f.in.kv_len, 6, 6);
    SAME(f.in.pages, 0, 1, 2, 3);
    CHECK_INT(f.n, 4);
    SAME(f.row, 4, 5, 10, 11);
    SAME(f.target, 1, 2, 4, 5);
    SAME(f.seq, 0, 0, 1, 1);
    SAME(f.token, 0, 1, 0, 1);
    feed_close(&f);
    batch_close(&b);
}

TEST(feed_shares_a_prompt_by_hand) {
    struct batch *b = two();
    const struct feed_limits l = {.rows_max = 20, .seqs_max = 4, .context = 12, .page = 2};
    const struct feed_item items[] = {{0, -1}, {1, 0}};
    struct feed f;
    feed_open(&f, &l);
    CHECK_INT(feed_shared(&b->traj[0], &b->traj[1], 2), 4);
    CHECK_INT(feed_shared(&b->traj[0], &b->traj[1], 3), 3);
    CHECK_INT(feed_shared(&b->traj[0], &b->traj[1], 1), 4); /* never the last position */
    CHECK_INT(feed_shared(&b->traj[0], &b->traj[1], 5), 0);
    feed_fill(&f, b, items, 2, false);
    SAME(f.in.ids, 10, 11, 12, 13, 14, 1, 14, 4);
    SAME(f.in.pos, 0, 1, 2, 3, 4, 5, 4, 5);
    SAME(f.in.pages, 0, 1, 2, 0, 1, 3);
    SAME(f.in.slot, 0, 1, 2, 3, 4, 5, 6, 7);
    SAME(f.in.q_start, 0, 6, 8);
    SAME(f.in.kv_len, 6, 6);
    SAME(f.row, 4, 5, 6, 7);
    SAME(f.target, 1, 2, 4, 5);
    b->traj[1].ids[2] = 0; /* another prompt */
    CHECK_INT(feed_shared(&b->traj[0], &b->traj[1], 2), 0);
    feed_close(&f);
    batch_close(&b);
}

static struct batch *random_batch(uint64_t key, uint64_t round, uint32_t n) {
    struct batch *b = batch_open(n);
    int32_t ids[64];
    b->n_groups = n / 4 + 1;
    for (uint32_t i = 0; i < n; i++) {
        int32_t prompt = 1 + (int32_t)rng_below(key, round, i / 4, 12);
        int32_t response = 1 + (int32_t)rng_below(key, round, 1000 + i, 12);
        for (int32_t k = 0; k < prompt + response; k++)
            ids[k] = (int32_t)(i / 4) + k;
        batch_set(b, i, ids, prompt, ids + prompt, response, NULL, NULL, NULL, 0);
    }
    return b;
}

/* Every trajectory once, rows as planned, nothing over the limits; feed_fill asserts the rest. */
TEST(split_within_limits) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    struct split p = {0};
    for (uint64_t round = 0; round < 200; round++) {
        uint32_t n = 1 + (uint32_t)rng_below(key, round, 5000, 60);
        struct split_limits l = {.budget = 1 + (int32_t)rng_below(key, round, 5001, 100),
                                 .seqs_max = 1 + (int32_t)rng_below(key, round, 5002, 20),
                                 .page = 1 + (int32_t)rng_below(key, round, 5003, 4),
                                 .share = round % 4 != 0};
        struct batch *b = random_batch(key, round, n);
        int32_t *rows = mem_array(n, sizeof *rows), seen = 0;
        struct feed f;
        const struct feed_limits fl = {.rows_max = l.budget > 24 ? l.budget : 24,
                                       .seqs_max = l.seqs_max,
                                       .context = 24,
                                       .page = l.page};
        feed_open(&f, &fl);
        for (uint32_t i = 0; i < n; i++)
            rows[i] = rng_below(key, round, 7000 + i, 8) ? feed_rows(&b->traj[i], false) : 0;
        split_make(&p, b, rows, &l);
        for (int32_t bin = 0; bin < p.pack.n_bins; bin++) {
            int32_t count;
            const struct feed_item *items = split_bin(&p, bin, &count);
            for (int32_t k = 0; k < count; k++) {
                CHECK(rows[items[k].traj] > 0);
                rows[items[k].traj] = -1;
            }
            feed_fill(&f, b, items, count, false);
            CHECK(f.in.n_rows <= l.budget || count == 1);
            CHECK(count <= l.seqs_max);
            seen += count;
        }
        for (uint32_t i = 0; i < n; i++)
            CHECK(rows[i] <= 0);
        feed_close(&f);
        batch_close(&b);
        mem_free(rows);
    }
    split_close(&p);
}
