/* saver.h - checkpoints beside the training: what one holds is copied to host memory, and a thread
 * writes the copy while the next steps go on. One at a time. A version is saved when its directory
 * has its name and is on disk (ckpt.h), not before. */
#ifndef TRAINER_CHECKPOINT_SAVER_H
#define TRAINER_CHECKPOINT_SAVER_H

#include "trainer/checkpoint/ckpt.h"

struct saver;

/* Of a trainer's checkpoints in dir; the newest `keep` stay. Memory is taken with the first copy,
 * then kept: as much as a checkpoint has. */
MUST_CHECK int saver_open(struct saver **out, const char *dir, int64_t keep);
/* Waits until the checkpoint on its way is written. Whether that worked is not said: whoever must
 * know calls saver_wait before. */
void saver_close(struct saver **s);

/* Copies what c holds and starts to write the copy; only after saver_wait, because there is memory
 * for one copy. model_dir and `update` (its slabs' names and sizes) stay borrowed until it is
 * written. ERR_NOMEM: there is no room for a copy, and none was taken. */
MUST_CHECK int saver_begin(struct saver *s, const struct ckpt *c);
/* turn: has the checkpoint on its way been written? wait: waits until it has. A checkpoint that
 * could not be written is an error, once: what was there before is still there. *saved: the newest
 * version written, untouched if none. */
MUST_CHECK int saver_turn(struct saver *s, int64_t *saved);
MUST_CHECK int saver_wait(struct saver *s, int64_t *saved);

#endif
