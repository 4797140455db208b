/* passk.c - see passk.h. C(n - c, k) / C(n, k) is the probability that none of k answers drawn
 * without replacement is right. As a product of fractions below 1 it neither overflows nor loses
 * digits, which binomials of a few hundred would; drawing the c right ones from n - k places is the
 * same number, so the shorter of the two products is taken. */
#include "deploy/evaluate/passk.h"

#include "base/err.h"

double passk(int64_t n, int64_t c, int64_t k) {
    ASSERT(k >= 1 && k <= n && c >= 0 && c <= n);
    int64_t few = c < k ? c : k, many = c < k ? k : c;
    double none = 1;
    if (n - c < k) return 1; /* fewer wrong answers than k: one of any k is right */
    for (int64_t j = 0; j < few; j++)
        none *= (double)(n - many - j) / (double)(n - j);
    return 1 - none;
}
