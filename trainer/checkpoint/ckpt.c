/* ckpt.c - see ckpt.h.
 *
 * A checkpoint is trusted only through its manifest: every file's size and hash is compared before
 * a single byte reaches the trainer, so a torn directory, a flipped bit and a file of another run
 * look the same: not a checkpoint. The hashes are taken by reading the written files back, which
 * also catches a disk that lies early. A checkpoint that is being removed is renamed first, so a
 * crash in the middle of removing leaves rubbish with a name nobody reads. */
#include "trainer/checkpoint/ckpt.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/log.h"
#include "base/mem.h"
#include "trainer/checkpoint/export.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CKPT_FORMAT = 2, CKPT_PIECE = 4 << 20, CKPT_JSON_MAX = 1 << 20 };
static const char *const ckpt_manifest = "manifest.json";
static const char *const ckpt_state = "state.json";

/* --- listing ------------------------------------------------------------------------------- */

/* Versions that a directory holds, newest first. */
struct found {
    int64_t *version;
    size_t n, cap;
};

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

/* "step-12" -> 12; -1 for any other name. */
static int64_t version_of(const char *name) {
    char *end = NULL;
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') return -1;
    errno = 0;
    long long v = strtoll(name + 5, &end, 10);
    return errno || *end ? -1 : (int64_t)v;
}

/* An absent directory holds nothing. */
static int list_versions(struct found *out, const char *dir) {
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return 0;
    if (!d) return FAIL(ERR_IO, "cannot read directory %s: %s", dir, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        int64_t v = version_of(e->d_name);
        if (v < 0) continue;
        mem_grow(&out->version, &out->cap, out->n + 1, sizeof *out->version);
        out->version[out->n++] = v;
    }
    closedir(d);
    if (out->n > 1) qsort(out->version, out->n, sizeof *out->version, newest_first);
    return 0;
}

int ckpt_list(int64_t **versions, size_t *n, const char *dir) {
    struct found f = {0};
    int rc = list_versions(&f, dir);
    if (rc < 0) {
        mem_free(f.version);
        return rc;
    }
    *versions = f.version;
    *n = f.n;
    return 0;
}

static int rename_path(const char *from, const char *to) {
    if (rename(from, to) == 0) return 0;
    return FAIL(ERR_IO, "cannot rename %s to %s: %s", from, to, strerror(errno));
}

static int remove_version(const char *dir, int64_t version) {
    char *path = mem_printf("%s/step-%" PRId64, dir, version);
    char *gone = mem_printf("%s/.tmp-gone-%" PRId64, dir, version);
    int rc;
    TRY_OUT(file_remove_tree(gone));
    TRY_OUT(rename_path(path, gone));
    TRY_OUT(file_remove_tree(gone));
out:
    mem_free(path);
    mem_free(gone);
    return rc;
}

static int remove_leftovers(const char *dir) {
    DIR *d = opendir(dir);
    int rc = 0;
    if (!d) return FAIL(ERR_IO, "cannot read directory %s: %s", dir, strerror(errno));
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strncmp(e->d_name, ".tmp-", 5) != 0) continue;
        char *path = file_join(dir, e->d_name);
        rc = file_remove_tree(path);
        mem_free(path);
    }
    closedir(d);
    return rc;
}

static int remove_old(const char *dir, int64_t keep) {
    struct found f = {0};
    int rc = list_versions(&f, dir);
    size_t stay = keep < 1 ? 1 : (size_t)keep;
    for (size_t i = stay; rc == 0 && i < f.n; i++)
        rc = remove_version(dir, f.version[i]);
    mem_free(f.version);
    return rc ? rc : remove_leftovers(dir);
}

/* --- saving -------------------------------------------------------------------------------- */

size_t ckpt_slab_bytes(const struct ckpt *c, int i) {
    struct kern_tensor whole = params_slab(c->weights);
    return (size_t)kern_elements(&whole) * update_slab(c->update, i).size;
}

static int write_slab_to(int fd, const struct ckpt *c, int i, const char *path) {
    size_t bytes = ckpt_slab_bytes(c, i);
    char *piece = mem_alloc(CKPT_PIECE);
    int rc = 0;
    for (size_t at = 0; at < bytes; at += CKPT_PIECE) {
        size_t n = bytes - at < CKPT_PIECE ? bytes - at : CKPT_PIECE;
        TRY_OUT(c->read_slab(c->ctx, i, piece, at, n));
        TRY_OUT(file_write_all(fd, piece, n, path));
    }
    if (fsync(fd) != 0) rc = FAIL(ERR_IO, "cannot sync %s: %s", path, strerror(errno));
out:
    mem_free(piece);
    return rc;
}

static int write_slab(const struct ckpt *c, int i, const char *dir) {
    char *path = mem_printf("%s/%s.bin", dir, update_slab(c->update, i).name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = fd < 0 ? FAIL(ERR_IO, "cannot create %s: %s", path, strerror(errno)) : 0;
    if (rc == 0) rc = write_slab_to(fd, c, i, path);
    if (fd >= 0 && close(fd) != 0 && rc == 0)
        rc = FAIL(ERR_IO, "cannot close %s: %s", path, strerror(errno));
    mem_free(path);
    return rc;
}

static int write_text(const struct buf *text, const char *dir, const char *name) {
    char *path = file_join(dir, name);
    int rc = file_write_atomic(path, text->data, text->len);
    mem_free(path);
    return rc;
}

static void write_alignment(struct json_write *w, const struct update_state *st) {
    json_write_num(w, "c_low", st->c_low);
    json_write_num(w, "c_high", st->c_high);
    json_write_num(w, "cosine_sum", st->mean.sum);
    json_write_num(w, "cosine_weight", st->mean.weight);
    json_write_array(w, "calibration");
    for (int64_t i = 0; i < st->samples; i++)
        json_write_num(w, NULL, st->sample[i]);
    json_write_end(w);
}

/* The counters and thresholds of alignment control, as text: a person may look at them. */
static int write_state(const struct ckpt *c, const char *dir) {
    struct hash h;
    char hex[HASH_HEX];
    TRY(params_hash(&h, c->weights));
    hash_hex(h, hex);
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_COMPACT);
    json_write_object(&w, NULL);
    json_write_int(&w, "version", c->version);
    json_write_int(&w, "optimizer_steps", c->state.steps);
    json_write_int(&w, "skips", c->state.skips);
    json_write_int(&w, "not_finite", c->state.not_finite);
    json_write_bool(&w, "have_previous", c->state.have_previous);
    json_write_str(&w, "weights_hash", hex);
    write_alignment(&w, &c->state);
    json_write_end(&w);
    json_write_newline(&w);
    int rc = write_text(&b, dir, ckpt_state);
    buf_close(&b);
    return rc;
}

static int hash_file(struct hash *out, size_t *bytes, const char *dir, const char *name) {
    struct file_map m;
    char *path = file_join(dir, name);
    int rc = file_map_open(&m, path);
    mem_free(path);
    TRY(rc);
    *out = hash_bytes(m.data, m.bytes);
    *bytes = m.bytes;
    file_map_close(&m);
    return 0;
}

/* Lists every file that is there. */
static int write_manifest(const struct ckpt *c, const char *dir) {
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_COMPACT);
    DIR *d = opendir(dir);
    int rc = d ? 0 : FAIL(ERR_IO, "cannot read directory %s: %s", dir, strerror(errno));
    json_write_object(&w, NULL);
    json_write_int(&w, "format", CKPT_FORMAT);
    json_write_int(&w, "version", c->version);
    json_write_array(&w, "files");
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        struct hash h;
        size_t bytes;
        char hex[HASH_HEX];
        if (e->d_name[0] == '.') continue;
        rc = hash_file(&h, &bytes, dir, e->d_name);
        if (rc < 0) break;
        hash_hex(h, hex);
        json_write_object(&w, NULL);
        json_write_str(&w, "name", e->d_name);
        json_write_uint(&w, "bytes", bytes);
        json_write_str(&w, "hash", hex);
        json_write_end(&w);
    }
    if (d) closedir(d);
    json_write_end(&w);
    json_write_end(&w); /* the text ends with its last brace: any cut shows */
    if (rc == 0) rc = write_text(&b, dir, ckpt_manifest);
    buf_close(&b);
    return rc;
}

static int write_files(const struct ckpt *c, const char *tmp) {
    TRY(file_remove_tree(tmp));
    TRY(export_hf(c->weights, c->model_dir, tmp, KERN_F32, 0));
    for (int i = 0; i < update_slabs(c->update); i++)
        TRY(write_slab(c, i, tmp));
    TRY(write_state(c, tmp));
    TRY(write_manifest(c, tmp));
    return file_sync_dir(tmp);
}

/* On failure nothing is left of it; the reason is that of the failure. */
static int write_new(const struct ckpt *c, const char *tmp) {
    int rc = write_files(c, tmp);
    if (rc == 0) return 0;
    char *why = mem_strdup(err_text());
    err_ignore(file_remove_tree(tmp), "the next save removes what is left");
    if (rc == ERR_NOTFOUND) rc = ERR_IO; /* the directory was taken away */
    rc = FAIL(rc, "checkpoint of version %" PRId64 " not written: %s", c->version, why);
    mem_free(why);
    return rc;
}

int ckpt_save(const struct ckpt *c, const char *dir, int64_t keep) {
    ASSERT(c->read_slab && c->model_dir);
    char *tmp = mem_printf("%s/.tmp-step-%" PRId64, dir, c->version);
    char *path = mem_printf("%s/step-%" PRId64, dir, c->version);
    int rc;
    TRY_OUT(file_mkdirs(dir));
    rc = write_new(c, tmp);
    if (rc < 0) goto out;
    if (file_is_dir(path)) TRY_OUT(remove_version(dir, c->version)); /* the same step again */
    TRY_OUT(rename_path(tmp, path));
    TRY_OUT(file_sync_dir(dir));
    TRY_OUT(remove_old(dir, keep));
out:
    mem_free(tmp);
    mem_free(path);
    return rc;
}

/* --- loading ------------------------------------------------------------------------------- */

static int check_listed_file(const struct json *entry, const char *dir, const char *name) {
    const char *file, *hex;
    int64_t bytes;
    size_t got;
    struct hash want, have;
    TRY(json_read_str(&file, entry, "name", name));
    TRY(json_read_str(&hex, entry, "hash", name));
    TRY(json_read_int(&bytes, entry, "bytes", 0, INT64_MAX, name));
    if (strchr(file, '/') || !hash_from_hex(&want, hex))
        return FAIL(ERR_CORRUPT, "%s: bad name or hash of a file", name);
    TRY(hash_file(&have, &got, dir, file));
    if ((int64_t)got != bytes || !hash_equal(want, have))
        return FAIL(ERR_CORRUPT, "%s/%s is not the file that was written", dir, file);
    return 0;
}

static bool has_file(const struct json *files, const char *name) {
    for (const struct json *f = json_first(files); f; f = json_next(f)) {
        const char *other = json_str(json_get(f, "name"));
        if (other && strcmp(other, name) == 0) return true;
    }
    return false;
}

static int check_manifest(const struct json *root, const char *dir, int64_t version,
                          const char *name) {
    int64_t format, v;
    const struct json *files = json_get(root, "files");
    TRY(json_read_int(&format, root, "format", CKPT_FORMAT, CKPT_FORMAT, name));
    TRY(json_read_int(&v, root, "version", version, version, name));
    static const char *const needed[] = {"state.json", "model.safetensors", "adam_m.bin",
                                         "adam_v.bin"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!has_file(files, needed[i])) return FAIL(ERR_CORRUPT, "%s lacks %s", name, needed[i]);
    for (const struct json *f = json_first(files); f; f = json_next(f))
        TRY(check_listed_file(f, dir, name));
    return 0;
}

/* A threshold that is not known yet is null. */
static int read_cosine(double *out, const struct json *x, double lo, const char *what,
                       const char *path) {
    double c = json_num(x, (double)NAN);
    if (json_is(x, JSON_NULL) || (c >= lo && c <= 1)) {
        *out = c;
        return 0;
    }
    return FAIL(ERR_CORRUPT, "%s: %s must be a number of %g..1", path, what, lo);
}

/* Refuses numbers that alignment control cannot have written: a hash proves a copy, not a sense. */
static int read_alignment(struct update_state *st, const struct json *root, const char *path) {
    const struct json *list = json_get(root, "calibration");
    TRY(read_cosine(&st->c_low, json_get(root, "c_low"), 0, "c_low", path));
    TRY(read_cosine(&st->c_high, json_get(root, "c_high"), 0, "c_high", path));
    TRY(read_cosine(&st->mean.sum, json_get(root, "cosine_sum"), -1, "cosine_sum", path));
    TRY(read_cosine(&st->mean.weight, json_get(root, "cosine_weight"), 0, "cosine_weight", path));
    if (!json_is(list, JSON_ARRAY))
        return FAIL(ERR_CORRUPT, "%s: calibration must be a list of cosines", path);
    for (const struct json *x = json_first(list); x; x = json_next(x)) {
        if (st->samples == UPDATE_SAMPLES_MAX)
            return FAIL(ERR_CORRUPT, "%s: calibration has more than %d cosines", path,
                        UPDATE_SAMPLES_MAX);
        double c = json_num(x, 2);
        if (c < -1 || c > 1)
            return FAIL(ERR_CORRUPT, "%s: calibration[%" PRId64 "] must be a number of -1..1", path,
                        st->samples);
        st->sample[st->samples++] = c;
    }
    return 0;
}

/* hex: the recorded hash of the weights. c is touched only where all of the file is good. */
static int read_state(struct ckpt *c, char hex[HASH_HEX], const char *dir) {
    char *path = file_join(dir, ckpt_state);
    struct json_doc *doc = NULL;
    const char *text;
    struct update_state st = {0};
    int64_t version;
    int rc;
    TRY_OUT(json_parse_file(&doc, path, CKPT_JSON_MAX));
    const struct json *root = json_root(doc);
    TRY_OUT(json_read_int(&version, root, "version", 0, INT64_MAX, path));
    TRY_OUT(json_read_int(&st.steps, root, "optimizer_steps", 0, INT64_MAX, path));
    TRY_OUT(json_read_int(&st.skips, root, "skips", 0, INT64_MAX, path));
    TRY_OUT(json_read_int(&st.not_finite, root, "not_finite", 0, INT64_MAX, path));
    TRY_OUT(json_read_bool(&st.have_previous, root, "have_previous", path));
    TRY_OUT(json_read_str(&text, root, "weights_hash", path));
    TRY_OUT(read_alignment(&st, root, path));
    snprintf(hex, HASH_HEX, "%s", text);
    c->version = version;
    c->state = st;
out:
    json_close(&doc);
    mem_free(path);
    return rc;
}

/* The file holds the whole slab: any rank finds its part in it. */
static int load_slab(struct ckpt *c, int i, const char *dir) {
    struct update_slab slab = update_slab(c->update, i);
    size_t want = ckpt_slab_bytes(c, i);
    char *path = mem_printf("%s/%s.bin", dir, slab.name);
    struct file_map m = {0};
    int rc;
    TRY_OUT(file_map_open(&m, path));
    if (m.bytes != want)
        rc = FAIL(ERR_MISMATCH,
                  "%s has %zu bytes, not %zu: a checkpoint of another model or of another "
                  "trainer.alignment.previous",
                  path, m.bytes, want);
    else
        rc = update_put(c->update, i, (const char *)m.data + (size_t)slab.offset * slab.size, 0,
                        (size_t)slab.n * slab.size);
out:
    file_map_close(&m);
    mem_free(path);
    return rc;
}

/* The directory is whole; reads nothing into c. */
static int check_whole(const char *dir, int64_t version) {
    char *name = file_join(dir, ckpt_manifest);
    struct json_doc *doc = NULL;
    int rc = json_parse_file(&doc, name, CKPT_JSON_MAX);
    if (rc == 0) rc = check_manifest(json_root(doc), dir, version, name);
    json_close(&doc);
    mem_free(name);
    return rc;
}

static int load_files(struct ckpt *c, const char *dir) {
    struct hash h;
    char hex[HASH_HEX], want[HASH_HEX];
    TRY(read_state(c, want, dir));
    TRY(params_load(c->weights, dir));
    for (int i = 0; i < update_slabs(c->update); i++)
        TRY(load_slab(c, i, dir));
    TRY(params_hash(&h, c->weights));
    hash_hex(h, hex);
    if (strcmp(hex, want) != 0)
        return FAIL(ERR_MISMATCH, "%s: the weights' hash is %s, recorded is %s", dir, hex, want);
    return 0;
}

static int load_one(struct ckpt *c, const char *dir, int64_t version, bool *good) {
    char *path = mem_printf("%s/step-%" PRId64, dir, version);
    int rc = check_whole(path, version);
    *good = rc == 0;
    if (rc == 0) rc = load_files(c, path);
    mem_free(path);
    return rc;
}

static int load_newest(struct ckpt *c, const char *dir, const struct found *f) {
    bool good = false;
    char newest[256];
    if (f->n == 0) return FAIL(ERR_NOTFOUND, "%s holds no checkpoint", dir);
    for (size_t i = 0; i < f->n; i++) {
        int rc = load_one(c, dir, f->version[i], &good);
        if (good) return rc;
        if (i == 0) snprintf(newest, sizeof newest, "%s", err_text());
        LOG(WARN, TRAINER, "checkpoint=%s/step-%" PRId64 " skipped: %s", dir, f->version[i],
            err_text());
    }
    return FAIL(ERR_CORRUPT,
                "none of the %zu checkpoints in %s is whole (the newest: %s); delete them and "
                "resume: the run is rebuilt from its log",
                f->n, dir, newest);
}

int ckpt_load(struct ckpt *c, const char *dir, int64_t at) {
    struct found f = {0};
    bool good;
    if (at >= 0) {
        int rc = load_one(c, dir, at, &good);
        return err_wrap(rc, "checkpoint %s/step-%" PRId64, dir, at);
    }
    int rc = list_versions(&f, dir);
    if (rc == 0) rc = load_newest(c, dir, &f);
    mem_free(f.version);
    return rc;
}
