/* dataset.c - see dataset.h. All rows are parsed when the set is opened, into one arena: a
 * malformed line 7,000 stops the run before it starts, and a row costs nothing later. Generated
 * tasks enumerate a finite set of problems in an order given by the seed, so that `skip` and
 * `limit` cut disjoint training and held-out sets. */
#include "actor/text/dataset.h"

#include "actor/text/tasks.h"
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
    size_t n, from;   /* from: the first message that is the row's, not the recipe's */
    const char *data; /* the row's part of the only such message; NULL: all of all of them */
    size_t data_n;
    const char *answer; /* NULL: none */
    int64_t line;
};

struct dataset {
    struct arena *arena;
    char *name;
    struct row *rows;
    size_t n, cap;
    enum dataset_special special;
    uint64_t epoch; /* of the cached permutation, UINT64_MAX: none */
    uint32_t *order;
};

static const char *keep(struct dataset *d, const char *s) {
    return arena_strndup(d->arena, s, strlen(s));
}

/* The system message, then `body`, as the messages of a new row. */
static struct row *add_dataset_row(struct dataset *d, const char *system,
                                   const struct chat_message *body, size_t n, const char *answer) {
    bool add_system = system && strcmp(body[0].role, "system") != 0;
    struct row r = {.n = n + add_system, .from = add_system};
    if (answer) r.answer = keep(d, answer);
    r.messages = arena_alloc(d->arena, r.n * sizeof *r.messages);
    if (add_system) r.messages[0] = (struct chat_message){"system", keep(d, system)};
    for (size_t i = 0; i < n; i++)
        r.messages[i + add_system] =
            (struct chat_message){keep(d, body[i].role), keep(d, body[i].content)};
    mem_grow(&d->rows, &d->cap, d->n + 1, sizeof *d->rows);
    d->rows[d->n] = r;
    return &d->rows[d->n++];
}

static const char placeholder[] = "{prompt}";

/* A row that is one text: template_ with the text in the place of its placeholder. */
static struct row *add_text_row(struct dataset *d, const struct dataset_config *cfg,
                                const char *prompt, const char *answer) {
    const char *at = cfg->template_ ? strstr(cfg->template_, placeholder) : NULL;
    size_t before = at ? (size_t)(at - cfg->template_) : 0;
    char *user = mem_printf("%.*s%s%s", (int)before, at ? cfg->template_ : "", prompt,
                            at ? at + strlen(placeholder) : "");
    struct chat_message m = {"user", user};
    struct row *r = add_dataset_row(d, cfg->system, &m, 1, answer);
    r->data = r->messages[r->n - 1].content + before;
    r->data_n = strlen(prompt);
    mem_free(user);
    return r;
}

static int check_template(const struct dataset_config *cfg) {
    const char *t = cfg->template_, *at = t ? strstr(t, placeholder) : NULL;
    if (t && !at)
        return FAIL(ERR_CONFIG,
                    "the template \"%.60s\" has no %s: every prompt would be this same text", t,
                    placeholder);
    if (at && strstr(at + 1, placeholder))
        return FAIL(ERR_CONFIG, "the template \"%.60s\" has %s more than once", t, placeholder);
    return 0;
}

/* --- JSONL ---------------------------------------------------------------------------------- */

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

static int read_row_messages(struct chat_message *out, size_t *n, const struct json *list,
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

/* "a", "b" and "c": what a row has instead of the key that was looked for; mem_free. */
static char *keys_of(const struct json *row) {
    struct buf b = {0};
    for (const struct json *m = json_first(row); m && b.len < 200; m = json_next(m))
        buf_printf(&b, "%s\"%s\"", b.len ? ", " : "", json_key(m, NULL));
    if (!b.len) buf_str(&b, "no key at all");
    return b.data;
}

static int no_key(const struct json *row, const char *where, const char *what, const char *key) {
    char *keys = keys_of(row);
    int rc = FAIL(ERR_CORRUPT, "%s: the row has no key \"%s\" (data %s key); it has %s", where, key,
                  what, keys);
    mem_free(keys);
    return rc;
}

/* The reference as a text; NULL where the row has none. A number is kept as it is written. */
static int read_row_answer(const char **out, const struct json *row,
                           const struct dataset_config *cfg, const char *where) {
    const struct json *v = cfg->answer ? member(row, cfg->answer) : NULL;
    *out = json_is(v, JSON_NUMBER) ? json_number(v) : json_str(v);
    if (*out || json_type(v) == JSON_NULL) return 0;
    return FAIL(ERR_CORRUPT, "%s: %s must be a text or a number, it is %s", where, cfg->answer,
                json_type_name(json_type(v)));
}

/* A prompt is a text, which the template wraps, or a list of messages, which is taken as it is. */
static int read_row(struct dataset *d, const struct json *row, const struct dataset_config *cfg,
                    const char *where) {
    struct chat_message messages[DATASET_MESSAGES_MAX];
    size_t n = 1;
    const char *answer;
    if (!json_is(row, JSON_OBJECT)) return FAIL(ERR_CORRUPT, "%s: a row must be an object", where);
    const struct json *prompt = member(row, cfg->prompt);
    if (!prompt) return no_key(row, where, "prompt", cfg->prompt);
    TRY(read_row_answer(&answer, row, cfg, where));
    if (json_is(prompt, JSON_STRING)) {
        add_text_row(d, cfg, json_str(prompt), answer);
        return 0;
    }
    if (!json_is(prompt, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: %s must be a text or a list of messages, it is %s", where,
                    cfg->prompt, json_type_name(json_type(prompt)));
    TRY(read_row_messages(messages, &n, prompt, cfg->prompt, where));
    if (cfg->template_ && strcmp(cfg->template_, placeholder) != 0)
        return FAIL(ERR_CONFIG,
                    "%s: %s is a list of messages, and a template is for prompts that are a text: "
                    "put it into the messages and take it out of the recipe",
                    where, cfg->prompt);
    add_dataset_row(d, cfg->system, messages, n, answer);
    return 0;
}

/* A key that no row has is a wrong key. */
static int check_answers(const struct dataset *d, const struct dataset_config *cfg,
                         const char *first_keys) {
    for (size_t i = 0; i < d->n; i++)
        if (d->rows[i].answer) return 0;
    return FAIL(
        ERR_CORRUPT,
        "%s: no row has the key \"%s\" (data answer key); the first has %s. Where no reward "
        "needs a reference: answer: null",
        cfg->path, cfg->answer, first_keys);
}

static int read_jsonl(struct dataset *d, const struct dataset_config *cfg) {
    struct file_map map;
    int rc = file_map_open(&map, cfg->path);
    if (rc < 0) return filetype_explain_path(rc, cfg->path, false);
    const char *p = (const char *)map.data, *end = p + map.bytes;
    int64_t line = 0, seen = 0;
    char *keys = NULL; /* of the first row */
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
            if (rc == 0) d->rows[d->n - 1].line = line;
            if (rc == 0 && !keys) keys = keys_of(json_root(doc));
            json_close(&doc);
        }
        mem_free(where);
    }
    if (rc == 0 && d->n > 0 && cfg->answer) rc = check_answers(d, cfg, keys);
    mem_free(keys);
    if (d->n == 0) rc = filetype_explain(rc, map.data, map.bytes, cfg->path, FILETYPE_JSONL);
    file_map_close(&map);
    return rc;
}

/* --- generated tasks ------------------------------------------------------------------------ */

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
        add_text_row(d, cfg, p.question, p.answer);
    }
    mem_free(order);
    return 0;
}

int dataset_open(struct dataset **out, const struct dataset_config *cfg) {
    struct dataset *d = mem_zalloc(sizeof *d);
    d->arena = arena_open(1 << 16);
    d->name = mem_strdup(cfg->path);
    d->epoch = UINT64_MAX;
    d->special = cfg->special;
    bool builtin = strncmp(cfg->path, "builtin:", 8) == 0;
    int rc = check_template(cfg);
    if (rc == 0) rc = builtin ? make_builtin(d, cfg->path + 8, cfg) : read_jsonl(d, cfg);
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
    return d->rows[row].answer ? d->rows[row].answer : "";
}

int64_t dataset_line(const struct dataset *d, uint64_t row) {
    ASSERT(row < d->n);
    return d->rows[row].line;
}

/* --- rendering ------------------------------------------------------------------------------ */

enum { DATASET_ALSO_MAX = 8 };

/* A row as text, and where in it the row's own words stand. */
struct rendered {
    struct buf text;
    struct chat_marks marks;
    struct tokenizer_span *span;
    size_t n;
    int32_t also[DATASET_ALSO_MAX]; /* the format's tokens, special or not by tokenizer.json */
    size_t n_also;
};

static void rendered_close(struct rendered *r) {
    buf_close(&r->text);
    mem_free(r->marks.v);
    mem_free(r->span);
}

/* The part of a mark that is the row's own, in *out; false if none is. */
static bool own_part(struct tokenizer_span *out, const struct row *r, const struct chat_mark *m) {
    for (size_t i = r->from; i < r->n; i++) {
        const char *first = r->data ? r->data : r->messages[i].content;
        const char *last = first + (r->data ? r->data_n : strlen(first));
        const char *to = m->from + (m->end - m->start);
        if (first < m->from) first = m->from;
        if (last > to) last = to;
        if (first >= last) continue;
        *out = (struct tokenizer_span){m->start + (size_t)(first - m->from),
                                       m->start + (size_t)(last - m->from)};
        return true;
    }
    return false;
}

static int render_row(struct rendered *out, const struct dataset *d, uint64_t row,
                      enum chat_format chat) {
    const struct row *r = &d->rows[row];
    TRY(chat_render_marked(&out->text, chat, r->messages, r->n, true, &out->marks));
    buf_add(&out->text, "", 0); /* so that there is a text */
    out->span = mem_array(out->marks.n + 1, sizeof *out->span);
    for (size_t i = 0; i < out->marks.n; i++)
        out->n += own_part(&out->span[out->n], r, &out->marks.v[i]);
    return 0;
}

static struct tokenizer_guard guard_of(struct rendered *r, enum chat_format chat,
                                       const struct tokenizer *t) {
    const char *token;
    int32_t ids[] = {tokenizer_bos(t), tokenizer_eos(t)};
    r->n_also = 0;
    for (size_t i = 0; i < 2; i++)
        if (ids[i] >= 0) r->also[r->n_also++] = ids[i];
    for (size_t i = 0; r->n_also < DATASET_ALSO_MAX && (token = chat_token(chat, i)); i++)
        r->also[r->n_also++] = tokenizer_id(t, token);
    return (struct tokenizer_guard){r->span, r->n, r->also, r->n_also};
}

static int refuse_special(const struct tokenizer *t, int32_t id) {
    char *text;
    size_t n;
    TRY(tokenizer_decode(t, &id, 1, false, &text, &n));
    int rc = FAIL(ERR_CORRUPT, "the text holds the special token %s (special: error)", text);
    mem_free(text);
    return rc;
}

/* In the same way for prompts and targets: `special` decides. */
static int encode_row(const struct dataset *d, struct rendered *r, enum chat_format chat,
                      const struct tokenizer *t, bool special, int32_t **ids, size_t *n) {
    struct tokenizer_guard guard = guard_of(r, chat, t);
    int32_t found =
        d->special == DATASET_SPECIAL_TOKEN ? -1 : tokenizer_find_guarded(t, r->text.data, &guard);
    if (found >= 0 && d->special == DATASET_SPECIAL_ERROR) return refuse_special(t, found);
    return tokenizer_encode_guarded(t, r->text.data, r->text.len, special,
                                    found >= 0 ? &guard : NULL, ids, n);
}

static int wrap_row(const struct dataset *d, uint64_t row, int rc) {
    if (d->rows[row].line) return err_wrap(rc, "%s line %" PRId64, d->name, d->rows[row].line);
    return err_wrap(rc, "%s row %" PRIu64, d->name, row);
}

int dataset_render(const struct dataset *d, uint64_t row, enum chat_format chat,
                   const struct tokenizer *t, char **text, int32_t **ids, size_t *n) {
    ASSERT(row < d->n);
    struct rendered r = {0};
    int rc = render_row(&r, d, row, chat);
    if (rc == 0 && ids) rc = encode_row(d, &r, chat, t, chat_wants_special(chat), ids, n);
    if (rc == 0 && text) *text = mem_strndup(r.text.data, r.text.len);
    rendered_close(&r);
    return wrap_row(d, row, rc);
}

int dataset_target(const struct dataset *d, uint64_t row, const struct tokenizer *t, int32_t **ids,
                   size_t *n) {
    struct rendered r = {0};
    buf_str(&r.text, dataset_answer(d, row));
    r.span = mem_array(1, sizeof *r.span);
    r.span[0] = (struct tokenizer_span){0, r.text.len};
    r.n = r.text.len > 0;
    int rc = encode_row(d, &r, CHAT_PLAIN, t, false, ids, n);
    rendered_close(&r);
    return wrap_row(d, row, rc);
}

/* Whether the text begins as bos is spelled: then, and only then, may it be there twice. */
static int begins_with_bos(bool *out, const struct tokenizer *t, const char *text) {
    int32_t bos = tokenizer_bos(t);
    char *token;
    size_t n;
    *out = false;
    if (bos < 0) return 0;
    TRY(tokenizer_decode(t, &bos, 1, false, &token, &n));
    *out = n > 0 && strncmp(text, token, n) == 0;
    mem_free(token);
    return 0;
}

int dataset_look(struct dataset_look *out, const struct dataset *d, uint64_t row,
                 enum chat_format chat, const struct tokenizer *t, size_t enough) {
    ASSERT(row < d->n);
    const struct row *row_ = &d->rows[row];
    struct rendered r = {0};
    struct dataset_look look = {.special = -1};
    int32_t *ids = NULL;
    bool bos = false;
    int rc;
    TRY_OUT(render_row(&r, d, row, chat));
    struct tokenizer_guard guard = guard_of(&r, chat, t);
    look.special = tokenizer_find_guarded(t, r.text.data, &guard);
    look.ends_as_assistant = strcmp(row_->messages[row_->n - 1].role, "assistant") == 0;
    look.empty = r.text.len == 0;
    TRY_OUT(begins_with_bos(&bos, t, r.text.data));
    bool refused = look.special >= 0 && d->special == DATASET_SPECIAL_ERROR;
    if (bos || refused || tokenizer_most(t, r.text.data, r.text.len) > enough)
        TRY_OUT(encode_row(d, &r, chat, t, chat_wants_special(chat), &ids, &look.tokens));
    look.bos_twice = bos && look.tokens > 1 && ids[0] == tokenizer_bos(t) && ids[1] == ids[0];
    *out = look;
out:
    mem_free(ids);
    rendered_close(&r);
    rc = wrap_row(d, row, rc);
    return rc;
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
