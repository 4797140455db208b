/* half.h - products of bf16 matrices on the cpu backend. Private to kernels/cpu. */
#ifndef KERNELS_CPU_HALF_H
#define KERNELS_CPU_HALF_H

#include "kernels/ops.h"

/* Scratch for tiles of rows of that width, before what the f32 products need; 0: none. */
size_t half_scratch(int64_t width);

int half_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias);
int half_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate);
int half_matmul_dw(ops_s s, kern_arg gw, kern_arg gbias, kern_arg gy, kern_arg x);
int half_pack_weight(ops_s s, kern_arg packed, kern_arg w);

#endif
