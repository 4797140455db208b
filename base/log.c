/* log.c - see log.h. Each line is formatted on the stack and leaves in one write(2): processes that
 * share a stderr do not mix their lines, and a full pipe or closed stderr never fails the caller.
 *
 * A limit is a bucket of LOG_LIMIT_BURST lines that gets one back every LOG_LIMIT_EVERY_US, written
 * as the time at which it will be full. What it holds back is counted, and said with the next line
 * from that place or at the end of the process. */
#include "base/log.h"

#include "base/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level level_max = LOG_INFO;
static char service_name[32] = "weir";
static int copy_fd = -1;
enum { RECENT_LINES = 32, RECENT_BYTES = 256 };
static struct recent {
    size_t n;
    char text[RECENT_BYTES];
} recent[RECENT_LINES];
static unsigned n_recent; /* since the start */
static atomic_flag recent_busy = ATOMIC_FLAG_INIT;
static pthread_mutex_t limits_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_limit *limits; /* all that held something back */

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

void log_copy(int fd) {
    copy_fd = fd;
}

int log_level_from_name(const char *name) {
    for (int i = 0; i < 4; i++)
        if (strcmp(name, level_names[i]) == 0) return i;
    return -1;
}

int log_copy_fd(void) {
    return copy_fd;
}

const char *log_service(void) {
    return service_name;
}

/* One thread at a time; a line that comes meanwhile is left out rather than waited for, since a
 * process may be forked at any moment. A crash's handler only reads, so its newest line may be
 * torn.
 */
static void keep_recent(const char *line, size_t n) {
    if (atomic_flag_test_and_set_explicit(&recent_busy, memory_order_acquire)) return;
    struct recent *r = &recent[n_recent % RECENT_LINES];
    r->n = n < sizeof r->text ? n : sizeof r->text;
    memcpy(r->text, line, r->n);
    r->text[r->n - 1] = '\n';
    n_recent++;
    atomic_flag_clear_explicit(&recent_busy, memory_order_release);
}

void log_recent(void (*each)(void *ctx, const char *line, size_t n), void *ctx) {
    unsigned end = n_recent, begin = end > RECENT_LINES ? end - RECENT_LINES : 0;
    for (unsigned i = begin; i != end; i++)
        each(ctx, recent[i % RECENT_LINES].text, recent[i % RECENT_LINES].n);
}

static bool level_wanted(enum log_level level) {
    return level <= level_max || (copy_fd >= 0 && level <= LOG_INFO);
}

static void write_whole(int fd, const char *line, size_t n) {
    ssize_t ignored = write(fd, line, n);
    (void)ignored;
}

static void format_line(enum log_level level, enum log_subsystem sub, const char *fmt, va_list ap) {
    char line[2048];
    struct timespec ts;
    struct tm tm;
    if (!level_wanted(level)) return;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03d %s %s %s ", (int)(ts.tv_nsec / 1000000),
                          level_names[level], service_name, sub_names[sub]);
    int m = vsnprintf(line + n, sizeof line - n, fmt, ap);
    if (m > 0) n += (size_t)m < sizeof line - n ? (size_t)m : sizeof line - n - 1;
    if (n > sizeof line - 2) n = sizeof line - 2;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) line[i] = ' ';
    line[n++] = '\n';
    keep_recent(line, n);
    if (level <= level_max) write_whole(STDERR_FILENO, line, n);
    if (copy_fd >= 0 && level <= LOG_INFO) write_whole(copy_fd, line, n);
}

void log_write(enum log_level level, enum log_subsystem sub, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    format_line(level, sub, fmt, ap);
    va_end(ap);
}

static void note_held(struct log_limit *l, enum log_level level, enum log_subsystem sub) {
    if (l->held++ > 0 || l->next) return;
    l->level = level;
    l->sub = sub;
    l->next = limits ? limits : l; /* the last one of the list points to itself */
    limits = l;
}

/* Whether the line may be said now; *held: how many were not, since the last one that was. */
static bool limit_allows(struct log_limit *l, uint64_t *held) {
    const uint64_t room = (uint64_t)LOG_LIMIT_BURST * LOG_LIMIT_EVERY_US;
    uint64_t now = clock_us();
    if (l->free_us < now) l->free_us = now;
    if (l->free_us + LOG_LIMIT_EVERY_US > now + room) return false;
    l->free_us += LOG_LIMIT_EVERY_US;
    *held = l->held;
    l->held = 0;
    return true;
}

void log_limited(struct log_limit *limit, enum log_level level, enum log_subsystem sub,
                 const char *fmt, ...) {
    uint64_t held = 0;
    va_list ap;
    if (!level_wanted(level)) return;
    pthread_mutex_lock(&limits_lock);
    bool say = limit_allows(limit, &held);
    va_start(ap, fmt);
    if (!say && limit->held == 0) vsnprintf(limit->first, sizeof limit->first, fmt, ap);
    va_end(ap);
    if (!say) note_held(limit, level, sub);
    pthread_mutex_unlock(&limits_lock);
    if (!say) return;
    if (held > 0) log_write(level, sub, "%" PRIu64 " lines like the next one were left out", held);
    va_start(ap, fmt);
    format_line(level, sub, fmt, ap);
    va_end(ap);
}

void log_close(void) {
    pthread_mutex_lock(&limits_lock);
    for (struct log_limit *l = limits, *next; l; l = next) {
        next = l->next == l ? NULL : l->next;
        if (l->held > 0)
            log_write(l->level, l->sub, "%" PRIu64 " lines were left out, the first: %s", l->held,
                      l->first);
        l->held = 0;
    }
    pthread_mutex_unlock(&limits_lock);
}
