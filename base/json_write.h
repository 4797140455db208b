/* json_write.h - the only writer of JSON: one call a value, in the order of the text. Commas,
 * spaces, quotes and escapes are the writer's; what would not be JSON (a member without a key, an
 * element with one, a second value at the top, an end too many) fails an assertion.
 *
 *     struct json_write w = json_write_to(&buf, JSON_LINE);
 *     json_write_object(&w, NULL);
 *     json_write_int(&w, "step", 3);
 *     json_write_end(&w);
 */
#ifndef BASE_JSON_WRITE_H
#define BASE_JSON_WRITE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;

enum json_style {
    JSON_COMPACT, /* {"a":1,"b":[2,3]}: files and messages that programs read */
    JSON_LINE,    /* {"a": 1, "b": [2, 3]}: what a command prints */
    JSON_PRETTY   /* a member a line, two spaces a level, arrays on one line: files for people */
};

enum { JSON_WRITE_DEPTH = 64 }; /* what base/json reads */

struct json_write {
    struct buf *out;  /* borrowed; nobody else adds to it between begin and end of a container */
    uint64_t objects; /* bit d: the container at depth d is an object */
    int depth;        /* containers that are open */
    bool any; /* the innermost one has a value already; at depth 0: the top value is there */
    enum json_style style;
};

struct json_write json_write_to(struct buf *out, enum json_style style);

/* In all of these key is NULL in an array and at the top, and a C string in an object. */
void json_write_object(struct json_write *w, const char *key);
void json_write_array(struct json_write *w, const char *key);
void json_write_end(struct json_write *w); /* of the innermost container */
/* After the top value is whole: a newline, and the next value may begin. */
void json_write_newline(struct json_write *w);

void json_write_null(struct json_write *w, const char *key);
void json_write_bool(struct json_write *w, const char *key, bool x);
void json_write_int(struct json_write *w, const char *key, int64_t x);
void json_write_uint(struct json_write *w, const char *key, uint64_t x);
/* Non-finite numbers are null: there is no number. */
void json_write_num(struct json_write *w, const char *key,
                    double x);                                       /* %.15g, or 17 to read back */
void json_write_f32(struct json_write *w, const char *key, float x); /* 9 digits read back */
void json_write_fixed(struct json_write *w, const char *key, double x, int decimals);
/* Invalid UTF-8 becomes U+FFFD byte by byte. A NULL text is empty. */
void json_write_str(struct json_write *w, const char *key, const char *s);
void json_write_text(struct json_write *w, const char *key, const char *s, size_t n);

void json_write_ids(struct json_write *w, const char *key, const int32_t *x, size_t n);
void json_write_ints(struct json_write *w, const char *key, const int64_t *x, size_t n);
void json_write_f32s(struct json_write *w, const char *key, const float *x, size_t n);

/* A value that was parsed, or text that is one JSON value. */
void json_write_value(struct json_write *w, const char *key, const struct json *v);
void json_write_raw(struct json_write *w, const char *key, const char *json, size_t n);
/* The members of a parsed object, as members of the open one. */
void json_write_members(struct json_write *w, const struct json *object);

#endif
