/* child.c - see child.h. PyTorch is a co-process and not a script that is run afterwards: so its
 * steps are timed in turn with Weir's, which is the only comparison that a noisy machine allows. A
 * machine without PyTorch has no such lines; nothing else changes. */
#include "bench/child.h"

#include "bench/bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 32 };

static struct child torch_child;

static _Noreturn void become(const char *const *argv, int in, int out) {
    char *args[ARGS_MAX] = {NULL};
    int null = open("/dev/null", O_RDWR);
    for (int i = 0; argv[i] && i + 1 < ARGS_MAX; i++)
        args[i] = strdup(argv[i]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(in < 0 ? null : in, 0) < 0 || dup2(out < 0 ? null : out, 1) < 0 || dup2(null, 2) < 0)
        _exit(71);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(args[0], args);
    _exit(127);
}

struct child child_start(const char *const *argv, int piped) {
    struct child c = {0};
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    if (piped && (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)) {
        fprintf(stderr, "weir-bench: no pipes\n");
        exit(71);
    }
    c.pid = fork();
    if (c.pid == 0) become(argv, in[0], out[1]);
    if (!piped) return c;
    close(in[0]);
    close(out[1]);
    c.to = fdopen(in[1], "w");
    c.from = fdopen(out[0], "r");
    return c;
}

int child_end(struct child *c, int signal, double *peak_mib) {
    int status = 0;
    struct rusage use = {0};
    if (signal) kill(c->pid, signal);
    if (c->to) fclose(c->to);
    if (c->from) fclose(c->from);
    if (wait4(c->pid, &status, 0, &use) != c->pid) return -1;
    if (peak_mib) *peak_mib = (double)use.ru_maxrss / 1024;
    *c = (struct child){0};
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int child_has_torch(void) {
    if (!bench_python) return 0;
    if (torch_child.pid == 0)
        torch_child =
            child_start((const char *[]){bench_python, "bench/torch_train.py", "--serve", NULL}, 1);
    return child_torch_ms("hello") >= 0;
}

double child_torch_ms(const char *command) {
    char line[64];
    fprintf(torch_child.to, "%s\n", command);
    fflush(torch_child.to);
    if (!fgets(line, sizeof line, torch_child.from)) {
        fprintf(stderr, "weir-bench: bench/torch_train.py ended at \"%s\"\n", command);
        exit(70);
    }
    return strtod(line, NULL);
}
