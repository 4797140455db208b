/* assign_test.c - who computes what: whole groups, balanced, a function of the batch; and batches
 * as bytes. */
#include "trainer/batch/assign.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"
#include "tests/unit/trainer_fixture.h"

/* A batch whose group g has `tokens[g]` tokens in trajectories of 1 + 1 and one that is longer. */
static struct batch *batch_of(const int32_t *tokens, uint32_t groups) {
    struct batch *b = batch_open(2 * groups);
    int32_t ids[64] = {0};
    float logprob[64] = {0};
    b->n_groups = groups;
    for (uint32_t i = 0; i < b->n; i++) {
        uint32_t g = i / 2;
        int32_t response = i % 2 ? tokens[g] - 3 : 1;
        batch_set(b, i, ids, 1, ids, response, logprob, NULL, NULL, 0);
        b->traj[i].group = g;
    }
    return b;
}

static void check_owners(const int32_t *tokens, uint32_t groups, int ranks, const int32_t *want) {
    struct batch *b = batch_of(tokens, groups);
    struct assign d = {0};
    assign_make(&d, b, ranks);
    for (uint32_t i = 0; i < b->n; i++)
        CHECK_INT(d.owner[i], want[i / 2]);
    assign_close(&d);
    batch_close(&b);
}

TEST(assign_longest_first_to_the_least_loaded) {
    static const int32_t tokens[] = {10, 40, 20, 30}, want[] = {0, 0, 1, 1};
    static const int32_t equal[] = {9, 9, 9, 9, 9}, turn[] = {0, 1, 2, 0, 1};
    static const int32_t two[] = {8, 12}, few[] = {1, 0};
    check_owners(tokens, 4, 2, want); /* 40 -> 0, 30 -> 1, 20 -> 1 (30 < 40), 10 -> 0 (40 < 50) */
    check_owners(equal, 5, 3, turn);
    check_owners(two, 2, 4, few); /* ranks 2 and 3 have nothing */
}

TEST(assign_is_balanced_and_keeps_groups_whole) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (uint64_t k = 0; k < 200; k++) {
        int32_t tokens[40];
        uint32_t groups = 1 + (uint32_t)rng_below(key, k, 0, 40);
        int ranks = 1 + (int)rng_below(key, k, 1, 6);
        int64_t load[6] = {0}, sum = 0, most = 0, longest = 0;
        struct assign d = {0};
        for (uint32_t g = 0; g < groups; g++)
            tokens[g] = 4 + (int32_t)rng_below(key, k, 10 + g, 50);
        struct batch *b = batch_of(tokens, groups);
        assign_make(&d, b, ranks);
        for (uint32_t g = 0; g < groups; g++) {
            CHECK_INT(d.owner[2 * g], d.owner[2 * g + 1]);
            CHECK(d.owner[2 * g] >= 0 && d.owner[2 * g] < ranks);
            load[d.owner[2 * g]] += tokens[g];
            sum += tokens[g];
            if (tokens[g] > longest) longest = tokens[g];
        }
        for (int r = 0; r < ranks; r++)
            if (load[r] > most) most = load[r];
        CHECK(most * ranks <= sum + (ranks - 1) * longest);
        assign_close(&d);
        batch_close(&b);
    }
}

TEST(assign_batch_bytes_come_back) {
    struct batch *a = trainer_fixture_batch(test_seed(), 3, 7), *b = NULL;
    struct buf bytes = {0};
    a->foreign = true;
    a->traj[2].truncated = true;
    a->traj[3].mask[0] = 0;
    a->traj[4].baseline = 0.5F;
    batch_pack(&bytes, a);
    CHECK_OK(batch_unpack(&b, bytes.data, bytes.len));
    CHECK(b->n == a->n && b->n_groups == a->n_groups && b->step == a->step && b->foreign);
    for (uint32_t i = 0; i < a->n; i++) {
        const struct batch_traj *x = &a->traj[i], *y = &b->traj[i];
        size_t n = (size_t)x->n_response;
        CHECK(x->id == y->id && x->group == y->group && x->reward == y->reward);
        CHECK(x->truncated == y->truncated && x->n_prompt == y->n_prompt);
        CHECK(memcmp(&x->baseline, &y->baseline, sizeof x->baseline) == 0);
        CHECK_INT(x->n_response, y->n_response);
        CHECK(memcmp(x->ids, y->ids, ((size_t)x->n_prompt + n) * sizeof *x->ids) == 0);
        CHECK(memcmp(x->logprob, y->logprob, n * sizeof *x->logprob) == 0);
        CHECK(memcmp(x->version, y->version, n * sizeof *x->version) == 0);
        CHECK(memcmp(x->mask, y->mask, n) == 0);
    }
    batch_close(&b);
    for (size_t n = 0; n < bytes.len; n++) /* cut anywhere: refused, nothing read beyond the end */
        CHECK_ERR(batch_unpack(&b, bytes.data, n), ERR_CORRUPT, "is not whole");
    batch_close(&a);
    buf_close(&bytes);
}
