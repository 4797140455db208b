/* corpus.h - a fuzzer as a unit test: include the fuzzer's source with LLVMFuzzerTestOneInput
 * defined to a name of its own, then corpus_run(that name, "tests/fuzz/corpus/NAME"). */
#ifndef TESTS_CORPUS_H
#define TESTS_CORPUS_H

#include <stddef.h>
#include <stdint.h>

typedef int corpus_fn(const uint8_t *data, size_t n);

/* Every file of dir, every prefix of the small ones, and `rounds` seeded damages of each. */
void corpus_run(corpus_fn *target, const char *dir, uint64_t rounds);

#endif
