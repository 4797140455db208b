/* sampling.c - see sampling.h and docs/sampling.md.
 *
 * A draw is a function of (seed, group, candidate) and the posterior; so a choice can be repeated,
 * and with staleness.max 0, where every group of a batch starts after the batch before it was
 * formed, a run chooses the same rows whatever was killed (I5, I8). With a larger bound the
 * posterior depends on when a group starts, so the log's record of the group is what counts.
 *
 * Candidates are consecutive places of the permutation, each looked at by one group only: no row
 * can come twice while a pass over the data lasts, every row comes up once a pass whatever is
 * thought of it, and a choice costs a few draws, not one for every row of the data set.
 *
 * The decay of a row that is not visited is applied when it is read: a step touches only the rows
 * in its batch. */
#include "rollout/manager/sampling.h"

#include "base/mem.h"
#include "base/rng.h"

#include <inttypes.h>
#include <math.h>

enum { BETA_NUMBERS = 2 };

struct row {
    struct sampling_beta b; /* just after its newest visit */
    int64_t step;           /* of that visit, -1: none */
};

struct sampling {
    struct sampling_config cfg;
    struct dataset *data;
    uint64_t key, visited;
    struct row *row; /* vade: [rows] */
};

void sampling_open(struct sampling **out, struct dataset *data, const struct sampling_config *cfg) {
    struct sampling *s = mem_zalloc(sizeof *s);
    s->cfg = *cfg;
    s->data = data;
    s->key = rng_key(cfg->seed, RNG_CHOOSE);
    if (cfg->vade) s->row = mem_array(dataset_rows(data), sizeof *s->row);
    for (uint64_t i = 0; cfg->vade && i < dataset_rows(data); i++)
        s->row[i] = (struct row){{1, 1}, -1};
    *out = s;
}

void sampling_close(struct sampling **s) {
    if (!*s) return;
    mem_free((*s)->row);
    mem_free(*s);
    *s = NULL;
}

bool sampling_learns(const struct sampling *s) {
    return s->cfg.vade;
}

/* Steps that passed without a visit before the batch `step`. */
static double faded(const struct sampling *s, const struct row *r, int64_t step) {
    int64_t gap = r->step < 0 ? 0 : step - r->step - 1;
    return gap > 0 ? pow(s->cfg.unvisited, (double)gap) : 1;
}

struct sampling_beta sampling_posterior(const struct sampling *s, uint64_t row, int64_t formed) {
    const struct row *r = &s->row[row];
    double left = faded(s, r, formed);
    return (struct sampling_beta){1 + left * (r->b.alpha - 1), 1 + left * (r->b.beta - 1)};
}

uint64_t sampling_visited(const struct sampling *s) {
    return s->visited;
}

double sampling_score(double p) {
    return p * (1 - p) * (1 - p);
}

/* Gamma with shape a >= 1 (Marsaglia and Tsang, 2000): a transformed normal, accepted nearly
 * always. lo: the first of this number's counters. */
static double draw_gamma(uint64_t key, uint64_t hi, uint64_t lo, double a) {
    double d = a - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (uint64_t try = 0;; try++) {
        double x = rng_normal(key, hi, lo + 2 * try), t = 1 + c * x, v = t * t * t;
        if (v <= 0) continue;
        double u = rng_uniform(key, hi, lo + 2 * try + 1);
        if (u == 0 || log(u) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
    }
}

static double draw_beta(uint64_t key, uint64_t group, uint64_t candidate, struct sampling_beta b) {
    uint64_t lo = candidate * BETA_NUMBERS << 32;
    double x = draw_gamma(key, group, lo, b.alpha);
    double y = draw_gamma(key, group, lo + ((uint64_t)1 << 32), b.beta);
    return x / (x + y);
}

uint64_t sampling_row(struct sampling *s, uint64_t group, int64_t formed, uint64_t *epoch) {
    uint64_t rows = dataset_rows(s->data), k = s->cfg.vade ? (uint64_t)s->cfg.candidates : 1;
    uint64_t at = group * k, best = 0;
    double most = -1;
    *epoch = at / rows;
    for (uint64_t i = 0; i < k; i++) {
        uint64_t row = dataset_row_at(s->data, at + i, s->cfg.seed, s->cfg.shuffle);
        if (k == 1) return row;
        double score =
            sampling_score(draw_beta(s->key, group, i, sampling_posterior(s, row, formed)));
        if (score <= most) continue;
        most = score;
        best = row;
    }
    return best;
}

struct sampling_beta sampling_learn(struct sampling *s, uint64_t row, int64_t step, double hits,
                                    double misses) {
    struct row *r = &s->row[row];
    double left = s->cfg.visited * faded(s, r, step);
    s->visited += r->step < 0;
    r->b.alpha = 1 + left * (r->b.alpha - 1) + hits;
    r->b.beta = 1 + left * (r->b.beta - 1) + misses;
    r->step = step;
    return r->b;
}

int sampling_restore(struct sampling *s, uint64_t row, int64_t step, struct sampling_beta b) {
    if (row >= dataset_rows(s->data) || step < 0 || !(b.alpha >= 1) || !(b.beta >= 1))
        return FAIL(ERR_CORRUPT,
                    "row %" PRIu64 " of %" PRIu64 ", step %" PRId64 ", posterior %g and %g", row,
                    dataset_rows(s->data), step, b.alpha, b.beta);
    struct row *r = &s->row[row];
    if (step < r->step) return 0;
    s->visited += r->step < 0;
    *r = (struct row){b, step};
    return 0;
}
