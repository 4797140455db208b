/* child.h - other programs that a benchmark times or needs: services of Weir, Python. They die with
 * the benchmark. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include <stdio.h>
#include <sys/types.h>

struct child {
    pid_t pid;
    FILE *to, *from; /* its stdin and stdout, or NULL (then both are /dev/null) */
};

/* Starts argv[0] (NULL-terminated list); stderr goes to /dev/null. */
struct child child_start(const char *const *argv, int piped);
/* signal 0: waits for its own end. Returns the exit status, -1 when a signal ended it; peak_mib
 * (may be NULL): of its largest process. */
int child_end(struct child *c, int signal, double *peak_mib);

/* bench/torch_train.py --serve: one command per line, answered by milliseconds. */
int child_has_torch(void);                  /* starts it the first time; 0 where there is none */
double child_torch_ms(const char *command); /* negative: it cannot do this */

#endif
