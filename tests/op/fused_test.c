/* fused_test.c - an op that does the work of two gives the bits of the two, one after the other, in
 * both types, with and without shared memory: runs and replays keep their hashes whichever is used.
 * The cases are those of the op suite: each is run as it stands, and with its op taken apart. */
#include "tests/op/op.h"
#include "tests/shared.h"

#include <string.h>

static const struct kern_backend *whole; /* the backend under test, with its fused ops */

static int split_add_rmsnorm(struct kern_stream *s, const struct kern_tensor *out,
                             const struct kern_tensor *sum, const struct kern_tensor *x,
                             const struct kern_tensor *r, const struct kern_tensor *w, float eps) {
    TRY(kern_add(whole, s, sum, x, r));
    return kern_rmsnorm(whole, s, out, sum, w, eps);
}

static int split_norm_rope(struct kern_stream *s, const struct kern_tensor *q,
                           const struct kern_tensor *q0, const struct kern_tensor *w, float eps,
                           const struct kern_tensor *pos, const struct kern_tensor *cos,
                           const struct kern_tensor *sin) {
    int64_t rows = q->dim[0] * q->dim[1];
    struct kern_tensor to = kern_view2(q->data, q->dtype, rows, q->dim[2]), from = to;
    from.data = q0->data;
    if (w) TRY(kern_rmsnorm(whole, s, &to, &from, w, eps));
    if (!w && q->data != q0->data) TRY(kern_copy(whole, s, q->data, q0->data, q->bytes));
    return kern_rope(whole, s, q, pos, cos, sin, false);
}

static void same_bits_as_split(const char *device) {
    whole = op_device(device, 2);
    struct kern_backend split = *whole;
    split.add_rmsnorm = split_add_rmsnorm;
    split.norm_rope = split_norm_rope;
    int cases = 0;
    for (int i = 0; i < op_n_cases; i++) {
        struct op_run x, y;
        bool fused = strcmp(op_cases[i].op, "add_rmsnorm") == 0;
        if (!fused && strcmp(op_cases[i].op, "norm_rope") != 0) continue;
        op_execute(&x, whole, &op_cases[i], 0, -1, false);
        op_execute(&y, &split, &op_cases[i], 0, -1, false);
        op_check_bits(&x, &y, "fused and apart");
        op_free(&x);
        op_free(&y);
        cases++;
    }
    CHECK(cases >= 12);
    kern_close(whole);
}

TEST(fused_ops_have_the_bits_of_their_parts) {
    same_bits_as_split("ref");
    same_bits_as_split("cpu");
}

TEST_TIMEOUT(fused_ops_cudasim, 120) {
    same_bits_as_split("cudasim:0");
}

TEST_TIMEOUT(fused_ops_cuda, 120) {
    same_bits_as_split(test_device());
}

TEST(fused_ops_refuse_shared_memory) {
    const struct kern_backend *b = op_device("ref", 1);
    struct kern_stream *s = NULL;
    float x[8] = {0}, y[8] = {0}, w[4] = {0};
    struct kern_tensor tx = kern_view2(x, KERN_F32, 2, 4), ty = kern_view2(y, KERN_F32, 2, 4);
    struct kern_tensor tw = kern_view1(w, KERN_F32, 4), narrow = kern_view1(w, KERN_F32, 3);
    CHECK_OK(kern_stream_open(b, &s, 4096));
    CHECK_ERR(kern_add_rmsnorm(b, s, &tx, &ty, &tx, &ty, &tw, 1e-6f), ERR_CONFIG,
              "out is the memory of another argument");
    CHECK_ERR(kern_add_rmsnorm(b, s, &tx, &ty, &ty, &ty, &narrow, 1e-6f), ERR_CONFIG,
              "w is f32 [3], wanted f32 [4]");
    int32_t far[] = {0, 2};
    struct kern_tensor q = kern_view3(x, KERN_F32, 2, 1, 4), pos = kern_view1(far, KERN_I32, 2);
    struct kern_tensor c = kern_view2(y, KERN_F32, 2, 2);
    CHECK_ERR(kern_norm_rope(b, s, &q, &q, &tw, 1e-6f, &pos, &c, &c), ERR_CONFIG, "pos[1] = 2");
    kern_stream_close(b, s);
    kern_close(b);
}
