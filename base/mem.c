/* mem.c - see mem.h. The only file that calls malloc, so that what happens when there is none is
 * decided once: the process ends with the size it wanted. Carrying "no memory" through every caller
 * would be code that no test ever runs, and another process restarts a service anyway. What can be
 * large on purpose (weights, pools of keys and values) does not come from here: kernels/host.c maps
 * it and returns an error. */
#include "base/mem.h"

#include "base/err.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEM_KEEP_BYTES = 32 << 20 };

static void *checked(void *p, size_t bytes) {
    if (p) return p;
    fprintf(stderr, "weir: out of host memory: wanted %zu bytes\n", bytes);
    abort();
}

void *mem_alloc(size_t bytes) {
    return checked(malloc(bytes ? bytes : 1), bytes);
}

void *mem_zalloc(size_t bytes) {
    return checked(calloc(1, bytes ? bytes : 1), bytes);
}

bool mem_mul(size_t *out, size_t a, size_t b) {
    return !__builtin_mul_overflow(a, b, out);
}

void *mem_array(size_t n, size_t size) {
    size_t bytes = 0;
    ASSERT(mem_mul(&bytes, n, size));
    return mem_zalloc(bytes);
}

void *mem_realloc(void *p, size_t bytes) {
    return checked(realloc(p, bytes ? bytes : 1), bytes);
}

void mem_free(void *p) {
    free(p);
}

void mem_keep_freed(void) {
    mallopt(M_MMAP_THRESHOLD, MEM_KEEP_BYTES);
    mallopt(M_TRIM_THRESHOLD, MEM_KEEP_BYTES);
}

char *mem_strndup(const char *s, size_t n) {
    char *copy = mem_alloc(n + 1);
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *mem_strdup(const char *s) {
    return mem_strndup(s, strlen(s));
}

char *mem_printf(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    ASSERT(n >= 0);
    char *s = mem_alloc((size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(s, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return s;
}

void *mem_aligned(size_t bytes, size_t align) {
    size_t rounded = (bytes + align - 1) / align * align;
    return checked(aligned_alloc(align, rounded ? rounded : align), rounded);
}

/* Takes the address of the caller's pointer as void *: copied in and out, because a pointer to
 * another type must not be read as one to void. Doubles, so that n additions cost O(n). */
void mem_grow(void *p_to_pointer, size_t *cap, size_t n, size_t size) {
    if (n <= *cap) return;
    size_t want = *cap ? *cap : 16, bytes = 0;
    while (want < n) {
        ASSERT(want <= SIZE_MAX / 2);
        want *= 2;
    }
    ASSERT(mem_mul(&bytes, want, size));
    void *p = NULL;
    memcpy(&p, p_to_pointer, sizeof p);
    p = mem_realloc(p, bytes);
    memcpy(p_to_pointer, &p, sizeof p);
    *cap = want;
}
