/* gemm.c - matrix products of the cpu backend: blocks, and how a block is cut into items for the
 * team.
 *
 * All three products are one kernel: y = x w^T reads w as [N,K], gx = gy w as [K,N], gw = gy^T x
 * has A transposed. B that is not packed is packed block by block, by all threads together into
 * memory they share, and then used by all: no element of it is copied twice. A is packed by
 * whoever uses it; items are cut along rows, so that is once too, except where the rows are few
 * (decoding): then all of A is packed beforehand, and items are cut along the columns. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/half.h"
#include "kernels/cpu/team.h"
#include "kernels/host.h"

enum {
    SHARED = GEMM_NC * GEMM_PANEL * GEMM_KC, /* floats: a block of B, or all of A */
    EACH = GEMM_MC * GEMM_AC,                /* floats per thread: a block of A */
    DEPTH_FEW = 1024,                        /* of a tile when all of A is packed */
    GRAIN = 1 << 14                          /* elements to copy that are worth a thread */
};

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

size_t cpu_gemm_scratch(void) {
    return sizeof(float) * (SHARED + (size_t)EACH * (size_t)cpu_team_size());
}

/* Even parts of k, none deeper than most. */
static int64_t even_depth(int64_t k, int64_t most) {
    return k <= most ? k : ceil_div(ceil_div(k, ceil_div(k, most)), 16) * 16;
}

static int64_t copy_grain(int64_t per_item) {
    return per_item < GRAIN && per_item > 0 ? GRAIN / per_item : 1;
}

/* Items for the current block, and the kernel over them. rest: scratch behind the shared part. */
static int multiply(const char *op, struct kern_stream *rest, struct gemm_args *g) {
    enum { ITEM_FMAS = 1 << 17, ROWS_UNIT = 2 * 14 };
    const int64_t panels = g->panel1 - g->panel0, members = cpu_team_size();
    int64_t items = g->m * panels * GEMM_PANEL * (g->k1 - g->k0) / ITEM_FMAS;
    if (items > 4 * members) items = 4 * members;
    if (items < 1 || members == 1) items = 1;
    int64_t m_blocks = 1;
    g->m_block = g->m;
    if (!g->tiles) {
        m_blocks = ceil_div(g->m, GEMM_MC);
        if (g->layout != GEMM_PACKED && m_blocks < items)
            m_blocks = items < ceil_div(g->m, ROWS_UNIT) ? items : ceil_div(g->m, ROWS_UNIT);
        g->m_block = ceil_div(g->m, m_blocks);
        if (g->m_block % 14 && g->m_block > 14) g->m_block += 14 - g->m_block % 14;
        m_blocks = ceil_div(g->m, g->m_block);
    }
    g->n_block = ceil_div(panels, ceil_div(items, m_blocks));
    g->n_blocks = ceil_div(panels, g->n_block);
    return cpu_for(op, cpu_isa()->gemm, g, m_blocks * g->n_blocks, 1, rest,
                   g->tiles ? 0 : sizeof(float) * EACH);
}

static int run_packed(const char *op, struct kern_stream *rest, float *shared,
                      struct gemm_args *g) {
    g->panels = (float *)(uintptr_t)g->b;
    g->panel_size = GEMM_PANEL * g->k;
    g->k1 = g->k;
    g->panel1 = ceil_div(g->n, GEMM_PANEL);
    g->depth = even_depth(g->k, GEMM_AC);
    if (g->m <= GEMM_MC && g->m * g->k <= SHARED) {
        g->tiles = shared;
        g->depth = even_depth(g->k, DEPTH_FEW);
        TRY(cpu_for(op, cpu_isa()->pack_tiles, g, ceil_div(g->m, cpu_isa()->tile_rows),
                    copy_grain(cpu_isa()->tile_rows * g->k), rest, 0));
    }
    return multiply(op, rest, g);
}

static int run_packing(const char *op, struct kern_stream *rest, float *shared,
                       struct gemm_args *g) {
    const int64_t panels = ceil_div(g->n, GEMM_PANEL);
    g->panels = shared;
    g->depth = even_depth(g->k, GEMM_KC);
    for (int64_t p = 0; p < panels; p += GEMM_NC) {
        g->panel0 = p;
        g->panel1 = p + GEMM_NC < panels ? p + GEMM_NC : panels;
        g->k0 = 0;
        do { /* once when k is 0: the empty sum */
            g->k1 = g->k0 + g->depth < g->k ? g->k0 + g->depth : g->k;
            g->panel_size = GEMM_PANEL * (g->k1 - g->k0);
            TRY(cpu_for(op, cpu_isa()->pack, g, g->panel1 - p, copy_grain(g->panel_size), rest, 0));
            TRY(multiply(op, rest, g));
            g->k0 = g->k1;
        } while (g->k0 < g->k);
    }
    return 0;
}

static int run(const char *op, ops_s s, struct gemm_args *g) {
    float *shared = NULL;
    TRY(host_scratch(&shared, s, op, sizeof(float) * SHARED));
    struct kern_stream rest = {.scratch = s->scratch + sizeof(float) * SHARED,
                               .bytes = s->bytes - sizeof(float) * SHARED};
    if (g->m == 0 || g->n == 0) return 0;
    return g->layout == GEMM_PACKED ? run_packed(op, &rest, shared, g)
                                    : run_packing(op, &rest, shared, g);
}

int cpu_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias) {
    if (host_is_half(x)) return half_matmul(s, y, x, w, packed, bias);
    const int64_t n = y->dim[0], o = y->dim[1], in = x->dim[1];
    struct gemm_args g = {.a = host_f32(x),
                          .rs = in,
                          .cs = 1,
                          .b = packed ? host_f32(packed) : host_f32(w),
                          .layout = packed ? GEMM_PACKED : GEMM_NK,
                          .ldb = in,
                          .c = host_f32(y),
                          .ldc = o,
                          .m = n,
                          .n = o,
                          .k = in,
                          .bias = host_f32(bias)};
    return run("matmul", s, &g);
}

int cpu_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate) {
    if (host_is_half(gy)) return half_matmul_dx(s, gx, gy, w, accumulate);
    const int64_t n = gy->dim[0], o = gy->dim[1], in = gx->dim[1];
    struct gemm_args g = {.a = host_f32(gy),
                          .rs = o,
                          .cs = 1,
                          .b = host_f32(w),
                          .layout = GEMM_KN,
                          .ldb = in,
                          .c = host_f32(gx),
                          .ldc = in,
                          .m = n,
                          .n = in,
                          .k = o,
                          .accumulate = accumulate};
    return run("matmul_dx", s, &g);
}

int cpu_matmul_dw(ops_s s, kern_arg gw, kern_arg gbias, kern_arg gy, kern_arg x) {
    if (host_is_half(gy)) return half_matmul_dw(s, gw, gbias, gy, x);
    const int64_t n = gy->dim[0], o = gy->dim[1], in = x->dim[1];
    struct gemm_args g = {.a = host_f32(gy),
                          .rs = 1,
                          .cs = o,
                          .b = host_f32(x),
                          .layout = GEMM_KN,
                          .ldb = in,
                          .c = host_f32(gw),
                          .ldc = in,
                          .m = o,
                          .n = in,
                          .k = n,
                          .accumulate = true,
                          .by_parts = true};
    if (in > 0) TRY(run("matmul_dw", s, &g));
    if (!gbias) return 0;
    struct colsum_args c = {.out = host_f32(gbias), .g = host_f32(gy), .rows = n, .n = o};
    return cpu_for("matmul_dw", cpu_isa()->colsum, &c, ceil_div(o, 16), 8, s, 0);
}

size_t cpu_pack_bytes(int64_t out, int64_t in) {
    return (size_t)(ceil_div(out, GEMM_PANEL) * GEMM_PANEL * in) * sizeof(float);
}

int cpu_pack_weight(ops_s s, kern_arg packed, kern_arg w) {
    if (host_is_half(w)) return half_pack_weight(s, packed, w);
    struct gemm_args g = {.b = host_f32(w),
                          .layout = GEMM_NK,
                          .ldb = w->dim[1],
                          .n = w->dim[0],
                          .k = w->dim[1],
                          .k1 = w->dim[1],
                          .panels = host_f32(packed),
                          .panel_size = GEMM_PANEL * w->dim[1]};
    g.panel1 = ceil_div(g.n, GEMM_PANEL);
    return cpu_for("pack_weight", cpu_isa()->pack, &g, g.panel1, copy_grain(g.panel_size), s, 0);
}
