/* cpu.h - the fast host backend: AVX-512, AVX2 or scalar code chosen at run time, a small team of
 * threads, results that depend on neither. Private to kernels/. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/ops.h"

extern const struct kern_backend cpu_backend;

size_t cpu_scratch_bytes(const struct kern_limits *l);

#endif
