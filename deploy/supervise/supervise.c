/* supervise.c - see supervise.h. Children are started before this process has threads, in process
 * groups of their own (a Ctrl-C reaches the supervisor alone, which stops them in order), with the
 * parent-death signal set: when the supervisor is killed, they end too.
 *
 * The services' log has some room of its own on the disk, always: why a run ended is said there,
 * also when it ended because the disk is full. */
#include "deploy/supervise/supervise.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "deploy/supervise/process_end.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    YOUNG_US = 3000000,     /* a life shorter than this counts against the child */
    YOUNG_DEATHS_MAX = 8,   /* in a row, of its own doing */
    YOUNG_KILLS_MAX = 500,  /* by signals that somebody else sent */
    NEWS_BYTES_MAX = 2000,  /* between two readings */
    PAUSE_FIRST_US = 50000, /* before the first restart, doubling */
    PAUSE_MAX_US = 3000000,
    LOG_ROOM = 128 << 10 /* for what is still to be logged */
};

struct child {
    char *name, *args[SUPERVISE_ARGS_MAX];
    int nice, restarts, young_deaths, young_kills, exit_status;
    enum supervise_state state;
    pid_t pid;
    uint64_t started_us, due_us, left_us, frozen_us; /* 0: never, or not */
};

struct supervise {
    struct child *children;
    size_t n, cap;
    char *log_path;
    int log_fd;
    off_t log_room; /* bytes of the file that the disk has room for */
    struct buf news, told;
};

/* Reserves room behind the log's end; does nothing where the file system cannot. */
static void keep_log_room(struct supervise *s) {
    struct stat st;
    if (fstat(s->log_fd, &st) != 0 || st.st_size + LOG_ROOM / 2 < s->log_room) return;
    if (fallocate(s->log_fd, FALLOC_FL_KEEP_SIZE, st.st_size, LOG_ROOM) == 0)
        s->log_room = st.st_size + LOG_ROOM;
}

int supervise_open(struct supervise **out, const char *log_path) {
    /* O_NONBLOCK: a pipe without a reader is an error, not a wait for one. */
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", log_path, strerror(errno));
    struct supervise *s = mem_zalloc(sizeof *s);
    s->log_path = mem_strdup(log_path);
    s->log_fd = fd;
    keep_log_room(s);
    log_copy(fd);
    *out = s;
    return 0;
}

int supervise_add(struct supervise *s, const char *name, const char *const *args, int nice) {
    if (s->n == SUPERVISE_CHILDREN_MAX)
        return FAIL(ERR_CONFIG, "more than %d services", SUPERVISE_CHILDREN_MAX);
    mem_grow(&s->children, &s->cap, s->n + 1, sizeof *s->children);
    struct child *c = &s->children[s->n++];
    *c = (struct child){.name = mem_strdup(name), .nice = nice, .state = SUPERVISE_WAITING};
    for (size_t i = 0; args[i]; i++) {
        ASSERT(i + 2 < SUPERVISE_ARGS_MAX);
        c->args[i + 1] = mem_strdup(args[i]);
    }
    c->args[0] = mem_strdup("weir");
    return 0;
}

/* In the child: only async-signal-safe calls. */
static _Noreturn void become_service(const struct child *c, int log_fd, pid_t parent) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1); /* the parent died before prctl */
    if (c->nice) setpriority(PRIO_PROCESS, 0, c->nice);
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log_fd, 2) < 0) _exit(1);
    execv("/proc/self/exe", c->args);
    _exit(127);
}

static void tell_news(struct supervise *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void tell_news(struct supervise *s, const char *fmt, ...) {
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (s->news.len < NEWS_BYTES_MAX) buf_printf(&s->news, "%s\n", line);
}

static int start_child(struct supervise *s, struct child *c, uint64_t now_us) {
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) return FAIL(ERR_NOMEM, "cannot start %s: %s", c->name, strerror(errno));
    if (pid == 0) become_service(c, s->log_fd, parent);
    c->restarts += c->started_us > 0;
    c->pid = pid;
    c->state = SUPERVISE_RUNNING;
    c->started_us = now_us;
    return 0;
}

/* The newest line of the log that names the service as a failure; mem_free. */
static char *last_words(const struct supervise *s, const char *name) {
    char *text, *found = NULL;
    size_t bytes;
    if (file_read(&text, &bytes, s->log_path, (size_t)1 << 30) < 0)
        return mem_strdup("its log cannot be read");
    char *mark = mem_printf("error %s ", name),
         *verb = mem_printf("weir %.*s: ", (int)strcspn(name, "-"), name);
    for (char *line = text; line < text + bytes;) {
        size_t n = strcspn(line, "\n");
        line[n] = '\0';
        if (strstr(line, mark) || strncmp(line, verb, strlen(verb)) == 0) {
            mem_free(found);
            found = mem_strdup(line);
        }
        line += n + 1;
    }
    mem_free(mark);
    mem_free(verb);
    mem_free(text);
    return found ? found : mem_printf("see %s", s->log_path);
}

static int give_up(struct supervise *s, struct child *c, const char *how) {
    char *words = last_words(s, c->name);
    c->state = SUPERVISE_FAILED;
    int rc = FAIL(process_end_error(c->exit_status),
                  "%s ended with %s and is not started again: %s", c->name, how, words);
    mem_free(words);
    return rc;
}

/* A death: due again later, or never. */
static int died(struct supervise *s, struct child *c, const char *how, uint64_t now_us) {
    int status = c->exit_status;
    bool young = now_us - c->started_us < YOUNG_US, killed = process_end_by_others(status);
    c->young_deaths = young && !killed ? c->young_deaths + 1 : 0;
    c->young_kills = young && killed ? c->young_kills + 1 : 0;
    if (process_end_final(status) || c->young_deaths >= YOUNG_DEATHS_MAX ||
        c->young_kills >= YOUNG_KILLS_MAX)
        return give_up(s, c, how);
    uint64_t pause = PAUSE_FIRST_US;
    for (int i = 1; i < c->young_deaths && pause < PAUSE_MAX_US; i++)
        pause *= 2;
    c->state = SUPERVISE_WAITING;
    c->due_us = now_us + pause;
    LOG(INFO, DEPLOY, "service=%s ended=\"%s\" restarts_before=%d restart_in_ms=%u", c->name, how,
        c->restarts, (unsigned)(pause / 1000));
    tell_news(s, "%s ended with %s and is started again", c->name, how);
    return 0;
}

/* A child ended: died, or left with its work done, if the run says so. */
static int ended(struct supervise *s, struct child *c, int status, uint64_t now_us) {
    char how[64];
    c->pid = 0;
    c->exit_status = status;
    c->frozen_us = 0;
    c->left_us = now_us;
    if (status == 0) {
        c->state = SUPERVISE_LEFT;
        return 0;
    }
    process_end_describe(how, sizeof how, status);
    return died(s, c, how, now_us);
}

int supervise_settle(struct supervise *s, size_t i, uint64_t now_us, bool done) {
    struct child *c = &s->children[i];
    if (c->state != SUPERVISE_LEFT) return 0;
    if (done) {
        c->state = SUPERVISE_FINISHED;
        return 0;
    }
    if (now_us < c->left_us + SUPERVISE_WORD_US) return 0;
    return died(s, c, "exit status 0 before the work was done", now_us);
}

/* Somebody stopped it or let it go on: said, not mended, since a debugger does that too. */
static void froze(struct supervise *s, struct child *c, int status, uint64_t now_us) {
    if (WIFSTOPPED(status) && !c->frozen_us) {
        c->frozen_us = now_us;
        LOG(INFO, DEPLOY, "service=%s pid=%d frozen=\"signal %d (%s)\"", c->name, (int)c->pid,
            WSTOPSIG(status), strsignal(WSTOPSIG(status)));
        tell_news(s, "%s (pid %d) was frozen by signal %d (%s); kill -CONT %d lets it go on",
                  c->name, (int)c->pid, WSTOPSIG(status), strsignal(WSTOPSIG(status)), (int)c->pid);
    } else if (WIFCONTINUED(status) && c->frozen_us) {
        double s_frozen = (double)(now_us - c->frozen_us) * 1e-6;
        c->frozen_us = 0;
        LOG(INFO, DEPLOY, "service=%s goes_on_after_s=%.1f", c->name, s_frozen);
        tell_news(s, "%s goes on after %.1f s", c->name, s_frozen);
    }
}

static int changed(struct supervise *s, struct child *c, int status, uint64_t now_us) {
    if (WIFEXITED(status)) return ended(s, c, WEXITSTATUS(status), now_us);
    if (WIFSIGNALED(status)) return ended(s, c, -WTERMSIG(status), now_us);
    froze(s, c, status, now_us);
    return 0;
}

int supervise_tick(struct supervise *s, uint64_t now_us) {
    int status;
    keep_log_room(s);
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0;)
        for (size_t i = 0; i < s->n; i++)
            if (s->children[i].pid == pid) {
                TRY(changed(s, &s->children[i], status, now_us));
                break;
            }
    for (size_t i = 0; i < s->n; i++) {
        struct child *c = &s->children[i];
        if (c->state == SUPERVISE_WAITING && now_us >= c->due_us) TRY(start_child(s, c, now_us));
    }
    return 0;
}

const char *supervise_news(struct supervise *s) {
    struct buf fresh = s->news;
    if (fresh.len == 0) return NULL;
    s->news = s->told;
    buf_reset(&s->news);
    s->told = fresh;
    return s->told.data;
}

size_t supervise_count(const struct supervise *s) {
    return s->n;
}

struct supervise_child supervise_child(const struct supervise *s, size_t i) {
    const struct child *c = &s->children[i];
    return (struct supervise_child){c->name,     c->state,       c->pid,
                                    c->restarts, c->exit_status, c->frozen_us};
}

bool supervise_finished(const struct supervise *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->children[i].name, name) == 0)
            return s->children[i].state == SUPERVISE_FINISHED;
    return false;
}

static size_t running(const struct supervise *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->children[i].pid > 0;
    return n;
}

static void signal_all(const struct supervise *s, int signal) {
    for (size_t i = s->n; i-- > 0;)
        if (s->children[i].pid > 0) kill(s->children[i].pid, signal);
}

static void reap_children(struct supervise *s) {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        for (size_t i = 0; i < s->n; i++)
            if (s->children[i].pid == pid) s->children[i].pid = 0;
}

void supervise_stop(struct supervise *s, int grace_ms, bool (*hurry)(void *), void *ctx) {
    uint64_t deadline = clock_us() + (uint64_t)grace_ms * 1000;
    bool killed = false;
    signal_all(s, SIGTERM);
    signal_all(s, SIGCONT);
    for (reap_children(s); running(s) > 0; reap_children(s)) {
        if (!killed && (clock_us() > deadline || (hurry && hurry(ctx)))) {
            signal_all(s, SIGKILL);
            killed = true;
        }
        clock_sleep_us(2000);
    }
}

void supervise_close(struct supervise **s) {
    if (!*s) return;
    supervise_stop(*s, 5000, NULL, NULL);
    for (size_t i = 0; i < (*s)->n; i++) {
        struct child *c = &(*s)->children[i];
        mem_free(c->name);
        for (size_t k = 0; k < SUPERVISE_ARGS_MAX; k++)
            mem_free(c->args[k]);
    }
    log_copy(-1);
    close((*s)->log_fd);
    buf_close(&(*s)->news);
    buf_close(&(*s)->told);
    mem_free((*s)->children);
    mem_free((*s)->log_path);
    mem_free(*s);
    *s = NULL;
}
