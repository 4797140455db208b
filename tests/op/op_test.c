/* op_test.c - the op suite: each case on a backend against `ref`, the bits of a second run, of
 * other thread counts and instruction sets, and of rows on their own (invariant I6). An op that a
 * backend lacks fails: every op is required. */
#include "base/mem.h"
#include "kernels/cpu/cpu.h"
#include "tests/op/op.h"
#include "tests/shared.h"

#include <stdio.h>

/* Fibers are slow: of attention's cases those of up to SIM_ROWS rows times heads. */
enum { SIM_ROWS = 1200 };
static bool is_too_slow(const char *device, const struct op_case *c) {
    return strncmp(device, "cudasim", 7) == 0 && strncmp(c->op, "attention", 9) == 0 &&
           c->shape[0] * c->shape[1] * c->shape[2] > SIM_ROWS;
}

/* The device against ref, and the device against itself. */
static void against_ref(const char *device) {
    const struct kern_backend *ref = op_device("ref", 1), *b = op_device(device, 2);
    for (int i = 0; i < op_n_cases; i++) {
        struct op_run x, again, y;
        if (is_too_slow(device, &op_cases[i])) continue;
        op_execute(&x, b, &op_cases[i], 0, -1, false);
        op_execute(&again, b, &op_cases[i], 0, -1, false);
        op_execute(&y, ref, &op_cases[i], 0, -1, false);
        op_check_bits(&x, &again, "run twice");
        op_check_near(&x, &y);
        op_free(&x);
        op_free(&again);
        op_free(&y);
    }
    kern_close(b);
    kern_close(ref);
}

static void rows_alone(const char *device) {
    const struct kern_backend *b = op_device(device, 2);
    for (int i = 0; i < op_n_cases; i++) {
        const struct op_case *c = &op_cases[i];
        const int64_t n = c->shape[0];
        const int64_t windows[][2] = {{0, 1},     {n - 1, 1},     {n / 2, 1},     {n / 3, n / 2},
                                      {n / 4, 9}, {n - n / 3, 3}, {0, n - n / 5}, {n / 7, 65}};
        struct op_run whole, part;
        if (!c->invariant || is_too_slow(device, c)) continue;
        op_execute(&whole, b, c, 0, -1, false);
        for (size_t w = 0; w < sizeof windows / sizeof windows[0]; w++) {
            if (windows[w][1] < 1 || windows[w][0] + windows[w][1] > n) continue;
            op_execute(&part, b, c, windows[w][0], windows[w][1], w % 2 == 1);
            op_check_rows(&part, &whole);
            op_free(&part);
        }
        op_free(&whole);
    }
    kern_close(b);
}

TEST(op_cpu_against_ref) {
    against_ref("cpu");
}

TEST(op_cpu_rows_alone) {
    rows_alone("cpu");
}

TEST(op_ref_rows_alone) {
    rows_alone("ref");
}

TEST_TIMEOUT(op_cuda_against_ref, 300) {
    against_ref(test_device());
}

TEST_TIMEOUT(op_cuda_rows_alone, 300) {
    rows_alone(test_device());
}

/* One case of each op, the smallest: for compute-sanitizer, which is slow. */
TEST_TIMEOUT(op_cuda_small, 300) {
    const struct kern_backend *b = op_device(test_device(), 1);
    for (int i = 0; i < op_n_cases; i++) {
        int64_t size[2] = {0, 0};
        for (int k = 0; k < op_n_cases; k++) {
            bool same = strcmp(op_cases[k].op, op_cases[i].op) == 0;
            int64_t n = op_cases[k].shape[0] * (op_cases[k].shape[1] ? op_cases[k].shape[1] : 1);
            if (k == i) size[0] = n;
            if (same && n > 1 && (size[1] == 0 || n < size[1])) size[1] = n;
        }
        if (size[0] != size[1]) continue;
        struct op_run x;
        op_execute(&x, b, &op_cases[i], 0, -1, false);
        op_free(&x);
    }
    kern_close(b);
}

TEST_TIMEOUT(op_cudasim_against_ref, 300) {
    against_ref("cudasim:0");
}

TEST_TIMEOUT(op_cudasim_rows_alone, 300) {
    rows_alone("cudasim:0");
}

/* A kernel whose bits depend on the order in which the threads of a block run lacks a barrier. */
TEST_TIMEOUT(op_cudasim_any_thread_order, 300) {
    struct op_run *runs = mem_array((size_t)op_n_cases, sizeof *runs), x;
    const struct kern_backend *b = op_device("cudasim:0", 1);
    for (int i = 0; i < op_n_cases; i++)
        if (!is_too_slow("cudasim", &op_cases[i]))
            op_execute(&runs[i], b, &op_cases[i], 0, -1, false);
    kern_close(b);
    b = op_device("cudasim:1", 1);
    for (int i = 0; i < op_n_cases; i++) {
        if (is_too_slow("cudasim", &op_cases[i])) continue;
        op_execute(&x, b, &op_cases[i], 0, -1, false);
        op_check_bits(&x, &runs[i], "threads ascending and descending");
        op_free(&x);
        op_free(&runs[i]);
    }
    kern_close(b);
    mem_free(runs);
}

/* All cases on cpu with a thread count and an instruction set, against one thread of the best. */
static void same_bits(const char *isa, int threads, bool packed) {
    struct op_run *runs = mem_array((size_t)op_n_cases, sizeof *runs), x;
    char what[64];
    snprintf(what, sizeof what, "1 thread, and %d of %s%s", threads, isa ? isa : "the same",
             packed ? ", packed" : "");
    CHECK_OK(cpu_isa_use(NULL));
    const struct kern_backend *b = op_device("cpu", 1);
    for (int i = 0; i < op_n_cases; i++)
        op_execute(&runs[i], b, &op_cases[i], 0, -1, false);
    kern_close(b);
    CHECK_OK(cpu_isa_use(isa));
    b = op_device("cpu", threads);
    for (int i = 0; i < op_n_cases; i++) {
        op_execute(&x, b, &op_cases[i], 0, -1, packed);
        op_check_bits(&x, &runs[i], what);
        op_free(&x);
        op_free(&runs[i]);
    }
    kern_close(b);
    mem_free(runs);
}

TEST(op_cpu_any_threads) {
    same_bits(NULL, 2, true);
    same_bits(NULL, 5, false);
}

TEST(op_cpu_any_isa) {
    static const char *const isas[] = {"avx2", "scalar"};
    for (size_t i = 0; i < 2; i++)
        if (cpu_isa_use(isas[i]) == 0) same_bits(isas[i], 1, i == 0);
}

static bool listed(const void *const *entry, const void *const *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (list[i] == entry) return true;
    return false;
}

TEST(op_table_is_complete) {
    static const char *const devices[] = {"ref", "cpu"};
    for (size_t d = 0; d < 2; d++) {
        const struct kern_backend *b = op_device(devices[d], 1);
        /* from open to the last entry the table is pointers only */
        const void *const *entry = (const void *const *)&b->open;
        const void *const *end = (const void *const *)(b + 1);
        const void *const *device_only[] = {
            (const void *const *)&b->record_begin, (const void *const *)&b->record_end,
            (const void *const *)&b->replay,       (const void *const *)&b->graph_close,
            (const void *const *)&b->memory,       (const void *const *)&b->exact,
            (const void *const *)&b->device_id,    (const void *const *)&b->share,
            (const void *const *)&b->open_shared,  (const void *const *)&b->close_shared};
        for (int i = 0; entry + i < end; i++)
            if (!entry[i] &&
                !listed(entry + i, device_only, sizeof device_only / sizeof *device_only))
                test_fail(__FILE__, __LINE__, "%s lacks entry %d", devices[d], i);
        kern_close(b);
    }
}

/* Every entry that computes has a case. */
TEST(op_every_op_has_a_case) {
    static const char *const ops[] = {
        "embed",       "rmsnorm",   "matmul",      "rope",      "kv_write",      "attention",
        "swiglu",      "add",       "gather",      "logprob",   "sample",        "cast",
        "embed_bwd",   "kv_read",   "matmul_dx",   "matmul_dw", "attention_bwd", "rmsnorm_bwd",
        "swiglu_bwd",  "dot",       "scatter_add", "adamw",     "logprob_bwd",   "axpby",
        "add_rmsnorm", "norm_rope", "count_bits"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        int n = 0;
        for (int k = 0; k < op_n_cases; k++)
            n += strcmp(op_cases[k].op, ops[i]) == 0;
        if (n == 0) test_fail(__FILE__, __LINE__, "no case for %s", ops[i]);
    }
}
