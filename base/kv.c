/* kv.c - see kv.h. One RocksDB with one column family: keys are ordered bytes, so a prefix is a
 * table, and one write batch is one event of a run (I3). Memory is fixed: two memtables of at
 * most 64 MiB (larger ones write fewer and larger files), a small cache that also holds indexes,
 * few open files. No compression: values are tokens and floats
 * that are read back often and compress badly, and the Debian library's codecs differ by build.
 *
 * Recovery tolerates a torn last record of the write-ahead log, which is what kill -9 leaves, and
 * refuses damage anywhere else: silently forgetting a synced batch would train it twice.
 *
 * RocksDB starts its threads on demand; they are started with all signals blocked, so that a stop
 * signal always reaches the loop's signalfd. */
#include "base/kv.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/kv_memory.h"
#include "base/mem.h"

#include <dirent.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

enum {
    KV_MEMTABLE_BYTES = 64 << 20,
    KV_CACHE_BYTES = 16 << 20,
    KV_WAL_BYTES = 64 << 20,
    KV_INFO_BYTES = 1 << 20,
    KV_OPEN_FILES = 128,
    KV_INFO_WARN = 2,             /* rocksdb InfoLogLevel */
    KV_RECOVER_TORN_TAIL = 0,     /* rocksdb WALRecoveryMode kTolerateCorruptedTailRecords */
    KV_RECOVER_WHAT_IS_WHOLE = 3, /* kSkipAnyCorruptedRecords */
    KV_LOCK_US = 10 * 1000 * 1000,
    KV_LOCK_TRY_US = 20 * 1000,
    KV_READONLY_TRIES = 8, /* a live writer may delete a file while we open */
    KV_READONLY_PAUSE_US = 20000
};

struct kv {
    struct kv_memory *memory; /* NULL: on disk, by the rest */
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write, *write_sync;
    char *dir;
};

struct kv_batch {
    rocksdb_writebatch_t *rocks;
};

struct kv_iter {
    rocksdb_iterator_t *rocks;
    rocksdb_readoptions_t *read;
    char *upper; /* first key after the prefix; RocksDB borrows it */
    const char *dir;
    bool started;
    struct kv_memory
        *memory; /* with the prefix, and the key that was given last, or to start from */
    struct buf prefix, at;
};

/* Turns RocksDB's text into an error and frees it; 0 when there is none. */
static int fail_rocks(char *text, const char *verb, const char *dir) {
    if (!text) return 0;
    int code = ERR_IO;
    if (strncmp(text, "Corruption", 10) == 0) code = ERR_CORRUPT;
    if (strcmp(verb, "open") == 0 && strstr(text, "No such file")) code = ERR_CORRUPT; /* its own */
    if (strncmp(text, "Invalid argument", 16) == 0) code = ERR_CONFIG;
    int rc = strstr(text, "LOCK: ")
                 ? FAIL(ERR_IO, "cannot %s %s: another process has it open (%s)", verb, dir, text)
                 : FAIL(code, "cannot %s %s: %s", verb, dir, text);
    rocksdb_free(text);
    return rc;
}

static void set_options(struct kv *k, bool create, bool readonly) {
    rocksdb_options_t *o = k->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, create);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(o, KV_MEMTABLE_BYTES);
    rocksdb_options_set_max_write_buffer_number(o, 2);
    rocksdb_options_set_max_total_wal_size(o, KV_WAL_BYTES);
    rocksdb_options_set_max_background_jobs(o, 2);
    /* A reader opens every file at once and keeps it: the writer may delete it any time. */
    rocksdb_options_set_max_open_files(o, readonly ? -1 : KV_OPEN_FILES);
    rocksdb_options_set_wal_recovery_mode(o, KV_RECOVER_TORN_TAIL);
    rocksdb_options_set_info_log_level(o, KV_INFO_WARN);
    rocksdb_options_set_max_log_file_size(o, KV_INFO_BYTES);
    rocksdb_options_set_keep_log_file_num(o, 1);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    k->cache = rocksdb_cache_create_lru(KV_CACHE_BYTES);
    rocksdb_block_based_options_set_block_cache(t, k->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);
}

static struct kv *kv_new(const char *dir, bool create, bool readonly) {
    struct kv *k = mem_zalloc(sizeof *k);
    k->dir = mem_strdup(dir);
    k->read = rocksdb_readoptions_create();
    k->write = rocksdb_writeoptions_create();
    k->write_sync = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(k->write_sync, 1);
    set_options(k, create, readonly);
    return k;
}

struct kv *kv_open_memory(struct kv_memory *memory, const char *name) {
    struct kv *k = mem_zalloc(sizeof *k);
    k->memory = memory;
    k->dir = mem_strdup(name);
    return k;
}

void kv_close(struct kv **k) {
    struct kv *s = *k;
    if (!s) return;
    if (s->memory) {
        mem_free(s->dir);
        mem_free(s);
        *k = NULL;
        return;
    }
    if (s->db) rocksdb_close(s->db);
    rocksdb_options_destroy(s->options);
    rocksdb_cache_destroy(s->cache);
    rocksdb_readoptions_destroy(s->read);
    rocksdb_writeoptions_destroy(s->write);
    rocksdb_writeoptions_destroy(s->write_sync);
    mem_free(s->dir);
    mem_free(s);
    *k = NULL;
}

/* Changes whenever a live writer moves records from its log of writes to tables: which logs there
 * are, and how long the list of tables is. 0: it could not be read. */
static uint64_t files_of(const char *dir) {
    uint64_t sum = 1;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        struct stat st;
        if (n > 4 && strcmp(e->d_name + n - 4, ".log") == 0) sum += hash64(e->d_name, n, 1);
        if (strncmp(e->d_name, "MANIFEST", 8) == 0 && fstatat(dirfd(d), e->d_name, &st, 0) == 0)
            sum += hash64(e->d_name, n, (uint64_t)st.st_size);
    }
    if (d) closedir(d);
    return d ? sum : 0;
}

/* The library's own text for a missing database is long and misleading. Where only the file that
 * all begins with is gone, the log is not missing but damaged. */
static int check_exists(const char *dir) {
    char *current = file_join(dir, "CURRENT");
    bool there = file_exists(current);
    mem_free(current);
    if (there) return 0;
    if (files_of(dir) > 1) return FAIL(ERR_CORRUPT, "the file CURRENT is missing in %s", dir);
    return FAIL(ERR_NOTFOUND, "no log in %s", dir);
}

static bool is_held_by_another(const char *text) {
    return text && strstr(text, "LOCK: ") && !strstr(text, "by current process");
}

/* A writer that was killed, or told to end, holds its lock until the kernel is through with it: a
 * run that is resumed at once waits for that. */
static int open_db(struct kv *k, bool readonly) {
    uint64_t until = clock_us() + KV_LOCK_US;
    char *text = NULL;
    sigset_t all, old;
    crash_fill_signals(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (;;) {
        k->db = readonly ? rocksdb_open_for_read_only(k->options, k->dir, 0, &text)
                         : rocksdb_open(k->options, k->dir, &text);
        if (!is_held_by_another(text) || clock_us() >= until) break;
        rocksdb_free(text);
        text = NULL;
        clock_sleep_us(KV_LOCK_TRY_US);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return fail_rocks(text, "open", k->dir);
}

int kv_open(struct kv **out, const char *dir, bool create) {
    if (!create) TRY(check_exists(dir));
    if (create) TRY(file_mkdirs(dir));
    struct kv *k = kv_new(dir, create, false);
    int rc = open_db(k, false);
    if (rc < 0) {
        k->db = NULL;
        kv_close(&k);
        return rc;
    }
    *out = k;
    return 0;
}

/* A reader that has read the list of tables before such a move and the logs after it would miss the
 * records without a word: so what was open while files changed is opened again. */
int kv_open_readonly(struct kv **out, const char *dir) {
    TRY(check_exists(dir));
    for (int i = 1;; i++) {
        uint64_t before = files_of(dir);
        struct kv *k = kv_new(dir, false, true);
        int rc = open_db(k, true);
        bool same = files_of(dir) == before;
        if (rc == 0 && (same || i == KV_READONLY_TRIES)) {
            *out = k;
            return 0;
        }
        if (rc < 0) k->db = NULL;
        kv_close(&k);
        if (i == KV_READONLY_TRIES) return rc;
        clock_sleep_us(KV_READONLY_PAUSE_US);
    }
}

static int open_as_it_is(struct kv **out, const char *dir) {
    struct kv *k = kv_new(dir, false, false);
    rocksdb_options_set_paranoid_checks(k->options, 0);
    rocksdb_options_set_wal_recovery_mode(k->options, KV_RECOVER_WHAT_IS_WHOLE);
    int rc = open_db(k, false);
    if (rc == 0) {
        *out = k;
        return 0;
    }
    k->db = NULL;
    kv_close(&k);
    return rc;
}

int kv_open_damaged(struct kv **out, const char *dir) {
    char *text = NULL;
    if (open_as_it_is(out, dir) == 0) return 0;
    struct kv *k = kv_new(dir, true, false);
    rocksdb_options_set_paranoid_checks(k->options, 0);
    rocksdb_options_set_wal_recovery_mode(k->options, KV_RECOVER_WHAT_IS_WHOLE);
    rocksdb_repair_db(k->options, dir, &text);
    kv_close(&k);
    TRY(fail_rocks(text, "repair", dir));
    return open_as_it_is(out, dir);
}

/* The value as the store lends it: *owned is to be given back, NULL for memory's. */
static int borrow(struct kv *k, const void *key, size_t n_key, const char **found, size_t *n,
                  char **owned) {
    char *text = NULL;
    if (k->memory) {
        const struct kv_pair *p = kv_memory_seek(k->memory, key, n_key);
        bool there = p && p->n_key == n_key && memcmp(p->key, key, n_key) == 0;
        *found = there ? p->value : NULL;
        *n = there ? p->bytes : 0;
        return 0;
    }
    *found = *owned = rocksdb_get(k->db, k->read, key, n_key, n, &text);
    return fail_rocks(text, "read", k->dir);
}

int kv_get(struct kv *k, const void *key, size_t n_key, char **value, size_t *bytes) {
    const char *found = NULL;
    char *owned = NULL;
    size_t n = 0;
    TRY(borrow(k, key, n_key, &found, &n, &owned));
    if (!found) return FAIL(ERR_NOTFOUND, "no such key in %s", k->dir);
    char *copy = mem_alloc(n + 1);
    memcpy(copy, found, n);
    copy[n] = '\0';
    rocksdb_free(owned);
    *value = copy;
    *bytes = n;
    return 0;
}

struct kv_batch *kv_batch_open(void) {
    struct kv_batch *b = mem_zalloc(sizeof *b);
    b->rocks = rocksdb_writebatch_create();
    return b;
}

void kv_batch_close(struct kv_batch **b) {
    if (!*b) return;
    rocksdb_writebatch_destroy((*b)->rocks);
    mem_free(*b);
    *b = NULL;
}

void kv_batch_put(struct kv_batch *b, const void *key, size_t n_key, const void *value,
                  size_t bytes) {
    /* The library asserts on NULL even for an empty value. */
    rocksdb_writebatch_put(b->rocks, key, n_key, bytes ? value : "", bytes);
}

void kv_batch_put_parts(struct kv_batch *b, const void *key, size_t n_key,
                        const struct kv_part *parts, size_t n) {
    const char *key_list[1] = {key}, *value[KV_PARTS_MAX];
    size_t bytes[KV_PARTS_MAX];
    ASSERT(n >= 1 && n <= KV_PARTS_MAX);
    for (size_t i = 0; i < n; i++) {
        value[i] = parts[i].bytes ? parts[i].data : "";
        bytes[i] = parts[i].bytes;
    }
    rocksdb_writebatch_putv(b->rocks, 1, key_list, &n_key, (int)n, value, bytes);
}

void kv_batch_delete(struct kv_batch *b, const void *key, size_t n_key) {
    rocksdb_writebatch_delete(b->rocks, key, n_key);
}

size_t kv_batch_count(const struct kv_batch *b) {
    return (size_t)rocksdb_writebatch_count(b->rocks);
}

size_t kv_batch_bytes(const struct kv_batch *b) {
    size_t bytes = 0;
    rocksdb_writebatch_data(b->rocks, &bytes);
    return bytes;
}

static void put_memory(void *memory, const char *key, size_t n_key, const char *value,
                       size_t bytes) {
    kv_memory_put(memory, key, n_key, value, bytes);
}

static void delete_memory(void *memory, const char *key, size_t n_key) {
    kv_memory_delete(memory, key, n_key);
}

int kv_write(struct kv *k, struct kv_batch *b, bool sync) {
    char *text = NULL;
    if (k->memory) {
        rocksdb_writebatch_iterate(b->rocks, k->memory, put_memory, delete_memory);
        rocksdb_writebatch_clear(b->rocks);
        return 0;
    }
    rocksdb_write(k->db, sync ? k->write_sync : k->write, b->rocks, &text);
    TRY(fail_rocks(text, "write to", k->dir));
    rocksdb_writebatch_clear(b->rocks);
    return 0;
}

/* The smallest key greater than all keys with the prefix; NULL when there is none. */
static char *after_prefix(const void *prefix, size_t n, size_t *n_out) {
    const unsigned char *p = prefix;
    while (n > 0 && p[n - 1] == 0xff)
        n--;
    if (n == 0) return NULL;
    char *up = mem_alloc(n);
    memcpy(up, prefix, n);
    up[n - 1] = (char)(p[n - 1] + 1);
    *n_out = n;
    return up;
}

int kv_iter_open(struct kv_iter **out, struct kv *k, const void *prefix, size_t n_prefix,
                 const void *from, size_t n_from) {
    struct kv_iter *it = mem_zalloc(sizeof *it);
    size_t n_upper = 0;
    it->dir = k->dir;
    if (k->memory) {
        it->memory = k->memory;
        buf_add(&it->prefix, prefix, n_prefix);
        buf_add(&it->at, from ? from : prefix, from ? n_from : n_prefix);
        *out = it;
        return 0;
    }
    it->read = rocksdb_readoptions_create();
    it->upper = after_prefix(prefix, n_prefix, &n_upper);
    if (it->upper) rocksdb_readoptions_set_iterate_upper_bound(it->read, it->upper, n_upper);
    it->rocks = rocksdb_create_iterator(k->db, it->read);
    if (from)
        rocksdb_iter_seek(it->rocks, from, n_from);
    else
        rocksdb_iter_seek(it->rocks, n_prefix ? prefix : "", n_prefix);
    *out = it;
    return 0;
}

/* Looked up anew each time, by the least key after the one that was given: the store may change
 * between two calls. */
static int next_in_memory(struct kv_iter *it, const char **key, size_t *n_key, const char **value,
                          size_t *bytes) {
    if (it->started) buf_add(&it->at, "", 1);
    it->started = true;
    const struct kv_pair *p = kv_memory_seek(it->memory, it->at.data, it->at.len);
    if (!p || p->n_key < it->prefix.len || memcmp(p->key, it->prefix.data, it->prefix.len) != 0)
        return 0;
    buf_reset(&it->at);
    buf_add(&it->at, p->key, p->n_key);
    *key = p->key;
    *n_key = p->n_key;
    *value = p->value;
    *bytes = p->bytes;
    return 1;
}

int kv_iter_next(struct kv_iter *it, const char **key, size_t *n_key, const char **value,
                 size_t *bytes) {
    if (it->memory) return next_in_memory(it, key, n_key, value, bytes);
    if (it->started && rocksdb_iter_valid(it->rocks)) rocksdb_iter_next(it->rocks);
    it->started = true;
    if (!rocksdb_iter_valid(it->rocks)) {
        char *text = NULL;
        rocksdb_iter_get_error(it->rocks, &text);
        return fail_rocks(text, "read", it->dir);
    }
    *key = rocksdb_iter_key(it->rocks, n_key);
    *value = rocksdb_iter_value(it->rocks, bytes);
    return 1;
}

void kv_iter_close(struct kv_iter **it) {
    if (!*it) return;
    if ((*it)->rocks) rocksdb_iter_destroy((*it)->rocks);
    if ((*it)->read) rocksdb_readoptions_destroy((*it)->read);
    buf_close(&(*it)->prefix);
    buf_close(&(*it)->at);
    mem_free((*it)->upper);
    mem_free(*it);
    *it = NULL;
}
