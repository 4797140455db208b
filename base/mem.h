/* mem.h - host memory. Running out of host memory is not recoverable here: mem_alloc aborts with
 * the size wanted. Sizes that come from a file or a socket are bounded by their validator before
 * they reach this file. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t bytes);          /* never NULL; aborts on failure; 1 byte for 0 */
void *mem_zalloc(size_t bytes);         /* zeroed */
void *mem_array(size_t n, size_t size); /* zeroed n*size, overflow checked */
void *mem_realloc(void *p, size_t bytes);
void mem_free(void *p); /* accepts NULL */
/* From here on the process keeps freed memory, up to some 32 MiB, instead of giving it back to the
 * system and paying for new pages each time: for who gets large messages all the time. */
void mem_keep_freed(void);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void *mem_aligned(size_t bytes, size_t align); /* align: power of two; freed with mem_free */
bool mem_mul(size_t *out, size_t a, size_t b); /* false on overflow */

/* Grows *p (element size `size`) to hold at least n elements, doubling; *cap counts elements. */
void mem_grow(void *p_to_pointer, size_t *cap, size_t n, size_t size);

#endif
