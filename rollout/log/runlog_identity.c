/* runlog_identity.c - see runlog_identity.h. */
#include "rollout/log/runlog_identity.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "proto/recipe/recipe_change.h"

int runlog_identity(struct runlog_meta *out, const char *run_dir, const struct recipe *r) {
    char *path = file_join(run_dir, "recipe.yaml"), *text = NULL;
    size_t bytes = 0;
    int rc = file_read(&text, &bytes, path, SIZE_MAX);
    if (rc == 0)
        *out = (struct runlog_meta){
            .seed = r->seed, .text = hash_bytes(text, bytes), .format = RUNLOG_FORMAT};
    mem_free(text);
    mem_free(path);
    return rc < 0 ? rc : recipe_identity(&out->recipe, r);
}
