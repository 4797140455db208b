/* host.c - memory and streams of the host backends.
 *
 * Large blocks are mapped, not malloced: they arrive zeroed, running out is an error instead of an
 * abort (weights and K/V pools are sized by the user), and the kernel may back them with huge
 * pages, which the matrix kernels' page walks like. A 64-byte header in front holds the size.
 * Small blocks come from the heap, where the sanitizer can watch their ends. */
#include "kernels/host.h"

#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

enum { HEADER = 64, MAP_FROM = 256 << 10 };

struct header {
    size_t mapped; /* 0: from the heap */
};

int host_alloc(void **out, size_t bytes) {
    char *p = NULL;
    if (bytes > SIZE_MAX / 2) return FAIL(ERR_NOMEM, "%zu bytes of host memory", bytes);
    size_t total = bytes + HEADER;
    if (total < MAP_FROM) {
        p = mem_aligned(total, HEADER);
        memset(p, 0, total);
        *out = p + HEADER;
        return 0;
    }
    p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (p == MAP_FAILED)
        return FAIL(ERR_NOMEM, "%zu bytes of host memory: %s", bytes, strerror(errno));
    int advice = madvise(p, total, MADV_HUGEPAGE); /* a hint: refusal changes nothing */
    (void)advice;
    ((struct header *)p)->mapped = total;
    *out = p + HEADER;
    return 0;
}

void host_release(void *p) {
    if (!p) return;
    char *base = (char *)p - HEADER;
    size_t mapped = ((struct header *)base)->mapped;
    if (mapped)
        ASSERT(munmap(base, mapped) == 0);
    else
        mem_free(base);
}

int host_stream_open(struct kern_stream **out, size_t scratch_bytes) {
    void *scratch = NULL;
    TRY(host_alloc(&scratch, scratch_bytes));
    struct kern_stream *s = mem_zalloc(sizeof *s);
    s->scratch = scratch;
    s->bytes = scratch_bytes;
    *out = s;
    return 0;
}

void host_stream_close(struct kern_stream *s) {
    if (!s) return;
    host_release(s->scratch);
    mem_free(s);
}

int host_sync(struct kern_stream *s) {
    (void)s;
    return 0;
}

int host_put(struct kern_stream *s, void *dst, const void *src, size_t bytes) {
    (void)s;
    memcpy(dst, src, bytes);
    return 0;
}

int host_copy(struct kern_stream *s, void *dst, const void *src, size_t bytes) {
    (void)s;
    memmove(dst, src, bytes);
    return 0;
}

int host_zero(struct kern_stream *s, void *dst, size_t bytes) {
    (void)s;
    memset(dst, 0, bytes);
    return 0;
}

int host_after(struct kern_stream *s, struct kern_stream *other) {
    (void)s, (void)other; /* it is done already */
    return 0;
}

int host_hash_leaves(struct kern_stream *s, struct hash *leaf, const void *data, size_t bytes) {
    (void)s;
    hash_leaves(leaf, NULL, data, bytes, 0, hash_blocks(bytes));
    return 0;
}

int host_scratch(void *out_pointer, struct kern_stream *s, const char *op, size_t bytes) {
    if (bytes > s->bytes)
        return FAIL(ERR_CONFIG, "%s: needs %zu bytes of scratch, the stream has %zu", op, bytes,
                    s->bytes);
    memcpy(out_pointer, &s->scratch, sizeof s->scratch);
    return 0;
}

int host_check_index(const char *op, const char *arg, kern_arg t, int64_t limit) {
    const int32_t *x = host_i32(t);
    for (int64_t i = 0; i < t->dim[0]; i++)
        if (x[i] < 0 || x[i] >= limit)
            return FAIL(ERR_CONFIG, "%s: %s[%" PRId64 "] = %d, wanted 0..%" PRId64, op, arg, i,
                        (int)x[i], limit - 1);
    return 0;
}

int host_check_attn(const char *op, const struct kern_attn *a, int64_t n_rows, int64_t n_pages) {
    const int32_t *start = host_i32(&a->q_start), *len = host_i32(&a->kv_len);
    const int32_t *pages = host_i32(&a->pages);
    if (start[0] != 0 || start[a->n_seqs] != n_rows)
        return FAIL(ERR_CONFIG, "%s: q_start runs from %d to %d, wanted 0 to %" PRId64, op,
                    (int)start[0], (int)start[a->n_seqs], n_rows);
    for (int32_t s = 0; s < a->n_seqs; s++) {
        int64_t rows = (int64_t)start[s + 1] - start[s];
        if (rows < 0 || len[s] < rows || rows > a->q_max || len[s] > a->kv_max)
            return FAIL(ERR_CONFIG,
                        "%s: sequence %d has %" PRId64 " rows (q_max %d), %d keys (kv_max %d)", op,
                        (int)s, rows, (int)a->q_max, (int)len[s], (int)a->kv_max);
        const int32_t *table = pages + s * a->pages.dim[1];
        int64_t first = a->window ? len[s] - rows - a->window + 1 : 0; /* key nobody looks before */
        for (int64_t i = first > 0 ? first / a->page : 0; rows > 0 && i * a->page < len[s]; i++)
            if (table[i] < 0 || table[i] >= n_pages)
                return FAIL(ERR_CONFIG, "%s: pages[%d, %" PRId64 "] = %d, wanted 0..%" PRId64, op,
                            (int)s, i, (int)table[i], n_pages - 1);
    }
    return 0;
}
