/* gemm.c - matrix products of the cpu backend: how a product is cut into items for the team.
 *
 * All three products are one kernel: y = x w^T reads w as [N,K], gx = gy w as [K,N], gw = gy^T x
 * has A transposed. Work is cut along the columns of C first, because then no two threads pack the
 * same panel of B; along rows only where there are too few panels. A is copied into tiles unless it
 * has so few rows that they stay in the cache anyway: rows a page apart would collide there. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/team.h"
#include "kernels/host.h"

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

size_t cpu_gemm_scratch(void) {
    return sizeof(float) * (GEMM_NC * GEMM_PANEL * GEMM_KC + (GEMM_MC + 16) * GEMM_KC);
}

static int run(const char *op, ops_s s, struct gemm_args *g) {
    enum { ROWS_UNIT = 24, ITEM_FMAS = 1 << 17, ROWS_FEW = 28 };
    const int64_t panels = ceil_div(g->n, GEMM_PANEL), members = cpu_team_size();
    int64_t items = g->m * g->n * g->k / ITEM_FMAS; /* worth a thread's attention */
    if (items > 4 * members) items = 4 * members;
    if (items < 1 || members == 1) items = 1;
    g->n_block = ceil_div(panels, items);
    g->n_blocks = ceil_div(panels, g->n_block);
    g->m_block = g->m;
    if (g->n_blocks < items) /* few panels, many threads */
        g->m_block = ceil_div(ceil_div(g->m, ceil_div(items, g->n_blocks)), ROWS_UNIT) * ROWS_UNIT;
    g->pack_a = g->cs != 1 || g->m > ROWS_FEW;
    return cpu_for(op, cpu_isa()->gemm, g, ceil_div(g->m, g->m_block) * g->n_blocks, 1, s,
                   cpu_gemm_scratch());
}

int cpu_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias) {
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
                          .accumulate = true};
    if (in > 0) TRY(run("matmul_dw", s, &g));
    if (!gbias) return 0;
    struct colsum_args c = {.out = host_f32(gbias), .g = host_f32(gy), .rows = n, .n = o};
    return cpu_for("matmul_dw", cpu_isa()->colsum, &c, ceil_div(o, 16), 8, s, 0);
}

size_t cpu_pack_bytes(int64_t out, int64_t in) {
    return (size_t)(ceil_div(out, GEMM_PANEL) * GEMM_PANEL * in) * sizeof(float);
}

int cpu_pack_weight(ops_s s, kern_arg packed, kern_arg w) {
    struct pack_args p = {
        .out = host_f32(packed), .w = host_f32(w), .n = w->dim[0], .k = w->dim[1]};
    return cpu_for("pack_weight", cpu_isa()->pack, &p, ceil_div(p.n, GEMM_PANEL), 1, s, 0);
}
