/* trajectory_wire.c - see trajectory_wire.h. */
#include "proto/trajectory_wire.h"

#include "base/mem.h"
#include "proto/trajectory.pb-c.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

_Static_assert((int)FRAMES_TRAJECTORY <= (int)WIRE_FRAMES_MAX,
               "a message has room for all columns");

static size_t element_bytes(size_t frame) {
    if (frame == FRAME_PROMPT) return sizeof(int32_t);
    if (frame == FRAME_TURN) return sizeof(struct trajectory_turn);
    return trajectory_column_bytes((enum trajectory_column)(frame - FRAME_COLUMN));
}

static bool has_column(const Weir__Trajectory *x, int c) {
    return trajectory_column_required((enum trajectory_column)c) || (x->columns >> c & 1);
}

/* Elements of the item in the frame. */
static size_t elements(const Weir__Trajectory *x, size_t frame) {
    if (frame == FRAME_PROMPT) return x->same_prompt ? 0 : x->n_prompt;
    if (frame == FRAME_TURN) return x->n_turns;
    return has_column(x, (int)(frame - FRAME_COLUMN)) ? x->n_response : 0;
}

static const void *array_of(const struct trajectory *t, size_t frame) {
    if (frame == FRAME_PROMPT) return t->prompt;
    if (frame == FRAME_TURN) return t->turn;
    return t->column[frame - FRAME_COLUMN];
}

/* --- writing ------------------------------------------------------------------------------- */

/* protobuf-c's messages hold non-const pointers, also when they only lend. */
static char *lend_text(const char *s) {
    union {
        const char *in;
        char *out;
    } u = {.in = s ? s : ""};
    return u.out;
}

static void encode_item(Weir__Trajectory *x, const struct trajectory *t) {
    *x = (Weir__Trajectory)WEIR__TRAJECTORY__INIT;
    x->trajectory = t->id;
    x->group = t->group;
    x->n_prompt = (uint32_t)t->n_prompt;
    x->offset = (uint32_t)t->offset;
    x->n_response = (uint32_t)t->n_response;
    x->n_turns = (uint32_t)t->n_turns;
    x->finish = (uint32_t)t->finish;
    x->rollout = lend_text(t->rollout);
    x->started_us = t->started;
    x->finished_us = t->finished;
    x->step = t->step;
    x->max_new_tokens = (uint32_t)t->max_new_tokens;
    x->greedy = t->greedy;
    x->reward = t->reward;
    x->has_baseline = !isnan(t->baseline);
    if (x->has_baseline) x->baseline = t->baseline;
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        if (t->column[c] && !trajectory_column_required((enum trajectory_column)c))
            x->columns |= 1U << c;
}

/* How many of the frames a message needs: all up to the last that holds something. */
static size_t frames_needed(const struct wire_frame *frames) {
    size_t n = FRAMES_TRAJECTORY;
    while (n > 0 && frames[n - 1].bytes == 0)
        n--;
    return n;
}

size_t trajectory_encode(Weir__Trajectory *item, struct wire_frame *frames,
                         const struct trajectory *t) {
    encode_item(item, t);
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        frames[i] = (struct wire_frame){array_of(t, i), elements(item, i) * element_bytes(i)};
    return frames_needed(frames);
}

static char *keep_name(struct trajectory_list *l, const char *name) {
    for (size_t i = 0; i < l->n_names; i++)
        if (strcmp(l->name[i], name) == 0) return l->name[i];
    mem_grow(&l->name, &l->names_cap, l->n_names + 1, sizeof *l->name);
    l->name[l->n_names] = mem_strdup(name);
    return l->name[l->n_names++];
}

/* Trajectories of a group come one after the other and have one prompt. */
static bool same_prompt(const struct trajectory_list *l, const struct trajectory *t) {
    const struct buf *b = &l->data[FRAME_PROMPT];
    size_t bytes = (size_t)t->n_prompt * sizeof *t->prompt;
    return l->n > 0 && bytes > 0 && l->item[l->n - 1].n_prompt == (uint32_t)t->n_prompt &&
           memcmp(b->data + l->prompt, t->prompt, bytes) == 0;
}

void trajectory_list_add(struct trajectory_list *l, const struct trajectory *t) {
    mem_grow(&l->item, &l->item_cap, l->n + 1, sizeof *l->item);
    Weir__Trajectory *x = &l->item[l->n];
    encode_item(x, t);
    if (*x->rollout) x->rollout = keep_name(l, x->rollout);
    x->same_prompt = same_prompt(l, t);
    if (!x->same_prompt) l->prompt = l->data[FRAME_PROMPT].len;
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++) {
        size_t bytes = elements(x, i) * element_bytes(i);
        if (bytes > 0) buf_add(&l->data[i], array_of(t, i), bytes);
    }
    l->n++;
}

void trajectory_list_end(struct trajectory_list *l) {
    mem_grow(&l->items, &l->items_cap, l->n + 1, sizeof(Weir__Trajectory *));
    for (size_t i = 0; i < l->n; i++)
        l->items[i] = &l->item[i];
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        l->frames[i] = (struct wire_frame){l->data[i].data, l->data[i].len};
    l->n_frames = frames_needed(l->frames);
}

void trajectory_list_reset(struct trajectory_list *l) {
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        buf_reset(&l->data[i]);
    l->n = l->n_frames = l->prompt = 0;
}

void trajectory_list_free(struct trajectory_list *l) {
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        buf_close(&l->data[i]);
    for (size_t i = 0; i < l->n_names; i++)
        mem_free(l->name[i]);
    mem_free(l->name);
    mem_free(l->item);
    mem_free(l->items);
    *l = (struct trajectory_list){.n = 0};
}

/* --- reading ------------------------------------------------------------------------------- */

struct trajectory_reader trajectory_read(const struct wire_frame *frames) {
    struct trajectory_reader r = {.prompt = NULL};
    memcpy(r.frame, frames, sizeof r.frame);
    return r;
}

/* The item's elements of the frame, which the reader passes. */
static const void *pass(struct trajectory_reader *r, const Weir__Trajectory *x, size_t frame) {
    size_t bytes = elements(x, frame) * element_bytes(frame);
    const void *at = r->frame[frame].data;
    ASSERT(bytes <= r->frame[frame].bytes);
    if (bytes == 0) return NULL;
    r->frame[frame].data = (const char *)at + bytes;
    r->frame[frame].bytes -= bytes;
    return at;
}

struct trajectory trajectory_next(struct trajectory_reader *r, const Weir__Trajectory *x) {
    struct trajectory t = {.id = x->trajectory,
                           .group = x->group,
                           .n_prompt = (int32_t)x->n_prompt,
                           .n_response = (int32_t)x->n_response,
                           .offset = (int32_t)x->offset,
                           .n_turns = (int32_t)x->n_turns,
                           .finish = (enum trajectory_finish)x->finish,
                           .step = x->step,
                           .started = x->started_us,
                           .finished = x->finished_us,
                           .rollout = x->rollout,
                           .max_new_tokens = (int32_t)x->max_new_tokens,
                           .greedy = x->greedy,
                           .reward = x->reward,
                           .baseline = x->has_baseline ? x->baseline : NAN};
    const int32_t *prompt = pass(r, x, FRAME_PROMPT);
    if (!x->same_prompt) r->prompt = prompt;
    t.prompt = r->prompt;
    t.turn = pass(r, x, FRAME_TURN);
    for (size_t c = 0; c < TRAJECTORY_COLUMNS; c++)
        t.column[c] = pass(r, x, FRAME_COLUMN + c);
    return t;
}

int trajectory_count(const Weir__Trajectory *x, const Weir__Trajectory *before, int64_t *want) {
    uint32_t known = 0;
    for (int c = 0; c < TRAJECTORY_COLUMNS; c++)
        if (!trajectory_column_required((enum trajectory_column)c)) known |= 1U << c;
    if (x->columns & ~known) return FAIL(ERR_CORRUPT, "columns: %" PRIu32, x->columns);
    if (x->same_prompt && (!before || before->n_prompt != x->n_prompt))
        return FAIL(ERR_CORRUPT, "same_prompt: %" PRIu32 " tokens, but %" PRIu32 " before it",
                    x->n_prompt, before ? before->n_prompt : 0);
    for (size_t i = 0; i < FRAMES_TRAJECTORY; i++)
        want[i] += (int64_t)elements(x, i);
    return 0;
}
