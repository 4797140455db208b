/* microbatch_test.c - what the network is fed, with and without shared rows, by hand. */
#include "trainer/batch/microbatch.h"

#include "tests/test.h"

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

#define ELEMENTS(f, ...)                                                                           \
    do {                                                                                           \
        const int32_t w_[] = {__VA_ARGS__};                                                        \
        for (size_t i_ = 0; i_ < sizeof w_ / sizeof w_[0]; i_++)                                   \
            CHECK_INT((f)->element[i_], w_[i_]);                                                   \
    } while (0)

TEST(microbatch_rows_by_hand) {
    struct batch *b = two();
    const struct microbatch_limits l = {.rows_max = 20, .seqs_max = 4, .context = 12, .page = 4};
    const int64_t first[] = {0, 2};
    const struct microbatch_tokens trained = {first, false}, all = {first, true};
    const struct microbatch_item items[] = {{0, 0, 6, false}, {1, 0, 6, false}};
    struct microbatch f;
    microbatch_open(&f, &l);
    CHECK_INT(microbatch_rows(&b->traj[0], false), 6);
    CHECK_INT(microbatch_rows(&b->traj[0], true), 7);
    microbatch_wave(&f, b, &trained, items, 2, 0);
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
    SAME(f.start, 0, 1, 2, 3, 4);
    ELEMENTS(&f, 0, 1, 2, 3);
    const struct microbatch_item whole = {0, 0, 7, false};
    microbatch_wave(&f, b, &all, &whole, 1, 0);
    SAME(f.row, 4, 5, 6);
    SAME(f.target, 1, 2, 3);
    microbatch_close(&f);
    batch_close(&b);
}

TEST(microbatch_chains_a_prompt_by_hand) {
    struct batch *b = two();
    const struct microbatch_limits l = {.rows_max = 20, .seqs_max = 4, .context = 12, .page = 2};
    const int64_t first[] = {0, 2};
    const struct microbatch_tokens trained = {first, false};
    const struct microbatch_item items[] = {{0, 0, 6, false}, {1, 4, 6, true}};
    struct microbatch f;
    microbatch_open(&f, &l);
    microbatch_wave(&f, b, &trained, items, 2, 0);
    SAME(f.in.ids, 10, 11, 12, 13, 14, 1, 14, 4);
    SAME(f.in.pos, 0, 1, 2, 3, 4, 5, 4, 5);
    SAME(f.in.pages, 0, 1, 2, 0, 1, 3);
    SAME(f.in.slot, 0, 1, 2, 3, 4, 5, 6, 7);
    SAME(f.in.q_start, 0, 6, 8);
    SAME(f.in.kv_len, 6, 6);
    SAME(f.row, 4, 5, 6, 7);
    SAME(f.target, 1, 2, 4, 5);
    microbatch_close(&f);
    batch_close(&b);
}

/* A segment of the prompt but its last position, and the wave above it. */
TEST(microbatch_frames_by_hand) {
    struct batch *b = two();
    const struct microbatch_limits l = {
        .rows_max = 8, .seqs_max = 4, .context = 12, .page = 2, .segments = 12};
    const int64_t first[] = {0, 2};
    const struct microbatch_tokens trained = {first, false};
    const struct microbatch_item items[] = {{0, 4, 6, false}, {1, 4, 6, false}};
    const int32_t members[] = {0, 1};
    struct microbatch f;
    microbatch_open(&f, &l);
    CHECK_INT(microbatch_pages(&l), 14);
    microbatch_frame(&f, b, &trained, members, 2, 0, 4);
    CHECK(f.in.keys_only && f.n == 0);
    SAME(f.in.ids, 10, 11, 12, 13);
    SAME(f.in.slot, 0, 1, 2, 3);
    SAME(f.in.kv_len, 4);
    microbatch_wave(&f, b, &trained, items, 2, 4);
    CHECK(!f.in.keys_only);
    SAME(f.in.ids, 14, 1, 14, 4);
    SAME(f.in.pos, 4, 5, 4, 5);
    SAME(f.in.pages, 0, 1, 2, 0, 1, 3);
    SAME(f.in.slot, 4, 5, 6, 7);
    SAME(f.row, 0, 1, 2, 3);
    microbatch_close(&f);
    batch_close(&b);
}

/* Equal first response tokens: the rows that predict them stand for both trajectories. */
TEST(microbatch_shared_tokens_by_hand) {
    struct batch *b = two();
    const struct microbatch_limits l = {.rows_max = 20, .seqs_max = 4, .context = 12, .page = 1};
    const int64_t first[] = {0, 2};
    const struct microbatch_tokens trained = {first, false};
    const struct microbatch_item items[] = {{0, 0, 6, false}, {1, 5, 6, true}};
    const int32_t members[] = {0, 1};
    struct microbatch f;
    b->traj[1].ids[5] = 1; /* 10 .. 14 1 5 */
    microbatch_open(&f, &l);
    microbatch_wave(&f, b, &trained, items, 2, 0);
    SAME(f.in.ids, 10, 11, 12, 13, 14, 1, 1);
    SAME(f.row, 4, 5, 6);
    SAME(f.target, 1, 2, 5);
    SAME(f.start, 0, 2, 3, 4);
    ELEMENTS(&f, 0, 2, 1, 3);
    microbatch_frame(&f, b, &trained, members, 2, 0, 5);
    CHECK(!f.in.keys_only);
    SAME(f.row, 4);
    SAME(f.target, 1);
    SAME(f.start, 0, 2);
    ELEMENTS(&f, 0, 2);
    microbatch_close(&f);
    batch_close(&b);
}
