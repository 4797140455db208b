/* level.c - see level.h. The rule is the order-up-to rule of stock keeping: groups are ordered
 * (admitted) until as many are live as will be wanted while they are made.
 *
 * Each time the trainer asks for a batch, f groups lie finished and B are wanted. If B - f were
 * missing, the level ought to have been higher by as many; if f - B lay there in vain, lower. So
 * each batch says how high the level should have been: level + B - f. The target is the second
 * highest of the newest 24 such numbers: enough for all asks but one in 24, and one that is a
 * freak moves nothing (but among the first three). It is never less than B, or generation and
 * training would take turns. When the number of rollouts changes, what was seen before says nothing
 * any more.
 *
 * The level falls to a lower target at once. To a higher one it rises if the trainer waits more
 * than the staleness is worth (`price`) and admission holds rollouts back at all. What staleness
 * costs is a delay: each step answers what the policy was some versions ago, and learning that
 * moves the policy fast loses more by that. So the price follows how far a version moves it. The
 * factor is what two tasks agree with that move it four times as far as each other
 * (docs/staleness.md). A place that
 * stands empty need not mean speed that is lost: what computes 200 sequences at once may give
 * each of 400 half the speed, and then there are always groups missing, at any level. So a raise
 * is a trial: it stays if it saved more waiting than its price. If not, the level goes back, and
 * after a rest the same is tried downwards, since what does not help may not have helped before.
 *
 * The first batch after a trial began was admitted before; it is not counted. */
#include "rollout/manager/level.h"

#include <math.h>
#include <string.h>

enum { LOOK = 6, REST = 10, RARE = 4 };

static const double price_least = 0.03; /* of a batch of staleness: a share of the trainer's time */
static const double price_moved = 4;    /* ... for each nat that a version moves the policy */
static const double moved_newest = 0.2; /* weight of the newest batch in the mean */
static const double clear = 0.1;        /* more or less waiting than this is seen at once */
static const double wait_min = 0.02;    /* less waiting is none */
static const double held_min = 0.02;

struct level level_start(int64_t batch, int64_t bound) {
    return (struct level){
        .batch = batch, .bound = bound, .groups = batch < bound ? batch : bound, .turn = 1};
}

static int64_t least_level(const struct level *l) {
    return l->batch < l->bound ? l->batch : l->bound;
}

static int64_t count(const struct level *l, int64_t most) {
    int64_t n = l->n < LEVEL_WINDOW ? l->n : LEVEL_WINDOW;
    return n < most ? n : most;
}

static const struct level_batch *newest(const struct level *l, int64_t i) {
    return &l->seen[(l->n - 1 - i) % LEVEL_WINDOW];
}

void level_moved(struct level *l, double nats) {
    if (!isfinite(nats)) return;
    l->moved += (l->moved > 0 ? moved_newest : 1) * (nats - l->moved);
}

/* What a batch of staleness may save of the trainer's time at least. */
static double price(const struct level *l) {
    return fmax(price_least, price_moved * l->moved);
}

int64_t level_target(const struct level *l) {
    int64_t n = count(l, LEVEL_WINDOW), first = 0, second = 0;
    if (n == 0) return l->groups;
    for (int64_t i = 0; i < n; i++) {
        int64_t need = l->need[i];
        if (need > first) {
            second = first;
            first = need;
        } else if (need > second)
            second = need;
    }
    int64_t target = n < RARE ? first : second, least = least_level(l);
    if (target < least) return least;
    return target < l->bound ? target : l->bound;
}

/* The trainer's share of waiting over the newest n batches. */
static double waited(const struct level *l, int64_t n) {
    double wait = 0, all = 0;
    for (int64_t i = 0; i < count(l, n); i++) {
        wait += newest(l, i)->wait_s;
        all += newest(l, i)->wait_s + newest(l, i)->train_s;
    }
    return all > 0 ? wait / all : 0;
}

static double held(const struct level *l) {
    double sum = 0;
    for (int64_t i = 0; i < count(l, LEVEL_WINDOW); i++)
        sum += newest(l, i)->held;
    return sum / (double)count(l, LEVEL_WINDOW);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Batches until all that is live now is trained. Where rollouts are slow, groups that started
 * together end together, and the trainer waits once in so many batches: fewer show nothing. */
static int64_t wave(const struct level *l) {
    return (l->groups + l->batch - 1) / l->batch + 1;
}

static int64_t look(const struct level *l) {
    return 2 * wave(l) > LOOK ? 2 * wave(l) : LOOK;
}

static void move(struct level *l, int64_t to, enum level_why why) {
    l->groups = to;
    l->why = why;
    l->since = -1;
}

static void try_level(struct level *l, int32_t direction, int64_t to) {
    l->idle = waited(l, least(l->since, look(l)));
    l->trial = direction;
    l->before = l->groups;
    move(l, to, direction > 0 ? LEVEL_RAISED : LEVEL_SLOW);
}

/* Ends the trial once it is clear what it does. */
static void judge(struct level *l) {
    double batches = (double)(l->groups - l->before) / (double)l->batch;
    double gain = l->idle - waited(l, l->since) - price(l) * batches;
    if (l->since < look(l) && (l->since < wave(l) || fabs(gain) <= clear)) return;
    l->turn = gain >= 0 ? l->trial : -l->trial;
    l->trial = 0;
    if (gain >= 0) return;
    l->rest = REST;
    move(l, l->before, LEVEL_SLOW);
}

/* The trainer waits clearly more than before the trial that failed, so that verdict is out of date:
 * the next trial goes up, and at once. */
static void rest(struct level *l) {
    if (l->rest > 0) l->rest--;
    if (l->rest == 0 || l->since <= wave(l)) return;
    if (waited(l, wave(l) + 1) <= l->idle + 1.5 * clear) return;
    l->rest = 0;
    l->turn = 1;
    l->since = wave(l) + 1;
}

static void find_level(struct level *l, int64_t target) {
    double idle = waited(l, least(l->since, look(l)));
    double batches = (double)(target - l->groups) / (double)l->batch;
    int64_t above = l->groups - least_level(l), step = (l->batch + 3) / 4;
    if (step < (above + 1) / 2) step = (above + 1) / 2;
    if (idle <= wait_min) {
        l->turn = 1;
        l->why = LEVEL_KEPT;
    } else if (l->turn > 0 && l->groups < l->bound && held(l) > held_min) {
        if (batches > 0 && idle > price(l) * batches) try_level(l, 1, target);
    } else if (l->turn < 0 && above > 0) {
        if (l->since >= look(l)) try_level(l, -1, l->groups - least(step, above));
    } else {
        l->why = l->groups == l->bound ? LEVEL_AT_BOUND : LEVEL_SLOW;
        l->rest = REST;
        l->turn = -l->turn;
    }
}

static void see(struct level *l, const struct level_batch *b) {
    if (b->rollouts != l->rollouts) {
        l->rollouts = b->rollouts;
        l->n = l->trial = l->rest = 0;
        l->since = -1;
        l->turn = 1;
    }
    l->seen[l->n % LEVEL_WINDOW] = *b;
    l->need[l->n % LEVEL_WINDOW] = l->groups + l->batch - b->finished;
    l->n++;
    l->since++;
}

int64_t level_next(struct level *l, const struct level_batch *b) {
    if (l->bound == 0 || b->wait_s + b->train_s <= 0) return l->groups;
    see(l, b);
    int64_t target = level_target(l);
    if (target < l->groups && l->since > 0) {
        l->groups = target;
        l->trial = l->rest = 0;
        l->turn = 1;
        l->why = LEVEL_LOWERED;
        return l->groups;
    }
    if (l->trial) judge(l);
    rest(l);
    if (!l->trial && l->rest == 0 && l->since >= wave(l)) find_level(l, target);
    return l->groups;
}

const char *level_reason(enum level_why why) {
    switch (why) {
    case LEVEL_START: return "nothing seen yet";
    case LEVEL_KEPT: return "enough: the trainer hardly waits";
    case LEVEL_RAISED: return "raised: groups were missing when the trainer asked";
    case LEVEL_LOWERED: return "lowered: fewer groups would have been enough";
    case LEVEL_AT_BOUND: return "at staleness.max, and the trainer still waits";
    case LEVEL_SLOW: return "rollouts are the slower side: a higher level does not help";
    }
    return "";
}
