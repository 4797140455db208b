/* ranks.h - the processes of one trainer: rank 0 starts the others as processes of this binary
 * (`weir trainer-rank`), sends them commands over a socket, and ends them. What a command means is
 * step_ranks.c's business; what is large goes through the communicator.
 *
 * The others live no longer than rank 0: they end when their socket closes, and are killed when
 * rank 0 is. */
#ifndef TRAINER_RANKS_RANKS_H
#define TRAINER_RANKS_RANKS_H

#include "proto/recipe/recipe.h"
#include "trainer/ranks/shard.h"

enum { RANKS_FD = 3 }; /* where another rank finds its socket */

struct ranks; /* opaque; one thread */

/* What rank 0 wants of the others; what the fields mean is the kind's business. */
struct ranks_command {
    uint32_t kind;
    int32_t slab;
    int64_t version, owner;
    uint64_t at, bytes;
};

/* Rank 0 of recipe.trainer.ranks, on its opened backend: starts the others, which open the same
 * model, on the same processors or on a GPU each (rank i: cuda:N+i). */
MUST_CHECK int ranks_start(struct ranks **out, const struct recipe *r, const char *model_dir,
                           const struct kern_backend *b);
/* The others: fd is the socket that they were started with (RANKS_FD). The caller frees *r
 * (recipe_close) and *model_dir (mem_free). */
MUST_CHECK int ranks_join(struct ranks **out, int fd, struct recipe **r, char **model_dir);
/* All ranks, when their backend is open: the communicator, which ranks_close closes. */
MUST_CHECK int ranks_connect(struct ranks *r, const struct kern_backend *b);
void ranks_close(struct ranks **r); /* rank 0: returns when the others are gone */

struct shard_ranks ranks_place(const struct ranks *r); /* after ranks_connect */
/* CPU threads of one rank: 0, all cores, is divided among them. */
int ranks_threads(const struct recipe *r);

MUST_CHECK int ranks_send(struct ranks *r, const struct ranks_command *c); /* rank 0, to all */
/* The others: the next command, however long that takes; ERR_CLOSED when rank 0 wants no more. */
MUST_CHECK int ranks_receive(struct ranks *r, struct ranks_command *out);
/* Returns rc. The others: rank 0 is told why this rank ends; once. Rank 0: where the failure was
 * another rank's, its reason replaces the text and the code. */
int ranks_explain(struct ranks *r, int rc);

#endif
