/* dataset.c - see dataset.h. All rows are parsed when the set is opened, into one arena: a
 * malformed line 7,000 stops the run before it starts, and a row costs nothing later. Generated
 * tasks enumerate a finite set of problems in an order given by the seed, so that `skip` and
 * `limit` cut disjoint training and held-out sets. */
#include "actor/dataset.h"

#include "actor/tasks.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/filetype.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"

#include <inttypes.h>
#include <string.h>

enum { DATASET_MESSAGES_MAX = 64 };

struct row {
    struct chat_message *messages;
    size_t n;
    const char *answer;
};

struct dataset {
    struct arena *arena;
    char *name;
    struct row *rows;
    size_t n, cap;
    uint64_t epoch; /* of the cached permutation, UINT64_MAX: none */
    uint32_t *order;
};

static const char *keep(struct dataset *d, const char *s) {
    return arena_strndup(d->arena, s, strlen(s));
}

/* The system message, then `body`, as the messages of a new row. */
static void add_row(struct dataset *d, const char *system, const struct chat_message *body,
                    size_t n, const char *answer) {
    bool add_system = system && strcmp(body[0].role, "system") != 0;
    struct row r = {.n = n + add_system, .answer = keep(d, answer)};
    r.messages = arena_alloc(d->arena, r.n * sizeof *r.messages);
    if (add_system) r.messages[0] = (struct chat_message){"system", keep(d, system)};
    for (size_t i = 0; i < n; i++)
        r.messages[i + add_system] =
            (struct chat_message){keep(d, body[i].role), keep(d, body[i].content)};
    mem_grow(&d->rows, &d->cap, d->n + 1, sizeof *d->rows);
    d->rows[d->n++] = r;
}

/* template_ with its "{prompt}" replaced; mem_free. */
static char *fill_template(const char *template_, const char *prompt) {
    const char *at = template_ ? strstr(template_, "{prompt}") : NULL;
    if (!at) return mem_strdup(prompt);
    return mem_printf("%.*s%s%s", (int)(at - template_), template_, prompt,
                      at + strlen("{prompt}"));
}

/* --- JSONL --------------------------------------------------------------------------------- */

/* The member at a dotted path; a key that itself holds dots is tried first. */
static const struct json *member(const struct json *object, const char *path) {
    const struct json *v = json_get(object, path);
    const char *dot = strchr(path, '.');
    if (v || !dot) return v;
    char *head = mem_strndup(path, (size_t)(dot - path));
    v = json_get(object, head);
    mem_free(head);
    return member(v, dot + 1);
}

static int read_messages(struct chat_message *out, size_t *n, const struct json *list,
                         const char *key, const char *where) {
    size_t count = 0;
    for (const struct json *m = json_first(list); m; m = json_next(m)) {
        const char *role = json_str(json_get(m, "role")),
                   *content = json_str(json_get(m, "content"));
        if (count == DATASET_MESSAGES_MAX)
            return FAIL(ERR_CORRUPT, "%s: %s has more than %d messages", where, key,
                        DATASET_MESSAGES_MAX);
        if (!role || !content)
            return FAIL(ERR_CORRUPT, "%s: %s[%zu] must have the texts role and content", where, key,
                        count);
        out[count++] = (struct chat_message){role, content};
    }
    if (count == 0) return FAIL(ERR_CORRUPT, "%s: %s has no messages", where, key);
    *n = count;
    return 0;
}

static int read_row(struct dataset *d, const struct json *row, const struct dataset_config *cfg,
                    const char *where) {
    struct chat_message messages[DATASET_MESSAGES_MAX];
    size_t n = 1;
    char *user = NULL;
    const struct json *prompt = member(row, cfg->prompt), *answer = NULL;
    if (!json_is(row, JSON_OBJECT)) return FAIL(ERR_CORRUPT, "%s: a row must be an object", where);
    if (!prompt)
        return FAIL(ERR_CORRUPT, "%s: the row has no key \"%s\" (data prompt key)", where,
                    cfg->prompt);
    if (cfg->answer) answer = member(row, cfg->answer);
    if (cfg->answer && !answer)
        return FAIL(ERR_CORRUPT, "%s: the row has no key \"%s\" (data answer key)", where,
                    cfg->answer);
    const char *text = json_is(answer, JSON_NUMBER) ? json_number(answer) : json_str(answer);
    if (answer && !text)
        return FAIL(ERR_CORRUPT, "%s: %s must be a text or a number, it is %s", where, cfg->answer,
                    json_type_name(json_type(answer)));
    if (json_is(prompt, JSON_ARRAY)) {
        TRY(read_messages(messages, &n, prompt, cfg->prompt, where));
    } else if (json_is(prompt, JSON_STRING)) {
        user = fill_template(cfg->template_, json_str(prompt));
        messages[0] = (struct chat_message){"user", user};
    } else {
        return FAIL(ERR_CORRUPT, "%s: %s must be a text or a list of messages, it is %s", where,
                    cfg->prompt, json_type_name(json_type(prompt)));
    }
    add_row(d, cfg->system, messages, n, text ? text : "");
    mem_free(user);
    return 0;
}

static int read_jsonl(struct dataset *d, const struct dataset_config *cfg) {
    struct file_map map;
    int rc = file_map_open(&map, cfg->path);
    if (rc < 0) return filetype_explain_path(rc, cfg->path, false);
    const char *p = (const char *)map.data, *end = p + map.bytes;
    int64_t line = 0, seen = 0;
    p += filetype_bom(p, map.bytes);
    while (rc == 0 && p < end && (cfg->limit == 0 || (int64_t)d->n < cfg->limit)) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = nl ? (size_t)(nl - p) : (size_t)(end - p);
        const char *text = p;
        line++;
        p += len + (nl != NULL);
        if (strspn(text, " \t\r") >= len || seen++ < cfg->skip) continue;
        char *where = mem_printf("%s line %" PRId64, cfg->path, line);
        struct json_doc *doc;
        rc = json_parse_as(&doc, text, len, where, JSON_ROW);
        if (rc == 0) {
            rc = read_row(d, json_root(doc), cfg, where);
            json_close(&doc);
        }
        mem_free(where);
    }
    if (d->n == 0) rc = filetype_explain(rc, map.data, map.bytes, cfg->path, FILETYPE_JSONL);
    file_map_close(&map);
    return rc;
}

/* --- generated tasks ------------------------------------------------------------------------- */

static int no_such_task(const char *name) {
    struct buf known = {0};
    for (size_t i = 0; tasks_name(i); i++)
        buf_printf(&known, "%s%s", i ? ", " : "", tasks_name(i));
    int rc =
        FAIL(ERR_CONFIG, "builtin:%s: no such generated task; known are: %s", name, known.data);
    buf_close(&known);
    return rc;
}

/* All problems of the task, in an order given by the seed. */
static int make_builtin(struct dataset *d, const char *name, const struct dataset_config *cfg) {
    const struct tasks_task *task = tasks_find(name);
    if (!task) return no_such_task(name);
    uint32_t total = tasks_problems(task), *order = mem_array(total, sizeof *order);
    uint64_t key = rng_key(cfg->seed, RNG_DATA);
    rng_permutation(key, 0, order, total);
    for (uint32_t i = 0; i < total; i++) {
        struct tasks_problem p;
        if ((int64_t)i < cfg->skip || (cfg->limit && (int64_t)d->n >= cfg->limit)) continue;
        tasks_make(task, order[i], key, &p);
        char *user = fill_template(cfg->template_, p.question);
        struct chat_message m = {"user", user};
        add_row(d, cfg->system, &m, 1, p.answer);
        mem_free(user);
    }
    mem_free(order);
    return 0;
}

int dataset_open(struct dataset **out, const struct dataset_config *cfg) {
    struct dataset *d = mem_zalloc(sizeof *d);
    d->arena = arena_open(1 << 16);
    d->name = mem_strdup(cfg->path);
    d->epoch = UINT64_MAX;
    bool builtin = strncmp(cfg->path, "builtin:", 8) == 0;
    int rc = builtin ? make_builtin(d, cfg->path + 8, cfg) : read_jsonl(d, cfg);
    if (rc == 0 && d->n == 0)
        rc = FAIL(ERR_CORRUPT, "%s has no rows after skip %" PRId64, cfg->path, cfg->skip);
    if (rc == 0 && d->n > UINT32_MAX)
        rc = FAIL(ERR_CORRUPT, "%s has more than 2^32 rows", cfg->path);
    if (rc < 0) {
        dataset_close(&d);
        return rc;
    }
    *out = d;
    return 0;
}

void dataset_close(struct dataset **d) {
    if (!*d) return;
    arena_close(&(*d)->arena);
    mem_free((*d)->rows);
    mem_free((*d)->order);
    mem_free((*d)->name);
    mem_free(*d);
    *d = NULL;
}

uint64_t dataset_rows(const struct dataset *d) {
    return d->n;
}

const char *dataset_answer(const struct dataset *d, uint64_t row) {
    ASSERT(row < d->n);
    return d->rows[row].answer;
}

int dataset_render(const struct dataset *d, uint64_t row, enum chat_format chat,
                   const struct tokenizer *t, char **text, int32_t **ids, size_t *n) {
    ASSERT(row < d->n);
    const struct row *r = &d->rows[row];
    struct buf rendered = {0};
    int rc = chat_render(&rendered, chat, r->messages, r->n, true);
    if (rc == 0 && ids)
        rc = tokenizer_encode(t, rendered.data ? rendered.data : "", rendered.len,
                              chat_wants_special(chat), ids, n);
    if (rc == 0 && text) *text = mem_strndup(rendered.data ? rendered.data : "", rendered.len);
    buf_close(&rendered);
    return err_wrap(rc, "%s row %" PRIu64, d->name, row);
}

uint64_t dataset_row_at(struct dataset *d, uint64_t i, uint64_t seed, bool shuffle) {
    uint64_t epoch = i / d->n, at = i % d->n;
    if (!shuffle) return at;
    if (!d->order) d->order = mem_array(d->n, sizeof *d->order);
    if (d->epoch != epoch)
        rng_permutation(rng_key(seed, RNG_SHUFFLE), epoch, d->order, (uint32_t)d->n);
    d->epoch = epoch;
    return d->order[at];
}
