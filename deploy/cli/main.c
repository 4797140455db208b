/* main.c - `weir VERB ...`: finds the verb, runs it, prints the one line of an error. The only file
 * that reads the environment: WEIR_LOG (error, warn, info, debug). */
#include "base/buf.h"
#include "base/crash.h"
#include "base/err.h"
#include "base/log.h"
#include "base/nearest.h"
#include "deploy/cli/verbs.h"
#include "deploy/supervise/process_end.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void usage(FILE *out) {
    fprintf(out, "usage: weir VERB [options]; `weir VERB --help` says more\n\n");
    for (const struct verb *v = verbs; v->name; v++)
        if (v->about) fprintf(out, "  %-10s %s\n", v->name, v->about);
}

/* The whole list besides the nearest: a peer's word ("train", "serve") is near nothing. */
static int unknown_verb(const char *word) {
    const char *names[32];
    size_t n = 0;
    struct buf known = {0};
    for (const struct verb *v = verbs; v->name; v++) {
        if (!v->about) continue;
        ASSERT(n < sizeof names / sizeof names[0]);
        buf_printf(&known, "%s%s", n ? ", " : "", v->name);
        names[n++] = v->name;
    }
    int rc = FAIL(ERR_CONFIG, "unknown verb \"%s\"; the nearest is %s; known are: %s", word,
                  nearest_word(word, names, n), known.data);
    buf_close(&known);
    return rc;
}

/* What was printed and did not arrive is a failure of its own, unless there is another. */
static int flush_stdout(int rc) {
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (rc < 0 || !lost) return rc;
    return FAIL(ERR_IO, "standard output: %s", errno ? strerror(errno) : "not all was written");
}

int main(int argc, char **argv) {
    const char *level = getenv("WEIR_LOG");
    if (argc < 2) {
        usage(stderr);
        return err_exit_code(ERR_CONFIG);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    const struct verb *verb = verbs_find(name);
    bool service = verb && !verb->about;
    int parsed = level ? log_level_from_name(level) : -1;
    crash_open("weir " WEIR_VERSION);
    log_open(parsed >= 0 ? (enum log_level)parsed : service ? LOG_INFO : LOG_WARN, "weir");
    if (level && parsed < 0)
        LOG(WARN, DEPLOY, "WEIR_LOG=%s: known are error, warn, info, debug", level);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error with its name, not a death */
    int rc = verb ? verb->run(argc - 1, argv + 1) : unknown_verb(name);
    rc = flush_stdout(rc);
    if (service && rc == ERR_STOPPED)
        LOG(INFO, DEPLOY, "%s", err_text());
    else if (rc < 0 && err_text()[0])
        fprintf(stderr, "weir%s%s: %s\n", verb ? " " : "", verb ? verb->name : "", err_text());
    log_close();
    return process_end_code(rc, service);
}
