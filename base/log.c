/* log.c - see log.h. Each line is formatted on the stack and leaves in one write(2): processes that
 * share a stderr do not mix their lines, and a full pipe or closed stderr never fails the caller.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level level_max = LOG_INFO;
static char service_name[32] = "weir";

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *const sub_names[LOG_N] = {"base",    "net",     "kv",     "kern",
                                             "actor",   "relay",   "reward", "rollout",
                                             "manager", "trainer", "deploy"};

void log_rename(const char *service) {
    snprintf(service_name, sizeof service_name, "%s", service);
}

void log_open(enum log_level level, const char *service) {
    level_max = level;
    log_rename(service);
}

int log_level_from_name(const char *name) {
    for (int i = 0; i < 4; i++)
        if (strcmp(name, level_names[i]) == 0) return i;
    return -1;
}

void log_write(enum log_level level, enum log_subsystem sub, const char *fmt, ...) {
    if (level > level_max) return;
    char line[2048];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03d %s %s %s ", (int)(ts.tv_nsec / 1000000),
                          level_names[level], service_name, sub_names[sub]);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - n, fmt, ap);
    va_end(ap);
    if (m > 0) n += (size_t)m < sizeof line - n ? (size_t)m : sizeof line - n - 1;
    if (n > sizeof line - 2) n = sizeof line - 2;
    line[n++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}
