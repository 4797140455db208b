/* manager_weights.c - which bytes a version is. A version has two witnesses: the trainer, whose
 * report of a step names the hash before and after it, and each rollout, which says with its tokens
 * the hash of what it copied into its own memory and generates by. All must agree, whoever comes
 * first: a version's number in the log then stands for one content, and I1 can be checked from the
 * log alone. A token whose version nobody gave a hash for is not taken.
 *
 * What was said is in the log: rollouts' hashes as W records, in the write batch of the first
 * tokens of the version, the trainer's in the batch records. A disagreement ends the run: some
 * process has other weights than it believes, and nothing that it makes can be explained. */
#include "base/mem.h"
#include "rollout/manager_impl.h"

#include <inttypes.h>

static struct manager_weights *entry(struct manager *m, int64_t version) {
    size_t need = (size_t)version + 1;
    mem_grow(&m->weights, &m->weights_cap, need, sizeof *m->weights);
    while (m->n_weights < need)
        m->weights[m->n_weights++] = (struct manager_weights){.loaded = false};
    return &m->weights[version];
}

static int agree(const struct manager_weights *w, int64_t version, struct hash hash,
                 const char *who, const char *how) {
    char known[HASH_HEX], said[HASH_HEX];
    if ((!w->loaded && !w->published) || hash_equal(w->hash, hash)) return 0;
    hash_hex(w->hash, known);
    hash_hex(hash, said);
    return FAIL(ERR_MISMATCH,
                "version %" PRId64 " of the weights: %s %s %s, but %s %s: tokens and weights of "
                "this run do not belong together",
                version, who, how, said, w->published ? "the trainer published" : "rollouts have",
                known);
}

static int note_loaded(struct manager *m, int64_t version, struct hash hash, const char *who) {
    struct manager_weights *w = entry(m, version);
    TRY(agree(w, version, hash, who, "generates by"));
    w->hash = hash;
    w->loaded = true;
    return 0;
}

int manager_weights_loaded(struct manager *m, int64_t version, struct hash hash, const char *who) {
    struct runlog_weights r = {version, hash, who};
    bool old = version < (int64_t)m->n_weights && m->weights[version].loaded;
    TRY(note_loaded(m, version, hash, who));
    return old ? 0 : runlog_put_weights(m->log, &r);
}

int manager_weights_published(struct manager *m, int64_t version, struct hash hash) {
    struct manager_weights *w = entry(m, version);
    TRY(agree(w, version, hash, "the trainer", "published"));
    w->hash = hash;
    w->published = true;
    return 0;
}

bool manager_weights_known(const struct manager *m, const int64_t *version, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && version[i] == version[i - 1]) continue;
        if (version[i] < 0 || (uint64_t)version[i] >= m->n_weights) return false;
        if (!m->weights[version[i]].loaded) return false;
    }
    return true;
}

int manager_weights_restore(struct manager *m) {
    struct runlog_scan *s = NULL;
    const struct runlog_record *r = NULL;
    int rc = 0;
    TRY(runlog_scan_open(&s, m->log, RUNLOG_WEIGHTS, 0));
    while ((rc = runlog_scan_next(s, &r)) > 0) {
        const struct runlog_weights *w = &r->u.weights;
        rc = w->version > m->recipe->trainer.steps
                 ? FAIL(ERR_CORRUPT, "%s: key W/%" PRId64 ": the run has no such version",
                        runlog_dir(m->log), w->version)
                 : note_loaded(m, w->version, w->hash, w->rollout);
        if (rc < 0) break;
    }
    runlog_scan_close(&s);
    return rc;
}
