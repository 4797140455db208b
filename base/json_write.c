/* json_write.c - see json_write.h. Every value passes begin_value(), which is the only place that
 * knows what has to stand between two of them. */
#include "base/json_write.h"

#include "base/err.h"
#include "base/json.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct json_write json_write_to(struct buf *out, enum json_style style) {
    return (struct json_write){.out = out, .style = style};
}

/* What a JSON string may hold as it is, and one byte is one character. */
static bool is_plain(unsigned char c) {
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* What is not UTF-8 becomes U+FFFD byte by byte: a policy may emit any bytes, and a line that no
 * parser accepts would lose the whole record for the sake of one token. */
static void add_quoted(struct buf *b, const char *s, size_t n) {
    buf_add(b, "\"", 1);
    for (size_t i = 0, run; i < n; i += run) {
        unsigned char c = (unsigned char)s[i];
        uint32_t point;
        for (run = 0; i + run < n && is_plain((unsigned char)s[i + run]);)
            run++;
        if (run > 0) {
            buf_add(b, s + i, run);
            continue;
        }
        int length = utf8_decode(s + i, n - i, &point);
        run = length > 0 ? (size_t)length : 1;
        if (length <= 0)
            buf_str(b, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\')
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
            buf_add(b, s + i, run);
    }
    buf_add(b, "\"", 1);
}

static bool in_object(const struct json_write *w) {
    return w->depth > 0 && (w->objects >> (w->depth - 1) & 1);
}

/* A new line, as far in as the containers are deep. */
static void indent(struct json_write *w) {
    buf_add(w->out, "\n", 1);
    for (int i = 0; i < w->depth; i++)
        buf_add(w->out, "  ", 2);
}

/* What stands before a value: the comma after the one before, the key. */
static void begin_value(struct json_write *w, const char *key) {
    bool object = in_object(w), pretty = w->style == JSON_PRETTY && object;
    ASSERT(object == (key != NULL));
    ASSERT(w->depth > 0 || !w->any);
    if (w->any) buf_str(w->out, w->style == JSON_COMPACT || pretty ? "," : ", ");
    w->any = true;
    if (pretty) indent(w);
    if (!object) return;
    add_quoted(w->out, key, strlen(key));
    buf_str(w->out, w->style == JSON_COMPACT ? ":" : ": ");
}

static void open_container(struct json_write *w, const char *key, bool object) {
    begin_value(w, key);
    ASSERT(w->depth < JSON_WRITE_DEPTH);
    w->objects &= ~((uint64_t)1 << w->depth);
    w->objects |= (uint64_t)object << w->depth++;
    w->any = false;
    buf_add(w->out, object ? "{" : "[", 1);
}

void json_write_object(struct json_write *w, const char *key) {
    open_container(w, key, true);
}

void json_write_array(struct json_write *w, const char *key) {
    open_container(w, key, false);
}

void json_write_end(struct json_write *w) {
    ASSERT(w->depth > 0);
    bool object = in_object(w), filled = w->any;
    w->depth--;
    w->any = true;
    if (w->style == JSON_PRETTY && object && filled) indent(w);
    buf_add(w->out, object ? "}" : "]", 1);
}

void json_write_newline(struct json_write *w) {
    ASSERT(w->depth == 0 && w->any);
    w->any = false;
    buf_add(w->out, "\n", 1);
}

void json_write_raw(struct json_write *w, const char *key, const char *json, size_t n) {
    ASSERT(n > 0);
    begin_value(w, key);
    buf_add(w->out, json, n);
}

static void write_word(struct json_write *w, const char *key, const char *word) {
    json_write_raw(w, key, word, strlen(word));
}

void json_write_null(struct json_write *w, const char *key) {
    write_word(w, key, "null");
}

void json_write_bool(struct json_write *w, const char *key, bool x) {
    write_word(w, key, x ? "true" : "false");
}

void json_write_int(struct json_write *w, const char *key, int64_t x) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, x);
    write_word(w, key, text);
}

void json_write_uint(struct json_write *w, const char *key, uint64_t x) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, x);
    write_word(w, key, text);
}

/* The point keeps the sign of a zero: -0 would be read as the integer. */
void json_write_num(struct json_write *w, const char *key, double x) {
    char text[40] = "null";
    if (x == 0 && signbit(x)) {
        write_word(w, key, "-0.0");
        return;
    }
    if (isfinite(x)) snprintf(text, sizeof text, "%.15g", x);
    if (isfinite(x) && strtod(text, NULL) != x) snprintf(text, sizeof text, "%.17g", x);
    write_word(w, key, text);
}

/* Nine digits give every float back (log-probs are compared bit for bit after a round trip). */
void json_write_f32(struct json_write *w, const char *key, float x) {
    char text[40] = "null";
    if (isfinite(x)) snprintf(text, sizeof text, "%.9g", (double)x);
    write_word(w, key, text);
}

void json_write_fixed(struct json_write *w, const char *key, double x, int decimals) {
    char text[352] = "null"; /* 309 digits before the point */
    ASSERT(decimals >= 0 && decimals <= 17);
    if (isfinite(x)) snprintf(text, sizeof text, "%.*f", decimals, x);
    write_word(w, key, text);
}

void json_write_text(struct json_write *w, const char *key, const char *s, size_t n) {
    begin_value(w, key);
    add_quoted(w->out, s, n);
}

void json_write_str(struct json_write *w, const char *key, const char *s) {
    json_write_text(w, key, s, s ? strlen(s) : 0);
}

void json_write_ids(struct json_write *w, const char *key, const int32_t *x, size_t n) {
    json_write_array(w, key);
    for (size_t i = 0; i < n; i++)
        json_write_int(w, NULL, x[i]);
    json_write_end(w);
}

void json_write_ints(struct json_write *w, const char *key, const int64_t *x, size_t n) {
    json_write_array(w, key);
    for (size_t i = 0; i < n; i++)
        json_write_int(w, NULL, x[i]);
    json_write_end(w);
}

void json_write_f32s(struct json_write *w, const char *key, const float *x, size_t n) {
    json_write_array(w, key);
    for (size_t i = 0; i < n; i++)
        json_write_f32(w, NULL, x[i]);
    json_write_end(w);
}

void json_write_members(struct json_write *w, const struct json *object) {
    size_t n;
    for (const struct json *at = json_first(object); at; at = json_next(at))
        json_write_value(w, json_key(at, &n), at);
}

/* The parser bounds the depth. A number that is whole stays whole. */
void json_write_value(struct json_write *w, const char *key, const struct json *v) {
    int64_t whole = 0;
    switch (json_type(v)) {
    case JSON_NULL: json_write_null(w, key); return;
    case JSON_BOOL: json_write_bool(w, key, json_bool(v, false)); return;
    case JSON_STRING: json_write_text(w, key, json_str(v), json_len(v)); return;
    case JSON_NUMBER:
        if (json_int(v, &whole))
            json_write_int(w, key, whole);
        else
            json_write_num(w, key, json_num(v, 0));
        return;
    case JSON_ARRAY:
        json_write_array(w, key);
        for (const struct json *at = json_first(v); at; at = json_next(at))
            json_write_value(w, NULL, at);
        break;
    case JSON_OBJECT:
        json_write_object(w, key);
        json_write_members(w, v);
        break;
    }
    json_write_end(w);
}
