/* export.h - the policy as a Hugging Face folder that transformers, vLLM and Weir itself open. */
#ifndef TRAINER_CHECKPOINT_EXPORT_H
#define TRAINER_CHECKPOINT_EXPORT_H

#include "actor/params.h"

#include <stdbool.h>

/* Before the work that leads to export_hf: makes DIR, so that it is known to be writable.
 * ERR_CONFIG names a file of a model that is there already, unless overwrite. */
MUST_CHECK int export_prepare(const char *dir, bool overwrite);
/* Writes config.json, generation_config.json and model.safetensors into DIR (made if need be) and
 * copies the tokenizer's files from model_dir. dtype: KERN_F32 or KERN_BF16. */
MUST_CHECK int export_hf(const struct params *weights, const char *model_dir, const char *dir,
                         enum kern_dtype dtype, size_t shard_bytes);

#endif
