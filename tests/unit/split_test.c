/* split_test.c - plans by hand, and over random batches: every row that a trajectory needs is
 * computed once on its way (by a segment, by a trajectory before it, or by itself), on tokens equal
 * to its own; budgets are kept; segments nest. */
#include "trainer/batch/split.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/test.h"

enum { TOKENS_MAX = 64, NODES_MAX = 4096 };

/* A batch of trajectories given as text: prompt|response, one letter a token. */
static struct batch *batch_of(const char *const *text, uint32_t n) {
    struct batch *b = batch_open(n);
    b->n_groups = 1;
    for (uint32_t i = 0; i < n; i++) {
        int32_t ids[TOKENS_MAX], prompt = 0, len = 0;
        for (const char *c = text[i]; *c; c++)
            if (*c == '|')
                prompt = len;
            else
                ids[len++] = *c;
        batch_set(b, i, ids, prompt, ids + prompt, len - prompt, NULL, NULL, NULL, 0);
    }
    return b;
}

static void plan(struct split *p, const struct batch *b, const struct split_limits *l) {
    int32_t *rows = mem_array(b->n, sizeof *rows);
    for (uint32_t i = 0; i < b->n; i++)
        rows[i] = microbatch_rows(&b->traj[i], false);
    split_make(p, b, rows, l);
    mem_free(rows);
}

static void check_op(const struct split *p, int32_t i, enum split_kind kind, int32_t n,
                     int32_t from, int32_t to) {
    CHECK(i < p->n_ops);
    const struct split_op *op = &p->op[i];
    if (op->kind != kind || op->n != n || op->from != from || op->to != to)
        test_fail(__FILE__, __LINE__, "op %d is %d of %d, rows %d..%d", i, op->kind, op->n,
                  op->from, op->to);
}

static const char *const tree[] = {"sysabc|xx", "sysabc|yyy", "sysde|x", "sysde|xz"};

TEST(split_off_and_packed_by_hand) {
    struct batch *b = batch_of(tree, 4);
    struct split p = {0};
    plan(&p, b, &(struct split_limits){.mode = SPLIT_OFF, .rows = 100, .seqs_max = 9, .page = 1});
    CHECK_INT(p.n_ops, 1);
    check_op(&p, 0, SPLIT_WAVE, 4, 0, 0);
    for (int k = 0; k < 4; k++)
        CHECK(p.item[k].from == 0 && !p.item[k].chained);
    plan(&p, b,
         &(struct split_limits){.mode = SPLIT_PACKED, .rows = 100, .seqs_max = 9, .page = 1});
    CHECK_INT(p.n_ops, 1);
    CHECK_INT(p.item[0].from, 0);
    CHECK_INT(p.item[1].from, 5); /* "c" predicts x and y: each has its own */
    CHECK_INT(p.item[2].from, 2);
    CHECK_INT(p.item[3].from, 5);
    CHECK_INT(p.item[3].to, 6);
    split_close(&p);
    batch_close(&b);
}

TEST(split_schedule_nests_by_hand) {
    struct batch *b = batch_of(tree, 4);
    struct split p = {0};
    plan(&p, b,
         &(struct split_limits){.mode = SPLIT_SCHEDULE, .rows = 100, .seqs_max = 9, .page = 1});
    check_op(&p, 0, SPLIT_PUSH, 4, 0, 2); /* s y, not the s that predicts a or d */
    check_op(&p, 1, SPLIT_PUSH, 2, 2, 5); /* s a b */
    check_op(&p, 2, SPLIT_WAVE, 2, 5, 5);
    check_op(&p, 3, SPLIT_POP, 2, 2, 5);
    check_op(&p, 4, SPLIT_PUSH, 2, 2, 5); /* s d e: e predicts x for both; the first ends here */
    check_op(&p, 5, SPLIT_WAVE, 1, 5, 5);
    check_op(&p, 6, SPLIT_POP, 2, 2, 5);
    check_op(&p, 7, SPLIT_POP, 4, 0, 2);
    CHECK_INT(p.n_ops, 8);
    CHECK_INT(p.passes, 5);
    split_close(&p);
    batch_close(&b);
}

/* A group that does not fit: units that compute the prompt again, or a segment if that is cheaper.
 */
TEST(split_auto_weighs) {
    static const char *const text[] = {"abcdefgh|1111", "abcdefgh|2222", "abcdefgh|3333",
                                       "abcdefgh|4444"};
    struct batch *b = batch_of(text, 4);
    struct split p = {0};
    struct split_limits l = {.mode = SPLIT_AUTO, .rows = 16, .seqs_max = 9, .page = 1};
    l.cost.pass = 100;
    plan(&p, b, &l);
    CHECK_INT(p.n_ops, 2);
    check_op(&p, 0, SPLIT_WAVE, 2, 0, 0);
    l.cost.pass = 1;
    plan(&p, b, &l);
    check_op(&p, 0, SPLIT_PUSH, 4, 0, 7);
    check_op(&p, 1, SPLIT_WAVE, 2, 7, 7);
    CHECK_INT(p.n_ops, 4);
    l.rows = 100;
    plan(&p, b, &l); /* fits: nothing is computed twice anyway */
    check_op(&p, 0, SPLIT_WAVE, 4, 0, 0);
    l.cost.last = 0.5; /* but the last layer of the prompt can be saved */
    plan(&p, b, &l);
    check_op(&p, 0, SPLIT_PUSH, 4, 0, 7);
    split_close(&p);
    batch_close(&b);
}

/* --- random batches ------------------------------------------------------------------------ */

static struct batch *random_batch(uint64_t key, uint64_t round, uint32_t n) {
    struct batch *b = batch_open(n);
    int32_t ids[TOKENS_MAX], letters = 1 + (int32_t)rng_below(key, round, 1, 3);
    b->n_groups = n / 4 + 1;
    for (uint32_t i = 0; i < n; i++) {
        int32_t len = 2 + (int32_t)rng_below(key, round, 1000 + i, 30);
        int32_t prompt = 1 + (int32_t)rng_below(key, round, 2000 + i, (uint64_t)(len - 1));
        uint8_t mask[TOKENS_MAX];
        for (int32_t k = 0; k < len; k++) {
            uint64_t from = rng_below(key, round, 3000 + i, 3) ? i / 4 : i;
            ids[k] = (int32_t)rng_below(key, round * 64 + from, (uint64_t)k, (uint64_t)letters);
            mask[k] = rng_below(key, round * 64 + i, (uint64_t)(100 + k), 4) != 0;
        }
        batch_set(b, i, ids, prompt, ids + prompt, len - prompt, NULL, mask, NULL, 0);
    }
    return b;
}

/* What is computed when: for each trajectory, the number of its rows seen so far on its way. */
struct watch {
    const struct batch *b;
    const struct split *p;
    const struct split_limits *l;
    int32_t depth, stack[NODES_MAX]; /* ops of live segments */
    int32_t *done;                   /* [n] rows below are in live segments or in its wave */
    int64_t rows;                    /* computed */
};

static void watch_push(struct watch *w, int32_t i) {
    const struct split_op *op = &w->p->op[i];
    int32_t lead = w->p->order[op->first];
    CHECK_INT(op->from, w->depth ? w->p->op[w->stack[w->depth - 1]].to : 0);
    CHECK(op->from % w->l->page == 0 && op->to % w->l->page == 0 && op->from < op->to);
    CHECK(op->to - op->from <= w->l->rows || !w->l->offload);
    for (int32_t k = 0; k < op->n; k++) {
        int32_t t = w->p->order[op->first + k];
        CHECK_INT(w->done[t], op->from);
        CHECK(op->to <= microbatch_rows(&w->b->traj[t], false));
        CHECK(memcmp(w->b->traj[t].ids, w->b->traj[lead].ids, (size_t)op->to * sizeof(int32_t)) ==
              0);
        w->done[t] = op->to;
    }
    w->rows += op->to - op->from;
    w->stack[w->depth++] = i;
}

static void watch_pop(struct watch *w, int32_t i) {
    const struct split_op *op = &w->p->op[i];
    const struct split_op *top = &w->p->op[w->stack[--w->depth]];
    CHECK(top->first == op->first && top->n == op->n && top->from == op->from && top->to == op->to);
    for (int32_t k = 0; k < op->n; k++) { /* nothing of its trajectories is left to do */
        int32_t t = w->p->order[op->first + k];
        CHECK_INT(w->done[t], microbatch_rows(&w->b->traj[t], false));
    }
}

static void watch_wave(struct watch *w, int32_t i, bool segments) {
    const struct split_op *op = &w->p->op[i];
    int32_t rows = 0, seqs = 0;
    CHECK_INT(op->from, w->depth ? w->p->op[w->stack[w->depth - 1]].to : 0);
    for (int32_t k = 0; k < op->n; k++) {
        const struct microbatch_item *it = &w->p->item[op->first + k];
        const struct batch_traj *t = &w->b->traj[it->traj];
        CHECK_INT(w->done[it->traj], op->from);
        CHECK_INT(it->to, microbatch_rows(t, false));
        CHECK(it->from % w->l->page == 0 && it->from <= it->to && it->from >= op->from);
        if (it->chained) {
            const struct microbatch_item *before = it - 1;
            CHECK(it->from <= before->to);
            CHECK(memcmp(t->ids, w->b->traj[before->traj].ids,
                         (size_t)(it->from + (it->from > op->from)) * sizeof *t->ids) == 0);
        } else {
            CHECK_INT(it->from, op->from);
        }
        w->done[it->traj] = it->to;
        rows += it->to - it->from;
        seqs += it->to > it->from;
    }
    w->rows += rows;
    CHECK(seqs <= w->l->seqs_max);
    CHECK(rows + (w->l->offload ? 0 : op->from) <= w->l->rows || (op->n == 1 && !segments));
}

static int64_t check_plan(const struct batch *b, const struct split *p,
                          const struct split_limits *l) {
    struct watch w = {.b = b, .p = p, .l = l, .done = mem_array(b->n, sizeof *w.done)};
    bool segments = l->mode == SPLIT_SCHEDULE || l->mode == SPLIT_AUTO;
    for (int32_t i = 0; i < p->n_ops; i++) {
        if (p->op[i].kind == SPLIT_PUSH) watch_push(&w, i);
        if (p->op[i].kind == SPLIT_WAVE) watch_wave(&w, i, segments);
        if (p->op[i].kind == SPLIT_POP) watch_pop(&w, i);
        CHECK(segments || p->op[i].kind == SPLIT_WAVE);
    }
    CHECK_INT(w.depth, 0);
    for (uint32_t i = 0; i < b->n; i++)
        CHECK_INT(w.done[i], microbatch_rows(&b->traj[i], false));
    mem_free(w.done);
    return w.rows;
}

TEST(split_plans_are_whole) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    struct split p = {0};
    for (uint64_t round = 0; round < 600; round++) {
        uint32_t n = 1 + (uint32_t)rng_below(key, round, 5000, 40);
        struct batch *b = random_batch(key, round, n);
        int64_t rows[4];
        struct split_limits l = {.seqs_max = 1 + (int32_t)rng_below(key, round, 5002, 20),
                                 .page = 1 + (int32_t)rng_below(key, round, 5003, 4),
                                 .offload = round % 3 == 0};
        l.cost.pass = (double)rng_below(key, round, 5004, 12);
        l.cost.key = 0.01;
        for (int m = SPLIT_OFF; m <= SPLIT_AUTO; m++) {
            bool segments = m >= SPLIT_SCHEDULE;
            int32_t least = m == SPLIT_OFF ? 1 : l.offload && segments ? l.page : 32;
            struct split_limits mine = l;
            mine.mode = (enum split_mode)m;
            mine.offload = l.offload && segments;
            mine.rows = least + (int32_t)rng_below(key, round, 5001, 100);
            plan(&p, b, &mine);
            rows[m] = check_plan(b, &p, &mine);
        }
        CHECK(rows[SPLIT_PACKED] <= rows[SPLIT_OFF] && rows[SPLIT_SCHEDULE] <= rows[SPLIT_OFF]);
        CHECK(rows[SPLIT_AUTO] <= rows[SPLIT_OFF]);
        batch_close(&b);
    }
    split_close(&p);
}

/* A plan is a function of batch and limits: the memory of the plan before changes nothing (I7). */
TEST(split_repeats) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    struct split used = {0};
    for (uint64_t round = 0; round < 50; round++) {
        struct split fresh = {0};
        struct batch *b = random_batch(key, round, 30);
        struct split_limits l = {.mode = SPLIT_AUTO, .rows = 70, .seqs_max = 7, .page = 2};
        l.cost.pass = 3;
        plan(&used, b, &l);
        plan(&fresh, b, &l);
        CHECK_INT(used.n_ops, fresh.n_ops);
        CHECK(memcmp(used.op, fresh.op, (size_t)used.n_ops * sizeof *used.op) == 0);
        CHECK_INT(used.n_items, fresh.n_items);
        for (int32_t k = 0; k < used.n_items; k++)
            CHECK_INT(used.item[k].traj, fresh.item[k].traj);
        split_close(&fresh);
        batch_close(&b);
    }
    split_close(&used);
}

/* Every trajectory begins like the next longer one: as deep as a batch can nest. */
TEST(split_deep_nests) {
    enum { DEEP = 500 };
    struct batch *b = batch_open(DEEP);
    int32_t ids[DEEP + 2] = {0};
    struct split p = {0};
    for (uint32_t i = 0; i < DEEP; i++)
        batch_set(b, i, ids, 1, ids + 1, (int32_t)i + 1, NULL, NULL, NULL, 0);
    for (int m = SPLIT_OFF; m <= SPLIT_AUTO; m++) {
        struct split_limits l = {
            .mode = (enum split_mode)m, .rows = DEEP + 2, .seqs_max = DEEP, .page = 1};
        plan(&p, b, &l);
        check_plan(b, &p, &l);
    }
    split_close(&p);
    batch_close(&b);
}
