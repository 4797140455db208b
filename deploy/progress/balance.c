/* balance.c - see balance.h. The trainer's waits are time that is lost. A rollout's place that
 * stands empty is lost only as far as more sequences at once would have been computed faster, so
 * the sentence about rollouts is the more careful one. */
#include "deploy/progress/balance.h"

#include "proto/metrics/metrics.h"

#include <inttypes.h>
#include <math.h>

enum { FIRST = 4, LEAST = 8 }; /* steps that are left out; and that are needed */

static const double waits = 0.10; /* shares of time or places above it are worth a word */

static double number(const struct json *o, enum metric id) {
    return metrics_get_num(o, id, 0);
}

void balance_step(struct balance *b, const struct json *line, int64_t step) {
    if (step <= FIRST) return;
    b->steps++;
    b->wait_s += number(line, METRIC_TIME_WAIT);
    b->step_s += number(line, METRIC_TIME_WAIT) + number(line, METRIC_TIME_STEP);
    b->held += number(line, METRIC_IDLE_ROLLOUT);
    b->level += number(line, METRIC_OFF_POLICY_LEVEL);
}

bool balance_became_known(const struct balance *b) {
    return b->steps == LEAST && b->step_s > 0;
}

void balance_text(struct buf *out, const struct balance *b) {
    if (b->steps < LEAST || b->step_s <= 0) return;
    double n = (double)b->steps, idle = b->wait_s / b->step_s, held = b->held / n;
    buf_printf(out, "balance    trainer waited %.0f %% of the time", 100 * idle);
    if (b->eta == 0) {
        buf_str(out, ";\n           synchronous: generation and training take turns");
        if (idle > waits)
            buf_printf(out,
                       ";\n           side by side (staleness.max 1 or more) a step takes up to "
                       "%.0f %% less",
                       100 * fmin(idle, 1 - idle));
        return;
    }
    buf_printf(out,
               ", rollouts' places empty %.0f %%;\n           level %.1f of at most %" PRId64
               " batches; ",
               100 * held, b->level / n, b->eta);
    int64_t enough = (int64_t)ceil((double)b->workers * (1 - held));
    if (idle > waits && held <= waits)
        buf_printf(out,
                   "rollouts are the slower side:\n           more workers, threads or "
                   "concurrency could take up to %.0f %% off a step",
                   100 * idle);
    else if (idle <= waits && held > waits && enough < b->workers)
        buf_printf(out,
                   "the trainer is the slower side:\n           %" PRId64 " of %" PRId64
                   " rollout workers might do; the rest is for the trainer",
                   enough < 1 ? 1 : enough, b->workers);
    else if (idle <= waits && held > waits)
        buf_str(out, "the trainer is the slower side:\n           more threads or devices for "
                     "it, or a lower rollout.concurrency");
    else if (idle > waits)
        buf_str(out, "both wait in turn:\n           long responses or uneven steps; a larger "
                     "batch evens them out");
    else
        buf_str(out, "balanced");
}
