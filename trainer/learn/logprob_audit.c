/* logprob_audit.c - see logprob_audit.h. A version is kept as a copy on the trainer's own backend,
 * so the network that scores computes as the one that trains does; it reads the weights as they lie
 * there, unpacked, which gives the same bits (ARCHITECTURE.md, Kernels), and has no backward pass.
 *
 * Which trajectories: of each rollout and kept version the one whose id hashes lowest, so that
 * nobody can know in advance which ones are looked at; those that were looked at before come last.
 * The work is bounded by a part of the batch's tokens; what is left over waits for the next batch,
 * in which tokens of the same versions still come. */
#include "trainer/learn/logprob_audit.h"

#include "actor/actor.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PART_OF_ROOM = 4,   /* of the trainer's memory, for kept versions */
    PART_OF_LEFT = 8,   /* of what a device has left */
    PART_OF_BATCH = 64, /* of a batch's tokens are scored, but one trajectory always is */
    ROWS = 512,         /* of one forward */
    PAGE = 16,
    SEEN_MAX = 64, /* rollouts that are told apart */
    PICKS_MAX = 1024,
    WARN_US = 1000 * 1000
};

struct kept {
    struct params *weights;
    int64_t version;         /* -1: none */
    uint64_t seen[SEEN_MAX]; /* rollouts of which a trajectory was compared */
    int n_seen;
};

/* A trajectory to be compared with a version. */
struct pick {
    struct kept *kept;
    uint64_t rollout, key;
    uint32_t traj;
    bool again; /* this rollout and version were compared before */
};

struct logprob_audit {
    const struct kern_backend *backend;
    struct actor *actor;
    struct kept *kept; /* [n] */
    int n;
    int32_t context, page, vocab;
    float inv_temp;
    bool exact;
    uint64_t seed, warned_us;
    uint64_t named[SEEN_MAX]; /* rollouts that were warned about */
    int n_named;
    struct pick *pick; /* [PICKS_MAX] */
    size_t n_picks;
    int32_t *ints;  /* arrays of a forward */
    float *logprob; /* [context] of a response */
};

static int32_t audit_pages(int32_t n, int32_t page) {
    return (n + page - 1) / page;
}

int logprob_audit_versions(int *out, const struct kern_backend *b, const struct shape *shape,
                           const struct recipe *r, size_t device) {
    size_t left = 0, total = 0, room = device / PART_OF_ROOM, one = params_slab_bytes(shape);
    if (kern_has_memory(b)) {
        TRY(kern_memory(b, &left, &total));
        if (left / PART_OF_LEFT < room) room = left / PART_OF_LEFT;
    }
    int64_t n = (int64_t)(room / one);
    *out = (int)(n < r->trainer.staleness.max ? n : r->trainer.staleness.max);
    return 0;
}

static int open_actor(struct logprob_audit *a, const struct shape *shape, const struct recipe *r) {
    int32_t rows = a->context < ROWS ? a->context : ROWS;
    struct actor_config cfg = {.backend = a->backend,
                               .shape = *shape,
                               .rows_max = rows,
                               .seqs_max = 1,
                               .context = a->context,
                               .pages = audit_pages(a->context, a->page),
                               .page = a->page,
                               .inexact = !r->model.exact};
    a->ints = mem_array((size_t)rows * 4 + 3 + (size_t)cfg.pages, sizeof *a->ints);
    a->logprob = mem_array((size_t)a->context, sizeof *a->logprob);
    return actor_open(&a->actor, &cfg);
}

/* Memory for as many versions as there is room for, and without any no network either. */
int logprob_audit_open(struct logprob_audit **out, const struct params *policy,
                       const struct recipe *r, size_t device) {
    const struct shape *shape = params_shape(policy);
    struct logprob_audit *a = mem_zalloc(sizeof *a);
    int64_t context = r->rollout.max_prompt_tokens + r->rollout.max_new_tokens;
    int rc = 0;
    a->backend = params_backend(policy);
    a->context = (int32_t)(context < shape->context ? context : shape->context);
    a->page = kern_has_memory(a->backend) ? (int32_t)r->rollout.page : PAGE;
    a->vocab = shape->vocab;
    a->inv_temp = (float)(1 / (r->rollout.temperature > 0 ? r->rollout.temperature : 1));
    a->exact = r->model.exact || kern_always_exact(a->backend);
    a->seed = r->seed;
    a->pick = mem_array(PICKS_MAX, sizeof *a->pick);
    int n = 0;
    TRY_OUT(logprob_audit_versions(&n, a->backend, shape, r, device));
    a->kept = mem_array((size_t)n, sizeof *a->kept);
    for (; a->n < n; a->n++) {
        a->kept[a->n] = (struct kept){.version = -1};
        TRY_OUT(params_open(&a->kept[a->n].weights, a->backend, shape));
    }
    if (n > 0) TRY_OUT(open_actor(a, shape, r));
    *out = a;
    a = NULL;
out:
    logprob_audit_close(&a);
    return rc;
}

void logprob_audit_close(struct logprob_audit **p) {
    struct logprob_audit *a = *p;
    if (!a) return;
    actor_close(&a->actor);
    for (int i = 0; i < a->n; i++)
        params_close(&a->kept[i].weights);
    mem_free(a->kept);
    mem_free(a->pick);
    mem_free(a->ints);
    mem_free(a->logprob);
    mem_free(a);
    *p = NULL;
}

int logprob_audit_keep(struct logprob_audit *a, const struct params *policy, int64_t version) {
    struct kept *oldest = a->kept;
    if (a->n == 0) return 0;
    for (int i = 0; i < a->n; i++) {
        if (a->kept[i].version == version) return 0;
        if (a->kept[i].version < oldest->version) oldest = &a->kept[i];
    }
    oldest->version = version;
    oldest->n_seen = 0;
    TRY(params_cast(oldest->weights, policy, actor_stream(a->actor)));
    return kern_sync(a->backend, actor_stream(a->actor));
}

/* --- which --------------------------------------------------------------------------------- */

static struct kept *find_kept(struct logprob_audit *a, int64_t version) {
    for (int i = 0; i < a->n; i++)
        if (a->kept[i].version == version) return &a->kept[i];
    return NULL;
}

static bool is_among(const uint64_t *list, int n, uint64_t x) {
    for (int i = 0; i < n; i++)
        if (list[i] == x) return true;
    return false;
}

static void add_pick(struct logprob_audit *a, const struct batch_traj *t, uint32_t i,
                     struct kept *k) {
    const char *name = t->rollout ? t->rollout : "";
    uint64_t rollout = hash64(name, strlen(name), 0), key = hash64(&t->id, sizeof t->id, a->seed);
    for (size_t p = 0; p < a->n_picks; p++) {
        struct pick *x = &a->pick[p];
        if (x->kept != k || x->rollout != rollout) continue;
        if (key < x->key) {
            x->key = key;
            x->traj = i;
        }
        return;
    }
    if (a->n_picks == PICKS_MAX) return;
    bool again = is_among(k->seen, k->n_seen, rollout) || k->n_seen == SEEN_MAX;
    a->pick[a->n_picks++] = (struct pick){k, rollout, key, i, again};
}

/* The step refuses a batch that has others, and says why; the audit leaves them to it. */
static bool is_scorable(const struct logprob_audit *a, const struct batch_traj *t) {
    if (t->n_prompt < 1 || t->n_response > a->context - t->n_prompt) return false;
    for (int32_t k = 0; k < t->n_prompt + t->n_response; k++)
        if (t->ids[k] < 0 || t->ids[k] >= a->vocab) return false;
    return true;
}

/* Picks one trajectory of each rollout and kept version; returns how many tokens the batch has. */
static int64_t choose_trajectories(struct logprob_audit *a, const struct batch *b,
                                   int64_t version) {
    int64_t tokens = 0;
    a->n_picks = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        tokens += t->n_prompt + t->n_response;
        int64_t seen = -1;
        for (int32_t k = 0; k < t->n_response; k++) {
            if (!t->mask[k] || t->version[k] == seen) continue;
            seen = t->version[k];
            struct kept *kept = t->version[k] < version ? find_kept(a, t->version[k]) : NULL;
            if (kept) add_pick(a, t, i, kept);
        }
    }
    return tokens;
}

/* --- scoring ------------------------------------------------------------------------------- */

/* Rows from .. from + n - 1 of a trajectory whose keys before them are in the pool. */
static int forward_rows(struct logprob_audit *a, const struct batch_traj *t, int32_t from,
                        int32_t n) {
    int32_t *pos = a->ints, *slot = pos + n, *row = slot + n, *target = row + n;
    int32_t *q_start = target + n, *kv_len = q_start + 2, *pages = kv_len + 1, targets = 0;
    int32_t first = t->n_prompt - 1; /* the row that predicts the first token of the response */
    int32_t skip = from < first ? first - from : 0;
    struct actor_batch in = {.n_rows = n,
                             .n_seqs = 1,
                             .pages_max = audit_pages(from + n, a->page),
                             .ids = t->ids + from,
                             .pos = pos,
                             .slot = slot,
                             .q_start = q_start,
                             .kv_len = kv_len,
                             .pages = pages};
    for (int32_t i = 0; i < n; i++)
        pos[i] = slot[i] = from + i;
    for (int32_t i = 0; i < in.pages_max; i++)
        pages[i] = i;
    q_start[0] = 0;
    q_start[1] = n;
    kv_len[0] = from + n;
    for (int32_t i = skip; i < n; i++, targets++) {
        row[targets] = i;
        target[targets] = t->ids[from + i + 1];
    }
    TRY(actor_forward(a->actor, &in));
    if (targets == 0) return 0;
    return actor_logprobs(a->actor, row, target, targets, a->inv_temp,
                          a->logprob + (from + skip - first), NULL);
}

static int score_trajectory(struct logprob_audit *a, const struct batch_traj *t,
                            const struct params *weights) {
    int32_t rows = t->n_prompt + t->n_response - 1, most = actor_config(a->actor)->rows_max;
    TRY(actor_use(a->actor, weights));
    for (int32_t from = 0; from < rows; from += most)
        TRY(forward_rows(a, t, from, rows - from < most ? rows - from : most));
    return 0;
}

/* A rollout's first difference is always said, of others one a second. */
static void warn_unequal(struct logprob_audit *a, const struct batch_traj *t, const struct pick *p,
                         int32_t at, int64_t unequal, double max) {
    uint64_t now_us = clock_us();
    bool first = !is_among(a->named, a->n_named, p->rollout) && a->n_named < SEEN_MAX;
    if (!a->exact || (!first && now_us < a->warned_us + WARN_US)) return;
    if (first) a->named[a->n_named++] = p->rollout;
    a->warned_us = now_us;
    LOG(WARN, TRAINER,
        "rollout=%s trajectory=%" PRIu64 " version=%" PRId64
        " reports other log-probs than its weights give: %" PRId64
        " tokens differ, by at most %.3g; token %d has %.9g, recorded is %.9g",
        t->rollout && *t->rollout ? t->rollout : "unknown", t->id, p->kept->version, unequal, max,
        at, (double)a->logprob[at], (double)t->logprob[at]);
}

/* Only trained tokens of the kept version count: a trajectory may have been sampled by several, and
 * what a user or a tool said was not sampled. */
static int compare_trajectory(struct logprob_audit *a, const struct batch_traj *t,
                              const struct pick *p, struct logprob_audit_result *out) {
    int64_t unequal = 0;
    int32_t at = -1;
    double max = 0;
    TRY(score_trajectory(a, t, p->kept->weights));
    for (int32_t k = 0; k < t->n_response; k++) {
        if (!t->mask[k] || t->version[k] != p->kept->version) continue;
        double x = fabs((double)a->logprob[k] - (double)t->logprob[k]);
        if (isnan(x)) x = INFINITY;
        out->tokens++;
        out->sum += x;
        max = fmax(max, x);
        if (x == 0) continue;
        if (at < 0) at = k;
        unequal++;
    }
    out->trajectories++;
    out->unequal += unequal;
    out->max = fmax(out->max, max);
    if (unequal > 0) warn_unequal(a, t, p, at, unequal, max);
    return 0;
}

/* Trajectories of rollouts and versions that were not compared yet come first; among equals the
 * hashes of the ids decide. */
static int by_turn(const void *x, const void *y) {
    const struct pick *a = x, *b = y;
    if (a->again != b->again) return a->again ? 1 : -1;
    return a->key < b->key ? -1 : a->key > b->key;
}

int logprob_audit_batch(struct logprob_audit *a, const struct batch *b, int64_t version,
                        struct logprob_audit_result *out) {
    struct logprob_audit_result r = {0};
    int64_t budget = a->n > 0 ? choose_trajectories(a, b, version) / PART_OF_BATCH : 0;
    if (a->n_picks > 1) qsort(a->pick, a->n_picks, sizeof *a->pick, by_turn);
    for (size_t i = 0; i < a->n_picks; i++) {
        const struct pick *p = &a->pick[i];
        const struct batch_traj *t = &b->traj[p->traj];
        int64_t rows = t->n_prompt + t->n_response;
        if (!is_scorable(a, t)) continue;
        if (r.trajectories > 0 && (p->again || rows > budget)) continue;
        budget -= rows;
        TRY(compare_trajectory(a, t, p, &r));
        if (!p->again && p->kept->n_seen < SEEN_MAX) p->kept->seen[p->kept->n_seen++] = p->rollout;
    }
    *out = r;
    return 0;
}
