/* scheduler.c - continuous batching.
 *
 * A sequence has n tokens, of which the first `computed` have their keys in the pool. One rule
 * covers prefill, decode, resumption and recomputation: feed tokens[computed .. n-1]; when the last
 * of them is fed, its logits give the next token. A step feeds every sequence that lacks one token
 * (decode) and spends chunk_tokens rows on those that lack more, oldest first.
 *
 * A group's prompt is computed once. Whoever comes first publishes its pages as they fill, and the
 * unfull end of the prompt when the prompt is complete; the others wait that long, then share the
 * full pages, copy the last one (they will write behind the prompt there) and draw their first
 * token from the same logits. Who comes later finds the pages in the cache and feeds the prompt's
 * last token for its logits. Copied keys are the bits they would have computed (I6).
 *
 * Pages for all present tokens are taken on admission, so only decoding can run out. Then the
 * youngest sequence gives its pages back and waits in front of all others; what of it is still in
 * the cache when it returns is not computed again. The oldest never gives way and always fits, so
 * every step makes progress. */
#include "rollout/engine/scheduler.h"

#include "base/mem.h"

#include <inttypes.h>

struct scheduler {
    struct scheduler_config cfg;
    struct pages *pages;
    struct hash root; /* key of the version in use */
    struct seq **running;
    int32_t n_running; /* oldest first */
    struct seq *first, *last;
    int32_t n_waiting; /* list, oldest first */
    struct scheduler_item *items;
    struct scheduler_copy *copies;
    struct scheduler_join *joins;
    int32_t n_copies, n_joins;
    uint64_t next_order;
    int64_t preemptions, cached_tokens;
};

size_t scheduler_bytes(const struct scheduler_config *cfg) {
    size_t per_seq = sizeof(struct seq *) + sizeof(struct scheduler_item) +
                     sizeof(struct scheduler_copy) + sizeof(struct scheduler_join);
    return sizeof(struct scheduler) + (size_t)cfg->seqs_max * per_seq + pages_bytes(cfg->pages);
}

struct scheduler *scheduler_open(const struct scheduler_config *cfg) {
    ASSERT(cfg->seqs_max > 0 && cfg->waiting_max > 0 && cfg->chunk_tokens > 0 && cfg->page > 0);
    struct scheduler *p = mem_zalloc(sizeof *p);
    p->cfg = *cfg;
    p->pages = pages_open(cfg->pages);
    p->running = mem_array((size_t)cfg->seqs_max, sizeof(struct seq *));
    p->items = mem_array((size_t)cfg->seqs_max, sizeof *p->items);
    p->copies = mem_array((size_t)cfg->seqs_max, sizeof *p->copies);
    p->joins = mem_array((size_t)cfg->seqs_max, sizeof *p->joins);
    return p;
}

/* --- pages of a sequence ---------------------------------------------------------------------- */

static void give_pages_back(struct scheduler *p, struct seq *s) {
    while (s->n_pages > 0)
        pages_put(p->pages, s->pages[--s->n_pages]);
    s->computed = s->n_chained = 0;
}

static int32_t pages_for(const struct scheduler *p, int32_t tokens) {
    return (tokens + p->cfg.page - 1) / p->cfg.page;
}

/* Refers to the cached full pages among the first `most` tokens of s. */
static void share_full_pages(struct scheduler *p, struct seq *s, int32_t most) {
    int32_t page = p->cfg.page;
    s->chain = p->root;
    while ((s->n_pages + 1) * page <= most) {
        struct hash key = pages_key(s->chain, s->tokens + s->n_pages * page, page);
        int32_t found = pages_find(p->pages, key);
        if (found < 0) break;
        s->pages[s->n_pages++] = found;
        s->chain = key;
    }
    s->n_chained = s->n_pages;
    s->computed = s->n_pages * page;
}

/* The page that holds the rest of the prompt behind the shared ones, referred to, or -1; *computed:
 * how many tokens s has when it copies that page, at most `most`. */
static int32_t find_prompt_end(struct scheduler *p, const struct seq *s, int32_t most,
                               int32_t *computed) {
    int32_t from = s->n_pages * p->cfg.page, to = from + p->cfg.page;
    if (to > s->n_prompt) to = s->n_prompt;
    *computed = to < most ? to : most;
    if (*computed <= from) return -1;
    return pages_find(p->pages, pages_key(s->chain, s->tokens + from, to - from));
}

/* Gives s pages for all its tokens, the first `most` from the cache as far as they are there. false
 * (and none) when there are too few, or when the running ones would have none left to grow into. */
static bool get_pages(struct scheduler *p, struct seq *s, int32_t most) {
    int32_t computed;
    ASSERT(s->n_pages == 0 && s->computed == 0);
    share_full_pages(p, s, most);
    int32_t src = find_prompt_end(p, s, most, &computed);
    int32_t want = pages_for(p, s->n) - s->n_pages + p->n_running;
    if (src >= 0 && pages_available(p->pages) < want) {
        pages_put(p->pages, src);
        src = -1;
    }
    if (pages_available(p->pages) < want) {
        give_pages_back(p, s);
        return false;
    }
    if (src >= 0) {
        int32_t dst = pages_take(p->pages), keys = computed - s->computed;
        p->copies[p->n_copies++] = (struct scheduler_copy){src, dst, keys};
        s->pages[s->n_pages++] = dst;
        s->computed = computed;
    }
    while (s->n_pages * p->cfg.page < s->n)
        s->pages[s->n_pages++] = pages_take(p->pages);
    p->cached_tokens += s->computed;
    s->shareable = true;
    s->prompt_published = false;
    return true;
}

/* --- waiting and running ---------------------------------------------------------------------- */

static void waiting_insert(struct scheduler *p, struct seq *before, struct seq *s) {
    s->next = before;
    s->prev = before ? before->prev : p->last;
    if (s->prev)
        s->prev->next = s;
    else
        p->first = s;
    if (before)
        before->prev = s;
    else
        p->last = s;
    p->n_waiting++;
}

static void waiting_remove(struct scheduler *p, struct seq *s) {
    if (s->prev)
        s->prev->next = s->next;
    else
        p->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        p->last = s->prev;
    s->prev = s->next = NULL;
    p->n_waiting--;
}

static void running_remove(struct scheduler *p, int32_t i) {
    for (p->n_running--; i < p->n_running; i++)
        p->running[i] = p->running[i + 1];
}

static void running_insert(struct scheduler *p, struct seq *s) {
    ASSERT(p->n_running < p->cfg.seqs_max);
    int32_t i = p->n_running++;
    for (; i > 0 && p->running[i - 1]->order > s->order; i--)
        p->running[i] = p->running[i - 1];
    p->running[i] = s;
}

/* The youngest goes back to wait, by age among the waiting ones. */
static void preempt_youngest(struct scheduler *p) {
    struct seq *s = p->running[--p->n_running];
    struct seq *before = p->first;
    while (before && before->order < s->order)
        before = before->next;
    give_pages_back(p, s);
    waiting_insert(p, before, s);
    p->preemptions++;
}

static struct seq *find_waiting(const struct scheduler *p, uint64_t id) {
    struct seq *s = p->first;
    while (s && s->id != id)
        s = s->next;
    return s;
}

static int32_t find_running(const struct scheduler *p, uint64_t id) {
    for (int32_t i = 0; i < p->n_running; i++)
        if (p->running[i]->id == id) return i;
    return -1;
}

int scheduler_add_take(struct scheduler *p, struct seq *s) {
    if (p->n_waiting >= p->cfg.waiting_max)
        return FAIL(ERR_AGAIN, "the engine's waiting list of %d is full", (int)p->cfg.waiting_max);
    if (find_running(p, s->id) >= 0 || find_waiting(p, s->id))
        return FAIL(ERR_CONFIG, "request %" PRIu64 " is in the engine already", s->id);
    s->order = p->next_order++;
    waiting_insert(p, NULL, s);
    return 0;
}

bool scheduler_remove(struct scheduler *p, uint64_t id) {
    int32_t i = find_running(p, id);
    struct seq *s = i >= 0 ? p->running[i] : find_waiting(p, id);
    if (!s) return false;
    if (i >= 0)
        running_remove(p, i);
    else
        waiting_remove(p, s);
    give_pages_back(p, s);
    seq_close(&s);
    return true;
}

void scheduler_close(struct scheduler **pp) {
    struct scheduler *p = *pp;
    if (!p) return;
    while (p->n_running > 0)
        scheduler_remove(p, p->running[p->n_running - 1]->id);
    while (p->first)
        scheduler_remove(p, p->first->id);
    ASSERT(pages_available(p->pages) == pages_total(p->pages));
    pages_close(&p->pages);
    mem_free(p->running);
    mem_free(p->items);
    mem_free(p->copies);
    mem_free(p->joins);
    mem_free(p);
    *pp = NULL;
}

void scheduler_use(struct scheduler *p, int64_t version) {
    p->root = pages_root(version);
    pages_forget(p->pages);
    for (int32_t i = 0; i < p->n_running; i++)
        if (p->running[i]->computed > 0) p->running[i]->shareable = false;
}

void scheduler_restart(struct scheduler *p) {
    while (p->n_running > 0)
        preempt_youngest(p);
    pages_forget(p->pages);
}

/* --- the next step -------------------------------------------------------------------------- */

/* Every running sequence gets the page its newest token goes to; the youngest give way. */
static void grow_running(struct scheduler *p) {
    for (int32_t i = 0; i < p->n_running; i++) {
        struct seq *s = p->running[i];
        if (s->n_pages * p->cfg.page >= s->n) continue;
        int32_t page = -1;
        while (i < p->n_running && (page = pages_take(p->pages)) < 0)
            preempt_youngest(p);
        if (i < p->n_running) s->pages[s->n_pages++] = page;
    }
    ASSERT(p->n_running > 0 || pages_available(p->pages) == pages_total(p->pages));
}

/* Is somebody running about to publish the prompt that s begins with? */
static bool prompt_is_coming(const struct scheduler *p, const struct seq *s) {
    for (int32_t i = 0; i < p->n_running; i++) {
        const struct seq *r = p->running[i];
        if (r->shareable && r->computed < r->n_prompt && hash_equal(r->prompt_key, s->prompt_key))
            return true;
    }
    return false;
}

static void start_running(struct scheduler *p, struct seq *s) {
    waiting_remove(p, s);
    running_insert(p, s);
}

/* The pages that copies come from may go once all pages of the step are taken: copies are made
 * before anything is written. */
static void release_sources(struct scheduler *p) {
    for (int32_t i = 0; i < p->n_copies; i++)
        pages_put(p->pages, p->copies[i].src);
}

static void admit_waiting(struct scheduler *p) {
    const struct seq *blocked = NULL; /* the rest of a group usually follows its first */
    struct seq *s = p->first, *next;
    for (; s && p->n_running < p->cfg.seqs_max; s = next) {
        next = s->next;
        if (blocked && hash_equal(blocked->prompt_key, s->prompt_key)) continue;
        if (prompt_is_coming(p, s)) {
            blocked = s;
            continue;
        }
        if (!get_pages(p, s, s->n - 1)) break; /* its last token has to be fed */
        start_running(p, s);
    }
}

void scheduler_next(struct scheduler *p, struct scheduler_step *out) {
    int32_t budget = p->cfg.chunk_tokens, n_items = 0, n_rows = 0;
    p->n_copies = 0;
    grow_running(p);
    admit_waiting(p);
    release_sources(p);
    for (int32_t i = 0; i < p->n_running; i++) {
        struct seq *s = p->running[i];
        int32_t lacks = s->n - s->computed, rows = lacks;
        ASSERT(lacks > 0 && s->n_pages * p->cfg.page >= s->n);
        if (lacks > 1) {
            if (rows > budget) rows = budget;
            budget -= rows;
        }
        if (rows == 0) continue;
        p->items[n_items++] = (struct scheduler_item){s, s->computed, rows, rows == lacks};
        n_rows += rows;
    }
    ASSERT(n_items > 0 || !p->first);
    *out = (struct scheduler_step){p->items, p->copies, n_items, p->n_copies, n_rows};
}

static void publish_prompt_end(struct scheduler *p, struct seq *s) {
    int32_t page = p->cfg.page, from = s->n_chained * page, rest = s->n_prompt - from;
    if (s->prompt_published || s->computed < s->n_prompt || rest >= page) return;
    if (rest > 0)
        pages_publish(p->pages, s->pages[s->n_chained], pages_key(s->chain, s->tokens + from, rest),
                      false);
    s->prompt_published = true;
}

static void publish(struct scheduler *p, const struct scheduler_item *item) {
    struct seq *s = item->s;
    int32_t page = p->cfg.page;
    ASSERT(s->computed == item->first);
    s->computed += item->rows;
    if (!s->shareable) return;
    publish_prompt_end(p, s);
    while (s->computed >= (s->n_chained + 1) * page) {
        s->chain = pages_key(s->chain, s->tokens + s->n_chained * page, page);
        pages_publish(p->pages, s->pages[s->n_chained], s->chain, true);
        s->n_chained++;
        publish_prompt_end(p, s);
    }
}

/* Those of the same prompt that wait, one after another, join the sequence of an item that has just
 * fed its last token. */
static void join_prompt(struct scheduler *p, const struct scheduler_item *item, int32_t index) {
    const struct seq *leader = item->s;
    struct seq *s = p->first, *next;
    if (leader->n != leader->n_prompt || !leader->shareable) return;
    while (s && !hash_equal(s->prompt_key, leader->prompt_key))
        s = s->next;
    for (; s && hash_equal(s->prompt_key, leader->prompt_key); s = next) {
        next = s->next;
        if (p->n_running == p->cfg.seqs_max) return;
        if (s->n != s->n_prompt) continue; /* resumed: its first row is another */
        if (!get_pages(p, s, s->n)) return;
        if (s->computed < s->n) { /* no page was left for the copy: it runs later, by itself */
            p->cached_tokens -= s->computed;
            give_pages_back(p, s);
            return;
        }
        start_running(p, s);
        p->joins[p->n_joins++] = (struct scheduler_join){s, index};
    }
}

void scheduler_done(struct scheduler *p, const struct scheduler_step *step,
                    struct scheduler_joins *out) {
    p->n_copies = p->n_joins = 0;
    for (int32_t i = 0; i < step->n_items; i++)
        publish(p, &step->items[i]);
    for (int32_t i = 0; i < step->n_items; i++)
        if (step->items[i].samples) join_prompt(p, &step->items[i], i);
    release_sources(p);
    *out = (struct scheduler_joins){p->joins, p->copies, p->n_joins, p->n_copies};
}

void scheduler_counts(const struct scheduler *p, struct scheduler_counts *out) {
    *out = (struct scheduler_counts){p->n_running, p->n_waiting, p->preemptions, p->cached_tokens};
}

struct pages *scheduler_pages(struct scheduler *p) {
    return p->pages;
}
