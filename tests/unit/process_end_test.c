/* process_end_test.c - which ends are final, which are somebody's signal, and what a command exits
 * with.
 */
#include "deploy/supervise/process_end.h"

#include "tests/test.h"

#include <signal.h>

TEST(no_command_ends_with_a_temporary_failure) {
    for (int rc = 0; rc > -20; rc--)
        CHECK(process_end_code(rc, false) != PROCESS_END_AGAIN);
    CHECK_INT(process_end_code(0, false), 0);
    CHECK_INT(process_end_code(ERR_CONFIG, false), 64);
    CHECK_INT(process_end_code(ERR_NOTFOUND, false), 64);
    CHECK_INT(process_end_code(ERR_CORRUPT, false), 65);
    CHECK_INT(process_end_code(ERR_UNSUP, false), 65);
    CHECK_INT(process_end_code(ERR_DEVICE, false), 69);
    CHECK_INT(process_end_code(ERR_CLOSED, false), 69);
    CHECK_INT(process_end_code(ERR_DIED, false), 70);
    CHECK_INT(process_end_code(ERR_NOMEM, false), 71);
    CHECK_INT(process_end_code(ERR_IO, false), 74);
    CHECK_INT(process_end_code(ERR_MISMATCH, false), 76);
}

/* What a service says is understood by its supervisor, and comes out of `weir run` again. */
TEST(final_codes_pass_through_the_supervisor) {
    static const int final[] = {ERR_CONFIG, ERR_NOTFOUND, ERR_CORRUPT,
                                ERR_UNSUP,  ERR_IO,       ERR_MISMATCH};
    static const int again[] = {ERR_AGAIN, ERR_TIMEOUT, ERR_CLOSED, ERR_DEVICE, ERR_NOMEM};
    for (size_t i = 0; i < sizeof final / sizeof final[0]; i++) {
        int status = process_end_code(final[i], true);
        CHECK(process_end_final(status) && !process_end_by_others(status));
        CHECK_INT(process_end_code(process_end_error(status), false),
                  process_end_code(final[i], false));
    }
    for (size_t i = 0; i < sizeof again / sizeof again[0]; i++) {
        int status = process_end_code(again[i], true);
        CHECK(!process_end_final(status) && !process_end_by_others(status));
        CHECK_INT(process_end_code(process_end_error(status), false),
                  process_end_code(again[i], false));
    }
}

TEST(signals_are_no_fault_of_the_child) {
    static const int sent[] = {SIGTERM, SIGINT,  SIGHUP,  SIGUSR1,
                               SIGUSR2, SIGXCPU, SIGQUIT, SIGKILL};
    char how[64];
    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++) {
        CHECK(process_end_by_others(-sent[i]) && process_end_by_others(128 + sent[i]));
        CHECK(!process_end_final(-sent[i]) && !process_end_final(128 + sent[i]));
    }
    CHECK(!process_end_by_others(-SIGSEGV) && !process_end_by_others(-SIGABRT) &&
          !process_end_by_others(1));
    CHECK_INT(process_end_code(process_end_error(-SIGSEGV), false), 70);
    process_end_describe(how, sizeof how, 128 + SIGTERM);
    CHECK_STR(how, "signal 15 (Terminated)");
    process_end_describe(how, sizeof how, -SIGKILL);
    CHECK_STR(how, "signal 9 (Killed)");
    process_end_describe(how, sizeof how, 64);
    CHECK_STR(how, "exit status 64");
}
