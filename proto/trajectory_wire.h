/* trajectory_wire.h - trajectories as the items and frames of a message or a record, and back: the
 * only place that knows how. The frames are the prompts, the turns, then the columns, so that a new
 * column is the last one; frames at the end that would be empty are left out. */
#ifndef PROTO_TRAJECTORY_WIRE_H
#define PROTO_TRAJECTORY_WIRE_H

#include "base/buf.h"
#include "proto/trajectory.h"
#include "proto/wire_table.h"

struct Weir__Trajectory;

/* One trajectory, whose arrays are lent: *item and frames[FRAMES_TRAJECTORY]; returns how many
 * frames are to be given. */
size_t trajectory_encode(struct Weir__Trajectory *item, struct wire_frame *frames,
                         const struct trajectory *t);

/* Several, copied one after the other into a message to be. Zeroed: empty. */
struct trajectory_list {
    struct Weir__Trajectory *item, **items; /* [n] */
    struct wire_frame frames[FRAMES_TRAJECTORY];
    size_t n, n_frames; /* as a message wants them: trajectory_list_end */
    struct buf data[FRAMES_TRAJECTORY];
    size_t item_cap, items_cap, prompt; /* prompt: where the last one begins in its frame */
    char **name;                        /* of rollouts: few for many items */
    size_t n_names, names_cap;
};
void trajectory_list_add(struct trajectory_list *l, const struct trajectory *t);
/* Fills items and frames; they are valid until the next call. */
void trajectory_list_end(struct trajectory_list *l);
void trajectory_list_reset(struct trajectory_list *l); /* empty, keeps its memory */
void trajectory_list_free(struct trajectory_list *l);

/* Reads a received message's trajectories in their order; its validator saw to it that counts and
 * frames agree. They borrow from the message. */
struct trajectory_reader {
    struct wire_frame frame[FRAMES_TRAJECTORY];
    const int32_t *prompt; /* the last one */
};
struct trajectory_reader trajectory_read(const struct wire_frame *frames);
struct trajectory trajectory_next(struct trajectory_reader *r, const struct Weir__Trajectory *item);

/* Adds to want[FRAMES_TRAJECTORY] the elements that the item has in each frame; before: the item
 * before it, NULL of the first. ERR_CORRUPT names a field that cannot be. */
MUST_CHECK int trajectory_count(const struct Weir__Trajectory *item,
                                const struct Weir__Trajectory *before, int64_t *want);

#endif
