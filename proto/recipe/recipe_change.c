/* recipe_change.c - see recipe_change.h. Recipes are printed and read back as flat lists of paths,
 * so that a key added to the recipe is compared, and counts as one that may not change, without a
 * line here. */
#include "proto/recipe/recipe_change.h"

#include "base/buf.h"
#include "base/yaml.h"

#include <string.h>

/* Keys, and sections with all below them. Not among them although nearly harmless: devices and
 * trainer.ranks (other sums, other bits), trainer.batch.tokens and trainer.prefix (the order of
 * sums), rollout.concurrency (the log's groups fill its pool). */
static const char *const allowed[] = {
    "trainer.steps", /* the caller sees to schedules that span them */
    "trainer.checkpoint",
    "eval",
    "data.eval",
    "monitor",
    "relay",
    "reward_service",
    "rollout.workers",
    "rollout.threads",
    "rollout.kv_memory",
    "rollout.chunk_tokens",
    "rollout.stream_every",
    "rollout.heartbeat_ms",
    "trainer.threads",
    "trainer.rank_timeout_ms",
    "trainer.memory",
    "trainer.recompute",
    "trainer.recompute_layers",
    "trainer.offload_activations",
    "trainer.staleness.hold",
};

bool recipe_key_below(const char *path, const char *key) {
    size_t n = strlen(key);
    return strncmp(path, key, n) == 0 && (path[n] == '\0' || path[n] == '.' || path[n] == '[');
}

bool recipe_change_allowed(const char *key) {
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
        if (recipe_key_below(key, allowed[i])) return true;
    return false;
}

static int flatten_recipe(struct yaml **out, const struct recipe *r) {
    struct buf text = {0};
    recipe_print(r, &text);
    int rc = yaml_parse(out, text.data, text.len, "recipe");
    buf_close(&text);
    return rc;
}

static const char *text_of(const struct yaml_entry *e) {
    return e->value ? e->value : e->empty ? "[]" : "null";
}

static const char *value_of(const struct yaml *y, const char *path) {
    for (size_t i = 0; i < yaml_count(y); i++)
        if (strcmp(yaml_entry(y, i)->path, path) == 0) return text_of(yaml_entry(y, i));
    return NULL;
}

/* What has its default is left out, so that a key that a later version adds changes no identity. */
int recipe_identity(struct hash *out, const struct recipe *r) {
    struct yaml *y = NULL, *defaults = NULL;
    struct recipe *d = NULL;
    struct buf text = {0};
    int rc;
    TRY_OUT(recipe_parse(&d, "", 0, "defaults", NULL, 0));
    TRY_OUT(flatten_recipe(&defaults, d));
    TRY_OUT(flatten_recipe(&y, r));
    for (size_t i = 0; i < yaml_count(y); i++) {
        const struct yaml_entry *e = yaml_entry(y, i);
        const char *plain = value_of(defaults, e->path);
        if (!recipe_change_allowed(e->path) && !(plain && strcmp(plain, text_of(e)) == 0))
            buf_printf(&text, "%s=%s\n", e->path, text_of(e));
    }
    *out = hash_bytes(text.data, text.len);
out:
    buf_close(&text);
    yaml_close(&y);
    yaml_close(&defaults);
    recipe_close(&d);
    return rc;
}

int recipe_changes(const struct recipe *was, const struct recipe *is, recipe_change_fn *each,
                   void *ctx) {
    struct yaml *x = NULL, *y = NULL;
    int rc;
    TRY_OUT(flatten_recipe(&x, was));
    TRY_OUT(flatten_recipe(&y, is));
    for (size_t i = 0; i < yaml_count(x); i++) {
        const struct yaml_entry *e = yaml_entry(x, i);
        const char *other = value_of(y, e->path);
        if (!other || strcmp(other, text_of(e)) != 0)
            TRY_OUT(each(ctx, e->path, text_of(e), other ? other : "absent"));
    }
    for (size_t i = 0; i < yaml_count(y); i++) {
        const struct yaml_entry *e = yaml_entry(y, i);
        if (!value_of(x, e->path)) TRY_OUT(each(ctx, e->path, "absent", text_of(e)));
    }
out:
    yaml_close(&x);
    yaml_close(&y);
    return rc;
}
