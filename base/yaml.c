/* yaml.c - see yaml.h. libyaml loads the document, this file walks it once. A flat list of paths is
 * all a typed table needs, makes "--set a.b=c" an edit of the same list, and leaves no tree to be
 * walked twice. */
#include "base/yaml.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

enum {
    YAML_BYTES_MAX = 1 << 20,
    YAML_DEPTH_MAX = 16,
    YAML_ENTRIES_MAX = 10000,
    YAML_PATH_MAX = 256
};

struct yaml {
    char *name;
    struct yaml_entry *entries;
    size_t n, cap;
};

static int add_setting(struct yaml *y, const char *path, const char *value, size_t len, int line) {
    if (y->n >= YAML_ENTRIES_MAX)
        return FAIL(ERR_CONFIG, "%s: more than %d settings", y->name, YAML_ENTRIES_MAX);
    mem_grow(&y->entries, &y->cap, y->n + 1, sizeof *y->entries);
    y->entries[y->n++] = (struct yaml_entry){
        .path = mem_strdup(path), .value = value ? mem_strndup(value, len) : NULL, .line = line};
    return 0;
}

static bool is_null(const yaml_node_t *node) {
    const char *v = (const char *)node->data.scalar.value;
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    return node->data.scalar.length == 0 || strcmp(v, "null") == 0 || strcmp(v, "~") == 0;
}

static int walk(struct yaml *y, yaml_document_t *doc, int id, const char *path, int depth);

/* YAML forbids a key twice, libyaml lets it through: the later one would win unseen. */
static int refuse_twice(const struct yaml *y, yaml_document_t *doc, const yaml_node_t *node,
                        const yaml_node_pair_t *pair, const char *path) {
    const yaml_node_t *key = yaml_document_get_node(doc, pair->key);
    for (const yaml_node_pair_t *p = node->data.mapping.pairs.start; p < pair; p++) {
        const yaml_node_t *other = yaml_document_get_node(doc, p->key);
        if (strcmp((const char *)other->data.scalar.value, (const char *)key->data.scalar.value) !=
            0)
            continue;
        return FAIL(ERR_CONFIG, "%s line %d: %s is there twice, first in line %d", y->name,
                    (int)key->start_mark.line + 1, path, (int)other->start_mark.line + 1);
    }
    return 0;
}

static int walk_mapping(struct yaml *y, yaml_document_t *doc, const yaml_node_t *node,
                        const char *path, int depth) {
    yaml_node_pair_t *p = node->data.mapping.pairs.start;
    for (; p < node->data.mapping.pairs.top; p++) {
        char child[YAML_PATH_MAX];
        yaml_node_t *key = yaml_document_get_node(doc, p->key);
        int line = (int)node->start_mark.line + 1;
        if (key) line = (int)key->start_mark.line + 1;
        if (!key || key->type != YAML_SCALAR_NODE)
            return FAIL(ERR_CONFIG, "%s line %d: a key must be a plain word", y->name, line);
        const char *k = (const char *)key->data.scalar.value;
        int n = snprintf(child, sizeof child, "%s%s%s", path, *path ? "." : "", k);
        if (n < 0 || (size_t)n >= sizeof child)
            return FAIL(ERR_CONFIG, "%s line %d: key longer than %d characters", y->name, line,
                        YAML_PATH_MAX - 1);
        if (p - node->data.mapping.pairs.start >= YAML_ENTRIES_MAX)
            return FAIL(ERR_CONFIG, "%s: more than %d settings", y->name, YAML_ENTRIES_MAX);
        TRY(refuse_twice(y, doc, node, p, child));
        TRY(walk(y, doc, p->value, child, depth + 1));
    }
    return 0;
}

static int walk_list(struct yaml *y, yaml_document_t *doc, const yaml_node_t *node,
                     const char *path, int depth) {
    int i = 0;
    for (yaml_node_item_t *it = node->data.sequence.items.start; it < node->data.sequence.items.top;
         it++) {
        char child[YAML_PATH_MAX];
        int n = snprintf(child, sizeof child, "%s[%d]", path, i++);
        if (n < 0 || (size_t)n >= sizeof child)
            return FAIL(ERR_CONFIG, "%s: path %s is too long", y->name, path);
        TRY(walk(y, doc, *it, child, depth + 1));
    }
    return 0;
}

/* Depth-first, in the order of the file. An empty mapping or list is an entry of its own, without a
 * value: what the file leaves empty must not look as if it were not there. */
static int walk(struct yaml *y, yaml_document_t *doc, int id, const char *path, int depth) {
    yaml_node_t *node = yaml_document_get_node(doc, id);
    if (!node) return FAIL(ERR_CONFIG, "%s: %s has no value", y->name, path);
    int line = (int)node->start_mark.line + 1;
    if (depth > YAML_DEPTH_MAX)
        return FAIL(ERR_CONFIG, "%s line %d: nested deeper than %d levels", y->name, line,
                    YAML_DEPTH_MAX);
    switch (node->type) {
    case YAML_MAPPING_NODE:
        if (node->data.mapping.pairs.start != node->data.mapping.pairs.top)
            return walk_mapping(y, doc, node, path, depth);
        break;
    case YAML_SEQUENCE_NODE:
        if (node->data.sequence.items.start != node->data.sequence.items.top)
            return walk_list(y, doc, node, path, depth);
        break;
    case YAML_SCALAR_NODE: {
        const char *v = is_null(node) ? NULL : (const char *)node->data.scalar.value;
        if (v && strlen(v) != node->data.scalar.length)
            return FAIL(ERR_CONFIG, "%s line %d: %s holds a NUL character", y->name, line, path);
        TRY(add_setting(y, path, v, node->data.scalar.length, line));
        y->entries[y->n - 1].quoted = node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return 0;
    }
    default: return FAIL(ERR_CONFIG, "%s line %d: %s: unknown kind of value", y->name, line, path);
    }
    if (*path == '\0') return 0;
    TRY(add_setting(y, path, NULL, 0, line));
    y->entries[y->n - 1].empty = true;
    return 0;
}

/* Aliases could make a small file expand without bound; recipes do not need them. */
static int refuse_anchors(const char *text, size_t bytes, const char *name) {
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return FAIL(ERR_NOMEM, "%s: cannot start the YAML parser", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    int rc = 0;
    for (bool end = false; rc == 0 && !end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            rc = FAIL(ERR_CONFIG, "%s line %zu: %s", name, parser.problem_mark.line + 1,
                      parser.problem ? parser.problem : "not YAML");
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_ALIAS_EVENT)
            rc = FAIL(ERR_CONFIG, "%s line %zu: aliases are not supported", name,
                      event.start_mark.line + 1);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return rc;
}

/* Adds every scalar of the text below path. */
static int flatten_node(struct yaml *y, const char *text, size_t bytes, const char *name,
                        const char *path) {
    TRY(refuse_anchors(text, bytes, name));
    yaml_parser_t parser;
    yaml_document_t doc;
    if (!yaml_parser_initialize(&parser))
        return FAIL(ERR_NOMEM, "%s: cannot start the YAML parser", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    int rc = 0;
    if (!yaml_parser_load(&parser, &doc)) {
        rc = FAIL(ERR_CONFIG, "%s line %zu: %s", name, parser.problem_mark.line + 1,
                  parser.problem ? parser.problem : "not YAML");
        yaml_parser_delete(&parser);
        return rc;
    }
    yaml_node_t *root = yaml_document_get_root_node(&doc);
    if (root && *path == '\0' && root->type != YAML_MAPPING_NODE)
        rc = FAIL(ERR_CONFIG, "%s: the document must be a mapping (key: value lines)", name);
    else if (root)
        rc = walk(y, &doc, 1, path, 0);
    else if (*path)
        rc = add_setting(y, path, NULL, 0, 0);
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    return rc;
}

int yaml_parse(struct yaml **out, const char *text, size_t bytes, const char *name) {
    if (bytes > YAML_BYTES_MAX)
        return FAIL(ERR_CONFIG, "%s has %zu bytes, more than the limit of %d", name, bytes,
                    YAML_BYTES_MAX);
    struct yaml *y = mem_zalloc(sizeof *y);
    y->name = mem_strdup(name);
    int rc = flatten_node(y, text, bytes, name, "");
    if (rc < 0) {
        yaml_close(&y);
        return rc;
    }
    *out = y;
    return 0;
}

static void entry_reset(struct yaml_entry *e) {
    mem_free((void *)(size_t)e->path);
    mem_free((void *)(size_t)e->value);
}

static bool below(const char *path, const char *root) {
    size_t n = strlen(root);
    return strncmp(path, root, n) == 0 && (path[n] == '\0' || path[n] == '.' || path[n] == '[');
}

/* An assignment replaces the setting and everything below it, as a mapping or list in the file
 * would. Line 0 says that no line of the file is to blame. */
int yaml_set(struct yaml *y, const char *assignment) {
    const char *eq = strchr(assignment, '=');
    if (!eq || eq == assignment || eq - assignment >= YAML_PATH_MAX)
        return FAIL(ERR_CONFIG, "--set %s: must be key=value", assignment);
    char *path = mem_strndup(assignment, (size_t)(eq - assignment));
    size_t kept = 0;
    for (size_t i = 0; i < y->n; i++) {
        if (below(y->entries[i].path, path))
            entry_reset(&y->entries[i]);
        else
            y->entries[kept++] = y->entries[i];
    }
    y->n = kept;
    char *name = mem_printf("--set %s", assignment);
    int rc = flatten_node(y, eq + 1, strlen(eq + 1), name, path);
    for (size_t i = kept; i < y->n; i++)
        y->entries[i].line = 0;
    mem_free(name);
    mem_free(path);
    return rc;
}

void yaml_close(struct yaml **y) {
    if (!*y) return;
    for (size_t i = 0; i < (*y)->n; i++)
        entry_reset(&(*y)->entries[i]);
    mem_free((*y)->entries);
    mem_free((*y)->name);
    mem_free(*y);
    *y = NULL;
}

size_t yaml_count(const struct yaml *y) {
    return y->n;
}

const struct yaml_entry *yaml_entry(const struct yaml *y, size_t i) {
    return &y->entries[i];
}

const char *yaml_name(const struct yaml *y) {
    return y->name;
}
