/* memplan.c - see memplan.h.
 *
 * Every size is asked of the code that will allocate it. Recomputation is the last resort: a layer
 * that runs again costs a third of its work once more, so `auto` takes the fewest that let the rest
 * fit; which ones does not matter to memory, and the first have the longest time between their
 * forward and their backward, in which an offloaded input travels. Nothing of this changes a bit of
 * a gradient, so ranks may differ and a replay on another device may too. */
#include "trainer/learn/memplan.h"

#include "actor/params.h"
#include "trainer/learn/passes.h"
#include "trainer/optim/align_previous.h"
#include "trainer/optim/update.h"
#include "trainer/ranks/rank_comm.h"
#include "trainer/ranks/shard.h"

#include <inttypes.h>
#include <string.h>

/* Of the device's free memory: what libraries, recordings and other allocations want. */
static const size_t reserve_bytes = (size_t)512 << 20;

/* Some rollout has the trainer's device, and the backend can share memory. */
static size_t handover_bytes(const struct kern_backend *b, const struct shape *shape,
                             const struct recipe *r) {
    if (r->relay.device_handover != RECIPE_HANDOVER_AUTO || !kern_can_share(b) ||
        strcmp(r->rollout.device, r->trainer.device) != 0)
        return 0;
    return MEMPLAN_HANDOVER_SLABS * params_policy_bytes(shape);
}

static void size_text(struct buf *out, size_t bytes) {
    bool large = bytes >= (size_t)1 << 30;
    buf_printf(out, "%.1f %s", (double)bytes / (double)((size_t)1 << (large ? 30 : 20)),
               large ? "GiB" : "MiB");
}

/* Of rank 0; the last rank keeps a few elements more (shard.h). */
static void plan_optimizer(struct memplan *m, const struct shape *shape, const struct recipe *r) {
    struct shard_ranks place = {.n = (int)r->trainer.ranks};
    bool on_host = r->trainer.alignment.previous == RECIPE_PREVIOUS_HOST;
    int64_t own = shard_elements(&place, params_slab_elements(shape));
    size_t host = on_host ? align_previous_bytes(RECIPE_PREVIOUS_HOST, own) : 0;
    m->optimizer = update_bytes(shape, r, &place) - host;
    m->host = host;
    m->exchange = rank_comm_bytes(place.n);
}

static int find_limit(struct memplan *m, const struct kern_backend *b, const struct recipe *r) {
    size_t left, total, reserve = reserve_bytes + m->handover;
    m->limit = r->trainer.memory;
    if (m->limit > 0 || !kern_has_memory(b)) return 0;
    TRY(kern_memory(b, &left, &total));
    m->limit = left > reserve ? left - reserve : 1;
    return 0;
}

static int refuse_too_large(const struct memplan *m, const struct recipe *r) {
    struct buf text = {0};
    memplan_text(&text, m);
    buf_str(&text, ", of ");
    size_text(&text, m->limit);
    buf_str(&text, r->trainer.memory ? " (trainer.memory)" : " left on the device");
    int rc = FAIL(
        ERR_NOMEM,
        "the trainer does not fit: %s; lower trainer.batch.tokens (now %" PRId64 ")%s%s%s",
        text.data, r->trainer.batch.tokens,
        m->recomputed < m->layers ? ", set trainer.recompute: layers" : "",
        r->trainer.offload_activations || m->layers < 3 ? ""
                                                        : ", set trainer.offload_activations: true",
        r->trainer.ranks == 1 ? ", or raise trainer.ranks" : "");
    buf_close(&text);
    return rc;
}

static void sum_device(struct memplan *m) {
    m->device = m->weights + m->optimizer + m->reference + m->exchange + m->policy.device;
}

int32_t memplan_recomputed(const struct recipe *r, int32_t layers) {
    int64_t n = r->trainer.recompute_layers;
    if (r->trainer.recompute != RECIPE_RECOMPUTE_LAYERS) return 0;
    return n > 0 && n < layers ? (int32_t)n : layers;
}

/* Sets recomputed, policy and device; everything else is known. */
static int choose_recomputed(struct memplan *m, const struct kern_backend *b,
                             const struct shape *shape, const struct recipe *r) {
    size_t others = m->weights + m->optimizer + m->reference + m->exchange;
    m->recomputed = memplan_recomputed(r, m->layers);
    if (r->trainer.recompute == RECIPE_RECOMPUTE_AUTO && m->limit > 0) {
        size_t rest = m->limit > others ? m->limit - others : 0;
        m->recomputed = passes_fewest_recomputed(b, shape, r, rest);
        if (m->recomputed < 0) m->recomputed = m->layers;
    }
    TRY(passes_policy_memory(&m->policy, b, shape, r, m->recomputed));
    sum_device(m);
    return m->limit > 0 && m->device > m->limit ? refuse_too_large(m, r) : 0;
}

/* The ranks differ in their parts of the optimizer alone. */
static size_t sum_ranks(const struct memplan *m, const struct shape *shape,
                        const struct recipe *r) {
    struct shard_ranks place = {.n = (int)r->trainer.ranks};
    size_t first = update_bytes(shape, r, &place), sum = 0;
    for (; place.rank < place.n; place.rank++)
        sum += update_bytes(shape, r, &place);
    return sum + (m->device + m->host - first) * (size_t)place.n;
}

int memplan_plan(struct memplan *out, const struct kern_backend *b, const struct shape *shape,
                 const struct recipe *r) {
    struct memplan m = {.layers = shape->layers};
    m.weights = (size_t)params_slab_elements(shape) * sizeof(float);
    if (shape->bf16) m.weights += params_slab_bytes(shape);
    if (passes_wants_reference(r))
        m.reference = params_policy_bytes(shape) + passes_reference_bytes(b, shape, r);
    plan_optimizer(&m, shape, r);
    m.handover = handover_bytes(b, shape, r);
    TRY(find_limit(&m, b, r));
    TRY(choose_recomputed(&m, b, shape, r));
    m.host += m.policy.segments + m.policy.inputs + passes_microbatch_bytes(b, shape, r);
    m.all = sum_ranks(&m, shape, r);
    *out = m;
    return 0;
}

static void part_text(struct buf *out, const char *name, size_t bytes) {
    if (bytes == 0) return;
    buf_printf(out, ", %s ", name);
    size_text(out, bytes);
}

/* Parts of 0 bytes are left out: a line for people, unlike memplan_json. */
void memplan_text(struct buf *out, const struct memplan *m) {
    size_text(out, m->device);
    buf_str(out, " (weights ");
    size_text(out, m->weights);
    part_text(out, "gradient and optimizer", m->optimizer);
    part_text(out, "activations", m->policy.activations);
    part_text(out, "their gradients", m->policy.gradients);
    part_text(out, "keys and values", m->policy.keys);
    part_text(out, "head", m->policy.head);
    part_text(out, "packed weights", m->policy.packed);
    part_text(out, "reference", m->reference);
    part_text(out, "rest", m->policy.rest + m->exchange);
    buf_printf(out, "; %d of %d layers recomputed", m->recomputed, m->layers);
    if (m->policy.inputs > 0) {
        buf_str(out, ", their inputs in host memory: ");
        size_text(out, m->policy.inputs);
    }
    if (m->policy.segments > 0) {
        buf_str(out, "; segments in host memory: ");
        size_text(out, m->policy.segments);
    }
    buf_str(out, ")");
}

void memplan_json(struct json_write *w, const char *key, const struct memplan *m) {
    const struct actor_plan *p = &m->policy;
    const struct {
        const char *key;
        size_t bytes;
    } parts[] = {{"device", m->device},
                 {"host", m->host},
                 {"limit", m->limit},
                 {"weights", m->weights},
                 {"optimizer", m->optimizer},
                 {"reference", m->reference},
                 {"exchange", m->exchange},
                 {"activations", p->activations},
                 {"gradients", p->gradients},
                 {"keys", p->keys},
                 {"head", p->head},
                 {"packed", p->packed},
                 {"rest", p->rest},
                 {"inputs_on_host", p->inputs},
                 {"segments_on_host", p->segments}};
    json_write_object(w, key);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        json_write_uint(w, parts[i].key, parts[i].bytes);
    json_write_int(w, "layers", m->layers);
    json_write_int(w, "recomputed", m->recomputed);
    json_write_end(w);
}
