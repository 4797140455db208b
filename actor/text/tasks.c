/* tasks.c - see tasks.h. A problem is a function of its number: the number is read as digits of a
 * mixed base, one for each thing that can be chosen. So a task needs no memory, all its problems
 * differ, and an order of them cuts disjoint training and held-out sets. */
#include "actor/text/tasks.h"

#include "base/rng.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
    ADDENDS = 90, /* 10 .. 99 */
    NAMES = 6,
    STORIES = 5,
    BIG = 40,   /* numbers of a story: 20 .. 59 */
    SMALL = 8,  /* 2 .. 9 */
    ENOUGH = 62 /* so that nobody eats more than there is */
};

typedef void make_fn(uint32_t i, uint64_t key, bool careless, struct tasks_problem *out);

struct tasks_task {
    const char *name;
    uint32_t problems;
    make_fn *make;
    bool careless;
};

/* Three in five. */
static bool slips(uint64_t key, uint32_t i) {
    return rng_below(key, 1, i, 5) < 3;
}

/* The slip is the carry of the units, forgotten or invented. */
static void addition(uint32_t i, uint64_t key, bool careless, struct tasks_problem *out) {
    uint32_t a = 10 + i / ADDENDS, b = 10 + i % ADDENDS, sum = a + b;
    if (careless && slips(key, i)) sum += a % 10 + b % 10 >= 10 ? -10u : 10;
    snprintf(out->question, sizeof out->question, "%u+%u=", a, b);
    snprintf(out->answer, sizeof out->answer, "%u", sum);
}

static uint32_t digit(uint32_t *i, uint32_t base) {
    uint32_t d = *i % base;
    *i /= base;
    return d;
}

struct steps { /* x = a op1 b; y = x op2 c, or c op2 x */
    int32_t a, b, c;
    char op1, op2;
    bool c_first;
};

/* Writes the question of this kind and returns the sum that answers it; operands are changed where
 * the story would not hold (nobody eats more than there is). */
static struct steps write_question(char question[TASKS_TEXT_MAX], uint32_t kind, const char *name,
                                   int32_t a, int32_t b, int32_t c) {
    size_t n = TASKS_TEXT_MAX;
    switch (kind) {
    case 0:
        snprintf(question, n, "%s has %d nuts, gets %d, eats %d. How many?", name, a, b, c);
        return (struct steps){a, b, c, '+', '-', false};
    case 1:
        snprintf(question, n, "%s has %d nuts, eats %d, gets %d. How many?", name, a, b, c);
        return (struct steps){a, b, c, '-', '+', false};
    case 2:
        snprintf(question, n, "%s has %d nuts and %d bags of %d. How many?", name, a, b, c);
        return (struct steps){b, c, a, '*', '+', true};
    case 3:
        a += ENOUGH;
        snprintf(question, n, "%s has %d nuts, %d friends eat %d each. How many?", name, a, b, c);
        return (struct steps){b, c, a, '*', '-', true};
    default:
        snprintf(question, n, "%s has %d nuts, finds %d, then %d. How many?", name, a, b, c);
        return (struct steps){a, b, c, '+', '+', false};
    }
}

static int32_t apply_operator(char op, int32_t a, int32_t b) {
    return op == '+' ? a + b : op == '-' ? a - b : a * b;
}

/* The slip is a ten too many or, where the step before gave an odd number, too few in the last. */
static void word_problem(uint32_t i, uint64_t key, bool careless, struct tasks_problem *out) {
    static const char *const names[NAMES] = {"Ann", "Ben", "Ida", "Leo", "Mia", "Tom"};
    uint32_t rest = i, kind = digit(&rest, STORIES);
    const char *name = names[digit(&rest, NAMES)];
    int32_t b = 2 + (int32_t)digit(&rest, SMALL), c = 2 + (int32_t)digit(&rest, SMALL);
    struct steps s = write_question(out->question, kind, name, 20 + (int32_t)rest, b, c);
    int32_t x = apply_operator(s.op1, s.a, s.b), left = s.c_first ? s.c : x,
            right = s.c_first ? x : s.c;
    int32_t y = apply_operator(s.op2, left, right);
    if (careless && slips(key, i)) y += x % 2 ? -10 : 10;
    snprintf(out->answer, sizeof out->answer, "%d%c%d=%d %d%c%d=%d #### %d", s.a, s.op1, s.b, x,
             left, s.op2, right, y, y);
}

static const struct tasks_task list[] = {
    {"addition", ADDENDS *ADDENDS, addition, false},
    {"careless-addition", ADDENDS *ADDENDS, addition, true},
    {"word-problems", STORIES *NAMES *SMALL *SMALL *BIG, word_problem, false},
    {"careless-word-problems", STORIES *NAMES *SMALL *SMALL *BIG, word_problem, true},
};

const char *tasks_name(size_t i) {
    return i < sizeof list / sizeof list[0] ? list[i].name : NULL;
}

const struct tasks_task *tasks_find(const char *name) {
    for (size_t i = 0; tasks_name(i); i++)
        if (strcmp(list[i].name, name) == 0) return &list[i];
    return NULL;
}

uint32_t tasks_problems(const struct tasks_task *t) {
    return t->problems;
}

void tasks_make(const struct tasks_task *t, uint32_t i, uint64_t key, struct tasks_problem *out) {
    t->make(i, key, t->careless, out);
}
