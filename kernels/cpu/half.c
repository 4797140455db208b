/* half.c - bf16 on the cpu backend.
 *
 * Processors without bf16 instructions gain nothing from the type but memory, so this is written to
 * be right and not fast: matrix products widen tiles of their operands into scratch and run the f32
 * kernels on them, everything else is the reference's loop. A product's element is the same chain
 * of fused multiply-adds as in f32 (a tile continues where the last one stopped), rounded once when
 * it is stored, so bits depend neither on the tiles nor on other rows (I6). Packed weights are
 * widened when they are packed: they cost what f32 ones cost. */
#include "kernels/cpu/half.h"

#include "kernels/cpu/cpu.h"
#include "kernels/host.h"

enum { ROWS = 64, COLS = KERN_PACK_ROWS }; /* of the batch; of a weight's outputs */

struct tiles {
    float *rows;  /* [ROWS, depth] */
    float *cols;  /* [COLS, depth] */
    float *block; /* [ROWS, COLS] */
    float *bias;  /* [COLS] */
    struct kern_stream rest;
};

static size_t tile_bytes(int64_t depth) {
    return (size_t)((ROWS + COLS) * depth + ROWS * COLS + COLS) * sizeof(float);
}

size_t half_scratch(int64_t width) {
    return width ? tile_bytes(width) : 0;
}

static int take(struct tiles *t, ops_s s, const char *op, int64_t depth) {
    const size_t bytes = tile_bytes(depth);
    TRY(host_scratch(&t->rows, s, op, bytes));
    t->cols = t->rows + ROWS * depth;
    t->block = t->cols + COLS * depth;
    t->bias = t->block + ROWS * COLS;
    t->rest = (struct kern_stream){.scratch = s->scratch + bytes, .bytes = s->bytes - bytes};
    return 0;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Block [n, m] of a bf16 matrix, from row r and column c on. */
static void widen(float *to, kern_arg t, int64_t r, int64_t n, int64_t c, int64_t m) {
    const int64_t ld = t->rank > 1 ? t->dim[1] : t->dim[0];
    for (int64_t i = 0; i < n; i++) {
        const uint16_t *from = (const uint16_t *)t->data + (r + i) * ld + c;
        for (int64_t j = 0; j < m; j++)
            to[i * m + j] = host_from_bf16(from[j]);
    }
}

/* The other way; t may be f32. */
static void narrow(kern_arg t, const float *from, int64_t r, int64_t n, int64_t c, int64_t m) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            host_store(t, (r + i) * t->dim[1] + c + j, (double)from[i * m + j]);
}

static struct kern_tensor mat(float *data, int64_t rows, int64_t cols) {
    return kern_view2(data, KERN_F32, rows, cols);
}

/* Columns c.. of the result for the rows in t->rows. */
static int columns(struct tiles *t, kern_arg y, kern_arg w, kern_arg packed, kern_arg bias,
                   int64_t r, int64_t n, int64_t c) {
    const int64_t in = w->dim[1], m = least(COLS, y->dim[1] - c);
    struct kern_tensor tx = mat(t->rows, n, in), tw = mat(t->cols, m, in);
    struct kern_tensor ty = mat(t->block, n, m), tb = kern_view1(t->bias, KERN_F32, m), tp;
    if (packed) {
        const size_t at = cpu_pack_bytes(c, in);
        tp = *packed;
        tp.data = (char *)packed->data + at;
        tp.bytes -= at;
    } else {
        widen(t->cols, w, c, m, 0, in);
    }
    if (bias) widen(t->bias, bias, 0, 1, c, m);
    TRY(cpu_matmul(&t->rest, &ty, &tx, &tw, packed ? &tp : NULL, bias ? &tb : NULL));
    narrow(y, t->block, r, n, c, m);
    return 0;
}

int half_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias) {
    struct tiles t;
    TRY(take(&t, s, "matmul", x->dim[1]));
    for (int64_t r = 0; r < y->dim[0]; r += ROWS) {
        const int64_t n = least(ROWS, y->dim[0] - r);
        widen(t.rows, x, r, n, 0, x->dim[1]);
        for (int64_t c = 0; c < y->dim[1]; c += COLS)
            TRY(columns(&t, y, w, packed, bias, r, n, c));
    }
    return 0;
}

int half_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate) {
    const int64_t in = gx->dim[1];
    struct tiles t;
    TRY(take(&t, s, "matmul_dx", in));
    for (int64_t r = 0; r < gx->dim[0]; r += ROWS) {
        const int64_t n = least(ROWS, gx->dim[0] - r);
        struct kern_tensor tgx = mat(t.rows, n, in);
        memset(t.rows, 0, (size_t)(n * in) * sizeof(float));
        if (accumulate) widen(t.rows, gx, r, n, 0, in);
        for (int64_t c = 0; c < gy->dim[1]; c += COLS) {
            const int64_t m = least(COLS, gy->dim[1] - c);
            struct kern_tensor tgy = mat(t.block, n, m), tw = mat(t.cols, m, in);
            widen(t.block, gy, r, n, c, m);
            widen(t.cols, w, c, m, 0, in);
            TRY(cpu_matmul_dx(&t.rest, &tgx, &tgy, &tw, accumulate || c > 0));
        }
        narrow(gx, t.rows, r, n, 0, in);
    }
    return 0;
}

int half_matmul_dw(ops_s s, kern_arg gw, kern_arg gbias, kern_arg gy, kern_arg x) {
    const int64_t in = x->dim[1];
    struct tiles t;
    TRY(take(&t, s, "matmul_dw", in));
    for (int64_t r = 0; r < x->dim[0]; r += ROWS) {
        const int64_t n = least(ROWS, x->dim[0] - r);
        struct kern_tensor tx = mat(t.rows, n, in);
        widen(t.rows, x, r, n, 0, in);
        for (int64_t c = 0; c < gy->dim[1]; c += COLS) {
            const int64_t m = least(COLS, gy->dim[1] - c);
            struct kern_tensor tgy = mat(t.block, n, m), tb;
            struct kern_tensor tgw = mat(host_f32(gw) + c * in, m, in);
            if (gbias) tb = kern_view1(host_f32(gbias) + c, KERN_F32, m);
            widen(t.block, gy, r, n, c, m);
            TRY(cpu_matmul_dw(&t.rest, &tgw, gbias ? &tb : NULL, &tgy, &tx));
        }
    }
    return 0;
}

int half_pack_weight(ops_s s, kern_arg packed, kern_arg w) {
    const int64_t in = w->dim[1];
    struct tiles t;
    TRY(take(&t, s, "pack_weight", in));
    for (int64_t c = 0; c < w->dim[0]; c += COLS) {
        const int64_t m = least(COLS, w->dim[0] - c);
        const size_t at = cpu_pack_bytes(c, in);
        struct kern_tensor tw = mat(t.cols, m, in), tp = *packed;
        tp.data = (char *)packed->data + at;
        tp.bytes -= at;
        widen(t.cols, w, c, m, 0, in);
        TRY(cpu_pack_weight(&t.rest, &tp, &tw));
    }
    return 0;
}
