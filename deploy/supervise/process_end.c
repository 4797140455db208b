/* process_end.c - see process_end.h. A service that was asked to stop by a signal cleans up and
 * then says so by 128 + n, as a shell would for a process that the signal killed: exit code 0 is
 * kept for work that is done. */
#include "deploy/supervise/process_end.h"

#include "base/net.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { SIGNALLED = 128, CANNOT_EXEC = 127 };

int process_end_code(int rc, bool service) {
    if (rc == ERR_STOPPED && net_stop_signal()) return SIGNALLED + net_stop_signal();
    int code = err_exit_code(rc < 0 ? rc : 0);
    return service && code == err_exit_code(ERR_CLOSED) ? PROCESS_END_AGAIN : code;
}

bool process_end_final(int status) {
    static const int codes[] = {ERR_CONFIG, ERR_CORRUPT, ERR_IO, ERR_MISMATCH};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (status == err_exit_code(codes[i])) return true;
    return status == CANNOT_EXEC;
}

bool process_end_by_others(int status) {
    int signal = status < 0 ? -status : status - SIGNALLED;
    return signal == SIGKILL || net_is_stop_signal(signal);
}

int process_end_error(int status) {
    static const int errors[] = {ERR_CONFIG, ERR_CORRUPT, ERR_IO, ERR_MISMATCH, ERR_NOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (status == err_exit_code(errors[i])) return errors[i];
    return status == PROCESS_END_AGAIN ? ERR_CLOSED : ERR_DIED;
}

void process_end_describe(char *out, size_t n, int status) {
    int signal = status < 0 ? -status : status > SIGNALLED ? status - SIGNALLED : 0;
    if (signal)
        snprintf(out, n, "signal %d (%s)", signal, strsignal(signal));
    else
        snprintf(out, n, "exit status %d", status);
}
