/* crash.c - see crash.h. The handler may run anywhere, in the middle of malloc or of a log line, so
 * it calls only what is async-signal-safe: write, open, backtrace_symbols_fd, and formatting of its
 * own. backtrace() loads a library when it is called first; crash_open calls it for that.
 *
 * It ends by giving the signal back to whoever had it before (a sanitizer, or the default that
 * kills and leaves a core): a fault happens again when the handler returns, any other signal is
 * raised again. All of the signals are blocked meanwhile, so a fault inside the handler kills, and
 * an alarm ends one that hangs. */
#include "base/crash.h"

#include "base/err.h"
#include "base/log.h"

#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES_MAX = 64, STACK_BYTES = 64 << 10, PATIENCE_S = 5 };

static const struct crash_signal {
    int number;
    const char *name;
} signals[] = {{SIGSEGV, "SIGSEGV"},
               {SIGBUS, "SIGBUS"},
               {SIGILL, "SIGILL"},
               {SIGFPE, "SIGFPE"},
               {SIGABRT, "SIGABRT"}};
enum { N_SIGNALS = sizeof signals / sizeof signals[0] };

static const char *const fact_names[CRASH_FACTS] = {"step: ", "version of its weights: "};

static const char *program_name = "weir";
static char file_path[4096], program_path[4096];
static _Atomic int64_t facts[CRASH_FACTS];
static struct sigaction before[N_SIGNALS];
static bool is_open;
static atomic_flag reported = ATOMIC_FLAG_INIT;

struct crash_out {
    int fd[3]; /* stderr, the log's copy, the report's file; -1: none */
};

static void put_bytes(const struct crash_out *out, const char *text, size_t n) {
    for (size_t i = 0; i < sizeof out->fd / sizeof out->fd[0]; i++) {
        ssize_t ignored = out->fd[i] >= 0 ? write(out->fd[i], text, n) : 0;
        (void)ignored;
    }
}

static void put_text(const struct crash_out *out, const char *text) {
    put_bytes(out, text, strlen(text));
}

static void put_number(const struct crash_out *out, uint64_t v, unsigned base) {
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v > 0);
    if (base == 16) put_text(out, "0x");
    put_bytes(out, digits + at, sizeof digits - at);
}

static void put_field(const struct crash_out *out, const char *name, uint64_t v) {
    put_text(out, name);
    put_number(out, v, 10);
    put_text(out, "\n");
}

/* The addresses of a position-independent program are known as offsets only, so the line that
 * resolves them takes those in brackets: ./weir(+0x1234). */
static void put_stack(const struct crash_out *out) {
    void *frame[FRAMES_MAX];
    int n = backtrace(frame, FRAMES_MAX);
    put_text(out, "stack:\n");
    for (size_t i = 0; i < sizeof out->fd / sizeof out->fd[0]; i++)
        if (out->fd[i] >= 0) backtrace_symbols_fd(frame, n, out->fd[i]);
    put_text(out, "lines of the source, for each (+OFFSET): addr2line -Cfipe ");
    put_text(out, program_path[0] ? program_path : "weir");
    put_text(out, " OFFSET...\n");
}

static void put_log_line(void *ctx, const char *line, size_t n) {
    put_text(ctx, "  ");
    put_bytes(ctx, line, n);
}

/* si_code tells a fault of this process from a signal that another one sent. */
static void put_cause(const struct crash_out *out, int number, const siginfo_t *info) {
    const char *name = "?";
    for (size_t i = 0; i < N_SIGNALS; i++)
        if (signals[i].number == number) name = signals[i].name;
    put_text(out, "signal: ");
    put_text(out, name);
    if (info->si_code > 0) {
        put_text(out, " at address ");
        put_number(out, (uint64_t)(uintptr_t)info->si_addr, 16);
    } else {
        put_text(out, " sent by process ");
        put_number(out, (uint64_t)info->si_pid, 10);
    }
    put_text(out, "\n");
    if (err_bug_text()[0]) {
        put_text(out, "bug: ");
        put_text(out, err_bug_text());
        put_text(out, "\n");
    }
}

static void put_report(const struct crash_out *out, int number, const siginfo_t *info) {
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    put_text(out, "--- crash of ");
    put_text(out, log_service());
    put_text(out, "\nprogram: ");
    put_text(out, program_name);
    put_text(out, "\n");
    put_cause(out, number, info);
    put_field(out, "process: ", (uint64_t)getpid());
    put_field(out, "seconds since 1970: ", (uint64_t)now.tv_sec);
    for (int i = 0; i < CRASH_FACTS; i++) {
        int64_t v = atomic_load(&facts[i]);
        if (v >= 0) put_field(out, fact_names[i], (uint64_t)v);
    }
    put_text(out, "newest lines of its log:\n");
    log_recent(put_log_line, (void *)(uintptr_t)out);
    put_stack(out);
    put_text(out, "--- end of the report\n");
}

static void report_crash(int number, siginfo_t *info, void *context) {
    (void)context;
    if (atomic_flag_test_and_set(&reported)) /* another thread is at it, and will end the process */
        for (;;)
            pause();
    signal(SIGALRM, SIG_DFL);
    alarm(PATIENCE_S);
    struct crash_out out = {{STDERR_FILENO, log_copy_fd(), -1}};
    if (file_path[0]) out.fd[2] = open(file_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    put_report(&out, number, info);
    alarm(0); /* a sanitizer's report, which comes next, may take longer */
    for (size_t i = 0; i < N_SIGNALS; i++)
        sigaction(signals[i].number, &before[i], NULL);
    if (info->si_code <= 0) raise(number);
}

void crash_fill_signals(sigset_t *set) {
    sigfillset(set);
    for (size_t i = 0; i < N_SIGNALS; i++)
        sigdelset(set, signals[i].number);
}

void crash_open(const char *program) {
    static char stack[STACK_BYTES]; /* of the first thread: its own may be what ran over */
    void *unused[1];
    struct sigaction act = {.sa_sigaction = report_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    program_name = program;
    for (int i = 0; i < CRASH_FACTS; i++)
        atomic_store(&facts[i], -1);
    ssize_t n = readlink("/proc/self/exe", program_path, sizeof program_path - 1);
    program_path[n > 0 ? n : 0] = '\0';
    backtrace(unused, 1);
    sigaltstack(&other, NULL);
    sigemptyset(&act.sa_mask);
    for (size_t i = 0; i < N_SIGNALS; i++)
        sigaddset(&act.sa_mask, signals[i].number);
    for (size_t i = 0; i < N_SIGNALS; i++)
        sigaction(signals[i].number, &act, &before[i]);
    is_open = true;
}

void crash_file(const char *dir, const char *service) {
    int n = dir ? snprintf(file_path, sizeof file_path, "%s/crash-%s-%d.txt", dir, service,
                           (int)getpid())
                : 0;
    if (n <= 0 || (size_t)n >= sizeof file_path) file_path[0] = '\0';
}

void crash_note(enum crash_fact fact, int64_t value) {
    atomic_store_explicit(&facts[fact], value, memory_order_relaxed);
}

void crash_close(void) {
    for (size_t i = 0; is_open && i < N_SIGNALS; i++)
        sigaction(signals[i].number, &before[i], NULL);
    is_open = false;
}
