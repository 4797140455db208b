/* json.h - strict JSON (RFC 8259) into a read-only tree. Input is untrusted: size, depth and UTF-8
 * are checked, every error names the source, line and column. The tree lives in one arena and dies
 * with the document. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json; /* one value; valid until its document is closed */
struct json_doc;

/* name is used in error texts ("tokenizer.json", "train.jsonl line 3"). A byte order mark is
 * skipped. Refused beside what is not JSON: a key that an object has twice, since readers differ in
 * which one they take; a number beyond a double; \u0000 in a text, where a reader of C strings
 * would cut it; nesting deeper than 64. */
MUST_CHECK int json_parse(struct json_doc **out, const char *text, size_t n, const char *name);
MUST_CHECK int json_parse_file(struct json_doc **out, const char *path, size_t max_bytes);

enum json_option {
    JSON_NUL = 1, /* texts may hold \u0000: for readers that ask json_len */
    JSON_ROW = 2  /* one line of a data set: numbers are kept as text and may be of any size, and
                   * errors name no line, which name has already */
};
/* The same with some of these, or-ed. */
MUST_CHECK int json_parse_as(struct json_doc **out, const char *text, size_t n, const char *name,
                             unsigned options);
MUST_CHECK int json_parse_file_as(struct json_doc **out, const char *path, size_t max_bytes,
                                  unsigned options);
void json_close(struct json_doc **doc);
const struct json *json_root(const struct json_doc *doc);

/* All of these accept NULL and then answer "absent". */
enum json_type json_type(const struct json *v); /* JSON_NULL for NULL */
const char *json_type_name(enum json_type t);
bool json_is(const struct json *v, enum json_type t); /* false for NULL */
size_t json_len(const struct json *v);                /* members, elements or string bytes */
const struct json *json_get(const struct json *object,
                            const char *key);                /* NULL if absent or not an object */
const struct json *json_first(const struct json *container); /* first member or element */
const struct json *json_next(const struct json *member);
const char *json_key(const struct json *member,
                     size_t *n);               /* key of an object's member; may hold NUL bytes */
const char *json_str(const struct json *v);    /* NUL-terminated text, NULL if not a string */
const char *json_number(const struct json *v); /* a number as it is written, NULL if not one */
bool json_bool(const struct json *v, bool otherwise);
/* Infinite where the document is a JSON_ROW and the number beyond a double. */
double json_num(const struct json *v, double otherwise);
/* true and *out set if v is a number with an exact int64 value written without '.', 'e' (3,
 * not 3.0). */
bool json_int(const struct json *v, int64_t *out);

/* Typed reads of an object's member for validators; name is the document's, used in the error text.
 * Absent or null: ERR_NOTFOUND. Wrong type or out of [min, max]: ERR_CORRUPT naming file, key,
 * value and limit. */
MUST_CHECK int json_read_int(int64_t *out, const struct json *object, const char *key, int64_t min,
                             int64_t max, const char *name);
MUST_CHECK int json_read_num(double *out, const struct json *object, const char *key, double min,
                             double max, const char *name);
MUST_CHECK int json_read_str(const char **out, const struct json *object, const char *key,
                             const char *name);
MUST_CHECK int json_read_bool(bool *out, const struct json *object, const char *key,
                              const char *name);

#endif
