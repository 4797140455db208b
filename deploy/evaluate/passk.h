/* passk.h - pass@k: the probability that at least one of k answers to a prompt is right, estimated
 * from n >= k answers of which c are right. The mean over all subsets of k answers,
 *
 *     1 - C(n - c, k) / C(n, k),
 *
 * is unbiased for every k <= n (Chen et al., arXiv 2107.03374); taking 1 - (1 - c/n)^k is not. */
#ifndef DEPLOY_EVALUATE_PASSK_H
#define DEPLOY_EVALUATE_PASSK_H

#include <stdint.h>

/* 1 <= k <= n, 0 <= c <= n. */
double passk(int64_t n, int64_t c, int64_t k);

#endif
