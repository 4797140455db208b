/* step_checkpoint.c - the step's state on disk: what ckpt.c reads and fills, also where the ranks
 * keep a part of the optimizer's slabs each. Rank 0 reads and writes the files; it asks for what
 * the others keep piece by piece, so that a failure between two pieces leaves no rank waiting. */
#include "trainer/checkpoint/ckpt.h"
#include "trainer/learn/step.h"
#include "trainer/learn/step_impl.h"

int step_broadcast_piece(struct step *s, const struct step_piece *piece, void *out) {
    struct update_slab slab = update_slab(s->update, piece->slab);
    ASSERT(piece->owner >= 0 && piece->owner < ranks_place(s->ranks).n);
    if (ranks_place(s->ranks).rank == piece->owner)
        TRY(update_get(s->update, piece->slab, out, piece->at - (size_t)slab.offset * slab.size,
                       piece->bytes));
    return rank_comm_broadcast(&s->comm, out, piece->bytes, piece->owner);
}

static int read_piece(struct step *s, const struct step_piece *piece, void *out) {
    if (piece->owner == 0) return update_get(s->update, piece->slab, out, piece->at, piece->bytes);
    TRY(step_ranks_command_piece(s, piece));
    return ranks_explain(s->ranks, step_broadcast_piece(s, piece, out));
}

/* Of the whole slab (struct ckpt): one piece of each rank that has some of it. */
static int read_slab(void *ctx, int i, void *out, size_t at, size_t bytes) {
    struct step *s = ctx;
    size_t size = update_slab(s->update, i).size, done = 0;
    int64_t elements = params_slab_elements(&s->shape);
    struct shard_ranks place = {.n = 1};
    if (s->ranks) place = ranks_place(s->ranks);
    for (place.rank = 0; place.rank < place.n; place.rank++) {
        size_t from = (size_t)shard_offset(&place, elements) * size;
        size_t to = from + (size_t)shard_elements(&place, elements) * size;
        if (from < at) from = at;
        if (to > at + bytes) to = at + bytes;
        if (from >= to) continue;
        struct step_piece piece = {i, place.rank, from, to - from};
        TRY(read_piece(s, &piece, (char *)out + (from - at)));
        done += piece.bytes;
    }
    ASSERT(done == bytes);
    return 0;
}

int step_gather_on_rank(struct step *s) {
    struct kern_stream *stream = passes_stream(s->passes);
    TRY(update_gather_weights(s->update, stream, s->weights));
    return kern_sync(s->backend, stream);
}

/* The ranks' parts of the f32 weights meet here, and not after each step, where the policy is
 * another slab. */
int step_gather_weights(struct step *s) {
    if (!s->ranks || !s->rounded) return 0;
    TRY(step_ranks_command_gather(s));
    return ranks_explain(s->ranks, step_gather_on_rank(s));
}

int step_checkpoint(struct step *s, struct ckpt *out) {
    TRY(step_gather_weights(s));
    *out = (struct ckpt){.version = s->version,
                         .state = update_state(s->update),
                         .model_dir = s->model_dir,
                         .weights = s->weights,
                         .update = s->update,
                         .read_slab = read_slab,
                         .ctx = s};
    return 0;
}

int step_save(struct step *s, const char *dir, int64_t keep) {
    struct ckpt c;
    TRY(step_checkpoint(s, &c));
    return ckpt_save(&c, dir, keep);
}

int step_load_on_rank(struct step *s, const char *dir, int64_t at) {
    struct ckpt c = {.weights = s->weights, .update = s->update};
    TRY(ckpt_load(&c, dir, at));
    update_restore(s->update, &c.state);
    s->version = c.version;
    return step_use_weights(s);
}

/* Rank 0 finds out which checkpoint is whole; the others load that one. */
int step_load(struct step *s, const char *dir, int64_t at) {
    TRY(step_load_on_rank(s, dir, at));
    TRY(step_ranks_command_load(s, dir));
    return ranks_explain(s->ranks, step_ranks_check_weights(s, "weights as loaded"));
}
