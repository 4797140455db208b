/* pace.c - see pace.h. */
#include "deploy/progress/pace.h"

static const double SPAN_S = 10;
enum { SPAN_STEPS = 8 };

void pace_start(struct pace *p, double wall) {
    p->start = wall;
    p->n = 0;
}

void pace_step(struct pace *p, double wall, const struct pace_part *part) {
    if (wall < p->start) return;
    p->wall[p->n % PACE_STEPS] = wall;
    p->part[p->n % PACE_STEPS] = *part;
    p->n++;
}

static int64_t kept(const struct pace *p) {
    return p->n < PACE_STEPS ? p->n : PACE_STEPS;
}

/* The first step alone is measured from the start, loading included: too long rather than unknown.
 */
double pace_left(const struct pace *p, int64_t left, double wall) {
    int64_t n = kept(p);
    if (left <= 0) return 0;
    if (n == 0) return -1;
    double last = p->wall[(p->n - 1) % PACE_STEPS];
    double first = n > 1 ? p->wall[(p->n - n) % PACE_STEPS] : p->start;
    double each = (last - first) / (double)(n > 1 ? n - 1 : 1), since = wall - last;
    if (each < 0) each = 0; /* a clock that was set back */
    if (since < 0) since = 0;
    return each * (double)left - (since < each ? since : each);
}

static struct pace_part newest(const struct pace *p) {
    struct pace_part sum = {0};
    int64_t n = kept(p);
    for (int64_t i = 1; i <= n && (i <= SPAN_STEPS || sum.seconds < SPAN_S); i++) {
        const struct pace_part *x = &p->part[(p->n - i) % PACE_STEPS];
        sum.seconds += x->seconds;
        sum.rollout += x->rollout;
        sum.trainer += x->trainer;
        sum.trained += x->trained;
    }
    return sum;
}

/* The first steps of a continued run may be of what was generated before: nothing is known yet. */
double pace_rollout(const struct pace *p) {
    struct pace_part x = newest(p);
    if (x.rollout <= 0 && p->n < SPAN_STEPS) return -1;
    return x.seconds > 0 ? x.rollout / x.seconds : -1;
}

double pace_trainer(const struct pace *p) {
    struct pace_part x = newest(p);
    return x.trained > 0 ? x.trainer / x.trained : -1;
}
