/* trajectory_fuzz.c - trajectories with any counts over any frames, as a message of each type that
 * has them. What the validator accepts must be read without leaving the frames, be a trajectory,
 * and come back the same from a message of its own, cut into parts or not. */
#include "base/mem.h"
#include "proto/rollout.pb-c.h"
#include "proto/train.pb-c.h"
#include "proto/trajectory.pb-c.h"
#include "proto/trajectory_wire.h"
#include "proto/wire.h"

#include <string.h>

enum { ITEMS = 4, HEAD = 12 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_parts(const struct trajectory *t, int32_t cut) {
    struct trajectory all = {.id = t->id, .offset = t->offset};
    int32_t at = t->n_response > 0 ? cut % t->n_response : 0;
    struct trajectory head = trajectory_slice(t, 0, at);
    struct trajectory tail = trajectory_slice(t, at, t->n_response);
    trajectory_append(&all, &head);
    trajectory_append(&all, &tail);
    ASSERT(all.n_response == t->n_response && all.n_turns == t->n_turns);
    ASSERT(trajectory_differs(&all, t) < 0);
    trajectory_free(&all);
}

static void accepted(enum wire_type type, const struct wire_msg *m, int32_t cut) {
    Weir__Trajectory *one = NULL, **items = &one;
    size_t n = 1;
    if (type == WIRE_WORK || type == WIRE_TOKENS || type == WIRE_BATCH) {
        const Weir__Work *w = m->body;
        const Weir__Batch *b = m->body;
        const Weir__Tokens *t = m->body;
        items = type == WIRE_WORK ? w->items : type == WIRE_BATCH ? b->items : t->items;
        n = type == WIRE_WORK ? w->n_items : type == WIRE_BATCH ? b->n_items : t->n_items;
    }
    struct trajectory_reader r = trajectory_read(m->frame);
    struct trajectory_list l = {.n = 0};
    for (size_t i = 0; i < n; i++) {
        struct trajectory t =
            trajectory_next(&r, type == WIRE_TRAJECTORY_RECORD ? m->body : items[i]);
        int rc = trajectory_check(&t);
        ASSERT(rc == 0);
        check_parts(&t, cut);
        trajectory_list_add(&l, &t);
    }
    trajectory_list_end(&l);
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        ASSERT(r.frame[i].bytes == 0);
    struct trajectory_reader first = trajectory_read(m->frame), again = trajectory_read(l.frames);
    for (size_t i = 0; i < n; i++) {
        struct trajectory a =
            trajectory_next(&first, type == WIRE_TRAJECTORY_RECORD ? m->body : items[i]);
        struct trajectory b = trajectory_next(&again, l.items[i]);
        ASSERT(trajectory_equal(&a, &b));
    }
    trajectory_list_free(&l);
}

static void read_item(Weir__Trajectory *x, const uint8_t *p, uint64_t id) {
    *x = (Weir__Trajectory)WEIR__TRAJECTORY__INIT;
    x->trajectory = id;
    x->group = p[0];
    x->n_prompt = p[1];
    x->same_prompt = p[2] & 1;
    x->greedy = p[2] >> 1 & 1;
    x->offset = p[3];
    x->n_response = p[4];
    x->columns = p[5];
    x->n_turns = p[6];
    x->finish = p[7] & 3;
    x->max_new_tokens = p[8];
    x->has_baseline = p[9] & 1;
    x->step = p[10];
    x->reward = (float)p[11];
}

/* data: type, count, cut; a head for each item; a length byte (times 4) for each frame, the last
 * takes the rest; then their bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const enum wire_type types[] = {WIRE_WORK, WIRE_TOKENS, WIRE_BATCH,
                                           WIRE_TRAJECTORY_RECORD};
    Weir__Trajectory item[ITEMS], *items[ITEMS];
    struct wire_frame frames[FRAMES_TRAJECTORY];
    if (n < 3 + ITEMS * HEAD + FRAMES_TRAJECTORY) return 0;
    enum wire_type type = types[data[0] % 4];
    for (size_t i = 0; i < ITEMS; i++) {
        items[i] = &item[i];
        read_item(&item[i], data + 3 + i * HEAD, i);
    }
    Weir__Work work = WEIR__WORK__INIT;
    Weir__Tokens tokens = WEIR__TOKENS__INIT;
    Weir__Batch batch = WEIR__BATCH__INIT;
    work.items = tokens.items = batch.items = items;
    work.n_items = tokens.n_items = batch.n_items = data[1] % (ITEMS + 1);
    const uint8_t *size = data + 3 + ITEMS * HEAD, *p = size + FRAMES_TRAJECTORY;
    size_t left = n - (size_t)(p - data);
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++) {
        size_t bytes = (size_t)size[i] * 4;
        if (bytes > left || i + 1 == FRAMES_TRAJECTORY) bytes = left;
        void *copy = mem_alloc(bytes); /* of exactly this size: a sanitizer sees any overrun */
        memcpy(copy, p, bytes);
        frames[i] = (struct wire_frame){copy, bytes};
        p += bytes;
        left -= bytes;
    }
    const void *body = type == WIRE_WORK     ? (const void *)&work
                       : type == WIRE_TOKENS ? (const void *)&tokens
                       : type == WIRE_BATCH  ? (const void *)&batch
                                             : (const void *)&item[0];
    struct buf flat = {0};
    struct wire_msg m;
    if (wire_flatten(&flat, type, body, frames, FRAMES_TRAJECTORY) == 0) {
        int rc = wire_unflatten(&m, flat.data, flat.len, type);
        ASSERT(rc == 0);
        accepted(type, &m, data[2]);
        wire_free(&m);
    }
    buf_close(&flat);
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        mem_free((void *)(uintptr_t)frames[i].data);
    return 0;
}
