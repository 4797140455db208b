/* progress.h - follows RUN/metrics.jsonl and shows how a run goes: one live line on a terminal, a
 * line per step elsewhere (at most one a second), the JSON lines themselves with --json; and the
 * summary at the end. */
#ifndef DEPLOY_PROGRESS_PROGRESS_H
#define DEPLOY_PROGRESS_PROGRESS_H

#include "base/err.h"
#include "proto/recipe/recipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress;

enum progress_form { PROGRESS_LIVE, PROGRESS_LINES, PROGRESS_JSON };

/* r: the run's recipe; needed during the call only. Steps that are there already are read, so that
 * only what comes is shown (with --json they are shown too). */
struct progress *progress_open(const char *run_dir, const struct recipe *r,
                               enum progress_form form);
void progress_close(struct progress **p);
/* Reads what is new; status: the manager's newest JSON object, NULL if none. */
MUST_CHECK int progress_tick(struct progress *p, uint64_t now_us, const char *status);
/* Whole lines of text, above the live line. */
void progress_put(struct progress *p, const char *lines);
/* Lines for people, above the live line; nothing with --json. */
void progress_say(struct progress *p, const char *lines);

struct progress_restarts { /* of one service */
    const char *name;
    int n;
};

/* How a run ended. */
struct progress_end {
    const char *run_dir;
    int signal; /* that stopped it, 0: none */
    int rc;     /* 0: complete; ERR_STOPPED; another error, whose text is in err_text */
    int exit_code;
    const struct progress_restarts *restarts; /* of the services that were started again */
    size_t n_restarts;
};

/* Ends the live line and prints the summary; what continues a run that is not complete is its last
 * line. */
void progress_summary(struct progress *p, const struct progress_end *end);
/* "weir run --resume RUN", for a shell: added to out. */
struct buf;
void progress_resume(struct buf *out, const char *run_dir);
/* An evaluation's sets, on stdout: "addition 0.838 pass@4 0.912 (2000 answers), ...". */
struct json;
void progress_show_sets(const struct json *evaluation);
int64_t progress_step(const struct progress *p); /* steps done */

#endif
