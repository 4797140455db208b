/* mathparse.c - a text to its structure: tokens (mathlex), a list of relations (mathreader). A +-
 * makes two readings, one per sign, joined to a list. Any failure makes the whole text unreadable:
 * a half-read answer must never be compared. */
#include "reward/math/mathparse.h"

#include "reward/math/mathlex.h"
#include "reward/math/mathreader.h"

#include <string.h>

enum { STEPS = 20000 };

typedef const struct mathparse_node *node;

/* The whole text: what is left over makes it unreadable. */
static bool read_list(struct mathreader *r, struct mathparse_node *list) {
    do
        if (!mathreader_add(r, list, mathreader_relation(r))) return false;
    while (mathreader_separator(r, list));
    return r->at->kind == MATHLEX_END;
}

/* "2k\\pi (k \\in Z)": a condition in brackets at the end is one behind a comma. */
static void open_condition(struct mathlex_token *token) {
    struct mathlex_token *open = NULL, *t = token;
    int depth = 0;
    for (; t->kind != MATHLEX_END; t++) {
        if (t->kind != MATHLEX_PUNCT || !t->punct) continue;
        if (t->punct == '(' && depth == 0) open = t;
        depth += t->punct == '(';
        depth -= t->punct == ')';
    }
    bool last =
        open && open > token && depth == 0 && t[-1].kind == MATHLEX_PUNCT && t[-1].punct == ')';
    if (!last || !open->space || open[1].kind != MATHLEX_SYMBOL || open[2].punct != MATHLEX_IN)
        return;
    open->punct = ',';
    open->s = ",";
    t[-1] = *t;
}

node mathparse_read(struct algebra *g, struct arena *arena, const char *text, bool commas) {
    struct mathlex_token token[MATHLEX_TOKENS + 4];
    struct mathreader r = {.g = g, .arena = arena, .steps = STEPS};
    struct mathparse_node *list = mathreader_new(&r, MATHPARSE_LIST);
    memset(&token[MATHLEX_TOKENS], 0, 4 * sizeof token[0]);
    for (int pass = 0; pass < 2; pass++) {
        bool words;
        if (mathlex_read(token, &words, text, commas, arena) == 0) return NULL;
        if (words) return mathreader_new(&r, MATHPARSE_TEXT);
        open_condition(token);
        r.at = token;
        r.minus_first = pass == 1;
        if (!read_list(&r, list)) return NULL;
        if (!r.plus_minus) break;
    }
    return list->n == 1 ? list->item[0] : list;
}
