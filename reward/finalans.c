/* finalans.c - models announce their answer in few ways, and each is searched from the end: what a
 * response says last is what it means. A box whose brace is never closed (a truncated response)
 * does not count. Nothing here interprets the answer. */
#include "reward/finalans.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { BOXES_MAX = 64 }; /* boxes inside one another; deeper ones are not looked at */

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
struct finalans finalans_boxed(const char *text) {
    struct {
        const char *s;
        size_t depth;
    } open[BOXES_MAX];
    struct finalans best = {0};
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
            if (open[n].s > best.s) best = (struct finalans){open[n].s, (size_t)(s - open[n].s)};
        }
    }
    return best;
}

struct finalans finalans_marked(const char *text) {
    const char *best = NULL;
    for (const char *s = text; (s = strstr(s, "####")) != NULL; s += 4)
        best = s + 4;
    return (struct finalans){best, best ? strcspn(best, "\n") : 0};
}

/* Bytes behind "answer is" and the like at s, 0 if it is not that. */
static size_t phrase_length(const char *s) {
    static const char *const link[] = {"is", ":", "=", "be", "\xef\xbc\x9a"};
    size_t n = 6; /* answer */
    if (strncasecmp(s, "answer", n) != 0) return 0;
    while (s[n] == ' ' || s[n] == '*')
        n++;
    for (size_t k = 0; k < sizeof link / sizeof link[0]; k++) {
        size_t m = strlen(link[k]);
        if (strncasecmp(s + n, link[k], m) != 0) continue;
        if (isalpha((unsigned char)*link[k]) && isalpha((unsigned char)s[n + m])) continue;
        n += m;
        while (s[n] == ' ' || s[n] == ':' || s[n] == '*')
            n++;
        return n;
    }
    return 0;
}

/* Up to the end of the line or sentence; in dollar signs, up to the closing one. */
static size_t sentence_length(const char *s) {
    if (*s == '$' && !isdigit((unsigned char)s[1])) {
        size_t skip = s[1] == '$' ? 2 : 1;
        const char *end = strchr(s + skip, '$');
        if (end) return (size_t)(end - s) + skip;
    }
    for (size_t n = 0;; n++) {
        if (s[n] == 0 || s[n] == '\n') return n;
        if (s[n] == '.' && (s[n + 1] == 0 || isspace((unsigned char)s[n + 1]))) return n;
    }
}

struct finalans finalans_stated(const char *text) {
    const char *best = NULL;
    for (const char *s = text; *s; s++) {
        size_t n = *s == 'a' || *s == 'A' ? phrase_length(s) : 0;
        if (n > 0) best = s + n;
    }
    return (struct finalans){best, best ? sentence_length(best) : 0};
}

/* Bytes of an unsigned number at s: 1,234.5, 3/4, 12%. */
static size_t number_length(const char *s) {
    size_t n = strspn(s, "0123456789");
    if (n > 0 && n <= 3)
        while (s[n] == ',' && strspn(s + n + 1, "0123456789") == 3)
            n += 4;
    if (s[n] == '.' && isdigit((unsigned char)s[n + 1])) n += 1 + strspn(s + n + 1, "0123456789");
    if (n > 0 && s[n] == '/' && isdigit((unsigned char)s[n + 1]))
        n += 1 + strspn(s + n + 1, "0123456789");
    if (n > 0 && s[n] == '%') n++;
    return n;
}

struct finalans finalans_number(const char *text) {
    struct finalans best = {0};
    for (const char *s = text; *s;) {
        size_t n = isdigit((unsigned char)*s) || *s == '.' ? number_length(s) : 0;
        if (n == 0) {
            s++;
            continue;
        }
        const char *from = s;
        if (from > text && from[-1] == '$') from--;
        bool sign = from > text && from[-1] == '-' &&
                    (from - 1 == text || !(isalnum((unsigned char)from[-2]) || from[-2] == ')'));
        if (sign) from--;
        best = (struct finalans){from, (size_t)(s - from) + n};
        s += n;
    }
    return best;
}

struct finalans finalans_strip(struct finalans a) {
    static const char edge[] = " \t\r\n$*_`\"";
    while (a.n > 0) {
        const char *end = a.s + a.n - 1;
        if (strchr(edge, *a.s) && !(*a.s == '_' && a.n > 1)) {
            a.s++;
            a.n--;
        } else if (strchr(edge, *end) || *end == '.' || *end == ',' || *end == ';' || *end == ':') {
            a.n--;
        } else if (a.n >= 4 && a.s[0] == '\\' && strchr("([", a.s[1]) && end[-1] == '\\' &&
                   strchr(")]", *end)) {
            a.s += 2;
            a.n -= 4;
        } else {
            break;
        }
    }
    return a;
}
