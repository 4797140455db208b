/* pages_test.c - references and prefix cache against a naive model. */
#include "rollout/engine/pages.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

TEST(pages_take_until_empty) {
    struct pages *p = pages_open(3);
    CHECK_INT(pages_available(p), 3);
    int32_t a = pages_take(p), b = pages_take(p), c = pages_take(p);
    CHECK(a >= 0 && b >= 0 && c >= 0 && a != b && b != c && a != c);
    CHECK_INT(pages_take(p), -1);
    pages_put(p, b);
    CHECK_INT(pages_take(p), b);
    pages_check(p);
    pages_close(&p);
    CHECK(!p);
}

TEST(pages_keys_name_version_and_all_tokens) {
    int32_t t[4] = {1, 2, 3, 4}, u[4] = {1, 2, 3, 5};
    struct hash r = pages_root(7);
    CHECK(!hash_equal(r, pages_root(8)));
    CHECK(hash_equal(pages_key(r, t, 4), pages_key(pages_root(7), t, 4)));
    CHECK(!hash_equal(pages_key(r, t, 4), pages_key(r, u, 4)));
    CHECK(!hash_equal(pages_key(r, t, 3), pages_key(r, t, 4)));
    CHECK(!hash_equal(pages_key(pages_key(r, t, 4), t, 4), pages_key(pages_key(r, u, 4), t, 4)));
}

TEST(pages_cache_keeps_finds_and_evicts_oldest) {
    struct pages *p = pages_open(3);
    struct hash root = pages_root(1);
    struct hash key[3];
    int32_t page[3];
    for (int32_t i = 0; i < 3; i++) {
        key[i] = pages_key(root, &i, 1);
        page[i] = pages_take(p);
        pages_publish(p, page[i], key[i], true);
    }
    for (int i = 0; i < 3; i++)
        pages_put(p, page[i]);
    CHECK_INT(pages_available(p), 3);
    CHECK_INT(pages_find(p, key[0]), page[0]); /* now the newest */
    pages_put(p, page[0]);
    CHECK_INT(pages_take(p), page[1]); /* the oldest goes first */
    CHECK_INT(pages_find(p, key[1]), -1);
    CHECK_INT(pages_find(p, key[2]), page[2]);
    CHECK_INT(pages_refs(p, page[2]), 1);
    pages_check(p);
    pages_close(&p);
}

TEST(pages_beginning_and_full_share_a_page) {
    struct pages *p = pages_open(2);
    int32_t t[4] = {5, 6, 7, 8};
    struct hash root = pages_root(1);
    int32_t a = pages_take(p);
    pages_publish(p, a, pages_key(root, t, 2), false);
    pages_publish(p, a, pages_key(root, t, 4), true);
    CHECK_INT(pages_find(p, pages_key(root, t, 2)), a);
    CHECK_INT(pages_find(p, pages_key(root, t, 4)), a);
    CHECK_INT(pages_refs(p, a), 3);
    int32_t b = pages_take(p);
    pages_publish(p, b, pages_key(root, t, 4), true); /* known already: ignored */
    pages_put(p, b);
    CHECK_INT(pages_available(p), 1);
    pages_forget(p);
    CHECK_INT(pages_find(p, pages_key(root, t, 4)), -1);
    CHECK_INT(pages_refs(p, a), 3);
    pages_check(p);
    pages_close(&p);
}

enum { N = 13, KEYS = 40, HELD = 60 };

/* Random takes, finds, publications, releases and forgets; a table of who holds what says what must
 * be true. */
TEST(pages_random_operations_never_leak) {
    uint64_t rng = rng_key(test_seed(), RNG_TEST);
    struct pages *p = pages_open(N);
    int32_t held[HELD], n_held = 0, refs[N] = {0};
    int32_t full[N], begin[N]; /* token published, -1 none */
    for (int i = 0; i < N; i++)
        full[i] = begin[i] = -1;
    struct hash root = pages_root(3);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t op = rng_below(rng, i, 0, 100);
        int32_t token = (int32_t)rng_below(rng, i, 1, KEYS);
        struct hash key = pages_key(root, &token, 1);
        if (op < 30 && n_held < HELD) {
            bool any = false;
            for (int k = 0; k < N; k++)
                any |= refs[k] == 0;
            int32_t page = pages_take(p);
            CHECK((page >= 0) == any);
            if (page < 0) continue;
            CHECK_INT(refs[page], 0);
            refs[page] = 1;
            full[page] = begin[page] = -1;
            held[n_held++] = page;
        } else if (op < 55 && n_held < HELD) {
            int32_t page = pages_find(p, key), want = -1;
            for (int k = 0; k < N; k++)
                if (full[k] == token || begin[k] == token) want = k;
            CHECK_INT(page, want);
            if (page < 0) continue;
            refs[page]++;
            held[n_held++] = page;
        } else if (op < 70 && n_held > 0) {
            int32_t page = held[rng_below(rng, i, 2, (uint64_t)n_held)];
            bool is_full = op % 2 == 0, known = false;
            for (int k = 0; k < N; k++)
                known |= full[k] == token || begin[k] == token;
            if ((is_full ? full : begin)[page] >= 0 && !known) continue;
            pages_publish(p, page, key, is_full);
            if (!known) (is_full ? full : begin)[page] = token;
        } else if (op < 99 && n_held > 0) {
            uint64_t k = rng_below(rng, i, 3, (uint64_t)n_held);
            pages_put(p, held[k]);
            refs[held[k]]--;
            held[k] = held[--n_held];
        } else if (op == 99) {
            pages_forget(p);
            for (int k = 0; k < N; k++)
                full[k] = begin[k] = -1;
        }
        int32_t idle = 0;
        for (int k = 0; k < N; k++) {
            CHECK_INT(pages_refs(p, k), refs[k]);
            idle += refs[k] == 0;
        }
        CHECK_INT(pages_available(p), idle);
        pages_check(p);
    }
    while (n_held > 0)
        pages_put(p, held[--n_held]);
    CHECK_INT(pages_available(p), N);
    pages_check(p);
    pages_close(&p);
}
