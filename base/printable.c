/* printable.c - see printable.h. What is let through is decided by code point, not by a list of
 * dangerous sequences: no escape sequence of any terminal begins without a control character. */
#include "base/printable.h"

#include "base/utf8.h"

#include <string.h>

static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c <= 0x9f);
}

/* Shown as nothing, or moving what is around them: a reader must see that they are there. */
static bool is_invisible(uint32_t c) {
    return c == 0xad || c == 0x34f || c == 0x61c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe0fff);
}

static void add_escape(struct buf *out, uint32_t c) {
    switch (c) {
    case '\n': buf_str(out, "\\n"); return;
    case '\r': buf_str(out, "\\r"); return;
    case '\t': buf_str(out, "\\t"); return;
    case 0x1b: buf_str(out, "\\e"); return;
    default: break;
    }
    if (c < 0x80)
        buf_printf(out, "\\x%02x", (unsigned)c);
    else if (c < 0x10000)
        buf_printf(out, "\\u%04x", (unsigned)c);
    else
        buf_printf(out, "\\U%08x", (unsigned)c);
}

void printable_add(struct buf *out, const char *s, size_t n, bool lines) {
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        int bytes = utf8_decode(s + i, n - i, &c);
        if (bytes <= 0) {
            buf_printf(out, "\\x%02x", (unsigned)(unsigned char)s[i++]);
            continue;
        }
        if (c == '\n' && lines)
            buf_str(out, "\n");
        else if (is_control(c) || is_invisible(c))
            add_escape(out, c);
        else
            buf_add(out, s + i, (size_t)bytes);
        i += (size_t)bytes;
    }
    if (n == 0) buf_str(out, ""); /* data is not NULL afterwards */
}

void printable_block(struct buf *out, const char *s, size_t n, const char *margin) {
    for (size_t at = 0;;) {
        const char *end = n > at ? memchr(s + at, '\n', n - at) : NULL;
        size_t length = end ? (size_t)(end - s) - at : n - at;
        buf_str(out, margin);
        printable_add(out, s + at, length, false);
        buf_str(out, "\n");
        at += length + 1;
        if (at >= n) return; /* a line end at the end begins no line */
    }
}
