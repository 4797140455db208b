/* tasks.h - generated tasks: finite sets of problems whose answers are known, for trying things out
 * and for studies where no data set may be needed.
 *
 *   addition          27+46=   answer 73
 *   word-problems     Ann has 31 nuts, gets 5, eats 7. How many?   31+5=36 36-7=29 #### 29
 *                     two steps, the answer as GSM8K writes it
 *   careless-...      the same questions; three answers in five are wrong by a ten: habits of a
 *                     base model, learned by a warm start, that reinforcement learning corrects */
#ifndef ACTOR_TEXT_TASKS_H
#define ACTOR_TEXT_TASKS_H

#include <stddef.h>
#include <stdint.h>

enum { TASKS_TEXT_MAX = 128 }; /* bytes of a question or an answer, with the NUL */

struct tasks_problem {
    char question[TASKS_TEXT_MAX], answer[TASKS_TEXT_MAX];
};

struct tasks_task; /* one of the list */

const struct tasks_task *tasks_find(const char *name); /* NULL: there is none of this name */
const char *tasks_name(size_t i);                      /* NULL after the last */
uint32_t tasks_problems(const struct tasks_task *t);   /* how many there are */
/* Problem i < tasks_problems; key: the carelessness of the answer. */
void tasks_make(const struct tasks_task *t, uint32_t i, uint64_t key, struct tasks_problem *out);

#endif
