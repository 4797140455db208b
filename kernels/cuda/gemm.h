/* gemm.h - products through cuBLASLt. Each returns ERR_UNSUP, with nothing done and no text that
 * matters, where the library or an algorithm for the shape cannot be had: the caller's own kernel
 * computes it then. Private to this folder. */
#ifndef KERNELS_CUDA_GEMM_H
#define KERNELS_CUDA_GEMM_H

#include "kernels/cuda/cuda.h"

MUST_CHECK int cublaslt_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg bias);
MUST_CHECK int cublaslt_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate);
MUST_CHECK int cublaslt_matmul_dw(ops_s s, kern_arg gw, kern_arg gy, kern_arg x);

#endif
