/* buf.c - see buf.h. Text is built here rather than printed piecewise, so that a line reaches a
 * file or a pipe in one write: a reader of metrics.jsonl never sees half of one, and processes that
 * share a log do not interleave. There is always a NUL behind the text, so that it can be handed on
 * as a string without a copy; lengths count, so a NUL inside is data.
 *
 * What is added must not lie in the buffer itself: growing moves it. */
#include "base/buf.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_reset(struct buf *b) {
    b->len = 0;
    if (b->data) b->data[0] = '\0';
}

void buf_close(struct buf *b) {
    mem_free(b->data);
    *b = (struct buf){0};
}

void buf_add(struct buf *b, const void *data, size_t n) {
    mem_grow(&b->data, &b->cap, b->len + n + 1, 1);
    if (n) memcpy(b->data + b->len, data, n);
    b->len += n;
    b->data[b->len] = '\0';
}

char *buf_extend(struct buf *b, size_t n) {
    mem_grow(&b->data, &b->cap, b->len + n + 1, 1);
    char *at = b->data + b->len;
    b->len += n;
    b->data[b->len] = '\0';
    return at;
}

void buf_str(struct buf *b, const char *s) {
    buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    ASSERT(n >= 0);
    mem_grow(&b->data, &b->cap, b->len + (size_t)n + 1, 1);
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void buf_shell(struct buf *b, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=:,./@%";
    if (*word && word[strspn(word, plain)] == '\0') {
        buf_str(b, word);
        return;
    }
    buf_add(b, "'", 1);
    for (; *word; word++)
        if (*word == '\'') /* ends the quotation, adds one, begins another */
            buf_str(b, "'\\''");
        else
            buf_add(b, word, 1);
    buf_add(b, "'", 1);
}
