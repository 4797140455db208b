/* cpu.c - the table of the fast host backend, the choice of instruction set, and the loop that
 * spreads a kernel's items over the team.
 *
 * The choice is made from what the processor and the operating system report, when the backend is
 * opened. Since every instruction set gives the same bits (vec.h), the choice is about speed only:
 * a run may move between machines. */
#include "kernels/cpu/cpu.h"

#include "kernels/cpu/team.h"
#include "kernels/host.h"

#include <string.h>

static const struct cpu_isa *chosen, *chosen_bf16;

static bool has(const struct cpu_isa *isa) {
#if defined(__x86_64__)
    if (isa == &cpu_isa_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (isa == &cpu_isa_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return isa == &cpu_isa_scalar;
}

int cpu_isa_use(const char *name) {
    static const struct cpu_isa *const all[] = {&cpu_isa_avx512, &cpu_isa_avx2, &cpu_isa_scalar};
    static const struct cpu_isa *const all_bf16[] = {&cpu_bf16_avx512, &cpu_bf16_avx2,
                                                     &cpu_bf16_scalar};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (name && strcmp(name, all[i]->name) != 0) continue;
        if (has(all[i])) {
            chosen = all[i];
            chosen_bf16 = all_bf16[i];
            return 0;
        }
        if (name) return FAIL(ERR_UNSUP, "this processor has no %s", name);
    }
    return FAIL(ERR_CONFIG, "instruction set \"%s\": wanted avx512, avx2 or scalar", name);
}

const struct cpu_isa *cpu_isa(void) {
    return chosen;
}

const struct cpu_isa *cpu_bf16(void) {
    return chosen_bf16;
}

const struct cpu_isa *cpu_isa_of(kern_arg t) {
    return host_is_bf16(t) ? chosen_bf16 : chosen;
}

static int cpu_open(int device, int threads) {
    if (device != 0) return FAIL(ERR_DEVICE, "cpu has one device, 0; asked for %d", device);
    if (!chosen) TRY(cpu_isa_use(NULL));
    return cpu_team_open(threads);
}

static void cpu_close(void) {
    cpu_team_close();
    chosen = NULL;
}

size_t cpu_scratch_bytes(const struct kern_limits *l) {
    size_t most = cpu_gemm_scratch(l->bf16_width);
    if (l->bf16_width) most += (size_t)(l->width_max + 64) * sizeof(float); /* a bias, widened */
    size_t sample = cpu_sample_scratch(l->width_max) * (size_t)cpu_team_size();
    size_t norms = (size_t)(l->rows * (l->heads + 1)) * sizeof(float);
    if (sample > most) most = sample;
    return norms > most ? norms : most;
}

struct loop {
    cpu_kernel *kernel;
    const void *args;
    int64_t n, chunk;
    char *scratch;
    size_t each;
};

static void run_chunk(void *ctx, int64_t i, int member) {
    const struct loop *l = ctx;
    const int64_t end = (i + 1) * l->chunk;
    l->kernel(l->args, i * l->chunk, end < l->n ? end : l->n,
              l->scratch + (size_t)member * l->each);
}

int cpu_for(const char *op, cpu_kernel *k, const void *args, int64_t n, int64_t grain, ops_s s,
            size_t each) {
    enum { CHUNKS_PER_MEMBER = 4 }; /* lets a fast member take over from a slow one */
    const int64_t members = cpu_team_size(), parts = members * CHUNKS_PER_MEMBER;
    struct loop l = {.kernel = k, .args = args, .n = n, .scratch = s->scratch, .each = each};
    if (each > s->bytes)
        return FAIL(ERR_CONFIG, "%s: needs %zu bytes of scratch, the stream has %zu", op, each,
                    s->bytes);
    l.chunk = (n + parts - 1) / parts;
    if (l.chunk < grain) l.chunk = grain;
    l.chunk = (l.chunk + grain - 1) / grain * grain;
    if (members == 1 || n <= l.chunk || each * (size_t)members > s->bytes)
        k(args, 0, n, s->scratch);
    else
        cpu_team_run(run_chunk, &l, (n + l.chunk - 1) / l.chunk);
    return 0;
}

const struct kern_backend cpu_backend = {
    .abi = KERN_ABI,
    .size = sizeof(struct kern_backend),
    .name = "cpu",
    .on_host = true,
    .open = cpu_open,
    .close = cpu_close,
    .scratch_bytes = cpu_scratch_bytes,
    HOST_MEMORY,
    OPS_TABLE(cpu),
    OPS_TABLE_COLL(cpu),
};
