/* builtin.h - the backends that are linked into the program. Private to kernels/. */
#ifndef KERNELS_BUILTIN_H
#define KERNELS_BUILTIN_H

#include "kernels/backend.h"

extern const struct kern_backend ref_backend, cpu_backend;

#endif
