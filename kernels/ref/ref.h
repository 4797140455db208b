/* ref.h - the reference backend: every op as its definition reads, accumulated in double, one
 * thread. It is what the fast backends are tested against and what gradients are checked with. */
#ifndef KERNELS_REF_REF_H
#define KERNELS_REF_REF_H

#include "kernels/builtin.h"
#include "kernels/ops.h"

/* Scratch of the largest op for these shapes. */
size_t ref_scratch_bytes(const struct kern_limits *l);

OPS_DECLARE(ref);
OPS_DECLARE_COLL(ref);

#endif
