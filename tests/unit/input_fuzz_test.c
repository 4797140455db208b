/* input_fuzz_test.c - the fuzzers of what a user writes, recipes and batch files, as unit tests. */
#include "tests/corpus.h"
#include "tests/test.h"

#define LLVMFuzzerTestOneInput recipe_one_input
#include "tests/fuzz/recipe_fuzz.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput batch_one_input
#include "tests/fuzz/batch_fuzz.c"
#undef LLVMFuzzerTestOneInput

TEST(recipe_fuzz_corpus) {
    corpus_run(recipe_one_input, "tests/fuzz/corpus/recipe", 500);
}

TEST(batch_fuzz_corpus) {
    corpus_run(batch_one_input, "tests/fuzz/corpus/batch", 2000);
}
