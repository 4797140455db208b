/* isa_avx2.c - the kernel templates compiled for one instruction set; the file name's suffix
 * gives the compiler its flags and cpu.c chooses the table at run time. */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/k_act.h"
#include "kernels/cpu/k_attention.h"
#include "kernels/cpu/k_attention_bwd.h"
#include "kernels/cpu/k_flat.h"
#include "kernels/cpu/k_gemm.h"
#include "kernels/cpu/k_head.h"
#include "kernels/cpu/k_rows.h"
#include "kernels/cpu/k_sample.h"

const struct cpu_isa cpu_isa_avx2 = ISA_TABLE(avx2);
