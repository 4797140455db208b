/* ends.h - what a process's end means: to the supervisor that may start it again, and to whoever
 * called `weir` (a shell, a scheduler). The table for users is docs/exit-codes.md. */
#ifndef DEPLOY_SUPERVISE_ENDS_H
#define DEPLOY_SUPERVISE_ENDS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* A service's word to its supervisor: start me again. No command that people call ends with it. */
enum { ENDS_AGAIN = 75 };

/* The exit code of a process whose work ended with rc. A service says ENDS_AGAIN where another
 * start may do better; stopped by signal n is 128 + n. */
int ends_code(int rc, bool service);

/* Of a child's end: its exit code, or -signal. */
bool ends_final(int status);     /* another start would end the same way */
bool ends_by_others(int status); /* somebody sent a signal: no fault of the child's own */
int ends_error(int status);      /* the error that the end is for its parent: ERR_* */
void ends_describe(char *out, size_t n, int status); /* "signal 9 (Killed)", "exit status 1" */

#endif
