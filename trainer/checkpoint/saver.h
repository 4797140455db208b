/* saver.h - checkpoints beside the training: what one holds is copied to host memory, and a thread
 * writes the copy while the next steps go on. One at a time. A version is
 * saved when its directory has its name and is on disk (ckpt.h), not before. */
#ifndef TRAINER_CHECKPOINT_SAVER_H
#define TRAINER_CHECKPOINT_SAVER_H

#include "trainer/checkpoint/ckpt.h"

struct saver;

/* Of a trainer's checkpoints in dir; the newest `keep` stay. Memory is taken with the first copy,
 * then kept: as much as a checkpoint has. */
MUST_CHECK int saver_open(struct saver **out, const char *dir, int64_t keep);
/* Finishes the one that is being written; who must know whether it could be waits first. */
void saver_close(struct saver **s);

/* Copies and starts; only after saver_wait. c is needed for the copy only, but for model_dir and
 * the names and sizes in `update`. ERR_NOMEM: there is no room for a copy, and none was taken. */
MUST_CHECK int saver_begin(struct saver *s, const struct ckpt *c);
/* Neither waits for longer than it says. A checkpoint that could not be written is an error, once:
 * what was there before is still there. *saved: the newest version written, untouched if none. */
MUST_CHECK int saver_turn(struct saver *s, int64_t *saved);
MUST_CHECK int saver_wait(struct saver *s, int64_t *saved);

#endif
