/* recipe.c - see recipe.h. The table in recipe_table.c says what exists; this file moves values
 * between text and struct by it, so a new key is one line there. Values are set in three passes:
 * defaults, the entries of the file and of --set, then sets of held-out prompts; errors name the
 * line, the key, the value and what is allowed. */
#include "proto/recipe/recipe.h"

#include "base/file.h"
#include "base/filetype.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/yaml.h"
#include "proto/metrics/metrics.h"
#include "proto/recipe/recipe_table.h"
#include "proto/recipe/traps.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECIPE_BYTES_MAX = 1 << 20 };
static const char *const sets_key = "data.eval";

static void *value_at(struct recipe *r, const struct recipe_field *f, int64_t index) {
    return (char *)r + f->offset + (size_t)index * f->stride;
}

static const void *value_at_const(const struct recipe *r, const struct recipe_field *f,
                                  int64_t index) {
    return (const char *)r + f->offset + (size_t)index * f->stride;
}

static const struct recipe_field *find_field(const char *path) {
    for (size_t i = 0; i < recipe_table_count(); i++)
        if (strcmp(recipe_table_field(i)->path, path) == 0) return recipe_table_field(i);
    return NULL;
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

static int parse_enum(int *out, const char *text, const struct recipe_field *f) {
    const char *const *names = f->names, *ours = recipe_table_peer_value(f->path, text);
    char known[256] = "";
    for (int i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return 0;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", names[i]);
    }
    if (ours) return FAIL(ERR_CONFIG, "in Weir this is called %s; known are: %s", ours, known);
    return FAIL(ERR_CONFIG, "must be one of: %s", known);
}

static int in_range(const struct recipe_field *f, double v) {
    if (v < f->min || v > f->max)
        return FAIL(ERR_CONFIG, "allowed is %.15g..%.15g", f->min, f->max);
    return 0;
}

/* The text of a failure says only what is wrong with the value; the caller adds where. */
static int set_field(struct recipe *r, const struct recipe_field *f, int64_t index,
                     const char *text) {
    void *p = value_at(r, f, index);
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
        TRY(parse_enum(&v, text, f));
        memcpy(p, &v, sizeof v);
        return 0;
    }
    case RECIPE_INTS: break; /* set_item */
    }
    return FAIL(ERR_CONFIG, "unknown kind of setting");
}

/* Item `at` of a list of numbers. Items before it that nobody sets stay 0: check_settings() refuses
 * them. */
static int set_list_item(struct recipe *r, const struct recipe_field *f, int64_t index, int64_t at,
                         const char *text) {
    struct recipe_ints *list = value_at(r, f, index);
    int64_t v;
    if (at >= RECIPE_INTS_MAX)
        return FAIL(ERR_CONFIG, "has more than %d elements", RECIPE_INTS_MAX);
    TRY(parse_int(&v, text));
    TRY(in_range(f, (double)v));
    list->at[at] = v;
    if (list->n <= at) list->n = at + 1;
    return 0;
}

/* The default of element `index`: fixed lists have one word per element. */
static int set_default(struct recipe *r, const struct recipe_field *f, int64_t index) {
    static const double absent = (double)NAN;
    if (!f->otherwise && f->kind == RECIPE_NUM)
        memcpy(value_at(r, f, index), &absent, sizeof absent);
    if (!f->otherwise) return 0;
    if (f->otherwise[0] == '=') {
        const struct recipe_field *from = find_field(f->otherwise + 1);
        ASSERT(from && from->kind == RECIPE_NUM && f->kind == RECIPE_NUM);
        memcpy(value_at(r, f, index), value_at_const(r, from, 0), sizeof(double));
        return 0;
    }
    const char *text = f->otherwise;
    if (!f->list_max || f->count_offset) return set_field(r, f, index, text);
    for (int64_t i = 0; i < index; i++)
        text = strchr(text, ' ') + 1;
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(text, " "), text);
    return set_field(r, f, index, word);
}

/* --- finding keys -------------------------------------------------------------------------- */

/* "a[12].b[3]" -> "a[].b[]" and 12, 3; an index that is not there is -1. */
static void path_without_indices(char out[256], int64_t index[2], const char *path) {
    size_t n = 0;
    int found = 0;
    index[0] = index[1] = -1;
    while (*path && n < 255) {
        size_t digits = *path == '[' ? strspn(path + 1, "0123456789") : 0;
        out[n++] = *path;
        if (digits > 0 && digits <= 6 && path[1 + digits] == ']' && found < 2) {
            index[found++] = strtoll(path + 1, NULL, 10);
            path += digits;
        }
        path++;
    }
    out[n] = '\0';
}

static const char *last_word(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* A key of the same last word in another place is nearer than any spelling. */
static const char *nearest_key(const char *path) {
    const char *known[256], *same[256];
    size_t n = recipe_table_count(), n_same = 0;
    ASSERT(n <= 256);
    for (size_t i = 0; i < n; i++) {
        known[i] = recipe_table_field(i)->path;
        if (strcmp(last_word(path), last_word(known[i])) == 0) same[n_same++] = known[i];
    }
    return n_same > 0 ? nearest_word(path, same, n_same) : nearest_word(path, known, n);
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
        size_t m = strlen(known);
        if (n > m && strncmp(path, known, m) == 0 && path[m] == '.')
            return FAIL(ERR_CONFIG,
                        "%s is one value, and this is a mapping: a text with a colon at its end or "
                        "before a space needs quotes (\"%s:\")",
                        known, path + m + 1);
    }
    return FAIL(ERR_CONFIG, "unknown key; the nearest known one is %s", nearest_key(path));
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

static int apply_entry(struct recipe *r, const struct yaml_entry *e) {
    char path[256], one[300];
    int64_t index[2];
    size_t bare = strlen(sets_key);
    snprintf(one, sizeof one, "%s", e->path);
    if (strncmp(e->path, sets_key, bare) == 0 && e->path[bare] == '.') /* one set as a mapping */
        snprintf(one, sizeof one, "%s[0]%s", sets_key, e->path + bare);
    path_without_indices(path, index, one);
    if (!e->value && is_section(path)) return 0;
    const struct recipe_field *f = find_field(path);
    if (!f || (f->list_max && index[0] < 0) || (f->kind == RECIPE_INTS && index[1] < 0))
        return unknown_key(path);
    if (index[0] >= 0)
        TRY(list_length(r, f, index[0]));
    else
        index[0] = 0;
    bool may_be_absent = !f->otherwise && (f->kind == RECIPE_STR || f->kind == RECIPE_NUM);
    if (!e->value && !e->empty && may_be_absent && f->kind == RECIPE_NUM)
        return set_default(r, f, index[0]);
    if (e->empty || (!e->value && !may_be_absent)) return FAIL(ERR_CONFIG, "has no value");
    if (f->kind == RECIPE_INTS) return set_list_item(r, f, index[0], index[1], e->value);
    return set_field(r, f, index[0], e->value);
}

/* An override of data.eval in the form in which the file has it, so that it replaces what it names:
 * "data.eval.limit" of a list of one is data.eval[0].limit, and the other way round. */
static int apply_override(struct yaml *y, const char *text) {
    size_t bare = strlen(sets_key);
    bool mapping = false;
    int64_t sets = 0;
    for (size_t i = 0; i < yaml_count(y); i++) {
        char path[256];
        int64_t index[2];
        if (strncmp(yaml_entry(y, i)->path, sets_key, bare) != 0) continue;
        mapping |= yaml_entry(y, i)->path[bare] == '.';
        path_without_indices(path, index, yaml_entry(y, i)->path);
        if (index[0] >= sets && path[bare] == '[') sets = index[0] + 1;
    }
    if (strncmp(text, sets_key, bare) != 0) return yaml_set(y, text);
    const char *rest = text + bare;
    char *as = NULL;
    if (*rest == '.' && sets > 1)
        return FAIL(ERR_CONFIG, "--set %s: there are %" PRId64 " sets; write %s[0]%s", text, sets,
                    sets_key, rest);
    if (*rest == '.' && sets == 1) as = mem_printf("%s[0]%s", sets_key, rest);
    if (strncmp(rest, "[0]", 3) == 0 && mapping) as = mem_printf("%s%s", sets_key, rest + 3);
    int rc = yaml_set(y, as ? as : text);
    mem_free(as);
    return rc;
}

/* --- what belongs together ------------------------------------------------------------------ */

/* Bounds whose default follows from another key: -1 stands for it in the table. */
static void fill_clip_bounds(struct recipe *r) {
#define CLIPS(name, word, low, high, formula) {low, high},
    static const double clips[][2] = {RECIPE_LOSSES(CLIPS)};
    static const double bands[][2] = {[RECIPE_MASK_TOKEN] = {0.5, 5},
                                      [RECIPE_MASK_SEQUENCE] = {0.5, 2},
                                      [RECIPE_MASK_GEOMETRIC] = {0.999, 1.001}};
    enum recipe_mask mask = r->trainer.algorithm.correction.mask;
    bool band = mask != RECIPE_MASK_OFF && mask != RECIPE_MASK_M2PO;
    double *low = &r->trainer.algorithm.clip_low, *high = &r->trainer.algorithm.clip_high;
    if (*low < 0) *low = clips[r->trainer.algorithm.loss][0];
    if (*high < 0) *high = clips[r->trainer.algorithm.loss][1];
    low = &r->trainer.algorithm.correction.low;
    high = &r->trainer.algorithm.correction.high;
    if (*low < 0) *low = band ? bands[mask][0] : -1;
    if (*high < 0) *high = band ? bands[mask][1] : -1;
}

/* Ten batches' worth for each batch that may be under way: a model that solves less than a tenth of
 * its prompts sometimes is not learning from the others either. */
static void fill_sampling(struct recipe *r) {
    int64_t *max = &r->rollout.sampling.max_rejected;
    if (*max == 0) *max = 10 * (r->trainer.staleness.max + 1) * r->trainer.batch.groups;
}

/* The run's folder is runs/NAME-DATE-TIME: the name is one part of a path, and nowhere else. */
static int check_run_name(const char *name) {
    size_t n = strlen(name), bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += (unsigned char)name[i] < ' ' || name[i] == 0x7f || name[i] == '/';
    if (n >= 1 && n <= RECIPE_NAME_MAX && bad == 0 && name[0] != '.') return 0;
    return FAIL(ERR_CONFIG,
                "name: \"%.120s\": it becomes a folder's name: 1 to %d bytes, no / and no control "
                "characters, and it does not begin with a dot",
                name, RECIPE_NAME_MAX);
}

static int check_settings(const struct recipe *r) {
    TRY(check_run_name(r->name));
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

/* A set's name is part of a metric's: eval/NAME/pass@4. */
static int check_eval_name(const struct recipe *r, int64_t i) {
    const char *name = r->data.eval[i].name;
    size_t n = strlen(name);
    if (n == 0 || n >= RECIPE_EVAL_NAME ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != n)
        return FAIL(ERR_CONFIG,
                    "data.eval[%" PRId64 "].name: \"%s\": 1 to %d letters, digits, _ . - are "
                    "allowed",
                    i, name, RECIPE_EVAL_NAME - 1);
    char *metric = mem_printf("eval/%s", name);
    bool taken = metrics_find(metric) != METRIC_EVAL_SET;
    mem_free(metric);
    if (taken)
        return FAIL(ERR_CONFIG,
                    "data.eval[%" PRId64 "].name: eval/%s is a metric of all sets; choose another "
                    "name",
                    i, name);
    for (int64_t k = 0; k < i; k++)
        if (strcmp(r->data.eval[k].name, name) == 0)
            return FAIL(ERR_CONFIG,
                        "data.eval[%" PRId64 "] and data.eval[%" PRId64
                        "] are both named \"%s\"; give one a name of its own",
                        k, i, name);
    return 0;
}

/* k of pass@k: each once, and no larger than the number of answers that it is estimated from. */
static int check_samples(const struct recipe_eval *e, int64_t i) {
    if (e->samples > 1 && e->temperature == 0)
        return FAIL(ERR_CONFIG,
                    "data.eval[%" PRId64 "].samples: %" PRId64
                    " greedy answers would all be the same; set data.eval[%" PRId64 "].temperature",
                    i, e->samples, i);
    for (int64_t k = 0; k < e->k.n; k++) {
        if (e->k.at[k] == 0)
            return FAIL(ERR_CONFIG, "data.eval[%" PRId64 "].k[%" PRId64 "] has no value", i, k);
        if (e->k.at[k] > e->samples)
            return FAIL(ERR_CONFIG,
                        "data.eval[%" PRId64 "].k: pass@%" PRId64 " needs %" PRId64
                        " answers to a prompt, data.eval[%" PRId64 "].samples is %" PRId64,
                        i, e->k.at[k], e->k.at[k], i, e->samples);
        for (int64_t j = 0; j < k; j++)
            if (e->k.at[j] == e->k.at[k])
                return FAIL(ERR_CONFIG, "data.eval[%" PRId64 "].k: %" PRId64 " is there twice", i,
                            e->k.at[k]);
    }
    return 0;
}

/* "data/math-500.jsonl" -> "math-500", "builtin:addition" -> "addition". */
static char *eval_name_of(const char *path) {
    const char *from = strrchr(path, '/');
    from = from ? from + 1 : path;
    if (strncmp(from, "builtin:", 8) == 0) from += 8;
    const char *dot = strrchr(from, '.');
    size_t n = dot && dot > from ? (size_t)(dot - from) : strlen(from);
    char *name = mem_strndup(from, n < RECIPE_EVAL_NAME - 1 ? n : RECIPE_EVAL_NAME - 1);
    for (char *c = name; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", *c))
            *c = '_';
    return name;
}

/* Also fills in the names. A single set without a path is none: what an empty section says. */
static int check_eval_sets(struct recipe *r) {
    if (r->data.n_eval == 1 && !r->data.eval[0].rows.path) r->data.n_eval = 0;
    for (int64_t i = 0; i < r->data.n_eval; i++) {
        struct recipe_eval *e = &r->data.eval[i];
        if (!e->rows.path) return FAIL(ERR_CONFIG, "data.eval[%" PRId64 "] has no path", i);
        if (!e->name) e->name = eval_name_of(e->rows.path);
        TRY(check_eval_name(r, i));
        TRY(check_samples(e, i));
    }
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
            int64_t index[2];
            path_without_indices(path, index, yaml_entry(y, k)->path);
            given += strcmp(path, f->path) == 0;
        }
        if (given != 0 && given != f->list_max)
            return FAIL(ERR_CONFIG, "%s has %" PRId64 " elements, it must have %" PRId64, f->path,
                        given, f->list_max);
    }
    return 0;
}

static int apply_at(struct recipe *r, const struct yaml *y, const struct yaml_entry *e) {
    char at[32] = "";
    int rc = apply_entry(r, e);
    if (rc == 0) return 0;
    if (e->line > 0) snprintf(at, sizeof at, " line %d", e->line);
    return err_wrap(rc, "%s%s: %s%s%s", e->line > 0 ? yaml_name(y) : "--set", at, e->path,
                    e->value ? ": " : "", e->value ? e->value : "");
}

/* Sets of held-out prompts come last: they take defaults from settings elsewhere. */
static int fill_settings(struct recipe *r, const struct yaml *y) {
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        if (f->list_max && f->count_offset) continue;
        for (int64_t k = 0; k < (f->list_max ? f->list_max : 1); k++)
            TRY(set_default(r, f, k));
    }
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < yaml_count(y); i++) {
            const struct yaml_entry *e = yaml_entry(y, i);
            bool set = strncmp(e->path, sets_key, strlen(sets_key)) == 0;
            if (set == (round == 1)) TRY(apply_at(r, y, e));
        }
    TRY(err_wrap(check_lengths(y), "%s", yaml_name(y)));
    fill_clip_bounds(r);
    fill_sampling(r);
    TRY(err_wrap(check_settings(r), "%s", yaml_name(y)));
    TRY(err_wrap(check_eval_sets(r), "%s", yaml_name(y)));
    return err_wrap(traps_check(r, TRAPS_STEP), "%s", yaml_name(y));
}

int recipe_parse(struct recipe **out, const char *text, size_t bytes, const char *name,
                 const char *const *sets, size_t n_sets) {
    struct yaml *y = NULL;
    struct recipe *r = NULL;
    int rc;
    TRY_OUT(yaml_parse(&y, text, bytes, name));
    for (size_t i = 0; i < n_sets; i++)
        TRY_OUT(apply_override(y, sets[i]));
    r = mem_zalloc(sizeof *r);
    TRY_OUT(fill_settings(r, y));
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
    TRY(filetype_explain_file(file_read(&text, &bytes, path, RECIPE_BYTES_MAX), path,
                              FILETYPE_YAML));
    int rc = recipe_parse(out, text, bytes, path, sets, n_sets);
    rc = filetype_explain(rc, text, bytes, path, FILETYPE_YAML);
    mem_free(text);
    return rc;
}

static int64_t list_length_of(const struct recipe *r, const struct recipe_field *f) {
    if (!f->list_max) return 1;
    if (!f->count_offset) return f->list_max;
    return *(const int64_t *)(const void *)((const char *)r + f->count_offset);
}

void recipe_close(struct recipe **r) {
    if (!*r) return;
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        for (int64_t k = 0; f->kind == RECIPE_STR && k < (f->list_max ? f->list_max : 1); k++)
            mem_free(*(char **)value_at(*r, f, k));
    }
    mem_free(*r);
    *r = NULL;
}

/* --- printing --------------------------------------------------------------------------------- */

/* YAML reads texts, numbers and lists as JSON writes them. */
static void print_value(const struct recipe *r, const struct recipe_field *f, int64_t index,
                        struct buf *out) {
    const void *p = value_at_const(r, f, index);
    struct json_write w = json_write_to(out, JSON_LINE);
    switch (f->kind) {
    case RECIPE_STR:
        if (*(const char *const *)p)
            json_write_str(&w, NULL, *(const char *const *)p);
        else
            json_write_null(&w, NULL);
        break;
    case RECIPE_INT: buf_printf(out, "%" PRId64, *(const int64_t *)p); break;
    case RECIPE_NUM: json_write_num(&w, NULL, *(const double *)p); break;
    case RECIPE_SIZE: buf_printf(out, "%" PRIu64, *(const uint64_t *)p); break;
    case RECIPE_BOOL: buf_str(out, *(const bool *)p ? "true" : "false"); break;
    case RECIPE_ENUM: buf_str(out, f->names[*(const int *)p]); break;
    case RECIPE_INTS: {
        const struct recipe_ints *list = p;
        json_write_ints(&w, NULL, list->at, (size_t)list->n);
        break;
    }
    }
}

const char *recipe_word(const struct recipe *r, const char *key) {
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        if (f->kind == RECIPE_ENUM && strcmp(f->path, key) == 0)
            return f->names[*(const int *)value_at_const(r, f, 0)];
    }
    err_bug("a key of several words", __FILE__, __LINE__);
    return NULL;
}

/* Prints the section lines that path has and the previous path had not; returns the depth of the
 * key. */
static int print_sections(struct buf *out, const char *path, const char *previous) {
    int depth = 0;
    size_t start = 0;
    bool same = true;
    for (size_t i = 0; path[i] && path[i] != '['; i++) {
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
    for (int64_t k = 0; k < list_length_of(r, f); k++) {
        if (k) buf_str(out, ", ");
        print_value(r, f, k, out);
    }
    buf_str(out, "]\n");
}

/* The list of mappings that starts at table index i, below depth sections; returns the index after
 * it. */
static size_t print_mappings(const struct recipe *r, size_t i, int depth, struct buf *out) {
    const struct recipe_field *first = recipe_table_field(i);
    int whole = (int)strcspn(first->path, "["), left = depth * 2;
    int64_t n = list_length_of(r, first);
    const char *name = first->path + whole;
    while (name > first->path && name[-1] != '.')
        name--;
    size_t end = i;
    while (end < recipe_table_count() &&
           recipe_table_field(end)->count_offset == first->count_offset)
        end++;
    buf_printf(out, "%*s%.*s:%s\n", left, "", (int)strcspn(name, "["), name, n ? "" : " []");
    for (int64_t k = 0; k < n; k++)
        for (size_t j = i; j < end; j++) {
            const struct recipe_field *f = recipe_table_field(j);
            const char *key = f->path + whole + 3;
            buf_printf(out, "%*s%s%.*s: ", left, "", j == i ? "  - " : "    ",
                       (int)strcspn(key, "["), key);
            print_value(r, f, k, out);
            buf_str(out, "\n");
        }
    return end;
}

void recipe_print(const struct recipe *r, struct buf *out) {
    const char *previous = "";
    for (size_t i = 0; i < recipe_table_count();) {
        const struct recipe_field *f = recipe_table_field(i);
        int depth = print_sections(out, f->path, previous);
        if (strstr(f->path, "[].")) {
            i = print_mappings(r, i, depth, out);
            previous = f->path;
            continue;
        }
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
    static const char *const kinds[] = {"text", "whole number", "number",       "true or false",
                                        "size", "one of",       "whole numbers"};
    buf_str(out,
            "# Recipe\n\n"
            "This page has every key of a recipe; `weir run --document` prints it. An unknown key "
            "is an error\nthat names the nearest known one, or our key where it is a peer's name. "
            "`--set key=value` overrides\na key, and `weir run RECIPE --print-config` shows the "
            "effective recipe. `data.eval` may be one mapping\ninstead of a list.\n\n"
            "A relative path in a recipe is relative to the directory in which `weir` is started, "
            "and not to the\nrecipe's own. A run's `recipe.yaml` has absolute paths, so "
            "`--resume` works from anywhere. Where a file\nis missing, the error names the full "
            "path that was tried.\n\n");
    buf_str(out, "| key | kind | default | range | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < recipe_table_count(); i++) {
        const struct recipe_field *f = recipe_table_field(i);
        bool from = f->otherwise && f->otherwise[0] == '=';
        buf_printf(out, "| `%s` | %s | %s%s%s | ", f->path, kinds[f->kind], from ? "`" : "",
                   f->otherwise ? f->otherwise + from : "", from ? "`" : "");
        if (f->kind == RECIPE_INT || f->kind == RECIPE_NUM || f->kind == RECIPE_INTS)
            buf_printf(out, "%g..%g", f->min, f->max);
        for (int k = 0; f->names && f->names[k]; k++)
            buf_printf(out, "%s%s", k ? ", " : "", f->names[k]);
        buf_printf(out, " | %s |\n", f->meaning);
    }
}
