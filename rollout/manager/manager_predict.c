/* manager_predict.c - the inputs of predict.c, from what the manager sees anyway.
 *
 * rho is how many batches rollouts could finish while the trainer trains one. The trainer trains
 * whenever it does not wait for a batch, rollouts generate unless admission holds places free that
 * they asked to fill. What they did finish and train, each divided by its own share of the time, is
 * what they could do; the ratio is rho. A rollout that drains for new weights is not held: that is
 * part of its speed.
 *
 * Rates change, so they are taken over the newest steps only: from a mark that is WINDOW to
 * 2 * WINDOW steps old, with what waited then. Counting begins when the first step is done, because
 * before it everybody only starts. */
#include "rollout/manager/manager_predict.h"

#include "base/mem.h"
#include "rollout/manager/manager_clients.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/predict.h"

#include <math.h>

enum { WINDOW = 4 };

struct manager_rates {
    struct mark {
        uint64_t us; /* 0: not set */
        double held_us, wait_us;
        int64_t steps, finished; /* finished: groups ever */
        int64_t running;         /* groups, summed over the steps' ends */
        double waiting;          /* batches that waited */
    } now, since, next;          /* now: sums since the start; rates are taken from `since` on */
};

void manager_predict_open(struct manager *m) {
    m->rates = mem_zalloc(sizeof *m->rates);
}

void manager_predict_close(struct manager *m) {
    mem_free(m->rates);
}

double manager_predict_held_us(const struct manager *m) {
    return m->rates->now.held_us;
}

/* Groups that were ever finished, trained and dropped ones included. */
static int64_t finished_groups(const struct manager *m) {
    struct groups_counts n = groups_counts(m->groups);
    return n.formed * m->recipe->trainer.batch.groups + n.finished + n.rejected[GROUPS_STALE];
}

void manager_predict_tick(struct manager *m) {
    struct manager_rates *r = m->rates;
    int64_t leased = groups_counts(m->groups).leased, most = m->recipe->rollout.concurrency;
    int64_t seats = leased;
    const struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        if (c->alive && c->role == MANAGER_ROLLOUT) seats += c->credit;
    if (seats > most) seats = most;
    double span = (double)(m->now_us - r->now.us);
    r->now.us = m->now_us;
    if (seats > leased) r->now.held_us += span * (double)(seats - leased) / (double)seats;
}

void manager_predict_step(struct manager *m) {
    struct manager_rates *r = m->rates;
    const struct manager_batch_facts *f = manager_counts_batch(m);
    int64_t finished = groups_counts(m->groups).finished;
    uint64_t from = f->asked_us > r->since.us ? f->asked_us : r->since.us;
    if (r->since.us && f->answered_us > from) r->now.wait_us += (double)(f->answered_us - from);
    r->now.steps++;
    r->now.finished = finished_groups(m);
    r->now.running += groups_counts(m->groups).running;
    r->now.waiting = (double)finished / (double)m->recipe->trainer.batch.groups;
    if (r->since.us == 0) r->since = r->next = r->now;
    if (r->now.steps < r->next.steps + WINDOW) return;
    r->since = r->next;
    r->next = r->now;
}

double manager_predict(const struct manager *m, double *rho) {
    const struct mark *a = &m->rates->since, *b = &m->rates->now;
    const struct recipe *r = m->recipe;
    double span = (double)(b->us - a->us), steps = (double)(b->steps - a->steps);
    double groups = (double)r->trainer.batch.groups;
    *rho = NAN;
    if (a->us == 0 || span <= 0 || steps < 1) return NAN;
    double made = (double)(b->finished - a->finished) / groups;
    double training = fmax(0.001, 1 - (b->wait_us - a->wait_us) / span);
    double rolling = fmax(0.001, 1 - (b->held_us - a->held_us) / span);
    *rho = made / steps * training / rolling;
    struct predict_input in = {.open = (double)(b->running - a->running) / steps / groups,
                               .rho = *rho,
                               .bound = (double)groups_level(m->groups) / groups,
                               .waiting = a->waiting,
                               .steps = steps};
    return predict_staleness(&in);
}
