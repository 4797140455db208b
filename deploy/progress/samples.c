/* samples.c - see samples.h. The log is opened anew each time: a reader sees it as it was when it
 * was opened, and nothing of a run waits for its readers. */
#include "deploy/progress/samples.h"

#include "base/mem.h"
#include "deploy/replay/replay_show.h"

#include <string.h>

struct samples {
    char *run_dir;
    int64_t n, steps, shown; /* shown: steps done when samples were printed last; -1: never */
    bool json, complained;
    uint64_t tried_us;
    struct tokenizer *tokenizer; /* of a log that was open; its folder does not change */
};

struct samples *samples_open(const char *run_dir, int64_t n, int64_t steps, bool json) {
    struct samples *s = mem_zalloc(sizeof *s);
    s->run_dir = mem_strdup(run_dir);
    s->n = n;
    s->steps = steps;
    s->json = json;
    s->shown = -1;
    return s;
}

void samples_close(struct samples **s) {
    if (!*s) return;
    tokenizer_close(&(*s)->tokenizer);
    mem_free((*s)->run_dir);
    mem_free(*s);
    *s = NULL;
}

static bool is_due(const struct samples *s, int64_t done, uint64_t now_us) {
    if (s->n == 0 || done == 0 || done <= s->shown) return false;
    if (s->tried_us > 0 && now_us < s->tried_us + SAMPLES_EVERY_US) return done >= s->steps;
    return true;
}

static int add(struct samples *s, int64_t step, struct buf *out) {
    struct replay_view v = {0};
    struct replay_show show = {.trajectory = -1,
                               .group = -1,
                               .step = step,
                               .best = s->n > 1,
                               .worst = s->n > 1,
                               .random = s->n > 1 ? s->n - 2 : 1,
                               .json = s->json,
                               .event = "sample"};
    TRY(replay_view_open(&v, s->run_dir));
    v.tokenizer = s->tokenizer;
    int rc = replay_show_add(&v, &show, out);
    s->tokenizer = v.tokenizer;
    v.tokenizer = NULL;
    replay_view_close(&v);
    return rc;
}

void samples_tick(struct samples *s, int64_t done, uint64_t now_us, struct buf *out) {
    struct buf text = {0};
    if (!is_due(s, done, now_us)) return;
    s->tried_us = now_us;
    int rc = add(s, done - 1, &text);
    if (rc == 0) {
        s->shown = done;
        buf_add(out, text.data, text.len);
    } else if (!s->complained && !s->json) {
        s->complained = true;
        buf_printf(out, "no samples of step %lld: %s\n", (long long)done, err_text());
    }
    buf_close(&text);
}
