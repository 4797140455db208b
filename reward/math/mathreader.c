/* mathreader.c - moving over tokens, going back, and making nodes. */
#include "reward/math/mathreader.h"

#include "base/buf.h"

#include <string.h>

enum { MARK_STEPS = 50 };

typedef const struct mathparse_node *node;
typedef const struct algebra_value *value;

bool mathreader_is(const struct mathreader *r, char punct) {
    return r->at->kind == MATHLEX_PUNCT && r->at->punct == punct;
}

bool mathreader_accept(struct mathreader *r, char punct) {
    if (!mathreader_is(r, punct)) return false;
    r->at++;
    return true;
}

bool mathreader_is_name(const struct mathlex_token *t, const char *name) {
    return strlen(name) == t->n && memcmp(t->s, name, t->n) == 0;
}

bool mathreader_is_command(const struct mathreader *r, const char *name) {
    return r->at->kind == MATHLEX_COMMAND && mathreader_is_name(r->at, name);
}

struct mathreader_mark mathreader_mark(struct mathreader *r) {
    struct mathreader_mark m = {.at = r->at};
    r->steps -= MARK_STEPS;
    while (m.at[m.n].kind != MATHLEX_END)
        m.n++;
    if (r->steps > 0) {
        m.copy = arena_alloc(r->arena, (m.n + 1) * sizeof *m.copy);
        memcpy(m.copy, m.at, m.n * sizeof *m.copy);
    }
    return m;
}

void mathreader_rewind(struct mathreader *r, const struct mathreader_mark *m) {
    r->at = m->at;
    if (m->copy) memcpy(m->at, m->copy, m->n * sizeof *m->at);
}

struct mathparse_node *mathreader_new(struct mathreader *r, enum mathparse_kind kind) {
    struct mathparse_node *n = arena_alloc(r->arena, sizeof *n);
    *n = (struct mathparse_node){.kind = kind};
    return n;
}

node mathreader_value(struct mathreader *r, value v) {
    if (!v) return NULL;
    struct mathparse_node *n = mathreader_new(r, MATHPARSE_VALUE);
    n->value = v;
    return n;
}

value mathreader_value_of(node n) {
    if (n && n->kind == MATHPARSE_TUPLE && n->n == 1 && n->open == '[' && n->close == ']')
        n = n->item[0];
    return n && n->kind == MATHPARSE_VALUE ? n->value : NULL;
}

bool mathreader_add(struct mathreader *r, struct mathparse_node *n, node item) {
    if (!item || n->n == MATHPARSE_ITEMS) return false;
    if (n->n == 0) n->item = arena_alloc(r->arena, MATHPARSE_ITEMS * sizeof *n->item);
    n->item[n->n++] = item;
    return true;
}

/* Braces around one token do not matter: _{0} is _0. */
value mathreader_opaque(struct mathreader *r, const char *kind, const struct mathlex_token *from,
                        const struct mathlex_token *to) {
    struct buf b = {0};
    buf_str(&b, kind);
    for (const struct mathlex_token *t = from; t < to; t++) {
        bool open = t->kind == MATHLEX_PUNCT && t->punct == '{';
        bool single = open && t + 2 < to && t[2].kind == MATHLEX_PUNCT && t[2].punct == '}';
        if (single) t++;
        buf_str(&b, " ");
        if (t->kind == MATHLEX_PUNCT)
            buf_add(&b, &t->punct, 1);
        else
            buf_add(&b, t->s, t->n);
        if (single) t++;
    }
    value v = algebra_symbol(r->g, b.data, b.len);
    buf_close(&b);
    return v;
}

bool mathreader_is_finite(const struct mathreader *r, value a) {
    return !r->infinite || !a || !algebra_mentions(r->g, a, "infty");
}
