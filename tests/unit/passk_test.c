/* passk_test.c - the estimator against every subset, against exact fractions from another program
 * (tests/golden/make_passk.py), and its defining property: its mean over binomial c is 1-(1-p)^k.
 */
#include "base/file.h"
#include "base/mem.h"
#include "deploy/evaluate/passk.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

/* The first c of n answers are right; a subset is a bit mask. */
static double by_enumeration(int n, int c, int k) {
    double subsets = 0, hits = 0;
    for (unsigned mask = 0; mask < 1u << n; mask++) {
        if (__builtin_popcount(mask) != k) continue;
        subsets++;
        hits += (mask & ((1u << c) - 1)) != 0;
    }
    return hits / subsets;
}

TEST(equals_the_mean_over_all_subsets) {
    for (int n = 1; n <= 11; n++)
        for (int c = 0; c <= n; c++)
            for (int k = 1; k <= n; k++)
                CHECK_NEAR(passk(n, c, k), by_enumeration(n, c, k), 1e-15);
}

/* Sum over c of Bin(c; n, p) passk(n, c, k) is the probability itself, whatever n: no sampling is
 * needed to see that the estimator is unbiased. */
TEST(is_unbiased) {
    static const double ps[] = {0, 0.01, 0.3, 0.5, 0.97, 1};
    for (int n = 1; n <= 40; n += 3)
        for (int k = 1; k <= n; k += 2)
            for (size_t i = 0; i < sizeof ps / sizeof ps[0]; i++) {
                double p = ps[i], mean = 0, ways = 1; /* ways: C(n, c) */
                for (int c = 0; c <= n; c++) {
                    mean += ways * pow(p, c) * pow(1 - p, n - c) * passk(n, c, k);
                    ways = ways * (n - c) / (c + 1);
                }
                CHECK_NEAR(mean, 1 - pow(1 - p, k), 1e-12);
            }
}

TEST(first_and_last_k) {
    for (int n = 1; n <= 4096; n = n * 2 + 1)
        for (int c = 0; c <= n; c += 1 + n / 7) {
            CHECK_NEAR(passk(n, c, 1), (double)c / n, 1e-15);
            CHECK_NEAR(passk(n, c, n), c > 0, 0);
        }
}

TEST(equals_exact_fractions) {
    char *text;
    size_t bytes;
    int lines = 0;
    CHECK_OK(file_read(&text, &bytes, "tests/golden/eval/passk.txt", 1 << 20));
    for (char *at = text; *at; lines++) {
        int64_t n = strtoll(at, &at, 10), c = strtoll(at, &at, 10), k = strtoll(at, &at, 10);
        double want = strtod(at, &at);
        CHECK_NEAR(passk(n, c, k), want, 2e-13);
        at += strspn(at, "\n");
    }
    CHECK(lines > 100);
    mem_free(text);
}
