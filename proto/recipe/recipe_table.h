/* recipe_table.h - every key of a recipe: path, kind, place in struct recipe, default, range,
 * meaning. The one table that parses, checks, prints and documents; private to recipe*.c. */
#ifndef PROTO_RECIPE_RECIPE_TABLE_H
#define PROTO_RECIPE_RECIPE_TABLE_H

#include "proto/recipe/recipe_settings.h"

enum recipe_kind {
    RECIPE_STR,
    RECIPE_INT,
    RECIPE_NUM, /* without a default it may be absent: NAN */
    RECIPE_BOOL,
    RECIPE_SIZE,
    RECIPE_ENUM,
    RECIPE_INTS /* struct recipe_ints inside an element of a list; the path ends in "[]" */
};

struct recipe_field {
    const char *path; /* "[]" stands for an index */
    enum recipe_kind kind;
    size_t offset, stride; /* stride: distance of list elements, 0: no list */
    int64_t list_max;
    size_t count_offset;      /* int64_t that holds the list's length; 0: fixed length */
    const char *otherwise;    /* default, as text; NULL: none; "=key": that setting's value */
    double min, max;          /* of numbers */
    const char *const *names; /* of an enum, NULL-terminated, in the order of its values */
    const char *meaning;
};

size_t recipe_table_count(void);
const struct recipe_field *recipe_table_field(size_t i);
/* Our key for a peer's name of the same thing (the last component of its path), NULL if none is
 * known. */
const char *recipe_table_peer(const char *path);
/* Our value of this key for a peer's name of it, NULL if none is known. */
const char *recipe_table_peer_value(const char *key, const char *value);

#endif
