/* head.c - vocabulary ops of the cpu backend. Rows are the items: a row's result never depends on
 * its neighbours, and a chunk of the head has enough of them for the team. */
#include "kernels/cpu/cpu.h"
#include "kernels/host.h"

enum { GRAIN = 1 << 13 };

static int64_t grain(int64_t v) {
    return v >= GRAIN ? 1 : GRAIN / v;
}

int cpu_logprob(ops_s s, kern_arg logprob, kern_arg entropy, kern_arg lse, kern_arg logits,
                kern_arg target, kern_arg inv_temp) {
    struct head_args a = {.logprob = host_f32(logprob),
                          .entropy = host_f32(entropy),
                          .lse = host_f32(lse),
                          .logits = host_f32(logits),
                          .target = host_i32(target),
                          .inv_temp = host_f32(inv_temp),
                          .v = logits->dim[1]};
    TRY(host_check_index("logprob", "target", target, a.v));
    return cpu_for("logprob", cpu_isa()->logprob, &a, logits->dim[0], grain(a.v), s, 0);
}

int cpu_logprob_bwd(ops_s s, kern_arg logits, kern_arg g_logprob, kern_arg g_entropy,
                    kern_arg entropy, kern_arg lse, kern_arg target, kern_arg inv_temp) {
    struct head_args a = {.logits = host_f32(logits),
                          .g_logprob = host_f32(g_logprob),
                          .g_entropy = host_f32(g_entropy),
                          .entropy = host_f32(entropy),
                          .lse = host_f32(lse),
                          .target = host_i32(target),
                          .inv_temp = host_f32(inv_temp),
                          .v = logits->dim[1]};
    TRY(host_check_index("logprob_bwd", "target", target, a.v));
    return cpu_for("logprob_bwd", cpu_isa()->logprob_bwd, &a, logits->dim[0], grain(a.v), s, 0);
}

size_t cpu_sample_scratch(int64_t v) {
    const size_t sums = (size_t)(v / HEAD_BLOCK + 1) * sizeof(double);
    return (sums + (size_t)v * 12 + 63) / 64 * 64;
}

int cpu_sample(ops_s s, kern_arg token, kern_arg logprob, kern_arg kept, kern_arg logits,
               kern_arg temperature, kern_arg top_p, kern_arg top_k, kern_arg uniform) {
    struct head_args a = {.token = token->data,
                          .logprob = host_f32(logprob),
                          .kept = host_f32(kept),
                          .logits = host_f32(logits),
                          .temperature = host_f32(temperature),
                          .top_p = host_f32(top_p),
                          .top_k = host_i32(top_k),
                          .uniform = host_f32(uniform),
                          .v = logits->dim[1]};
    return cpu_for("sample", cpu_isa()->sample, &a, logits->dim[0], grain(a.v), s,
                   cpu_sample_scratch(a.v));
}
