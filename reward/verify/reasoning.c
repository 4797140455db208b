/* reasoning.c - models that reason write a draft, close it with a mark and then answer. What stands
 * in the draft was tried, not answered, so it must never be paid or punished as an answer. The
 * opening mark is often the end of the prompt (chat formats of DeepSeek-R1 and Qwen3), so a closing
 * mark counts without one; a draft that is still open when the response ends (it was cut off) holds
 * no answer, whatever boxes are in it. */
#include "reward/verify/reasoning.h"

#include "base/err.h"

#include <ctype.h>
#include <string.h>

struct mark {
    const char *open, *close;
};

static const struct mark known[] = {{"<think>", "</think>"},
                                    {"<thinking>", "</thinking>"},
                                    {"<thought>", "</thought>"},
                                    {"<reasoning>", "</reasoning>"},
                                    {"[THINK]", "[/THINK]"}};
enum { KNOWN = sizeof known / sizeof known[0] };

/* The opening mark that belongs to </name> or [/name]; "" for other closing marks. */
static const char *opening(char out[REASONING_MARK], const char *close) {
    size_t n = strlen(close);
    out[0] = 0;
    if (n < 3 || close[1] != '/') return out;
    ASSERT(n < REASONING_MARK);
    out[0] = close[0];
    memcpy(out + 1, close + 2, n - 1);
    return out;
}

/* Behind the last occurrence of mark in s, NULL if there is none. */
static const char *behind_last(const char *s, const char *mark) {
    const char *best = NULL;
    size_t n = strlen(mark);
    while ((s = strstr(s, mark)) != NULL)
        best = s += n;
    return best;
}

/* Whether the text, trailing white space aside, ends with mark. */
static bool ends_with_mark(const char *text, const char *mark) {
    size_t n = strlen(text), m = strlen(mark);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    return n >= m && memcmp(text + n - m, mark, m) == 0;
}

/* The last closing mark counts: reasoning may quote one. Behind it an opening mark without its
 * closing one means that the response was cut while it reasoned. */
const char *reasoning_end(const char *prompt, const char *response, const char *after) {
    struct mark mark[KNOWN + 1];
    char open[REASONING_MARK];
    size_t n = KNOWN;
    const char *start = response;
    if (after && !*after) return response;
    memcpy(mark, known, sizeof known);
    if (after) mark[n++] = (struct mark){opening(open, after), after};
    for (size_t i = 0; i < n; i++) {
        const char *s = behind_last(response, mark[i].close);
        if (s > start) start = s;
        if (!s && !*mark[i].open) return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        if (!*mark[i].open) continue;
        if (strstr(start, mark[i].open)) return NULL;
        if (start == response && ends_with_mark(prompt, mark[i].open)) return NULL;
    }
    return start;
}

bool reasoning_lacks(const char *response, const char *after) {
    char open[REASONING_MARK];
    return after && *after && !*opening(open, after) && !strstr(response, after);
}

bool reasoning_is_named(const char *pattern, const char *after) {
    char plain[4096];
    size_t n = 0;
    if (after && !*after) return false;
    for (; *pattern && n + 1 < sizeof plain; pattern++)
        if (*pattern != '\\') plain[n++] = *pattern;
    plain[n] = 0;
    for (size_t i = 0; i < KNOWN; i++)
        if (strstr(plain, known[i].close)) return true;
    return after && strstr(plain, after);
}
