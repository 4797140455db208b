/* bf16_scalar.c - the kernel templates compiled for bf16 and one instruction set (real.h); the file
 * name's suffix gives the compiler its flags and cpu.c chooses the table at run time. */
#define REAL_BF16
#include "kernels/cpu/isa.h"
#include "kernels/cpu/k_act.h"
#include "kernels/cpu/k_attention.h"
#include "kernels/cpu/k_attention_bwd.h"
#include "kernels/cpu/k_gemm.h"
#include "kernels/cpu/k_rows.h"

const struct cpu_isa cpu_bf16_scalar = {ISA_REALS(scalar)};
