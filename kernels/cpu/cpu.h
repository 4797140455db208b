/* cpu.h - the fast host backend: AVX-512, AVX2 or scalar code chosen at run time, a small team of
 * threads, results that depend on neither. Private to kernels/. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/builtin.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

size_t cpu_scratch_bytes(const struct kern_limits *l);

/* The instruction set in use. cpu_isa_use forces one ("avx512", "avx2", "scalar"; NULL: the best)
 * for tests and benchmarks: ERR_UNSUP where the machine lacks it. */
const struct cpu_isa *cpu_isa(void);
const struct cpu_isa *cpu_bf16(void);         /* its kernels for bf16 */
const struct cpu_isa *cpu_isa_of(kern_arg t); /* for the type of t */
MUST_CHECK int cpu_isa_use(const char *name);

/* Runs items 0..n-1 of a kernel, at least `grain` of them at a time, with `each` bytes of the
 * stream's scratch per thread. ERR_CONFIG if the scratch does not do for one. */
MUST_CHECK int cpu_for(const char *op, cpu_kernel *k, const void *args, int64_t n, int64_t grain,
                       ops_s s, size_t each);

size_t cpu_gemm_scratch(int64_t bf16_width); /* of all threads together */
size_t cpu_sample_scratch(int64_t v);

OPS_DECLARE(cpu);
OPS_DECLARE_COLL(cpu);

#endif
