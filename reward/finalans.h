/* finalans.h - where in a response the final answer stands: what math and choice share. */
#ifndef REWARD_FINALANS_H
#define REWARD_FINALANS_H

#include <stdbool.h>
#include <stddef.h>

/* A part of the text that was searched; s is NULL if there is none. */
struct finalans {
    const char *s;
    size_t n;
};

struct finalans
finalans_boxed(const char *text); /* inside the last \boxed{} with its braces closed */
struct finalans finalans_marked(const char *text); /* the line behind the last #### */
/* Behind the last "answer is", "answer:" or "answer =", to the end of the sentence or line. */
struct finalans finalans_stated(const char *text);
struct finalans
finalans_number(const char *text); /* the last number, with its sign, fraction and % */
/* Without white space, emphasis, dollar signs, \( \) and a full stop around it. */
struct finalans finalans_strip(struct finalans a);

#endif
