/* yaml.h - YAML 1.1 documents flattened to dotted paths: "trainer.batch.groups", "reward[0].type".
 * The only file that includes libyaml is yaml.c. Input is untrusted: size, depth and entry count
 * are limited, anchors are refused. */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct yaml;

struct yaml_entry {
    const char *path;  /* of a scalar, or of an empty list or mapping */
    const char *value; /* scalar text; NULL for null, empty list, empty mapping */
    bool quoted;       /* written in quotes: always a string */
    bool empty;        /* [] or {} */
    int line;          /* 1-based; 0: from yaml_set */
};

/* name is used in error texts. A document must be a mapping; an empty one has no entries. */
MUST_CHECK int yaml_parse(struct yaml **out, const char *text, size_t bytes, const char *name);
/* "a.b=value": the value is YAML too ([1, 2], {k: v}); what stood at or below the path goes away.
 */
MUST_CHECK int yaml_set(struct yaml *y, const char *assignment);
void yaml_close(struct yaml **y);
size_t yaml_count(const struct yaml *y);
const struct yaml_entry *yaml_entry(const struct yaml *y, size_t i);
const char *yaml_name(const struct yaml *y);

#endif
