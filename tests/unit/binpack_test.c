/* binpack_test.c - properties of plans over random lengths, and one plan by hand. */
#include "trainer/batch/binpack.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

#include <stdbool.h>

TEST(binpack_by_hand) {
    struct binpack p = {0};
    const int32_t rows[] = {3, 10, 0, 7, 12, 3};
    binpack_plan(&p, rows, NULL, 6, 10, 8);
    /* 12 alone (longer than the budget), 10 alone, 7 + 3, 3 */
    CHECK_INT(p.n_bins, 4);
    const int32_t item[] = {4, 1, 3, 0, 5}, start[] = {0, 1, 2, 4, 5};
    CHECK(memcmp(p.item, item, sizeof item) == 0);
    CHECK(memcmp(p.start, start, sizeof start) == 0);
    binpack_plan(&p, rows, NULL, 0, 10, 8);
    CHECK_INT(p.n_bins, 0);
    binpack_close(&p);
}

static void check_plan(const struct binpack *p, const int32_t *rows, int32_t n, int32_t budget,
                       int32_t seqs_max) {
    bool *seen = mem_array((size_t)n + 1, sizeof *seen);
    int64_t total = 0, small = 0;
    for (int32_t b = 0; b < p->n_bins; b++) {
        int32_t held = p->start[b + 1] - p->start[b];
        int64_t sum = 0;
        CHECK(held > 0 && held <= seqs_max);
        for (int32_t k = p->start[b]; k < p->start[b + 1]; k++) {
            CHECK(!seen[p->item[k]]);
            seen[p->item[k]] = true;
            sum += rows[p->item[k]];
        }
        CHECK(sum <= budget || held == 1);
        small += sum <= budget / 2 && held < seqs_max;
        total += held;
    }
    CHECK(small <= 1); /* two half-empty bins would have been one */
    for (int32_t i = 0; i < n; i++)
        total -= rows[i] > 0;
    CHECK_INT(total, 0);
    mem_free(seen);
}

TEST(binpack_properties) {
    struct binpack p = {0}, q = {0};
    int32_t rows[300];
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    for (uint64_t round = 0; round < 200; round++) {
        int32_t n = (int32_t)rng_below(key, round, 1000, 300);
        int32_t budget = 1 + (int32_t)rng_below(key, round, 1001, 400);
        int32_t seqs_max = 1 + (int32_t)rng_below(key, round, 1002, 20);
        for (int32_t i = 0; i < n; i++)
            rows[i] = (int32_t)rng_below(key, round, (uint64_t)i, 200);
        binpack_plan(&p, rows, NULL, n, budget, seqs_max);
        check_plan(&p, rows, n, budget, seqs_max);
        binpack_plan(&q, rows, NULL, n, budget, seqs_max);
        CHECK(n == 0 || memcmp(p.item, q.item, (size_t)p.start[p.n_bins] * sizeof *p.item) == 0);
    }
    binpack_close(&p);
    binpack_close(&q);
}

TEST(binpack_counts_sequences_of_items) {
    struct binpack p = {0};
    const int32_t rows[] = {5, 4, 3, 2}, seqs[] = {3, 2, 1, 1};
    binpack_plan(&p, rows, seqs, 4, 100, 4);
    /* 5 (3 sequences), 4 (2), 3 (1) fills the first, 2 (1) the second */
    CHECK_INT(p.n_bins, 2);
    const int32_t item[] = {0, 2, 1, 3}, start[] = {0, 2, 4};
    CHECK(memcmp(p.item, item, sizeof item) == 0);
    CHECK(memcmp(p.start, start, sizeof start) == 0);
    binpack_close(&p);
}
