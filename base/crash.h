/* crash.h - a report of a process that dies by a fault of its own (SIGSEGV, SIGBUS, SIGILL, SIGFPE,
 * SIGABRT, err_bug): who it was, what it was at, its newest log lines, the stack. It goes to
 * stderr, to the file that log_copy names, and to a file of its own. The process then dies of that
 * signal, as without a report. docs/debugging.md says how to read one. */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

#include <signal.h>
#include <stdint.h>

enum crash_fact { CRASH_STEP, CRASH_VERSION, CRASH_FACTS };

/* program: "weir 0.1.0"; kept, not copied. */
void crash_open(const char *program);
/* A report is also written to DIR/crash-SERVICE-PID.txt from now on; copied, DIR NULL: no more. */
void crash_file(const char *dir, const char *service);
/* What this process is at, for the report: the newest step that it knows of, its weights. */
void crash_note(enum crash_fact fact, int64_t value);
/* All signals but those of a crash: what a thread blocks that leaves stop signals to another one. A
 * thread that blocked the others too would die of its faults without a report. */
void crash_fill_signals(sigset_t *set);
/* The signals do what they did before crash_open. For a child process whose deaths are its parent's
 * business (a verifier that runs on a response). */
void crash_close(void);

#endif
