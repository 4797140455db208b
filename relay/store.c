/* store.c - see store.h. A handful of versions in an array in ascending order: a search is a walk.
 * What is let go is decided in one place, after every change: everything but the newest two that no
 * living reader holds, and the oldest beyond STORE_MAX in any case, so that a reader that hangs
 * cannot fill the memory (I9). Readers keep their own mapping, so letting go never hurts them. */
#include "relay/store.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { STORE_NAME = 65 };

struct reader {
    char name[STORE_NAME];
    int64_t held;
    uint64_t heard_us;
};

struct store {
    struct store_version v[STORE_MAX + 1];
    size_t n;
    struct reader reader[STORE_READERS_MAX];
    size_t n_readers;
    uint64_t now_us; /* newest time that a reader was heard */
};

struct store *store_open(void) {
    return mem_zalloc(sizeof(struct store));
}

void store_close(struct store **s) {
    if (!*s) return;
    for (size_t i = 0; i < (*s)->n; i++)
        sealed_close(&(*s)->v[i].file);
    mem_free(*s);
    *s = NULL;
}

static bool is_alive(const struct store *s, const struct reader *r) {
    return r->heard_us + STORE_READER_US > s->now_us;
}

static bool is_held(const struct store *s, int64_t version) {
    for (size_t i = 0; i < s->n_readers; i++)
        if (s->reader[i].held == version && is_alive(s, &s->reader[i])) return true;
    return false;
}

static void drop(struct store *s, size_t i) {
    sealed_close(&s->v[i].file);
    memmove(&s->v[i], &s->v[i + 1], (s->n - i - 1) * sizeof s->v[0]);
    s->n--;
}

/* Also unmaps those that stay: nobody needs a mapping once its version was verified. */
void store_tidy(struct store *s) {
    for (size_t i = 0; i + STORE_NEWEST < s->n;)
        if (is_held(s, s->v[i].version))
            i++;
        else
            drop(s, i);
    while (s->n > STORE_MAX)
        drop(s, 0);
    for (size_t i = 0; i < s->n; i++)
        sealed_unmap(&s->v[i].file);
}

const struct store_version *store_find(const struct store *s, int64_t version) {
    if (version < 0) return s->n ? &s->v[s->n - 1] : NULL;
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].version == version) return &s->v[i];
    return NULL;
}

static int check_same(const struct store_version *old, struct hash hash, size_t bytes) {
    char a[HASH_HEX], b[HASH_HEX];
    if (hash_equal(old->hash, hash) && old->file.bytes == bytes) return 0;
    hash_hex(old->hash, a);
    hash_hex(hash, b);
    return FAIL(ERR_MISMATCH, "version %" PRId64 " is held with hash %s, offered with %s",
                old->version, a, b);
}

int store_offer(struct store *s, int64_t version, struct hash hash, size_t bytes, int64_t pid,
                int32_t fd) {
    const struct store_version *old = store_find(s, version);
    if (version >= 0 && old) return check_same(old, hash, bytes);
    struct sealed file;
    TRY(sealed_open(&file, pid, fd, version, bytes, hash));
    int rc = sealed_verify(&file, hash);
    if (rc < 0) {
        sealed_close(&file);
        return rc;
    }
    if (s->n > STORE_MAX) store_tidy(s);
    size_t at = s->n;
    while (at > 0 && s->v[at - 1].version > version)
        at--;
    memmove(&s->v[at + 1], &s->v[at], (s->n - at) * sizeof s->v[0]);
    s->v[at] = (struct store_version){version, hash, file};
    s->n++;
    return 0;
}

static struct reader *reader_slot(struct store *s, const char *name) {
    struct reader *oldest = &s->reader[0];
    for (size_t i = 0; i < s->n_readers; i++) {
        if (strcmp(s->reader[i].name, name) == 0) return &s->reader[i];
        if (s->reader[i].heard_us < oldest->heard_us) oldest = &s->reader[i];
    }
    struct reader *r = s->n_readers < STORE_READERS_MAX ? &s->reader[s->n_readers++] : oldest;
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

void store_reader(struct store *s, const char *name, int64_t held, uint64_t now_us) {
    struct reader *r = reader_slot(s, name);
    r->held = held;
    r->heard_us = now_us;
    if (now_us > s->now_us) s->now_us = now_us;
    store_tidy(s);
}

const char *store_next_reader(const struct store *s, size_t *at) {
    while (*at < s->n_readers) {
        const struct reader *r = &s->reader[(*at)++];
        if (is_alive(s, r)) return r->name;
    }
    return NULL;
}

size_t store_count(const struct store *s) {
    return s->n;
}
