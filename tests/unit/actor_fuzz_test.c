/* actor_fuzz_test.c - the fuzzers of actor/ as unit tests. */
#include "tests/corpus.h"
#include "tests/test.h"

#define LLVMFuzzerTestOneInput safetensors_one_input
#include "tests/fuzz/safetensors_fuzz.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput shape_one_input
#include "tests/fuzz/shape_fuzz.c"
#undef LLVMFuzzerTestOneInput

TEST(safetensors_fuzz_corpus) {
    corpus_run(safetensors_one_input, "tests/fuzz/corpus/safetensors", 500);
}

TEST(shape_fuzz_corpus) {
    corpus_run(shape_one_input, "tests/fuzz/corpus/shape", 500);
}
