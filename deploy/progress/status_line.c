/* status_line.c - see status_line.h. Parts stand in one order and are left out in another. */
#include "deploy/progress/status_line.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { STEP, LEFT, MARK, REWARD, EVAL, ALIGN, RATES, STALE, PARTS };

/* The first that goes is the last of these. */
static const int needed[PARTS] = {STEP, LEFT, MARK, REWARD, EVAL, ALIGN, RATES, STALE};

void status_line_time(char out[24], double seconds) {
    if (!(seconds >= 0) || seconds > 1e9) {
        snprintf(out, 24, "-");
        return;
    }
    int64_t s = (int64_t)(seconds + 0.5), m = s / 60, h = m / 60;
    if (h >= 48)
        snprintf(out, 24, "%" PRId64 "d %" PRId64 "h", h / 24, h % 24);
    else if (h > 0)
        snprintf(out, 24, "%" PRId64 ":%02" PRId64 ":%02" PRId64, h, m % 60, s % 60);
    else
        snprintf(out, 24, "%" PRId64 ":%02" PRId64, m, s % 60);
}

/* Seven characters for any number. */
static void short_number(char out[16], double x) {
    double a = fabs(x);
    snprintf(out, 16, a < 1000 ? "%.2f" : "%.3g", x);
}

static void rate(char out[16], double x) {
    if (x < 1000)
        snprintf(out, 16, "%.0f", x);
    else if (x < 1e6)
        snprintf(out, 16, x < 1e4 ? "%.1fk" : "%.0fk", x / 1000);
    else
        snprintf(out, 16, "%.1fM", x / 1e6);
}

/* A part that is not known stays empty, and takes no room. */
static void write_parts(char part[PARTS][64], const struct status_line *l) {
    char a[24], b[16];
    snprintf(part[STEP], 64, "step %" PRId64 "/%" PRId64, l->step, l->steps);
    status_line_time(a, l->left_s);
    snprintf(part[LEFT], 64, "ETA %s", a);
    if (l->mark) snprintf(part[MARK], 64, "! %s", l->mark);
    if (!isnan(l->reward)) {
        short_number(b, l->reward);
        snprintf(part[REWARD], 64, "reward %s", b);
    }
    if (!isnan(l->eval)) {
        short_number(b, l->eval);
        snprintf(part[EVAL], 64, "eval %s", b);
    }
    if (l->align) snprintf(part[ALIGN], 64, "cos %s", l->align);
    snprintf(part[STALE], 64, "stale %.1f/%" PRId64, l->stale, l->bound);
    rate(a, l->rollout);
    rate(b, l->trainer);
    if (l->rollout >= 0 && l->trainer >= 0)
        snprintf(part[RATES], 64, "tok/s gen %s train %s", a, b);
    else if (l->rollout >= 0 || l->trainer >= 0)
        snprintf(part[RATES], 64, "tok/s %s %s", l->trainer < 0 ? "gen" : "train",
                 l->trainer < 0 ? a : b);
}

void status_line(struct buf *out, const struct status_line *l, int columns) {
    char part[PARTS][64] = {{0}};
    bool shown[PARTS] = {false};
    int room = columns - 1, used = 0;
    write_parts(part, l);
    for (int i = 0; i < PARTS; i++) {
        int k = needed[i], n = (int)strlen(part[k]);
        if (n == 0 || (used + n + (used > 0) > room && i > 1)) continue;
        shown[k] = true;
        used += n + (used > 0);
    }
    size_t from = out->len;
    for (int k = 0; k < PARTS; k++)
        if (shown[k]) buf_printf(out, "%s%s", out->len > from ? " " : "", part[k]);
    if (out->len - from > (size_t)(room > 1 ? room : 1)) { /* a terminal of a few columns */
        out->len = from + (size_t)(room > 1 ? room : 1);
        out->data[out->len] = '\0';
    }
}
