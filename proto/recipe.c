/* recipe.c - see recipe.h. The table in recipe_table.c says what exists; this file moves values
 * between text and struct by it, so a new key is one line there. Values are set in two passes:
 * defaults, then the file's and --set's entries; errors name the line, the key, the value and what
 * is allowed. */
#include "proto/recipe.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/yaml.h"
#include "proto/recipe_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECIPE_BYTES_MAX = 1 << 20 };

static void *slot(struct recipe *r, const struct recipe_field *f, int64_t index) {
    return (char *)r + f->offset + (size_t)index * f->stride;
}

static const void *slot_const(const struct recipe *r, const struct recipe_field *f, int64_t index) {
    return (const char *)r + f->offset + (size_t)index * f->stride;
}

/* --- one value --------------------------------------------------------------------------- */

static int parse_num(double *out, const char *text) {
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || errno == ERANGE || v != v)
        return FAIL(ERR_CONFIG, "must be a number");
    *out = v;
    return 0;
}

static int parse_int(int64_t *out, const char *text) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE)
        return FAIL(ERR_CONFIG, "must be a whole number");
    *out = v;
    return 0;
}

static int parse_size(uint64_t *out, const char *text) {
    static const char *const units[] = {"", "B", "KiB", "MiB", "GiB", "TiB"};
    static const uint64_t factors[] = {1, 1, 1ull << 10, 1ull << 20, 1ull << 30, 1ull << 40};
    char *end;
    double v = strtod(text, &end);
    if (end == text || !(v >= 0)) return FAIL(ERR_CONFIG, "must be a size such as 512MiB");
    for (size_t i = 0; i < 6; i++) {
        if (strcmp(end, units[i]) != 0) continue;
        if (v * (double)factors[i] > 1e15) return FAIL(ERR_CONFIG, "is larger than 1e15 bytes");
        *out = (uint64_t)(v * (double)factors[i]);
        return 0;
    }
    return FAIL(ERR_CONFIG, "has the unit \"%s\"; known are B, KiB, MiB, GiB, TiB", end);
}

static int parse_bool(bool *out, const char *text) {
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "on") == 0 || strcmp(text, "yes") == 0;
    bool no = strcmp(text, "false") == 0 || strcmp(text, "off") == 0 || strcmp(text, "no") == 0;
    if (!yes && !no) return FAIL(ERR_CONFIG, "must be true or false");
    *out = yes;
    return 0;
}

static int parse_enum(int *out, const char *text, const char *const *names) {
    char known[256] = "";
    for (int i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return 0;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", names[i]);
    }
    return FAIL(ERR_CONFIG, "must be one of: %s", known);
}

static int in_range(const struct recipe_field *f, double v) {
    if (v < f->min || v > f->max)
        return FAIL(ERR_CONFIG, "allowed is %.15g..%.15g", f->min, f->max);
    return 0;
}

/* The text of a failure says only what is wrong with the value; the caller adds where. */
static int set_value(struct recipe *r, const struct recipe_field *f, int64_t index,
                     const char *text) {
    void *p = slot(r, f, index);
    switch (f->kind) {
    case RECIPE_STR: {
        char **s = p;
        mem_free(*s);
        *s = text ? mem_strdup(text) : NULL;
        return 0;
    }
    case RECIPE_INT: {
        int64_t v;
        TRY(parse_int(&v, text));
        TRY(in_range(f, (double)v));
        memcpy(p, &v, sizeof v);
        return 0;
    }
    case RECIPE_NUM: {
        double v;
        TRY(parse_num(&v, text));
        TRY(in_range(f, v));
        memcpy(p, &v, sizeof v);
        return 0;
    }
    case RECIPE_SIZE: {
        uint64_t v;
        TRY(parse_size(&v, text));
        memcpy(p, &v, sizeof v);
        return 0;
    }
    case RECIPE_BOOL: return parse_bool(p, text);
    case RECIPE_ENUM: {
        int v;
        TRY(parse_enum(&v, text, f->names));
        memcpy(p, &v, sizeof v);
        return 0;
    }
    }
    return FAIL(ERR_CONFIG, "unknown kind of setting");
}

/* The default of element `index`: fixed lists have one word per element. */
static int set_default(struct recipe *r, const struct recipe_field *f, int64_t index) {
    if (!f->otherwise) return 0;
    const char *text = f->otherwise;
    if (!f->list_max || f->count_offset) return set_value(r, f, index, text);
    for (int64_t i = 0; i < index; i++)
        text = strchr(text, ' ') + 1;
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(text, " "), text);
    return set_value(r, f, index, word);
}

/* --- finding keys -------------------------------------------------------------------------- */

/* path with its first "[12]" replaced by "[]"; the index, -1 if there is none. */
static int64_t generalise(char out[256], const char *path) {
    size_t open = strcspn(path, "["), digits = 0;
    if (path[open]) digits = strspn(path + open + 1, "0123456789");
    if (digits == 0 || digits > 6 || path[open + 1 + digits] != ']') {
        snprintf(out, 256, "%s", path);
        return -1;
    }
    int64_t index = strtoll(path + open + 1, NULL, 10);
    snprintf(out, 256, "%.*s[]%s", (int)open, path, path + open + digits + 2);
    return index;
}

static const char *last_word(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* A key of the same last word in another place is nearer than any spelling. */
static const char *nearest(const char *path) {
    const char *known[256];
    size_t n = recipe_table_count();
    ASSERT(n <= 256);
    for (size_t i = 0; i < n; i++) {
        known[i] = recipe_table_field(i)->path;
        if (strcmp(last_word(path), last_word(known[i])) == 0) return known[i];
    }
    return nearest_word(path, known, n);
}

static int unknown_key(const char *path) {
    const char *ours = recipe_table_peer(path);
    if (ours) return FAIL(ERR_CONFIG, "unknown key; in Weir this is %s", ours);
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const char *known = recipe_table_field(i)->path;
        size_t n = strlen(path);
        if (strncmp(known, path, n) == 0 && (known[n] == '.' || known[n] == '['))
            return FAIL(ERR_CONFIG, "must be a %s, such as %s",
                        known[n] == '.' ? "mapping" : "list", known);
    }
    return FAIL(ERR_CONFIG, "unknown key; the nearest known one is %s", nearest(path));
}

static const struct recipe_field *find(const char *path) {
    for (size_t i = 0; i < recipe_table_count(); i++)
        if (strcmp(recipe_table_field(i)->path, path) == 0) return recipe_table_field(i);
    return NULL;
}

/* A section or list that the file leaves empty ("eval:", "reward: []"). */
static bool is_section(const char *path) {
    size_t n = strlen(path);
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const char *known = recipe_table_field(i)->path;
        if (strncmp(known, path, n) == 0 && (known[n] == '.' || known[n] == '[')) return true;
    }
    return false;
}

static int list_length(struct recipe *r, const struct recipe_field *f, int64_t index) {
    if (index >= f->list_max)
        return FAIL(ERR_CONFIG, "has more than %" PRId64 " elements", f->list_max);
    if (!f->count_offset) return 0;
    int64_t *count = (int64_t *)(void *)((char *)r + f->count_offset);
    for (; *count <= index; ++*count)
        for (size_t i = 0; i < recipe_table_count(); i++) {
            const struct recipe_field *g = recipe_table_field(i);
            if (g->count_offset == f->count_offset) TRY(set_default(r, g, *count));
        }
    return 0;
}

static int apply(struct recipe *r, const struct yaml_entry *e) {
    char path[256];
    int64_t index = generalise(path, e->path);
    if (!e->value && is_section(path)) return 0;
    const struct recipe_field *f = find(path);
    if (!f || (f->list_max && index < 0)) return unknown_key(path);
    if (index >= 0)
        TRY(list_length(r, f, index));
    else
        index = 0;
    if (e->empty || (!e->value && (f->kind != RECIPE_STR || f->otherwise)))
        return FAIL(ERR_CONFIG, "has no value");
    return set_value(r, f, index, e->value);
}

/* --- what belongs together ------------------------------------------------------------------ */

static int check(const struct recipe *r) {
    if (r->trainer.batch.minibatches != 1)
        return FAIL(ERR_CONFIG,
                    "trainer.batch.minibatches: %" PRId64
                    " is not supported, only 1 (one optimizer step per batch)",
                    r->trainer.batch.minibatches);
    if (r->rollout.update != RECIPE_UPDATE_TRAJECTORY)
        return FAIL(ERR_CONFIG, "rollout.update: token is not supported yet, only trajectory");
    if (r->trainer.alignment.c_low > r->trainer.alignment.c_high)
        return FAIL(ERR_CONFIG, "trainer.alignment.c_low %g is larger than c_high %g",
                    r->trainer.alignment.c_low, r->trainer.alignment.c_high);
    if (r->rollout.concurrency < r->rollout.group_size)
        return FAIL(ERR_CONFIG,
                    "rollout.concurrency %" PRId64
                    " is less than one group (rollout.group_size %" PRId64 ")",
                    r->rollout.concurrency, r->rollout.group_size);
    for (int64_t i = 0; i < r->n_reward; i++)
        if (!r->reward[i].type) return FAIL(ERR_CONFIG, "reward[%" PRId64 "] has no type", i);
    for (int64_t i = 0; i < r->rollout.n_stop; i++)
        if (!r->rollout.stop[i])
            return FAIL(ERR_CONFIG, "rollout.stop[%" PRId64 "] has no value", i);
    return 0;
}

/* Lists of a fixed length (betas): all of it or nothing, else defaults would fill the rest. */
static int check_lengths(const struct yaml *y) {
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        int64_t given = 0;
        if (!f->list_max || f->count_offset) continue;
        for (size_t k = 0; k < yaml_count(y); k++) {
            char path[256];
            generalise(path, yaml_entry(y, k)->path);
            given += strcmp(path, f->path) == 0;
        }
        if (given != 0 && given != f->list_max)
            return FAIL(ERR_CONFIG, "%s has %" PRId64 " elements, it must have %" PRId64, f->path,
                        given, f->list_max);
    }
    return 0;
}

static int fill(struct recipe *r, const struct yaml *y) {
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        if (f->list_max && f->count_offset) continue;
        for (int64_t k = 0; k < (f->list_max ? f->list_max : 1); k++)
            TRY(set_default(r, f, k));
    }
    for (size_t i = 0; i < yaml_count(y); i++) {
        const struct yaml_entry *e = yaml_entry(y, i);
        int rc = apply(r, e);
        if (rc == 0) continue;
        char at[32] = "";
        if (e->line > 0) snprintf(at, sizeof at, " line %d", e->line);
        return err_wrap(rc, "%s%s: %s%s%s", e->line > 0 ? yaml_name(y) : "--set", at, e->path,
                        e->value ? ": " : "", e->value ? e->value : "");
    }
    TRY(err_wrap(check_lengths(y), "%s", yaml_name(y)));
    return err_wrap(check(r), "%s", yaml_name(y));
}

int recipe_parse(struct recipe **out, const char *text, size_t bytes, const char *name,
                 const char *const *sets, size_t n_sets) {
    struct yaml *y = NULL;
    struct recipe *r = NULL;
    int rc;
    TRY_OUT(yaml_parse(&y, text, bytes, name));
    for (size_t i = 0; i < n_sets; i++)
        TRY_OUT(yaml_set(y, sets[i]));
    r = mem_zalloc(sizeof *r);
    TRY_OUT(fill(r, y));
    *out = r;
    r = NULL;
out:
    yaml_close(&y);
    recipe_close(&r);
    return rc;
}

int recipe_load(struct recipe **out, const char *path, const char *const *sets, size_t n_sets) {
    char *text;
    size_t bytes;
    TRY(file_read(&text, &bytes, path, RECIPE_BYTES_MAX));
    int rc = recipe_parse(out, text, bytes, path, sets, n_sets);
    mem_free(text);
    return rc;
}

static int64_t length_of(const struct recipe *r, const struct recipe_field *f) {
    if (!f->list_max) return 1;
    if (!f->count_offset) return f->list_max;
    return *(const int64_t *)(const void *)((const char *)r + f->count_offset);
}

void recipe_close(struct recipe **r) {
    if (!*r) return;
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        for (int64_t k = 0; f->kind == RECIPE_STR && k < (f->list_max ? f->list_max : 1); k++)
            mem_free(*(char **)slot(*r, f, k));
    }
    mem_free(*r);
    *r = NULL;
}

/* --- printing --------------------------------------------------------------------------------- */

static void print_value(const struct recipe *r, const struct recipe_field *f, int64_t index,
                        struct buf *out) {
    const void *p = slot_const(r, f, index);
    switch (f->kind) {
    case RECIPE_STR: {
        const char *s = *(const char *const *)p;
        if (s)
            buf_json_str(out, s, strlen(s));
        else
            buf_str(out, "null");
        break;
    }
    case RECIPE_INT: buf_printf(out, "%" PRId64, *(const int64_t *)p); break;
    case RECIPE_NUM: buf_json_num(out, *(const double *)p); break;
    case RECIPE_SIZE: buf_printf(out, "%" PRIu64, *(const uint64_t *)p); break;
    case RECIPE_BOOL: buf_str(out, *(const bool *)p ? "true" : "false"); break;
    case RECIPE_ENUM: buf_str(out, f->names[*(const int *)p]); break;
    }
}

/* Prints the section lines that path has and the previous path had not; returns the depth of the
 * key. */
static int print_sections(struct buf *out, const char *path, const char *previous) {
    int depth = 0;
    size_t start = 0;
    bool same = true;
    for (size_t i = 0; path[i]; i++) {
        if (path[i] != '.') continue;
        same = same && strncmp(path, previous, i + 1) == 0;
        if (!same) buf_printf(out, "%*s%.*s:\n", depth * 2, "", (int)(i - start), path + start);
        depth++;
        start = i + 1;
    }
    return depth;
}

/* A list of scalars: "betas: [0.9, 0.95]". */
static void print_list(const struct recipe *r, const struct recipe_field *f, struct buf *out) {
    buf_str(out, "[");
    for (int64_t k = 0; k < length_of(r, f); k++) {
        if (k) buf_str(out, ", ");
        print_value(r, f, k, out);
    }
    buf_str(out, "]\n");
}

/* The list of mappings that starts at table index i; returns the index after it. */
static size_t print_mappings(const struct recipe *r, size_t i, struct buf *out) {
    const struct recipe_field *first = recipe_table_field(i);
    int name = (int)strcspn(first->path, "[");
    int64_t n = length_of(r, first);
    size_t end = i;
    while (end < recipe_table_count() &&
           recipe_table_field(end)->count_offset == first->count_offset)
        end++;
    buf_printf(out, n ? "%.*s:\n" : "%.*s: []\n", name, first->path);
    for (int64_t k = 0; k < n; k++)
        for (size_t j = i; j < end; j++) {
            const struct recipe_field *f = recipe_table_field(j);
            buf_printf(out, "%s%s: ", j == i ? "  - " : "    ", f->path + name + 3);
            print_value(r, f, k, out);
            buf_str(out, "\n");
        }
    return end;
}

void recipe_print(const struct recipe *r, struct buf *out) {
    const char *previous = "";
    for (size_t i = 0; i < recipe_table_count();) {
        const struct recipe_field *f = recipe_table_field(i);
        const char *bracket = strstr(f->path, "[].");
        if (bracket) {
            i = print_mappings(r, i, out);
            previous = "";
            continue;
        }
        int depth = print_sections(out, f->path, previous);
        const char *key = last_word(f->path);
        buf_printf(out, "%*s%.*s: ", depth * 2, "", (int)strcspn(key, "["), key);
        if (f->list_max) {
            print_list(r, f, out);
        } else {
            print_value(r, f, 0, out);
            buf_str(out, "\n");
        }
        previous = f->path;
        i++;
    }
}

void recipe_document(struct buf *out) {
    static const char *const kinds[] = {"text",          "whole number", "number",
                                        "true or false", "size",         "one of"};
    buf_str(
        out,
        "# Recipe\n\nEvery key of a recipe. An unknown key is an error that names the nearest "
        "known one, and "
        "where the key is a\npeer's name, ours for it. `--set key=value` overrides, `weir run "
        "RECIPE "
        "--print-config` shows the effective\nrecipe, `weir run --document` prints this page.\n\n");
    buf_str(out, "| key | kind | default | range | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        buf_printf(out, "| `%s` | %s | %s | ", f->path, kinds[f->kind],
                   f->otherwise ? f->otherwise : "");
        if (f->kind == RECIPE_INT || f->kind == RECIPE_NUM)
            buf_printf(out, "%g..%g", f->min, f->max);
        for (int k = 0; f->names && f->names[k]; k++)
            buf_printf(out, "%s%s", k ? ", " : "", f->names[k]);
        buf_printf(out, " | %s |\n", f->meaning);
    }
}
