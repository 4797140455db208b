/* gemm.c - matrix products of the cpu backend: blocks, and how a block is cut into items for the
 * team.
 *
 * All three products are one kernel: y = x w^T reads w as [N,K], gx = gy w as [K,N], gw = gy^T x
 * has A transposed. B that is not packed is packed block by block, by all threads together into
 * memory they share, and then used by all: no element of it is copied twice. A is packed by
 * whoever uses it; items are cut along rows, so that is once too, except where the rows are few
 * (decoding): then all of A is packed beforehand, and items are cut along the columns.
 *
 * A result in bf16 is made some rows at a time in f32 and rounded when its chains are complete. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/team.h"
#include "kernels/host.h"

enum {
    SHARED = GEMM_NC * GEMM_PANEL * GEMM_KC, /* floats: a block of B, or all of A */
    EACH = GEMM_MC * GEMM_AC,                /* floats per thread: a block of A */
    DEPTH_FEW = 1024,                        /* of a tile when all of A is packed */
    STAGE = 1 << 20,                         /* floats of a bf16 result before they are rounded */
    STAGE_ROWS = 64,                         /* at least: each of them reads all of B */
    GRAIN = 1 << 14                          /* elements to copy that are worth a thread */
};

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t stage_rows(int64_t width) {
    return width * STAGE_ROWS < STAGE ? STAGE / width : STAGE_ROWS;
}

size_t cpu_gemm_scratch(int64_t bf16_width) {
    const int64_t w = bf16_width;
    return sizeof(float) * (SHARED + (size_t)EACH * (size_t)cpu_team_size() +
                            (w ? (size_t)(w * STAGE_ROWS > STAGE ? w * STAGE_ROWS : STAGE) : 0));
}

/* Even parts of k, none deeper than most. */
static int64_t even_depth(int64_t k, int64_t most) {
    return k <= most ? k : ceil_div(ceil_div(k, ceil_div(k, most)), 16) * 16;
}

static int64_t copy_grain(int64_t per_item) {
    return per_item < GRAIN && per_item > 0 ? GRAIN / per_item : 1;
}

/* How many items the current block is worth: each enough work for a thread to be woken, and a few a
 * thread, so that a fast one takes over from a slow one. */
static int64_t items_wanted(const struct gemm_args *g) {
    enum { ITEM_FMAS = 1 << 17, ITEMS_PER_MEMBER = 4 };
    const int64_t members = cpu_team_size(), depth = g->k1 - g->k0;
    int64_t items = g->m * (g->panel1 - g->panel0) * GEMM_PANEL * depth / ITEM_FMAS;
    if (items > ITEMS_PER_MEMBER * members) items = ITEMS_PER_MEMBER * members;
    return items < 1 || members == 1 ? 1 : items;
}

/* Rows of an item where it packs its own part of A: as many as it may pack, fewer where threads
 * would be idle (each panel of B is read again for each item, so not below two tiles), and whole
 * tiles. */
static int64_t item_rows(const struct gemm_args *g, int64_t items) {
    int64_t blocks = ceil_div(g->m, GEMM_MC);
    const int64_t most = ceil_div(g->m, 2 * GEMM_TILE);
    if (g->layout != GEMM_PACKED && blocks < items) blocks = items < most ? items : most;
    const int64_t rows = ceil_div(g->m, blocks);
    return rows > GEMM_TILE ? ceil_div(rows, GEMM_TILE) * GEMM_TILE : rows;
}

/* The kernel over the items of the current block. rest: scratch behind the shared part. */
static int multiply_block(const char *op, struct kern_stream *rest, const struct cpu_isa *isa,
                          struct gemm_args *g) {
    const int64_t panels = g->panel1 - g->panel0, items = items_wanted(g);
    g->m_block = g->tiles ? g->m : item_rows(g, items);
    const int64_t m_blocks = ceil_div(g->m, g->m_block);
    g->n_block = ceil_div(panels, ceil_div(items, m_blocks));
    g->n_blocks = ceil_div(panels, g->n_block);
    return cpu_for(op, isa->gemm, g, m_blocks * g->n_blocks, 1, rest,
                   g->tiles ? 0 : sizeof(float) * EACH);
}

static int run_packed(const char *op, struct kern_stream *rest, float *shared,
                      const struct cpu_isa *isa, struct gemm_args *g) {
    g->panels = (void *)(uintptr_t)g->b;
    g->panel_size = GEMM_PANEL * g->k;
    g->k1 = g->k;
    g->panel1 = ceil_div(g->n, GEMM_PANEL);
    g->depth = even_depth(g->k, GEMM_AC);
    if (g->m <= GEMM_MC && g->m * g->k <= SHARED) {
        g->tiles = shared;
        g->depth = even_depth(g->k, DEPTH_FEW);
        TRY(cpu_for(op, isa->pack_tiles, g, ceil_div(g->m, isa->tile_rows),
                    copy_grain(isa->tile_rows * g->k), rest, 0));
    }
    return multiply_block(op, rest, isa, g);
}

static int run_packing(const char *op, struct kern_stream *rest, float *shared,
                       const struct cpu_isa *isa, struct gemm_args *g) {
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
            TRY(cpu_for(op, isa->pack, g, g->panel1 - p, copy_grain(g->panel_size), rest, 0));
            TRY(multiply_block(op, rest, isa, g));
            g->k0 = g->k1;
        } while (g->k0 < g->k);
    }
    return 0;
}

static int run_gemm(const char *op, ops_s s, const struct cpu_isa *isa, struct gemm_args *g) {
    float *shared = NULL;
    TRY(host_scratch(&shared, s, op, sizeof(float) * SHARED));
    struct kern_stream rest = {.scratch = s->scratch + sizeof(float) * SHARED,
                               .bytes = s->bytes - sizeof(float) * SHARED};
    if (g->m == 0 || g->n == 0) return 0;
    return g->layout == GEMM_PACKED ? run_packed(op, &rest, shared, isa, g)
                                    : run_packing(op, &rest, shared, isa, g);
}

/* to = from, one of them in bf16 */
static int cast(const char *op, ops_s s, void *to, const void *from, int64_t n, bool to_bf16) {
    struct cast_args a = {.src = from, .dst = to, .to_bf16 = to_bf16};
    return cpu_for(op, cpu_isa()->cast, &a, n, GRAIN, s, 0);
}

/* The product into c, which is bf16 and accumulates if *all does, some rows at a time. A's rows are
 * rows of A: rs is not 1. */
static int run_rounded(const char *op, ops_s s, const struct gemm_args *all, uint16_t *c) {
    const int64_t most = stage_rows(all->n), width = all->n;
    const size_t bytes = (size_t)(most < all->m ? most : all->m) * (size_t)width * sizeof(float);
    float *stage = NULL;
    TRY(host_scratch(&stage, s, op, bytes));
    const size_t used = (bytes + 63) / 64 * 64;
    struct kern_stream rest = {.scratch = s->scratch + used, .bytes = s->bytes - used};
    for (int64_t r = 0; r < all->m; r += most) {
        struct gemm_args g = *all;
        g.m = all->m - r < most ? all->m - r : most;
        g.a = (const uint16_t *)all->a + r * all->rs;
        g.c = stage;
        if (g.accumulate) TRY(cast(op, &rest, stage, c + r * width, g.m * width, false));
        TRY(run_gemm(op, &rest, cpu_bf16(), &g));
        TRY(cast(op, &rest, c + r * width, stage, g.m * width, true));
    }
    return 0;
}

/* The bias in f32, in scratch that *s has then no more, where it is bf16. */
static int wide_bias(const char *op, struct kern_stream *s, kern_arg bias, const float **out) {
    *out = bias ? bias->data : NULL;
    if (!bias || !host_is_bf16(bias)) return 0;
    float *wide = NULL;
    const size_t bytes = ((size_t)bias->dim[0] * sizeof(float) + 63) / 64 * 64;
    TRY(host_scratch(&wide, s, op, bytes));
    *s = (struct kern_stream){.scratch = s->scratch + bytes, .bytes = s->bytes - bytes};
    *out = wide;
    return cast(op, s, wide, bias->data, bias->dim[0], false);
}

int cpu_matmul(ops_s s, kern_arg y, kern_arg x, kern_arg w, kern_arg packed, kern_arg bias) {
    const int64_t n = y->dim[0], o = y->dim[1], in = x->dim[1];
    struct kern_stream rest = *s;
    struct gemm_args g = {.a = x->data,
                          .rs = in,
                          .cs = 1,
                          .b = packed ? packed->data : w->data,
                          .layout = packed ? GEMM_PACKED : GEMM_NK,
                          .ldb = in,
                          .c = y->data,
                          .ldc = o,
                          .m = n,
                          .n = o,
                          .k = in};
    TRY(wide_bias("matmul", &rest, bias, &g.bias));
    if (host_is_bf16(y)) return run_rounded("matmul", &rest, &g, y->data);
    return run_gemm("matmul", &rest, cpu_isa_of(x), &g);
}

int cpu_matmul_dx(ops_s s, kern_arg gx, kern_arg gy, kern_arg w, bool accumulate) {
    const int64_t n = gy->dim[0], o = gy->dim[1], in = gx->dim[1];
    struct gemm_args g = {.a = gy->data,
                          .rs = o,
                          .cs = 1,
                          .b = w->data,
                          .layout = GEMM_KN,
                          .ldb = in,
                          .c = gx->data,
                          .ldc = in,
                          .m = n,
                          .n = in,
                          .k = o,
                          .accumulate = accumulate};
    if (host_is_bf16(gx)) return run_rounded("matmul_dx", s, &g, gx->data);
    return run_gemm("matmul_dx", s, cpu_isa(), &g);
}

int cpu_matmul_dw(ops_s s, kern_arg gw, kern_arg gbias, kern_arg gy, kern_arg x) {
    const int64_t n = gy->dim[0], o = gy->dim[1], in = x->dim[1];
    struct gemm_args g = {.a = gy->data,
                          .rs = 1,
                          .cs = o,
                          .b = x->data,
                          .layout = GEMM_KN,
                          .ldb = in,
                          .c = host_f32(gw),
                          .ldc = in,
                          .m = o,
                          .n = in,
                          .k = n,
                          .accumulate = true,
                          .by_parts = true};
    if (in > 0) TRY(run_gemm("matmul_dw", s, cpu_isa_of(x), &g));
    if (!gbias) return 0;
    struct colsum_args c = {.out = host_f32(gbias), .g = gy->data, .rows = n, .n = o};
    return cpu_for("matmul_dw", cpu_isa_of(gy)->colsum, &c, ceil_div(o, 16), 8, s, 0);
}

size_t cpu_pack_bytes(enum kern_dtype t, int64_t out, int64_t in) {
    return (size_t)(ceil_div(out, GEMM_PANEL) * GEMM_PANEL * in) * kern_dtype_bytes(t);
}

int cpu_pack_weight(ops_s s, kern_arg packed, kern_arg w) {
    struct gemm_args g = {.b = w->data,
                          .layout = GEMM_NK,
                          .ldb = w->dim[1],
                          .n = w->dim[0],
                          .k = w->dim[1],
                          .k1 = w->dim[1],
                          .panels = packed->data,
                          .panel_size = GEMM_PANEL * w->dim[1]};
    g.panel1 = ceil_div(g.n, GEMM_PANEL);
    return cpu_for("pack_weight", cpu_isa_of(w)->pack, &g, g.panel1, copy_grain(g.panel_size), s,
                   0);
}
