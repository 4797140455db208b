/* buf.h - a growable byte string. JSON is written into one by base/json_write.h. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NUL-terminated once anything was added; NULL before */
    size_t len, cap;
};

void buf_reset(struct buf *b); /* length 0, memory kept */
void buf_close(struct buf *b); /* frees */
void buf_add(struct buf *b, const void *data, size_t n);
char *buf_extend(struct buf *b, size_t n); /* n more bytes, to be filled */
void buf_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One word of a shell's command line, quoted if it has to be. */
void buf_shell(struct buf *b, const char *word);

#endif
