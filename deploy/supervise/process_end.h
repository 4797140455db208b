/* process_end.h - what a process's end means: to the supervisor that may start it again, and to
 * whoever called `weir` (a shell, a scheduler). The table for users is docs/exit-codes.md. */
#ifndef DEPLOY_SUPERVISE_PROCESS_END_H
#define DEPLOY_SUPERVISE_PROCESS_END_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* A service's word to its supervisor: start me again. No command that people call ends with it. */
enum { PROCESS_END_AGAIN = 75 };

/* The exit code of a process whose work ended with rc. A service says PROCESS_END_AGAIN where
 * another start may do better; stopped by signal n is 128 + n. */
int process_end_code(int rc, bool service);

/* Of a child's end: its exit code, or -signal. */
bool process_end_final(int status);     /* another start would end the same way */
bool process_end_by_others(int status); /* somebody sent a signal: no fault of the child's own */
int process_end_error(int status);      /* the error that the end is for its parent: ERR_* */
void process_end_describe(char *out, size_t n,
                          int status); /* "signal 9 (Killed)", "exit status 1" */

#endif
