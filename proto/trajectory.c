/* trajectory.c - see trajectory.h. Columns are handled by the table: nothing here but
 * trajectory_trains and trajectory_oldest knows one of them by name. */
#include "proto/trajectory.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

/* Room of an owner is a multiple of this, so that each column in it is aligned for any type. */
enum { ROOM = 8 };

static const struct column {
    const char *name;
    size_t bytes;
    bool required;
    uint8_t absent;
} columns[TRAJECTORY_COLUMNS] = {
#define TRAJECTORY_ROW(NAME, field, type, required, byte, words)                                   \
    [TRAJECTORY_##NAME] = {words, sizeof(type), required, byte},
    TRAJECTORY_TABLE(TRAJECTORY_ROW)
#undef TRAJECTORY_ROW
};

/* The union of named fields and array stands on this. */
#define TRAJECTORY_PLACE(NAME, field, type, required, byte, words)                                 \
    _Static_assert(offsetof(struct trajectory, field) ==                                           \
                       offsetof(struct trajectory, column) +                                       \
                           TRAJECTORY_##NAME * sizeof(const void *),                               \
                   #field " is its column");
TRAJECTORY_TABLE(TRAJECTORY_PLACE)
#undef TRAJECTORY_PLACE
_Static_assert(sizeof(struct trajectory_turn) == 8, "turns are stored as they are");

size_t trajectory_column_bytes(enum trajectory_column c) {
    return columns[c].bytes;
}

bool trajectory_column_required(enum trajectory_column c) {
    return columns[c].required;
}

const char *trajectory_finish_name(enum trajectory_finish f) {
    static const char *const names[TRAJECTORY_FINISHES] = {"partial", "stop", "length", "aborted"};
    return names[f];
}

const char *trajectory_role_name(enum trajectory_role r) {
    static const char *const names[TRAJECTORY_ROLES] = {"assistant", "user", "tool", "system"};
    return names[r];
}

/* --- checks -------------------------------------------------------------------------------- */

static int check_turns(const struct trajectory *t) {
    for (int32_t i = 0; i < t->n_turns; i++) {
        const struct trajectory_turn *x = &t->turn[i];
        int32_t least = i > 0 ? x[-1].start + 1 : t->offset;
        if (x->start < least || x->start - t->offset >= t->n_response)
            return FAIL(ERR_CORRUPT, "turn %d starts at %d, allowed are %d to %d", i, x->start,
                        least, t->offset + t->n_response - 1);
        if (x->role >= TRAJECTORY_ROLES || x->trained > 1 || x->zero[0] || x->zero[1])
            return FAIL(ERR_CORRUPT, "turn %d: role %d, trained %d", i, x->role, x->trained);
    }
    return 0;
}

int trajectory_check(const struct trajectory *t) {
    if (t->n_prompt < 0 || t->n_response < 0 || t->offset < 0 || t->n_turns < 0 ||
        t->n_response > INT32_MAX - t->offset)
        return FAIL(ERR_CORRUPT, "%d prompt tokens, %d more from %d on in %d turns", t->n_prompt,
                    t->n_response, t->offset, t->n_turns);
    if ((unsigned)t->finish >= TRAJECTORY_FINISHES)
        return FAIL(ERR_CORRUPT, "finish: %d", (int)t->finish);
    if (t->n_prompt > 0 && !t->prompt) return FAIL(ERR_CORRUPT, "the prompt is missing");
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        if (t->n_response > 0 && columns[c].required && !t->column[c])
            return FAIL(ERR_CORRUPT, "%s are missing", columns[c].name);
    if (t->mask)
        for (int32_t k = 0; k < t->n_response; k++)
            if (t->mask[k] > 1) return FAIL(ERR_CORRUPT, "mask: token %d has %d", k, t->mask[k]);
    return check_turns(t);
}

bool trajectory_trains(const struct trajectory *t, int32_t k) {
    int32_t i = t->n_turns;
    while (i > 0 && t->turn[i - 1].start > k)
        i--;
    if (i > 0 && !t->turn[i - 1].trained) return false;
    return !t->mask || t->mask[k - t->offset];
}

int64_t trajectory_oldest(const struct trajectory *t) {
    int64_t oldest = INT64_MAX;
    for (int32_t k = 0; k < t->n_response; k++)
        if (t->version[k] < oldest) oldest = t->version[k];
    return oldest;
}

/* --- comparing ----------------------------------------------------------------------------- */

static bool same_element(const struct trajectory *a, int32_t i, const struct trajectory *b,
                         int32_t k, int c) {
    size_t bytes = columns[c].bytes;
    const char *x = a->column[c], *y = b->column[c];
    if (!x && !y) return true;
    if (x && y) return memcmp(x + (size_t)i * bytes, y + (size_t)k * bytes, bytes) == 0;
    const char *there = x ? x + (size_t)i * bytes : y + (size_t)k * bytes;
    for (size_t j = 0; j < bytes; j++)
        if ((uint8_t)there[j] != columns[c].absent) return false;
    return true;
}

int32_t trajectory_differs(const struct trajectory *a, const struct trajectory *b) {
    int32_t end_a = a->offset + a->n_response, end_b = b->offset + b->n_response;
    int32_t from = a->offset > b->offset ? a->offset : b->offset;
    int32_t to = end_a < end_b ? end_a : end_b;
    for (int32_t k = from; k < to; k++)
        for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
            if (!same_element(a, k - a->offset, b, k - b->offset, c)) return k;
    return -1;
}

static bool same_bytes(const void *a, const void *b, size_t bytes) {
    return bytes == 0 || memcmp(a, b, bytes) == 0;
}

bool trajectory_equal(const struct trajectory *a, const struct trajectory *b) {
    if (a->id != b->id || a->group != b->group || a->n_prompt != b->n_prompt ||
        a->n_response != b->n_response || a->offset != b->offset || a->n_turns != b->n_turns ||
        a->finish != b->finish || memcmp(&a->reward, &b->reward, sizeof a->reward) != 0 ||
        memcmp(&a->baseline, &b->baseline, sizeof a->baseline) != 0)
        return false;
    return same_bytes(a->prompt, b->prompt, (size_t)a->n_prompt * sizeof *a->prompt) &&
           same_bytes(a->turn, b->turn, (size_t)a->n_turns * sizeof *a->turn) &&
           trajectory_differs(a, b) < 0;
}

/* --- parts --------------------------------------------------------------------------------- */

struct trajectory trajectory_slice(const struct trajectory *t, int32_t from, int32_t to) {
    struct trajectory s = *t;
    ASSERT(from >= 0 && from <= to && to <= t->n_response);
    s.memory = NULL;
    s.turns = NULL;
    s.cap = s.turns_cap = 0;
    s.offset = t->offset + from;
    s.n_response = to - from;
    if (s.offset > 0) s.n_prompt = 0;
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        if (t->column[c])
            s.column[c] = (const char *)t->column[c] + (size_t)from * columns[c].bytes;
    while (s.n_turns > 0 && s.turn->start < s.offset) {
        s.turn++;
        s.n_turns--;
    }
    while (s.n_turns > 0 && s.turn[s.n_turns - 1].start >= s.offset + s.n_response)
        s.n_turns--;
    return s;
}

static void *copy_array(struct arena *a, const void *data, size_t bytes) {
    void *to = arena_alloc(a, bytes ? bytes : 1);
    if (bytes) memcpy(to, data, bytes);
    return to;
}

struct trajectory trajectory_copy(struct arena *a, const struct trajectory *t) {
    struct trajectory s = trajectory_slice(t, 0, t->n_response);
    const char *name = t->rollout ? t->rollout : "";
    s.n_prompt = t->n_prompt;
    s.rollout = arena_strndup(a, name, strlen(name));
    s.prompt = copy_array(a, t->prompt, (size_t)t->n_prompt * sizeof *t->prompt);
    s.turn = copy_array(a, s.turn, (size_t)s.n_turns * sizeof *s.turn);
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        if (t->column[c])
            s.column[c] = copy_array(a, t->column[c], (size_t)t->n_response * columns[c].bytes);
    return s;
}

/* --- growing ------------------------------------------------------------------------------- */

/* Bytes that columns take for so many tokens; has: which there are. */
static size_t room_of(const bool has[TRAJECTORY_COLUMNS], size_t cap) {
    size_t bytes = 0, all = 0;
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        bytes += has[c] ? columns[c].bytes : 0;
    ASSERT(mem_mul(&all, bytes, cap));
    return all;
}

/* One piece of memory for all columns: most trajectories come whole. */
static void move_columns(struct trajectory *t, const bool has[TRAJECTORY_COLUMNS], size_t cap) {
    size_t have = (size_t)t->n_response;
    char *memory = mem_alloc(room_of(has, cap)), *at = memory;
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++) {
        size_t bytes = columns[c].bytes;
        if (!has[c]) continue;
        if (have > 0 && t->column[c]) memcpy(at, t->column[c], have * bytes);
        if (have > 0 && !t->column[c]) memset(at, columns[c].absent, have * bytes);
        t->column[c] = at;
        at += cap * bytes;
    }
    mem_free(t->memory);
    t->memory = memory;
    t->cap = cap;
}

static void append_turns(struct trajectory *t, const struct trajectory *part) {
    size_t n = (size_t)t->n_turns, more = (size_t)part->n_turns;
    if (more == 0) return;
    if (!t->turns && n > 0) { /* those that were borrowed */
        mem_grow(&t->turns, &t->turns_cap, n + more, sizeof *t->turns);
        memcpy(t->turns, t->turn, n * sizeof *t->turns);
    }
    mem_grow(&t->turns, &t->turns_cap, n + more, sizeof *t->turns);
    memcpy(t->turns + n, part->turn, more * sizeof *t->turns);
    t->turn = t->turns;
    t->n_turns += part->n_turns;
}

/* Where element k of a column that t owns is written. */
static void *element(const struct trajectory *t, int c, size_t k) {
    size_t at = (size_t)((const char *)t->column[c] - (const char *)t->memory);
    return (char *)t->memory + at + k * columns[c].bytes;
}

void trajectory_append(struct trajectory *t, const struct trajectory *part) {
    size_t at = (size_t)t->n_response, n = (size_t)part->n_response, need = at + n;
    bool has[TRAJECTORY_COLUMNS], more = need > t->cap;
    ASSERT(part->offset == t->offset + t->n_response && need <= INT32_MAX);
    if (n == 0) return;
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++) {
        has[c] = columns[c].required || part->column[c] || (at > 0 && t->column[c]);
        more = more || (has[c] && !t->column[c]);
    }
    if (more) {
        size_t cap = need > t->cap ? 2 * t->cap : t->cap;
        if (cap < need) cap = need;
        move_columns(t, has, (cap + ROOM - 1) / ROOM * ROOM);
    }
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++) {
        size_t bytes = n * columns[c].bytes;
        if (part->column[c])
            memcpy(element(t, c, at), part->column[c], bytes);
        else if (has[c])
            memset(element(t, c, at), columns[c].absent, bytes);
    }
    t->n_response += part->n_response;
    append_turns(t, part);
}

size_t trajectory_owned(const struct trajectory *t) {
    bool has[TRAJECTORY_COLUMNS];
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        has[c] = t->memory && t->column[c];
    return room_of(has, t->cap) + t->turns_cap * sizeof *t->turns;
}

void trajectory_free(struct trajectory *t) {
    mem_free(t->memory);
    mem_free(t->turns);
    t->memory = NULL;
    t->turns = NULL;
    t->turn = NULL;
    t->cap = t->turns_cap = 0;
    t->n_response = t->n_turns = 0;
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        t->column[c] = NULL;
}
