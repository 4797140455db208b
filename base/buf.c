/* buf.c - see buf.h. Text is built here rather than printed piecewise, so that a line reaches a
 * file or a pipe in one write: a reader of metrics.jsonl never sees half of one, and processes that
 * share a log do not interleave. There is always a NUL behind the text, so that it can be handed on
 * as a string without a copy; lengths count, so a NUL inside is data.
 *
 * What is added must not lie in the buffer itself: growing moves it. */
#include "base/buf.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

/* What is not UTF-8 becomes U+FFFD byte by byte: a policy may emit any bytes, and a line that no
 * parser accepts would lose the whole record for the sake of one token. */
void buf_json_str(struct buf *b, const char *s, size_t n) {
    buf_add(b, "\"", 1);
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        uint32_t cp;
        int len = utf8_decode(s + i, n - i, &cp);
        if (len <= 0) {
            buf_str(b, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_str(b, "\\n");
        else if (c == '\t')
            buf_str(b, "\\t");
        else if (c == '\r')
            buf_str(b, "\\r");
        else if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_add(b, s + i, (size_t)len);
        i += (size_t)len;
    }
    buf_add(b, "\"", 1);
}

/* The shortest of 15 and 17 digits that reads back as the same double. JSON has no NaN: null says
 * "there is no number here". */
void buf_json_num(struct buf *b, double x) {
    if (!isfinite(x)) {
        buf_str(b, "null");
        return;
    }
    char text[40];
    snprintf(text, sizeof text, "%.15g", x);
    if (strtod(text, NULL) != x) snprintf(text, sizeof text, "%.17g", x);
    buf_str(b, text);
}

/* Nine digits give every float back (log-probs are compared bit for bit after a round trip). */
void buf_json_f32(struct buf *b, float x) {
    if (isfinite(x))
        buf_printf(b, "%.9g", (double)x);
    else
        buf_str(b, "null");
}

void buf_json_ids(struct buf *b, const int32_t *ids, size_t n) {
    buf_add(b, "[", 1);
    for (size_t i = 0; i < n; i++)
        buf_printf(b, i ? ", %d" : "%d", ids[i]);
    buf_add(b, "]", 1);
}

void buf_json_f32s(struct buf *b, const float *x, size_t n) {
    buf_add(b, "[", 1);
    for (size_t i = 0; i < n; i++) {
        if (i) buf_add(b, ", ", 2);
        buf_json_f32(b, x[i]);
    }
    buf_add(b, "]", 1);
}
