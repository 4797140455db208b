/* err.h - the one error convention. Every function that can fail returns int: 0 is success, a
 * negative ERR_* is failure, results go through the first out-parameter, which is untouched on
 * failure. The text of the newest failure of a thread lives in a thread-local buffer: FAIL writes
 * it where the error is born, err_wrap adds what a caller knows. Asserts are always on and mean "a
 * bug in Weir", never "bad input". */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define ERR_TABLE(X)                                                                               \
    X(NOMEM, -1, "out of memory", 71)                                                              \
    X(IO, -2, "input/output", 74)                                                                  \
    X(CORRUPT, -3, "malformed data", 65)                                                           \
    X(CONFIG, -4, "bad setting or argument", 64)                                                   \
    X(AGAIN, -5, "not now", 69)                                                                    \
    X(STALE, -6, "too stale", 65)                                                                  \
    X(DEVICE, -7, "device", 69)                                                                    \
    X(UNSUP, -8, "unsupported", 65)                                                                \
    X(TIMEOUT, -9, "timed out", 69)                                                                \
    X(CLOSED, -10, "closed", 69)                                                                   \
    X(NOTFOUND, -11, "not found", 64)                                                              \
    X(MISMATCH, -12, "does not match", 76)                                                         \
    X(STOPPED, -13, "stopped by a signal", 143)                                                    \
    X(DIED, -14, "a process died again and again", 70)

enum err_code {
    ERR_OK = 0,
#define ERR_ENUM(name, code, text, exit_code) ERR_##name = code,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* Records the text of a failure; its value is code, so that `return FAIL(...)` reads as one thing.
 */
#define FAIL(code, ...) (err_set(__FILE__, __LINE__, __VA_ARGS__), (code))

#define TRY(expr)                                                                                  \
    do {                                                                                           \
        int rc_ = (expr);                                                                          \
        if (rc_ < 0) return rc_;                                                                   \
    } while (0)

/* For functions that own resources: one label `out`, whose last statement is `return rc`. */
#define TRY_OUT(expr)                                                                              \
    do {                                                                                           \
        rc = (expr);                                                                               \
        if (rc < 0) goto out;                                                                      \
    } while (0)

#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) err_bug(#cond, __FILE__, __LINE__);                                           \
    } while (0)

/* The text is printf-like; the previous text of this thread is replaced. */
void err_set(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "fmt: " in front of this thread's newest text when rc < 0; returns rc unchanged. */
int err_wrap(int rc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

const char *err_text(void);        /* text of this thread's newest failure, "" if none */
const char *err_where(void);       /* "file.c:123" of its birth */
const char *err_name(int code);    /* "IO", "CORRUPT", ...; "OK" for 0 */
const char *err_meaning(int code); /* a few words */
int err_exit_code(int code);       /* what a command exits with (docs/exit-codes.md); 0 for 0 */
void err_ignore(int rc, const char *why); /* the only way to drop an error; why is for the reader */
_Noreturn void err_bug(const char *cond, const char *file, int line);
const char *err_bug_text(void); /* what err_bug said, "" before: for a crash's report */

#endif
