/* status_line.h - the one line that says how a run goes, for any width of terminal. */
#ifndef DEPLOY_PROGRESS_STATUS_LINE_H
#define DEPLOY_PROGRESS_STATUS_LINE_H

#include "base/buf.h"

#include <stdint.h>

enum { STATUS_LINE_WIDTH = 80 }; /* of a terminal that does not say */

struct status_line {
    int64_t step, steps;
    double left_s;                  /* below 0: not known */
    const char *mark;               /* what is wrong, NULL: nothing */
    double reward, eval;            /* NAN: none yet */
    const char *align;              /* alignment control's state, NULL: off */
    double stale, rollout, trainer; /* tokens a second; below 0: not known */
    int64_t bound;
};

/* Appends the line: at most `columns` - 1 columns, so that no terminal wraps it. What does not fit
 * is left out whole, the least needed first; step and time left are never. */
void status_line(struct buf *out, const struct status_line *l, int columns);
/* "0:42", "1:05:00", "3d 4h", "-" below 0. */
void status_line_time(char out[24], double seconds);

#endif
