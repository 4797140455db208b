/* log.h - one line per event to stderr, key=value, level and subsystem. Log where an error is
 * handled, not where it passes. Numbers that change every step go to metrics, not here. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

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

/* service is copied ("trainer", "rollout-1"); it prefixes each line. Default: level INFO, service
 * "weir". */
void log_open(enum log_level level, const char *service);
/* Another name, the same level. */
void log_rename(const char *service);
int log_level_from_name(const char *name); /* "error".."debug" -> level, -1 if unknown */
/* 2021-03-04T05:06:07.123 INFO rollout-1 relay version=3 ... : one write(2) per line, so lines
 * never interleave. */
void log_write(enum log_level level, enum log_subsystem sub, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
