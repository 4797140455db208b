/* op.h - the harness of the op suite. A case is a function that makes buffers and calls one op; the
 * harness runs it on several backends, or twice on one, and compares the buffers.
 *
 * Inputs are a function of (test_seed, case, buffer), so every run of a case sees the same numbers.
 * Outputs start as NaN. Every buffer stands between guard bytes that must survive. A buffer made by
 * op_rows is a batch: the case may be run on a window of its rows, as if the others did not exist,
 * and their memory must then stay as it was. */
#ifndef TESTS_OP_OP_H
#define TESTS_OP_OP_H

#include "kernels/kernels.h"
#include "tests/test.h"

enum { OP_BUFS_MAX = 24, OP_SHAPE_MAX = 8 };

struct op_buf {
    const char *name;
    char *base;             /* backend memory: guard, data, guard */
    char *host;             /* contents after the run */
    struct kern_tensor all; /* view of the whole buffer */
    bool is_rows, is_out;
};

struct op_run {
    const struct kern_backend *b;
    struct kern_stream *s;
    const struct op_case *c;
    int64_t first, count; /* window of rows; count < 0: all */
    struct op_buf bufs[OP_BUFS_MAX];
    struct kern_tensor views[OP_BUFS_MAX]; /* as the op sees them */
    int n_bufs;
    bool packed; /* matmul: give the packed weight */
};

typedef void op_fn(struct op_run *r, const int64_t *p);

struct op_case {
    const char *op;
    op_fn *fn;
    int64_t shape[OP_SHAPE_MAX]; /* meaning is the op's; shape[0] is the batch's rows */
    bool invariant;              /* [BI]: run on windows of rows too */
    bool bf16;                   /* in bf16, except the buffers whose type is f32 always */
};

extern const struct op_case op_cases[];
extern const int op_n_cases;

enum op_fill { OP_NORMAL, OP_UNIFORM, OP_POSITIVE, OP_NAN, OP_KEEP };

/* Reals (f32; bf16 in a `bf16` case, but for names that are always f32, which op.c lists) of up to
 * 4 dimensions (0 ends them). Uniform is [0, 1); positive [0.5, 1.5). OP_NAN makes an
 * output, OP_KEEP an output that the op updates (normal numbers). */
struct kern_tensor *op_rows(struct op_run *r, const char *name, enum op_fill fill, int64_t n,
                            int64_t a, int64_t b);
struct kern_tensor *op_whole(struct op_run *r, const char *name, enum op_fill fill, int64_t n,
                             int64_t a, int64_t b, int64_t c);
/* i32 vector of numbers in [0, limit); distinct: each at most once. */
struct kern_tensor *op_index(struct op_run *r, const char *name, int64_t n, int64_t limit,
                             bool distinct);
struct kern_tensor *op_ints(struct op_run *r, const char *name, const int32_t *x, int64_t n,
                            int64_t m);                                         /* m > 0: [n, m] */
struct kern_tensor *op_ints_out(struct op_run *r, const char *name, int64_t n); /* rows */
/* Overwrites a buffer with host numbers. */
void op_set(struct op_run *r, const struct kern_tensor *t, const float *x, int64_t n);
double op_random(const struct op_run *r, uint64_t stream, uint64_t i); /* [0, 1) */

/* Opens the device; skips the test if it is cuda and cannot be had. */
const struct kern_backend *op_device(const char *device, int threads);
/* Runs the case on rows first..first+count-1 (count < 0: all) and fetches its buffers. */
void op_execute(struct op_run *r, const struct kern_backend *b, const struct op_case *c,
                int64_t first, int64_t count, bool packed);
void op_free(struct op_run *r);

/* Every output of x equals y's within the op's tolerance (one draw of x beside a boundary takes y's
 * values); or in its bits. */
void op_check_near(struct op_run *x, const struct op_run *y);
void op_check_bits(const struct op_run *x, const struct op_run *y, const char *what);
/* Rows of the window of `part` have the bits they have in `whole`. */
void op_check_rows(const struct op_run *part, const struct op_run *whole);

#endif
