/* err.c - see err.h. One thread-local buffer, no allocation: an out-of-memory failure can still be
 * described. Text is kept per thread and replaced by the next failure; whoever adds context wraps
 * it (err_wrap) on the way up, so that the line a user sees runs from what was wanted to what the
 * system said. Exit codes are those of sysexits(3), but for 75, "temporary failure": a scheduler
 * that reads it starts the command again, for ever. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ERR_TEXT_MAX = 1024 };

static _Thread_local char text[ERR_TEXT_MAX];
static _Thread_local char where[128];

void err_set(const char *file, int line, const char *fmt, ...) {
    char fresh[ERR_TEXT_MAX]; /* arguments may point into text */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(fresh, sizeof fresh, fmt, ap);
    va_end(ap);
    memcpy(text, fresh, sizeof text);
    snprintf(where, sizeof where, "%s:%d", file, line);
}

int err_wrap(int rc, const char *fmt, ...) {
    if (rc >= 0) return rc;
    char fresh[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(fresh, sizeof fresh, fmt, ap);
    va_end(ap);
    if (n < 0) return rc;
    size_t used = (size_t)n < sizeof fresh ? (size_t)n : sizeof fresh - 1;
    size_t room = sizeof fresh - 1 - used;
    if (room > 2) {
        memcpy(fresh + used, ": ", 2);
        size_t keep = strnlen(text, room - 2);
        memcpy(fresh + used + 2, text, keep);
        fresh[used + 2 + keep] = '\0';
    }
    memcpy(text, fresh, sizeof text);
    return rc;
}

const char *err_text(void) {
    return text;
}

const char *err_where(void) {
    return where;
}

const char *err_name(int code) {
    switch (code) {
    case ERR_OK: return "OK";
#define ERR_NAME(name, value, meaning, exit_code)                                                  \
    case ERR_##name: return #name;
        ERR_TABLE(ERR_NAME)
#undef ERR_NAME
    default: return "UNKNOWN";
    }
}

const char *err_meaning(int code) {
    switch (code) {
    case ERR_OK: return "success";
#define ERR_MEANING(name, value, meaning, exit_code)                                               \
    case ERR_##name: return meaning;
        ERR_TABLE(ERR_MEANING)
#undef ERR_MEANING
    default: return "unknown error";
    }
}

int err_exit_code(int code) {
    switch (code) {
    case ERR_OK: return 0;
#define ERR_EXIT(name, value, meaning, exit_code)                                                  \
    case ERR_##name: return exit_code;
        ERR_TABLE(ERR_EXIT)
#undef ERR_EXIT
    default: return 1;
    }
}

void err_ignore(int rc, const char *why) {
    (void)rc;
    (void)why;
}

/* The process ends by this, so one text for all threads is enough. */
static char bug_text[ERR_TEXT_MAX + 512];

const char *err_bug_text(void) {
    return bug_text;
}

/* abort, not exit: a core has the state, and no destructor runs on state known to be wrong. */
void err_bug(const char *cond, const char *file, int line) {
    snprintf(bug_text, sizeof bug_text, "%s at %s:%d (newest error: %s)", cond, file, line,
             text[0] ? text : "none");
    fprintf(stderr, "weir: bug: %s\n", bug_text);
    abort();
}
