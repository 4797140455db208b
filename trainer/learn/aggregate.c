/* aggregate.c - see aggregate.h. A function of counts alone: nothing that is computed later (a
 * ratio, a mask) may reach a denominator, because then a token that is dropped would make the
 * others louder, and a step of few kept tokens as large as any. */
#include "trainer/learn/aggregate.h"

void aggregate_tokens(double *weight, const int64_t *first, size_t n, enum recipe_aggregation how,
                      double constant) {
    double sequences = 0, tokens = (double)(first[n] - first[0]);
    for (size_t i = 0; i < n; i++)
        sequences += first[i + 1] > first[i];
    for (size_t i = 0; i < n; i++) {
        double own = (double)(first[i + 1] - first[i]), w = 0;
        if (own == 0) continue;
        switch (how) {
        case RECIPE_TOKEN_MEAN: w = 1 / tokens; break;
        case RECIPE_SEQUENCE_MEAN: w = 1 / (sequences * own); break;
        case RECIPE_SEQUENCE_SUM: w = 1 / sequences; break;
        case RECIPE_AGGREGATE_CONSTANT: w = 1 / (sequences * constant); break;
        }
        for (int64_t e = first[i]; e < first[i + 1]; e++)
            weight[e - first[0]] = w;
    }
}
