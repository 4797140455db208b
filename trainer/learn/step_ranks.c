/* step_ranks.c - the step on several ranks. Rank 0 is the one that is called (step.h). Before
 * anything that all must do, it sends a command to the others, broadcasts the data that belongs to
 * it, and then does the same itself: every rank runs the same code over the whole batch. That each
 * computes a part of the passes is known to passes.c, that each keeps a part of the moments to
 * update.c. Whenever weights were loaded or changed, all compare the hash of what they have.
 *
 * The other ranks serve: they execute one command after another until rank 0 closes the socket.
 * Whoever fails says why (ranks_explain), and then the step can only be closed. */
#include "base/buf.h"
#include "base/mem.h"
#include "trainer/learn/step.h"
#include "trainer/learn/step_impl.h"

#include <inttypes.h>
#include <string.h>

enum command {
    COMMAND_TRAIN, /* data: the batch */
    COMMAND_TRAIN_SFT,
    COMMAND_PIECE, /* of slab, at, bytes and owner */
    COMMAND_GATHER,
    COMMAND_LOAD /* data: the folder's name; version: which checkpoint */
};
static const uint64_t command_bytes_max = (uint64_t)1 << 40;

/* --- all ranks ----------------------------------------------------------------------------- */

int step_ranks_connect(struct step *s, struct shard_ranks *place) {
    if (!s->ranks) return 0;
    TRY(ranks_connect(s->ranks, s->backend));
    *place = ranks_place(s->ranks);
    return rank_comm_open(&s->comm, s->backend, place);
}

int step_ranks_check_equal(const struct step *s, struct hash h, const char *what) {
    return s->ranks ? rank_comm_check_equal(&s->comm, h, what) : 0;
}

int step_ranks_check_weights(const struct step *s, const char *what) {
    struct hash h;
    if (!s->ranks) return 0;
    TRY(params_hash(&h, s->weights));
    return step_ranks_check_equal(s, h, what);
}

/* --- rank 0 commands ----------------------------------------------------------------------- */

/* Sends the command, then its data to every rank at once. */
static int broadcast(struct step *s, enum command kind, void *data, size_t bytes) {
    struct ranks_command c = {.kind = kind, .version = s->version, .bytes = bytes};
    ASSERT(bytes > 0 && bytes <= command_bytes_max);
    TRY(ranks_send(s->ranks, &c));
    return ranks_explain(s->ranks, rank_comm_broadcast(&s->comm, data, bytes, 0));
}

int step_ranks_command_train(struct step *s, const struct batch *b, bool supervised) {
    struct buf bytes = {0};
    if (!s->ranks) return 0;
    batch_pack(&bytes, b);
    int rc = broadcast(s, supervised ? COMMAND_TRAIN_SFT : COMMAND_TRAIN, bytes.data, bytes.len);
    buf_close(&bytes);
    return rc;
}

int step_ranks_command_piece(struct step *s, const struct step_piece *piece) {
    struct ranks_command c = {.kind = COMMAND_PIECE,
                              .slab = piece->slab,
                              .owner = piece->owner,
                              .at = piece->at,
                              .bytes = piece->bytes};
    return s->ranks ? ranks_send(s->ranks, &c) : 0;
}

int step_ranks_command_gather(struct step *s) {
    struct ranks_command c = {.kind = COMMAND_GATHER, .bytes = 1};
    return s->ranks ? ranks_send(s->ranks, &c) : 0;
}

/* The others load the version that rank 0 has loaded. */
int step_ranks_command_load(struct step *s, const char *dir) {
    if (!s->ranks) return 0;
    char *name = mem_strdup(dir);
    int rc = broadcast(s, COMMAND_LOAD, name, strlen(name) + 1);
    mem_free(name);
    return rc;
}

/* --- the other ranks serve ----------------------------------------------------------------- */

static int execute_train(struct step *s, bool supervised, const void *data, size_t bytes) {
    struct step_report report;
    struct batch *b = NULL;
    int rc;
    TRY_OUT(batch_unpack(&b, data, bytes));
    TRY_OUT(step_check_batch(s, b, supervised));
    rc = step_train(s, b, supervised, &report);
out:
    batch_close(&b);
    return rc;
}

static int execute_load(struct step *s, const char *dir, size_t bytes, int64_t version) {
    if (dir[bytes - 1] != '\0') return FAIL(ERR_CORRUPT, "the folder's name is not whole");
    TRY(step_load_on_rank(s, dir, version));
    return step_ranks_check_weights(s, "weights as loaded");
}

/* data: memory of c->bytes. */
static int execute(struct step *s, const struct ranks_command *c, void *data) {
    struct step_piece piece = {c->slab, (int)c->owner, c->at, c->bytes};
    if (c->kind == COMMAND_PIECE) return step_broadcast_piece(s, &piece, data);
    if (c->kind == COMMAND_GATHER) return step_gather_on_rank(s);
    TRY(rank_comm_broadcast(&s->comm, data, c->bytes, 0));
    if (c->kind == COMMAND_LOAD) return execute_load(s, data, c->bytes, c->version);
    s->version = c->version; /* rank 0 may have renamed it */
    return execute_train(s, c->kind == COMMAND_TRAIN_SFT, data, c->bytes);
}

static int serve_commands(struct step *s) {
    for (struct ranks_command c; ranks_receive(s->ranks, &c) == 0;) {
        if (c.bytes == 0 || c.bytes > command_bytes_max || c.kind > COMMAND_LOAD)
            return FAIL(ERR_CORRUPT, "command %u of %" PRIu64 " bytes", c.kind, c.bytes);
        void *data = mem_alloc(c.bytes);
        int rc = execute(s, &c, data);
        mem_free(data);
        TRY(rc);
    }
    return 0; /* rank 0 wants no more */
}

int step_serve(int fd) {
    struct ranks *ranks;
    struct recipe *r;
    char *dir;
    TRY(ranks_join(&ranks, fd, &r, &dir));
    struct step *s = step_new(r, dir);
    s->ranks = ranks;
    int rc = step_open_backend(s, r);
    if (rc == 0) rc = step_open_model(s, r);
    if (rc == 0) rc = serve_commands(s);
    err_ignore(ranks_explain(ranks, rc), "rank 0 has been told, or is not there any more");
    step_close(&s);
    recipe_close(&r);
    mem_free(dir);
    return 0;
}
