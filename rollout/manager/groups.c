/* groups.c - see groups.h. A fixed pool of (eta + 1) * B groups: admission bounds the untrained
 * groups by exactly that, so the pool cannot overflow.
 *
 * Why nothing becomes stale in `wait` mode. Let f be the number of batches formed. Claim: for every
 * u >= f at most (u - f + 1) * B groups of the pool have a deadline <= u.
 *   - A new group takes slot s = live = f*B + pool. Its floor is at least floor(s/B) - eta, so its
 *     deadline D is at least floor(s/B), and for u >= D the pool then holds at most s + 1 - f*B <=
 *     (u + 1)*B - f*B groups.
 *   - Deadlines never shrink: the floor is set when the group starts, and tokens of older versions
 *     are refused.
 *   - Forming a batch checks the claim for f + 1 (groups_form).
 *   - A rejection only removes.
 * When every group of the pool has finished, taking the B earliest deadlines keeps the claim, and
 * with fewer than B groups admission is open: so some event is always possible.
 *
 * Dynamic sampling adds nothing to that: a group without a signal is one more rejection. With eta =
 * 0 the batch is still a function of the groups alone (I8). Groups start only in the place of a
 * rejected one, so of those started for a batch at most B ever have a signal, and the batch is the
 * first B such groups in the order of their ids, in whatever order they finish.
 *
 * The floor of a group is the version held by the rollout that starts it, not only what its slot
 * asks for: with slow rollouts that is much newer, and batches need not wait for stragglers. */
#include "rollout/manager/groups.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct entry { /* a group and its deadline, for sorting */
    int64_t deadline;
    uint64_t id;
};

struct groups {
    struct groups_config cfg;
    int64_t capacity;           /* groups in the pool at most */
    int64_t level;              /* groups_set_level */
    struct groups_group *group; /* [capacity] by place; id order is in `order` */
    struct groups_traj *traj;   /* [capacity * size] */
    int32_t *order;             /* [count] places by ascending id */
    int32_t *free;              /* [capacity - count] unused places */
    int64_t count;
    struct entry *done_, *left; /* scratch of groups_form, [capacity] each */
    struct groups_counts n;
    uint64_t expect; /* restoring: next group id */
};

static const char *const reason_names[GROUPS_REASONS] = {
    "", "stale", "reward", "prompt", "aborted", "zero", "weights", "manual", "lost"};

const char *groups_reason_name(enum groups_reason r) {
    return reason_names[r];
}

enum groups_reason groups_reason_from(const char *name) {
    for (int i = 1; i < GROUPS_REASONS; i++)
        if (strcmp(name, reason_names[i]) == 0) return (enum groups_reason)i;
    return GROUPS_KEPT;
}

static int check(const char *name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return 0;
    return FAIL(ERR_CONFIG, "%s is %" PRId64 ", allowed are %" PRId64 " to %" PRId64, name, value,
                min, max);
}

int groups_open(struct groups **out, const struct groups_config *cfg) {
    TRY(check("trainer.batch.groups", cfg->groups, 1, GROUPS_TRAJECTORIES_MAX));
    TRY(check("rollout.group_size", cfg->size, 1, GROUPS_TRAJECTORIES_MAX));
    TRY(check("trainer.staleness.max", cfg->eta, 0, GROUPS_TRAJECTORIES_MAX - 1));
    TRY(check("rollout.concurrency", cfg->concurrency, 1, INT32_MAX));
    TRY(check("trainer.steps", cfg->steps, 0, INT32_MAX));
    TRY(check("rollout.max_new_tokens", cfg->tokens_max, 1, INT32_MAX));
    int64_t capacity = (cfg->eta + 1) * cfg->groups; /* below 2^41 */
    if (capacity > GROUPS_TRAJECTORIES_MAX / cfg->size)
        return FAIL(ERR_CONFIG,
                    "(staleness.max + 1) * batch.groups * group_size = %" PRId64 " * %" PRId64
                    " trajectories in flight, at most %d are possible",
                    capacity, cfg->size, GROUPS_TRAJECTORIES_MAX);
    struct groups *g = mem_zalloc(sizeof *g);
    size_t n = (size_t)capacity;
    g->cfg = *cfg;
    g->capacity = capacity;
    g->level = cfg->eta * cfg->groups;
    g->group = mem_array(n, sizeof *g->group);
    g->traj = mem_array(n * (size_t)cfg->size, sizeof *g->traj);
    g->order = mem_array(n, sizeof *g->order);
    g->free = mem_array(n, sizeof *g->free);
    g->done_ = mem_array(n, sizeof *g->done_);
    g->left = mem_array(n, sizeof *g->left);
    for (int64_t i = 0; i < capacity; i++)
        g->free[i] = (int32_t)(capacity - 1 - i);
    *out = g;
    return 0;
}

void groups_close(struct groups **g) {
    if (!*g) return;
    mem_free((*g)->group);
    mem_free((*g)->traj);
    mem_free((*g)->order);
    mem_free((*g)->free);
    mem_free((*g)->done_);
    mem_free((*g)->left);
    mem_free(*g);
    *g = NULL;
}

struct groups_counts groups_counts(const struct groups *g) {
    return g->n;
}

int64_t groups_capacity(const struct groups *g) {
    return g->capacity * g->cfg.size;
}

/* Index in `order`, -1 when the group is not in the pool. Ids ascend and few are missing, so the
 * first and the last one leave few places, mostly one. */
static int64_t find(const struct groups *g, uint64_t id) {
    int64_t lo = 0, hi = g->count - 1;
    if (hi < 0) return -1;
    uint64_t first = g->group[g->order[0]].id, last = g->group[g->order[hi]].id;
    if (id < first || id > last) return -1;
    if (last - id < (uint64_t)hi) lo = hi - (int64_t)(last - id);
    if (id - first < (uint64_t)hi) hi = (int64_t)(id - first);
    while (lo <= hi) {
        int64_t mid = (lo + hi) / 2;
        uint64_t at = g->group[g->order[mid]].id;
        if (at == id) return mid;
        if (at < id)
            lo = mid + 1;
        else
            hi = mid - 1;
    }
    return -1;
}

static struct groups_group *lookup(const struct groups *g, uint64_t id) {
    int64_t i = find(g, id);
    return i < 0 ? NULL : &g->group[g->order[i]];
}

int64_t groups_index(const struct groups *g, uint64_t trajectory) {
    uint64_t size = (uint64_t)g->cfg.size;
    int64_t i = find(g, trajectory / size);
    return i < 0 ? -1 : g->order[i] * g->cfg.size + (int64_t)(trajectory % size);
}

static struct groups_traj *lookup_traj(const struct groups *g, uint64_t trajectory) {
    int64_t i = groups_index(g, trajectory);
    return i < 0 ? NULL : &g->traj[i];
}

static struct groups_traj *members(const struct groups *g, const struct groups_group *group) {
    return &g->traj[(group - g->group) * g->cfg.size];
}

const struct groups_group *groups_group(const struct groups *g, uint64_t group) {
    return lookup(g, group);
}

const struct groups_traj *groups_traj(const struct groups *g, uint64_t trajectory) {
    return lookup_traj(g, trajectory);
}

const struct groups_group *groups_at(const struct groups *g, int64_t i) {
    return i < g->count ? &g->group[g->order[i]] : NULL;
}

/* A finished group counts by the tokens it has, a running one by the floor of those to come. */
static int64_t deadline(const struct groups *g, const struct groups_group *group) {
    if (group->state != GROUPS_FINISHED) return group->floor + g->cfg.eta;
    const struct groups_traj *t = members(g, group);
    int64_t oldest = INT64_MAX - g->cfg.eta;
    for (int64_t i = 0; i < g->cfg.size; i++)
        if (t[i].oldest < oldest) oldest = t[i].oldest;
    return oldest + g->cfg.eta;
}

int64_t groups_deadline(const struct groups *g, uint64_t group) {
    const struct groups_group *p = lookup(g, group);
    return p ? deadline(g, p) : -1;
}

/* Moves a trajectory to a state; all counters follow from here. */
static void move(struct groups *g, struct groups_group *group, struct groups_traj *t,
                 enum groups_traj_state to, int32_t rollout) {
    g->n.waiting -= t->state == GROUPS_WAITING;
    group->waiting -= t->state == GROUPS_WAITING;
    g->n.lost -= t->state == GROUPS_WAITING && t->lost;
    group->lost -= t->state == GROUPS_WAITING && t->lost;
    g->n.leased -= t->state == GROUPS_LEASED;
    g->n.unscored -= t->state == GROUPS_GENERATED;
    group->scored -= t->state == GROUPS_SCORED;
    if (t->state == GROUPS_LEASED && to == GROUPS_WAITING) t->lost = true;
    t->state = to;
    t->rollout = to == GROUPS_LEASED ? rollout : -1;
    g->n.waiting += to == GROUPS_WAITING;
    group->waiting += to == GROUPS_WAITING;
    g->n.lost += to == GROUPS_WAITING && t->lost;
    group->lost += to == GROUPS_WAITING && t->lost;
    g->n.leased += to == GROUPS_LEASED;
    g->n.unscored += to == GROUPS_GENERATED;
    group->scored += to == GROUPS_SCORED;
}

static struct groups_group *insert(struct groups *g, uint64_t id, int64_t slot, int64_t floor) {
    ASSERT(g->count < g->capacity);
    int32_t place = g->free[g->capacity - g->count - 1];
    g->order[g->count++] = place;
    struct groups_group *group = &g->group[place];
    *group = (struct groups_group){.id = id, .slot = slot, .floor = floor, .state = GROUPS_RUNNING};
    struct groups_traj *t = members(g, group);
    for (int64_t i = 0; i < g->cfg.size; i++) {
        t[i] = (struct groups_traj){.rollout = -1, .oldest = INT64_MAX};
        move(g, group, &t[i], GROUPS_WAITING, -1);
    }
    g->n.running++;
    g->n.live++;
    g->n.next = id + 1;
    return group;
}

/* Takes a group out of the pool; live is the caller's business. */
static void take_out(struct groups *g, uint64_t id) {
    int64_t i = find(g, id);
    ASSERT(i >= 0);
    struct groups_group *group = &g->group[g->order[i]];
    struct groups_traj *t = members(g, group);
    for (int64_t k = 0; k < g->cfg.size; k++)
        move(g, group, &t[k], GROUPS_SCORED, -1);
    g->n.running -= group->state == GROUPS_RUNNING;
    g->n.finished -= group->state == GROUPS_FINISHED;
    int32_t place = g->order[i];
    memmove(&g->order[i], &g->order[i + 1], (size_t)(g->count - i - 1) * sizeof *g->order);
    g->count--;
    g->free[g->capacity - g->count - 1] = place;
}

bool groups_reject(struct groups *g, uint64_t group, enum groups_reason reason) {
    const struct groups_group *p = lookup(g, group);
    if (!p) return false;
    const struct groups_traj *t = members(g, p);
    for (int64_t i = 0; i < g->cfg.size; i++) {
        g->n.lost_trajectories += t[i].received > 0;
        g->n.lost_tokens += t[i].received;
    }
    take_out(g, group);
    g->n.live--;
    g->n.rejected[reason]++;
    g->n.failed_in_row += reason == GROUPS_REWARD || reason == GROUPS_ABORTED;
    g->n.zero_rejected += reason == GROUPS_ZERO;
    return true;
}

bool groups_refused(const struct groups *g, uint64_t group) {
    const struct groups_group *p = lookup(g, group);
    return p && g->cfg.dynamic && p->state == GROUPS_FINISHED && p->zero;
}

static uint32_t lease_waiting(struct groups *g, struct groups_group *group, int32_t rollout,
                              uint32_t room, struct groups_item *items) {
    struct groups_traj *t = members(g, group);
    uint32_t n = 0;
    for (int64_t i = 0; i < g->cfg.size && n < room; i++) {
        if (t[i].state != GROUPS_WAITING) continue;
        move(g, group, &t[i], GROUPS_LEASED, rollout);
        items[n++] = (struct groups_item){
            .trajectory = group->id * (uint64_t)g->cfg.size + (uint64_t)i, .group = group->id};
    }
    return n;
}

void groups_set_level(struct groups *g, int64_t level) {
    ASSERT(level >= 0 && level <= g->cfg.eta * g->cfg.groups);
    g->level = level;
}

int64_t groups_level(const struct groups *g) {
    return g->level;
}

/* Slots of new groups are bounded by the level, which is within the staleness bound, and by what
 * the run still needs. */
static bool admission_open(const struct groups *g) {
    int64_t most = (g->n.done + 1) * g->cfg.groups + g->level;
    int64_t needed = g->cfg.steps * g->cfg.groups;
    return g->n.live < (most < needed ? most : needed);
}

static int64_t slot_floor(const struct groups *g, int64_t slot) {
    int64_t floor = slot / g->cfg.groups - g->cfg.eta;
    return floor < 0 ? 0 : floor;
}

uint32_t groups_dispatch(struct groups *g, int32_t rollout, int64_t version, uint32_t n,
                         struct groups_item *items, int64_t *min_version) {
    ASSERT(version <= g->n.formed);
    int64_t free = g->cfg.concurrency - g->n.leased;
    uint32_t room = free < (int64_t)n ? (uint32_t)(free > 0 ? free : 0) : n, got = 0;
    int64_t want = INT64_MAX;
    bool urgent = false;
    for (int64_t i = 0; i < g->count && got < room && g->n.waiting > 0 && !urgent; i++) {
        struct groups_group *group = &g->group[g->order[i]];
        if (group->waiting == 0) continue;
        if (version >= group->floor) {
            got += lease_waiting(g, group, rollout, room - got, items + got);
            continue;
        }
        /* Too old for this group. What was lost, or is needed next, must not wait behind new
         * groups; the untouched rest of a group that was split may go to a newer rollout. */
        if (group->floor < want) want = group->floor;
        urgent = group->lost > 0 || group->floor + g->cfg.eta <= g->n.formed;
    }
    while (got < room && !urgent && admission_open(g)) {
        int64_t floor = slot_floor(g, g->n.live);
        if (version < floor) {
            if (floor < want) want = floor;
            break;
        }
        struct groups_group *group = insert(g, g->n.next, g->n.live, version);
        uint32_t k = lease_waiting(g, group, rollout, room - got, items + got);
        items[got].starts = true;
        got += k;
    }
    *min_version = got == 0 && room > 0 && want != INT64_MAX ? want : version;
    return got;
}

uint32_t groups_leased(const struct groups *g, int32_t rollout) {
    uint32_t n = 0;
    for (int64_t i = 0; i < g->count; i++) {
        const struct groups_traj *t = members(g, &g->group[g->order[i]]);
        for (int64_t k = 0; k < g->cfg.size; k++)
            n += t[k].state == GROUPS_LEASED && t[k].rollout == rollout;
    }
    return n;
}

int32_t groups_adopt(struct groups *g, int32_t rollout, uint64_t trajectory) {
    struct groups_traj *t = lookup_traj(g, trajectory);
    if (!t) return -1;
    if (t->state == GROUPS_LEASED) return t->rollout == rollout ? t->received : -1;
    if (t->state != GROUPS_WAITING || g->n.leased >= g->cfg.concurrency) return -1;
    move(g, lookup(g, trajectory / (uint64_t)g->cfg.size), t, GROUPS_LEASED, rollout);
    return t->received;
}

uint32_t groups_release(struct groups *g, int32_t rollout) {
    uint32_t n = 0;
    for (int64_t i = 0; i < g->count; i++) {
        struct groups_group *group = &g->group[g->order[i]];
        struct groups_traj *t = members(g, group);
        for (int64_t k = 0; k < g->cfg.size; k++) {
            if (t[k].state != GROUPS_LEASED || t[k].rollout != rollout) continue;
            move(g, group, &t[k], GROUPS_WAITING, -1);
            n++;
        }
    }
    return n;
}

bool groups_abort(struct groups *g, int32_t rollout, uint64_t trajectory) {
    struct groups_traj *t = lookup_traj(g, trajectory);
    if (!t || t->state != GROUPS_LEASED || t->rollout != rollout) return false;
    uint64_t id = trajectory / (uint64_t)g->cfg.size;
    move(g, lookup(g, id), t, GROUPS_WAITING, -1);
    if (++t->aborts < GROUPS_ABORTS_MAX) return false;
    return groups_reject(g, id, GROUPS_ABORTED);
}

enum groups_take groups_tokens(struct groups *g, int32_t rollout, uint64_t trajectory,
                               uint32_t offset, uint32_t n, const int64_t *version, bool last,
                               uint32_t *known) {
    struct groups_traj *t = lookup_traj(g, trajectory);
    if (!t) return GROUPS_FORGET;
    struct groups_group *group = lookup(g, trajectory / (uint64_t)g->cfg.size);
    if (t->state == GROUPS_GENERATED || t->state == GROUPS_SCORED) return GROUPS_KNOWN;
    if (t->state != GROUPS_LEASED || t->rollout != rollout) return GROUPS_FORGET;
    uint32_t received = (uint32_t)t->received;
    if ((int64_t)offset + n > g->cfg.tokens_max) {
        err_set(__FILE__, __LINE__, "%" PRIu32 " tokens at %" PRIu32 ", at most %" PRId64, n,
                offset, g->cfg.tokens_max);
        return GROUPS_MALFORMED;
    }
    if (offset > received || offset + n < received) return GROUPS_KNOWN;
    if (offset + n == received && !last) return GROUPS_KNOWN;
    if (offset + n == 0) { /* a response has at least one token */
        err_set(__FILE__, __LINE__, "complete without a token");
        return GROUPS_MALFORMED;
    }
    int64_t oldest = t->oldest;
    for (uint32_t i = received - offset; i < n; i++) {
        if (version[i] < group->floor || version[i] > g->n.formed) {
            err_set(__FILE__, __LINE__,
                    "version %" PRId64 " of token %" PRIu32 ", possible are %" PRId64
                    " to %" PRId64,
                    version[i], offset + i, group->floor, g->n.formed);
            return GROUPS_MALFORMED;
        }
        if (version[i] < oldest) oldest = version[i];
    }
    *known = received - offset;
    t->received = (int32_t)(offset + n);
    t->oldest = oldest;
    if (last) move(g, group, t, GROUPS_GENERATED, -1);
    return GROUPS_TAKE;
}

/* All scored: the group can be trained. */
static void finish_group(struct groups *g, struct groups_group *group) {
    const struct groups_traj *t = members(g, group);
    group->state = GROUPS_FINISHED;
    group->zero = true;
    for (int64_t i = 1; i < g->cfg.size; i++)
        if (t[i].reward != t[0].reward) group->zero = false;
    g->n.running--;
    g->n.finished++;
    g->n.failed_in_row = 0;
}

bool groups_score(struct groups *g, uint64_t trajectory, float reward) {
    struct groups_traj *t = lookup_traj(g, trajectory);
    if (!t || t->state != GROUPS_GENERATED) return false;
    struct groups_group *group = lookup(g, trajectory / (uint64_t)g->cfg.size);
    t->reward = reward;
    move(g, group, t, GROUPS_SCORED, -1);
    if (group->scored == g->cfg.size) finish_group(g, group);
    return true;
}

static int by_deadline(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->deadline != y->deadline) return x->deadline < y->deadline ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

bool groups_form(const struct groups *g, uint64_t *groups) {
    if (g->n.finished < g->cfg.groups || g->n.formed >= g->cfg.steps) return false;
    int64_t n_done = 0, n_left = 0, b = g->cfg.groups;
    for (int64_t i = 0; i < g->count; i++) {
        const struct groups_group *p = &g->group[g->order[i]];
        struct entry e = {deadline(g, p), p->id};
        if (p->state == GROUPS_FINISHED)
            g->done_[n_done++] = e;
        else
            g->left[n_left++] = e;
    }
    qsort(g->done_, (size_t)n_done, sizeof *g->done_, by_deadline);
    for (int64_t i = b; i < n_done; i++)
        g->left[n_left++] = g->done_[i];
    if (!g->cfg.drop) {
        /* At most (u - formed) * B of what is left may have a deadline <= u, for every u: the i-th
         * by deadline is trained in batch formed + 1 + i / B at the latest. */
        qsort(g->left, (size_t)n_left, sizeof *g->left, by_deadline);
        for (int64_t i = 0; i < n_left; i++)
            if (g->left[i].deadline < g->n.formed + 1 + i / b) return false;
    }
    for (int64_t i = 0; i < b; i++) {
        ASSERT(g->done_[i].deadline >= g->n.formed); /* I2 */
        ASSERT(!groups_refused(g, g->done_[i].id));
        groups[i] = g->done_[i].id;
    }
    qsort(groups, (size_t)b, sizeof *groups, by_id);
    return true;
}

void groups_train(struct groups *g, const uint64_t *groups) {
    for (int64_t i = 0; i < g->cfg.groups; i++) {
        ASSERT(lookup(g, groups[i]) && lookup(g, groups[i])->state == GROUPS_FINISHED);
        take_out(g, groups[i]);
    }
    g->n.zero_rejected = 0;
    g->n.formed++;
}

bool groups_expire(struct groups *g, uint64_t *group) {
    for (int64_t i = 0; g->cfg.drop && i < g->count; i++) {
        const struct groups_group *p = &g->group[g->order[i]];
        if (deadline(g, p) >= g->n.formed) continue;
        *group = p->id;
        return groups_reject(g, p->id, GROUPS_STALE);
    }
    return false;
}

int groups_step_done(struct groups *g, int64_t step) {
    if (step < 0 || step >= g->n.formed)
        return FAIL(ERR_CONFIG, "step %" PRId64 " was never given out; batches exist for 0 to %lld",
                    step, (long long)g->n.formed - 1);
    if (step + 1 > g->n.done) g->n.done = step + 1;
    return 0;
}

const struct groups_group *groups_blocker(const struct groups *g) {
    const struct groups_group *best = NULL;
    int64_t least = INT64_MAX;
    for (int64_t i = 0; i < g->count; i++) {
        const struct groups_group *p = &g->group[g->order[i]];
        if (p->state == GROUPS_FINISHED || deadline(g, p) >= least) continue;
        best = p;
        least = deadline(g, p);
    }
    return best;
}

void groups_restore_batches(struct groups *g, int64_t formed, int64_t done) {
    g->n.formed = formed;
    g->n.done = done;
    g->n.live = formed * g->cfg.groups;
}

int groups_restore_group(struct groups *g, uint64_t group, int64_t slot, int64_t floor,
                         enum groups_state state, enum groups_reason reason) {
    if (group != g->expect)
        return FAIL(ERR_CORRUPT, "group %" PRIu64 " follows, expected %" PRIu64, group, g->expect);
    g->expect = g->n.next = group + 1;
    if (state == GROUPS_REJECTED) g->n.rejected[reason]++;
    if (state == GROUPS_TRAINED || state == GROUPS_REJECTED) return 0;
    if (state != GROUPS_RUNNING) return FAIL(ERR_CORRUPT, "state %d is not stored", (int)state);
    if (g->count == g->capacity)
        return FAIL(ERR_CORRUPT, "more than %" PRId64 " untrained groups", g->capacity);
    if (slot < 0 || floor < slot_floor(g, slot) || floor > g->n.formed)
        return FAIL(ERR_CORRUPT, "slot %" PRId64 " and floor %" PRId64 " with %" PRId64 " batches",
                    slot, floor, g->n.formed);
    insert(g, group, slot, floor);
    return 0;
}

void groups_restore_zero(struct groups *g, int64_t formed) {
    g->n.zero_rejected += formed == g->n.formed;
}

int groups_restore_traj(struct groups *g, uint64_t trajectory, int32_t received, int64_t oldest,
                        bool complete, bool scored, float reward) {
    struct groups_traj *t = lookup_traj(g, trajectory);
    if (!t) return FAIL(ERR_CORRUPT, "its group is not running");
    struct groups_group *group = lookup(g, trajectory / (uint64_t)g->cfg.size);
    if (received < 0 || received > g->cfg.tokens_max || (complete && received == 0) ||
        (scored && !complete))
        return FAIL(ERR_CORRUPT, "%d tokens, complete %d, scored %d", received, complete, scored);
    if (received > 0 && (oldest < group->floor || oldest > g->n.formed))
        return FAIL(ERR_CORRUPT, "version %" PRId64 ", possible are %" PRId64 " to %" PRId64,
                    oldest, group->floor, g->n.formed);
    t->received = received;
    if (received > 0) t->oldest = oldest;
    t->lost = received > 0; /* it ran somewhere: it goes before what never did */
    if (complete) move(g, group, t, GROUPS_GENERATED, -1);
    if (scored) groups_score(g, trajectory, reward);
    return 0;
}

int groups_restore_end(struct groups *g) {
    uint32_t lost = 0;
    for (int64_t i = 0; i < g->count; i++) { /* `lost` was set behind the counters' back */
        struct groups_group *group = &g->group[g->order[i]];
        const struct groups_traj *t = members(g, group);
        group->lost = 0;
        for (int64_t k = 0; k < g->cfg.size; k++)
            group->lost += t[k].state == GROUPS_WAITING && t[k].lost;
        lost += group->lost;
        if (deadline(g, group) < g->n.formed)
            return FAIL(ERR_CORRUPT,
                        "group %" PRIu64 ": deadline %" PRId64 " before batch %" PRId64, group->id,
                        deadline(g, group), g->n.formed);
    }
    g->n.lost = lost;
    if (g->n.live > (g->n.done + g->cfg.eta + 1) * g->cfg.groups)
        return FAIL(ERR_CORRUPT, "%" PRId64 " live groups after step %" PRId64, g->n.live,
                    g->n.done);
    return 0;
}
