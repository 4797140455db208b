/* answer.c - a final answer is announced by a box, a mark or words; without any of them it is what
 * the response comes to at its end. Each is searched from the end: what is said last is what is
 * meant. A box whose brace is never closed (a truncated response) does not count. Nothing here
 * interprets the answer. */
#include "reward/verify/answer.h"

#include "reward/verify/statement.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { LINE_BYTES = 4096 }; /* of a marked line; a longer one holds no answer */
enum { BOXES_MAX = 64 };    /* boxes inside one another; deeper ones are not looked at */

/* Whether \boxed or \fbox ends right before the brace at s. */
static bool opens_box(const char *text, const char *s) {
    static const char *const name[] = {"\\boxed", "\\fbox"};
    while (s > text && s[-1] == ' ')
        s--;
    for (size_t k = 0; k < 2; k++) {
        size_t n = strlen(name[k]);
        if ((size_t)(s - text) >= n && memcmp(s - n, name[k], n) == 0) return true;
    }
    return false;
}

/* One pass with a stack of boxes that are still open, so that the time is linear in hostile text.
 */
struct formula_span answer_boxed(const char *text) {
    struct {
        const char *s;
        size_t depth;
    } open[BOXES_MAX];
    struct formula_span best = {0};
    size_t n = 0, depth = 0;
    for (const char *s = text; *s; s++) {
        if (*s == '\\' && (s[1] == '{' || s[1] == '}' || s[1] == '\\')) {
            s++;
        } else if (*s == '{') {
            if (n < BOXES_MAX && opens_box(text, s)) {
                open[n].s = s + 1;
                open[n++].depth = depth;
            }
            depth++;
        } else if (*s == '}' && depth > 0) {
            depth--;
            if (n == 0 || open[n - 1].depth != depth) continue;
            n--;
            if (open[n].s > best.s)
                best = (struct formula_span){open[n].s, (size_t)(s - open[n].s)};
        }
    }
    return best;
}

const char *answer_element(struct arena *arena, const char *text) {
    static const char open[] = "<answer>", close[] = "</answer>";
    const char *best = NULL;
    for (const char *s = text; (s = strstr(s, open)) != NULL;)
        best = s += sizeof open - 1;
    const char *from = best ? best : text, *end = strstr(from, close);
    size_t n = end ? (size_t)(end - from) : strlen(from);
    return best || end ? arena_strndup(arena, from, n) : text;
}

/* ---- marks ---- */

/* Whether the line s[0..n) behind a mark is an answer: it begins with a number or formula, and no
 * heading's number ("1. Simplify", "2: add", "3 - check"). */
static bool is_marked_answer(const char *s, size_t n) {
    static const char decoration[] = " \t*=_`:$\\";
    struct formula_span inside;
    size_t i = 0, m;
    while (i < n && formula_is_in(s[i], " \t*_`=:"))
        i++;
    if (i < n && (formula_delimited(&inside, s + i) > 0 || strncmp(s + i, "\\boxed", 6) == 0))
        return true;
    m = formula_bare(s, s + i);
    if (m == 0) {
        while (i < n && formula_is_in(s[i], decoration))
            i++;
        return (m = formula_bare(s, s + i)) > 0 && i + m <= n;
    }
    size_t digits = strspn(s + i, "0123456789"), k = i + digits;
    if (digits == 0 || digits != m || k >= n) return true;
    while (k < n && s[k] == ' ')
        k++;
    if (!formula_is_in(s[k], ".):-")) return true;
    for (k++; k < n; k++)
        if (isalpha((unsigned char)s[k])) return false;
    return true;
}

const char *answer_end(const char *text) {
    size_t n = strlen(text);
    return n > PROSE_BYTES ? text + n - PROSE_BYTES : text;
}

struct formula_span answer_marked(const char *text) {
    struct formula_span best = {0};
    for (const char *s = answer_end(text); (s = strstr(s, "####")) != NULL; s += strspn(s, "#")) {
        const char *line = s + strspn(s, "#");
        size_t n = strnlen(line, LINE_BYTES);
        const char *end = memchr(line, '\n', n);
        if (end) n = (size_t)(end - line);
        if (is_marked_answer(line, n)) best = (struct formula_span){line, n};
    }
    return best;
}

const char *answer_find(struct arena *arena, const char *response) {
    enum { SHORT = 40 }; /* bytes of a response that is nothing but its answer */
    struct prose p;
    const char *body = answer_element(arena, response);
    struct formula_span a = answer_boxed(body);
    if (!a.s) a = answer_boxed(response);
    if (!a.s) a = answer_marked(body);
    if (a.s) {
        a = formula_strip(a);
        return arena_strndup(arena, a.s, a.n);
    }
    prose_read(&p, arena, body);
    const char *said = statement_answer(arena, &p);
    if (said) return said;
    if (strlen(body) > SHORT) return NULL;
    a = formula_strip((struct formula_span){body, strlen(body)});
    return a.n > 0 ? arena_strndup(arena, a.s, a.n) : NULL;
}
