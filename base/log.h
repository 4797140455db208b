/* log.h - one line per event to stderr, key=value, level and subsystem. Log where an error is
 * handled, not where it passes. Numbers that change every step go to metrics, not here. What a peer
 * or a row of data can cause goes through LOG_LIMITED: whoever repeats it must not fill the disk.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_subsystem {
    LOG_BASE,
    LOG_NET,
    LOG_KV,
    LOG_KERN,
    LOG_ACTOR,
    LOG_RELAY,
    LOG_REWARD,
    LOG_ROLLOUT,
    LOG_MANAGER,
    LOG_TRAINER,
    LOG_DEPLOY,
    LOG_N
};

#define LOG(level, sub, ...) log_write(LOG_##level, LOG_##sub, __VA_ARGS__)

/* At most a few lines at once from this place in the code, then one every few seconds, which says
 * how many were left out before it. */
#define LOG_LIMITED(level, sub, ...)                                                               \
    do {                                                                                           \
        static struct log_limit limit_;                                                            \
        log_limited(&limit_, LOG_##level, LOG_##sub, __VA_ARGS__);                                 \
    } while (0)

/* service is copied ("trainer", "rollout-1"); it prefixes each line. Default: level INFO, service
 * "weir". */
void log_open(enum log_level level, const char *service);
/* Another name, the same level. */
void log_rename(const char *service);
/* Lines up to level INFO go to this file too, whatever the level is; -1: no more. Not owned. */
void log_copy(int fd);
/* For a crash's report, from a signal's handler: the newest lines of this process, oldest first,
 * each with its line feed; the descriptor of log_copy, -1: none; the name of log_rename. */
void log_recent(void (*each)(void *ctx, const char *line, size_t n), void *ctx);
int log_copy_fd(void);
const char *log_service(void);
/* Says what limits have left out and nobody has said yet: before a process ends. */
void log_close(void);
int log_level_from_name(const char *name); /* "error".."debug" -> level, -1 if unknown */
/* 2021-03-04T05:06:07.123 INFO rollout-1 relay version=3 ... : one write(2) per line, so lines
 * never interleave. A control character, which a peer's name may have, becomes a space. */
void log_write(enum log_level level, enum log_subsystem sub, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

enum { LOG_LIMIT_BURST = 5, LOG_LIMIT_EVERY_US = 5000000 };

/* Zero: nothing was said yet. Lives as long as the process */
struct log_limit {
    uint64_t free_us; /* when all of the burst may be used again */
    uint64_t held;    /* lines left out since the last one */
    struct log_limit *next;
    enum log_level level;
    enum log_subsystem sub;
    char first[96]; /* beginning of the first line that was left out */
};

void log_limited(struct log_limit *limit, enum log_level level, enum log_subsystem sub,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
