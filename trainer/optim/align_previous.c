/* align_previous.c - see align_previous.h. What is kept in host memory passes through one piece of
 * backend memory: where that is the host too, the piece stays in a cache between copy and use. */
#include "trainer/optim/align_previous.h"

#include "base/mem.h"

#include <string.h>

enum { PIECE = 1 << 17 };

static size_t size_of(enum recipe_previous kind) {
    return kind == RECIPE_PREVIOUS_BF16 ? sizeof(uint16_t) : sizeof(float);
}

size_t align_previous_bytes(enum recipe_previous kind, int64_t n) {
    if (kind == RECIPE_PREVIOUS_BF16) return (size_t)n * sizeof(uint16_t);
    return kind == RECIPE_PREVIOUS_HOST ? (size_t)(n + PIECE) * sizeof(float) : 0;
}

int align_previous_open(struct align_previous *out, const struct kern_backend *b,
                        enum recipe_previous kind, int64_t n) {
    struct align_previous p = {.backend = b, .kind = kind, .n = n};
    int rc = 0;
    if (kind == RECIPE_PREVIOUS_BF16) TRY_OUT(kern_alloc(b, &p.kept, (size_t)n * size_of(kind)));
    if (kind == RECIPE_PREVIOUS_HOST) {
        p.kept = mem_zalloc((size_t)n * size_of(kind));
        TRY_OUT(kern_alloc(b, &p.piece, PIECE * sizeof(float)));
    }
    *out = p;
    p = (struct align_previous){0};
out:
    align_previous_close(&p);
    return rc;
}

void align_previous_close(struct align_previous *p) {
    if (p->kind == RECIPE_PREVIOUS_HOST)
        mem_free(p->kept);
    else if (p->kept)
        kern_release(p->backend, p->kept);
    if (p->piece) kern_release(p->backend, p->piece);
    *p = (struct align_previous){0};
}

int64_t align_previous_piece(const struct align_previous *p) {
    return p->kind == RECIPE_PREVIOUS_HOST ? PIECE : p->n;
}

int align_previous_load(const struct align_previous *p, struct kern_stream *s,
                        struct kern_tensor *out, int64_t at, int64_t n) {
    ASSERT(p->kind == RECIPE_PREVIOUS_HOST && n <= PIECE && at + n <= p->n);
    TRY(kern_put(p->backend, s, p->piece, (const float *)p->kept + at, (size_t)n * sizeof(float)));
    *out = kern_view1(p->piece, KERN_F32, n);
    return 0;
}

int align_previous_keep(const struct align_previous *p, struct kern_stream *s,
                        const struct kern_tensor *g, int64_t at) {
    int64_t n = kern_elements(g);
    ASSERT(p->kind == RECIPE_PREVIOUS_HOST && at + n <= p->n);
    return kern_get(p->backend, s, (float *)p->kept + at, g->data, (size_t)n * sizeof(float));
}

int align_previous_dot(const struct align_previous *p, struct kern_stream *s, double sums[3],
                       const struct kern_tensor *g) {
    memset(sums, 0, 3 * sizeof *sums);
    for (int64_t at = 0; at < p->n; at += PIECE) {
        int64_t n = p->n - at < PIECE ? p->n - at : PIECE;
        struct kern_tensor x = kern_view1((float *)g->data + at, KERN_F32, n), y;
        double of_piece[3];
        TRY(align_previous_load(p, s, &y, at, n));
        TRY(kern_dot(p->backend, s, of_piece, &x, &y));
        for (int i = 0; i < 3; i++)
            sums[i] += of_piece[i];
    }
    return 0;
}

size_t align_previous_size(const struct align_previous *p) {
    return size_of(p->kind);
}

void align_previous_get(const struct align_previous *p, void *out, size_t at, size_t bytes) {
    ASSERT(p->kind == RECIPE_PREVIOUS_HOST);
    memcpy(out, (const char *)p->kept + at, bytes);
}

void align_previous_put(const struct align_previous *p, const void *from, size_t at, size_t bytes) {
    ASSERT(p->kind == RECIPE_PREVIOUS_HOST);
    memcpy((char *)p->kept + at, from, bytes);
}
