/* batch.c - see batch.h.
 *
 * A batch file is input from outside: every field is checked with its line number before anything
 * is computed, because a wrong token id or a log-prob above 0 would otherwise show as a slightly
 * worse policy and nothing else. Groups are numbered in the order in which they appear, and the
 * trajectories of one group are brought together in file order: sums over a batch depend on its
 * order, so the order must be a function of the file. */
#include "trainer/batch/batch.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/filetype.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { BATCH_LINES_MAX = 1 << 20 };
static const double batch_reward_max = 1e9;
/* A float log-softmax can come out a rounding above 0; anything more is not a log-prob. */
static const double batch_logprob_min = -1e5, batch_logprob_max = 1e-3;

struct batch *batch_open(uint32_t n) {
    struct batch *b = mem_zalloc(sizeof *b);
    b->n = n;
    b->traj = mem_array(n, sizeof *b->traj);
    for (uint32_t i = 0; i < n; i++)
        b->traj[i].baseline = NAN;
    return b;
}

static void free_arrays(struct batch_traj *t) {
    mem_free(t->ids);
    mem_free(t->logprob);
    mem_free(t->mask);
    mem_free(t->version);
}

void batch_close(struct batch **b) {
    if (!*b) return;
    for (uint32_t i = 0; i < (*b)->n; i++)
        free_arrays(&(*b)->traj[i]);
    mem_free((*b)->traj);
    mem_free(*b);
    *b = NULL;
}

void batch_set(struct batch *b, uint32_t i, const int32_t *prompt, int32_t n_prompt,
               const int32_t *response, int32_t n_response, const float *logprob,
               const uint8_t *mask, const int64_t *versions, int64_t version) {
    ASSERT(i < b->n && n_prompt > 0 && n_response >= 0);
    struct batch_traj *t = &b->traj[i];
    size_t p = (size_t)n_prompt, r = (size_t)n_response;
    free_arrays(t);
    t->n_prompt = n_prompt;
    t->n_response = n_response;
    t->ids = mem_array(p + r, sizeof *t->ids);
    t->logprob = mem_array(r, sizeof *t->logprob);
    t->mask = mem_array(r, sizeof *t->mask);
    t->version = mem_array(r, sizeof *t->version);
    memcpy(t->ids, prompt, p * sizeof *t->ids);
    if (r == 0) return;
    memcpy(t->ids + p, response, r * sizeof *t->ids);
    if (logprob) memcpy(t->logprob, logprob, r * sizeof *t->logprob);
    for (size_t k = 0; k < r; k++) {
        t->mask[k] = mask ? mask[k] != 0 : 1;
        t->version[k] = versions ? versions[k] : version;
    }
}

int64_t batch_oldest(const struct batch_traj *t) {
    int64_t oldest = INT64_MAX;
    for (int32_t k = 0; k < t->n_response; k++)
        if (t->mask[k] && t->version[k] < oldest) oldest = t->version[k];
    return oldest;
}

int64_t batch_trained(const struct batch *b) {
    int64_t n = 0;
    for (uint32_t i = 0; i < b->n; i++)
        for (int32_t k = 0; k < b->traj[i].n_response; k++)
            n += b->traj[i].mask[k];
    return n;
}

/* --- reading ------------------------------------------------------------------------------- */

static int need_array(const struct json **out, const struct json *row, const char *key, size_t min,
                      size_t max, const char *name) {
    const struct json *a = json_get(row, key);
    if (!json_is(a, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: \"%s\" must be an array, is %s", name, key,
                    a ? json_type_name(json_type(a)) : "absent");
    if (json_len(a) < min || json_len(a) > max)
        return FAIL(ERR_CORRUPT, "%s: \"%s\" has %zu elements, allowed are %zu to %zu", name, key,
                    json_len(a), min, max);
    *out = a;
    return 0;
}

static int read_ids(int32_t *ids, const struct json *array, const char *key, int32_t vocab,
                    const char *name) {
    size_t k = 0;
    for (const struct json *v = json_first(array); v; v = json_next(v), k++) {
        int64_t id;
        if (!json_int(v, &id))
            return FAIL(ERR_CORRUPT, "%s: \"%s\"[%zu] is not an integer", name, key, k);
        if (id < 0 || id >= vocab)
            return FAIL(ERR_CORRUPT, "%s: \"%s\"[%zu] is %" PRId64 ", ids are 0 to %d", name, key,
                        k, id, vocab - 1);
        ids[k] = (int32_t)id;
    }
    return 0;
}

static int read_logprobs(float *out, const struct json *row, size_t n, const char *name) {
    const struct json *array;
    size_t k = 0;
    TRY(need_array(&array, row, "logprobs", n, n, name));
    for (const struct json *v = json_first(array); v; v = json_next(v), k++) {
        double x = json_is(v, JSON_NUMBER) ? json_num(v, 0) : (double)NAN;
        if (!(x >= batch_logprob_min && x <= batch_logprob_max))
            return FAIL(ERR_CORRUPT, "%s: \"logprobs\"[%zu] must be a number from %g to 0", name, k,
                        batch_logprob_min);
        out[k] = (float)x;
    }
    return 0;
}

/* Absent: all ones. Elements: 0, 1, false or true. */
static int read_mask(uint8_t *out, const struct json *row, size_t n, const char *name) {
    const struct json *array = json_get(row, "loss_mask");
    size_t k = 0;
    memset(out, 1, n);
    if (!array || json_is(array, JSON_NULL)) return 0;
    TRY(need_array(&array, row, "loss_mask", n, n, name));
    for (const struct json *v = json_first(array); v; v = json_next(v), k++) {
        double x = json_is(v, JSON_BOOL) ? (double)json_bool(v, false) : json_num(v, -1);
        if (x != 0 && x != 1)
            return FAIL(ERR_CORRUPT, "%s: \"loss_mask\"[%zu] must be 0 or 1", name, k);
        out[k] = x != 0;
    }
    return 0;
}

static int read_versions(int64_t *out, const struct json *row, size_t n, const char *name) {
    const struct json *array = json_get(row, "versions");
    size_t k = 0;
    if (!array || json_is(array, JSON_NULL)) {
        int64_t version;
        int rc = json_read_int(&version, row, "version", 0, INT64_MAX / 2, name);
        if (rc == ERR_NOTFOUND)
            return FAIL(ERR_CORRUPT, "%s: neither \"version\" nor \"versions\" is there", name);
        TRY(rc);
        for (size_t i = 0; i < n; i++)
            out[i] = version;
        return 0;
    }
    TRY(need_array(&array, row, "versions", n, n, name));
    for (const struct json *v = json_first(array); v; v = json_next(v), k++)
        if (!json_int(v, &out[k]) || out[k] < 0 || out[k] > INT64_MAX / 2)
            return FAIL(ERR_CORRUPT, "%s: \"versions\"[%zu] must be an integer >= 0", name, k);
    return 0;
}

static int read_reward(float *out, const struct json *row, const char *name) {
    double x;
    int rc = json_read_num(&x, row, "reward", -batch_reward_max, batch_reward_max, name);
    if (rc == ERR_NOTFOUND) return FAIL(ERR_CORRUPT, "%s: \"reward\" is absent", name);
    TRY(rc);
    *out = (float)x;
    return 0;
}

/* Absent: not truncated, no baseline. */
static int read_outcome(struct batch_traj *t, const struct json *row, const char *name) {
    const struct json *cut = json_get(row, "truncated"), *base = json_get(row, "baseline");
    double x = (double)NAN;
    if (cut && !json_is(cut, JSON_NULL)) {
        if (!json_is(cut, JSON_BOOL))
            return FAIL(ERR_CORRUPT, "%s: \"truncated\" must be true or false", name);
        t->truncated = json_bool(cut, false);
    }
    if (base && !json_is(base, JSON_NULL))
        TRY(json_read_num(&x, row, "baseline", -batch_reward_max, batch_reward_max, name));
    t->baseline = (float)x;
    return 0;
}

static int read_traj(struct batch_traj *t, const struct json *row, int32_t vocab, int32_t context,
                     const char *name) {
    const struct json *prompt, *response;
    size_t room = (size_t)context;
    if (!json_is(row, JSON_OBJECT))
        return FAIL(ERR_CORRUPT, "%s: a batch line must be an object", name);
    TRY(need_array(&prompt, row, "prompt_ids", 1, room, name));
    TRY(need_array(&response, row, "response_ids", 1, room, name));
    size_t p = json_len(prompt), r = json_len(response);
    if (p + r > room)
        return FAIL(ERR_CORRUPT,
                    "%s: \"prompt_ids\" and \"response_ids\" have %zu tokens, the limit is %d",
                    name, p + r, context);
    t->n_prompt = (int32_t)p;
    t->n_response = (int32_t)r;
    t->ids = mem_array(p + r, sizeof *t->ids);
    t->logprob = mem_array(r, sizeof *t->logprob);
    t->mask = mem_array(r, sizeof *t->mask);
    t->version = mem_array(r, sizeof *t->version);
    TRY(read_ids(t->ids, prompt, "prompt_ids", vocab, name));
    TRY(read_ids(t->ids + p, response, "response_ids", vocab, name));
    TRY(read_logprobs(t->logprob, row, r, name));
    TRY(read_mask(t->mask, row, r, name));
    TRY(read_versions(t->version, row, r, name));
    TRY(read_outcome(t, row, name));
    return read_reward(&t->reward, row, name);
}

/* Names of groups -> numbers in order of appearance: open addressing, at most half full. */
struct groups {
    char **name;
    uint32_t n, *slot; /* slot: number + 1, 0 empty */
    size_t slots, name_cap;
};

static uint32_t group_number(struct groups *g, const char *name, size_t len) {
    size_t at = (size_t)hash64(name, len, 0) & (g->slots - 1);
    for (; g->slot[at]; at = (at + 1) & (g->slots - 1)) {
        const char *other = g->name[g->slot[at] - 1];
        if (strcmp(other, name) == 0) return g->slot[at] - 1;
    }
    mem_grow(&g->name, &g->name_cap, (size_t)g->n + 1, sizeof *g->name);
    g->name[g->n] = mem_strndup(name, len);
    g->slot[at] = g->n + 1;
    return g->n++;
}

static int read_group(struct batch_traj *t, struct groups *g, const struct json *row,
                      const char *name) {
    const struct json *v = json_get(row, "group");
    int64_t number;
    char text[32];
    if (json_is(v, JSON_STRING)) {
        if (strlen(json_str(v)) != json_len(v))
            return FAIL(ERR_CORRUPT, "%s: \"group\" holds a NUL character", name);
        t->group = group_number(g, json_str(v), json_len(v));
        return 0;
    }
    if (!json_int(v, &number))
        return FAIL(ERR_CORRUPT, "%s: \"group\" must be a string or an integer", name);
    struct buf b = {0};
    buf_printf(&b, "%" PRId64, number);
    memcpy(text, b.data, b.len + 1);
    t->group = group_number(g, text, b.len);
    buf_close(&b);
    return 0;
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

/* The line at *at without its newline; false at the end. */
static bool next_line(const struct file_map *m, size_t *at, const char **line, size_t *n) {
    if (*at == 0) *at = filetype_bom(m->data, m->bytes);
    if (*at >= m->bytes) return false;
    *line = (const char *)m->data + *at;
    const char *end = memchr(*line, '\n', m->bytes - *at);
    *n = end ? (size_t)(end - *line) : m->bytes - *at;
    *at += *n + 1;
    return true;
}

static int count_lines(uint32_t *out, const struct file_map *m, const char *path) {
    const char *line;
    uint32_t count = 0;
    for (size_t at = 0, n; next_line(m, &at, &line, &n);)
        count += !is_blank(line, n);
    if (count == 0) return FAIL(ERR_CORRUPT, "%s holds no trajectory", path);
    if (count > BATCH_LINES_MAX)
        return FAIL(ERR_CORRUPT, "%s has %u lines, the limit is %d", path, count, BATCH_LINES_MAX);
    *out = count;
    return 0;
}

static int read_lines(struct batch *b, struct groups *g, const struct file_map *m, const char *path,
                      int32_t vocab, int32_t context) {
    const char *line;
    uint32_t i = 0, number = 0;
    for (size_t at = 0, n; next_line(m, &at, &line, &n);) {
        number++;
        if (is_blank(line, n)) continue;
        struct json_doc *doc = NULL;
        char *name = mem_printf("%s line %u", path, number);
        int rc = json_parse(&doc, line, n, name);
        if (rc == 0) rc = read_traj(&b->traj[i], json_root(doc), vocab, context, name);
        if (rc == 0) rc = read_group(&b->traj[i], g, json_root(doc), name);
        b->traj[i].id = i;
        i++;
        json_close(&doc);
        mem_free(name);
        TRY(rc);
    }
    return 0;
}

/* Brings the trajectories of a group together; groups and members keep their order. */
static void sort_by_group(struct batch *b) {
    struct batch_traj *sorted = mem_array(b->n, sizeof *sorted);
    uint32_t *next = mem_array((size_t)b->n_groups + 1, sizeof *next);
    for (uint32_t i = 0; i < b->n; i++)
        next[b->traj[i].group + 1]++;
    for (uint32_t k = 0; k < b->n_groups; k++)
        next[k + 1] += next[k];
    for (uint32_t i = 0; i < b->n; i++)
        sorted[next[b->traj[i].group]++] = b->traj[i];
    mem_free(next);
    mem_free(b->traj);
    b->traj = sorted;
}

static void note_newest_version(struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++)
        for (int32_t k = 0; k < b->traj[i].n_response; k++)
            if (b->traj[i].version[k] > b->step) b->step = b->traj[i].version[k];
}

int batch_read(struct batch **out, const char *path, int32_t vocab, int32_t context) {
    struct file_map m = {0};
    struct groups g = {0};
    struct batch *b = NULL;
    uint32_t n;
    int rc;
    TRY_OUT(file_map_open(&m, path));
    TRY_OUT(count_lines(&n, &m, path));
    b = batch_open(n);
    for (g.slots = 16; g.slots < 2 * (size_t)n;)
        g.slots *= 2;
    g.slot = mem_array(g.slots, sizeof *g.slot);
    TRY_OUT(read_lines(b, &g, &m, path, vocab, context));
    b->n_groups = g.n;
    sort_by_group(b);
    note_newest_version(b);
    *out = b;
    b = NULL;
out:
    rc = filetype_explain(rc, m.data, m.bytes, path, FILETYPE_JSONL);
    batch_close(&b);
    for (uint32_t k = 0; k < g.n; k++)
        mem_free(g.name[k]);
    mem_free(g.name);
    mem_free(g.slot);
    file_map_close(&m);
    return rc;
}
