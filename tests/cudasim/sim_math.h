/* sim_math.h - CUDA's arithmetic functions on the host; see cuda_runtime.h. The approximate ones
 * are exact here. */
#ifndef CUDASIM_SIM_MATH_H
#define CUDASIM_SIM_MATH_H

#include <math.h>
#include <string.h>

static inline float rsqrtf(float x) {
    return 1 / sqrtf(x);
}
#define __expf expf /* glibc owns these names */
#define __logf logf
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline double __dadd_rn(double a, double b) {
    return a + b;
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __clz(int x) {
    return x ? __builtin_clz((unsigned)x) : 32;
}
static inline float __int_as_float(int x) {
    float f;
    memcpy(&f, &x, sizeof f);
    return f;
}
static inline int __float_as_int(float f) {
    int x;
    memcpy(&x, &f, sizeof x);
    return x;
}
static inline unsigned __float_as_uint(float f) {
    return (unsigned)__float_as_int(f);
}
static inline float __uint_as_float(unsigned x) {
    return __int_as_float((int)x);
}
template <typename T> static inline T min(T a, T b) {
    return a < b ? a : b;
}
template <typename T> static inline T max(T a, T b) {
    return a > b ? a : b;
}
template <typename T> static inline T __ldg(const T *p) {
    return *p;
}

#endif
