/* manager_refuse.c - what peers may not say, and what becomes of those who do (I10, I12). A
 * message is looked at twice: by its validator (proto/check.h), for what every message of its type
 * must be, and here for what it must be in this run: ids within the model's vocabulary, lengths
 * within its context, versions that follow each other, the same tokens when they are sent again.
 * What the trainer or a later manager would stumble over never reaches the log.
 *
 * Tokens that are refused are answered with "forget it"; the trajectory goes to another rollout
 * from what was stored before. A client that breaks rules again and again is banned: what it holds
 * goes to others, nothing of it is taken any more. When nobody else of its kind is there, the run
 * ends with its last offence, because it could only go round in circles. */
#include "rollout/manager/manager_refuse.h"

#include "actor/shape.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "rollout/manager/manager_prompts.h"
#include "rollout/manager/manager_weights.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    OFFENCES_MAX = 16,          /* of a client, then it is banned */
    ALONE_US = 5 * 1000 * 1000, /* until a run ends: another may be starting */
};

struct manager_refuse {
    int64_t vocab, context; /* token ids and lengths that the trainer will take */
    uint64_t alone_us;      /* since when only banned ones do what the run needs; 0: not so */
    struct buf last;        /* what the newest of them was banned for */
    int code;               /* and the error that it is */
};

/* Above 0 a log-prob is by rounding only; the validator has the same limit. */
static const float logprob_max = 0x1p-6F;

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int manager_refuse_open(struct manager *m) {
    const struct recipe *r = m->recipe;
    struct shape shape;
    m->refuse = mem_zalloc(sizeof *m->refuse);
    TRY(shape_read(&shape, r->model.path));
    m->refuse->vocab = shape.vocab;
    m->refuse->context =
        min64(shape.context, r->rollout.max_prompt_tokens + r->rollout.max_new_tokens);
    return 0;
}

void manager_refuse_close(struct manager *m) {
    if (!m->refuse) return;
    buf_close(&m->refuse->last);
    mem_free(m->refuse);
}

/* --- tokens ---------------------------------------------------------------------------------- */

static int check_values(const struct manager *m, const struct trajectory *part) {
    for (int32_t i = 0; i < part->n_response; i++) {
        if (part->response[i] < 0 || part->response[i] >= m->refuse->vocab)
            return FAIL(ERR_CORRUPT, "token %d has id %d, the vocabulary has %" PRId64,
                        part->offset + i, part->response[i], m->refuse->vocab);
        if (!isfinite(part->logprob[i]) || part->logprob[i] > logprob_max)
            return FAIL(ERR_CORRUPT, "token %d has log-prob %g", part->offset + i,
                        (double)part->logprob[i]);
        if (i > 0 && part->version[i] < part->version[i - 1])
            return FAIL(ERR_CORRUPT, "token %d is of version %" PRId64 " after one of %" PRId64,
                        part->offset + i, part->version[i], part->version[i - 1]);
    }
    return 0;
}

static int check_length(const struct manager *m, const struct trajectory *part, int64_t n_prompt) {
    int64_t n = (int64_t)part->offset + part->n_response;
    int64_t most = min64(m->recipe->rollout.max_new_tokens, m->refuse->context - n_prompt);
    if (n > most)
        return FAIL(ERR_CORRUPT,
                    "%" PRId64 " tokens after a prompt of %" PRId64 ", at most %" PRId64, n,
                    n_prompt, most);
    if (part->finish == TRAJECTORY_LENGTH && n < most)
        return FAIL(ERR_CORRUPT, "ends at the length limit with %" PRId64 " of %" PRId64 " tokens",
                    n, most);
    return 0;
}

/* What was stored before and comes again is the same; what is new is not older, unless another
 * process had the trajectory before. */
static int check_stored(const struct manager_client *c, const struct trajectory *part,
                        const struct manager_tokens *t) {
    const struct trajectory *old = &t->traj;
    int32_t differs = trajectory_differs(old, part);
    if (differs >= 0)
        return FAIL(ERR_CORRUPT, "token %d is another one than was sent before", differs);
    int32_t next = old->n_response - part->offset;
    if (old->n_response == 0 || t->life != c->incarnation || next < 0 || next >= part->n_response)
        return 0;
    if (part->version[next] >= old->version[old->n_response - 1]) return 0;
    return FAIL(ERR_CORRUPT, "token %d is of version %" PRId64 " after one of %" PRId64,
                old->n_response, part->version[next], old->version[old->n_response - 1]);
}

/* Whether token k, which is not stored yet, will be trained once the part is joined to what is: a
 * turn counts only if it starts behind the stored tokens, else their last turn goes on. */
static bool adds_trained(const struct trajectory *part, const struct trajectory *old, int32_t k) {
    for (int32_t i = 0; i < part->n_turns; i++)
        if (part->turn[i].start >= old->n_response && part->turn[i].start <= k)
            return trajectory_trains(part, k);
    if (old->n_turns > 0 && !old->turn[old->n_turns - 1].trained) return false;
    return !part->mask || part->mask[k - part->offset];
}

/* A batch in which nothing is trained is none: no trajectory ends without a token that is. A part
 * without mask and turns, which is what a rollout sends, has only such. */
static int check_trained(const struct trajectory *part, const struct trajectory *old) {
    bool plain = !part->mask && part->n_turns == 0 && !old->mask && old->n_turns == 0;
    if (plain || part->finish == TRAJECTORY_RUNNING) return 0;
    for (int32_t k = 0; k < old->n_response; k++)
        if (trajectory_trains(old, k)) return 0;
    for (int32_t k = old->n_response; k < part->offset + part->n_response; k++)
        if (adds_trained(part, old, k)) return 0;
    return FAIL(ERR_CORRUPT, "none of its tokens is trained");
}

static int check_part(struct manager *m, const struct manager_client *c,
                      const struct trajectory *part) {
    const struct manager_prompt *p = NULL;
    const struct manager_tokens *t = manager_prompts_tokens(m, part->id);
    TRY(check_values(m, part));
    TRY(manager_prompts_get(m, manager_group_of(m, part->id), &p));
    TRY(check_length(m, part, (int64_t)p->n));
    TRY(check_stored(c, part, t));
    TRY(check_trained(part, &t->traj));
    if (manager_weights_known(m, part->version, (size_t)part->n_response)) return 0;
    return FAIL(ERR_CORRUPT, "nobody said the hash of their weights");
}

int manager_refuse_part(struct manager *m, const struct manager_client *c,
                        const struct trajectory *part) {
    const struct groups_traj *t = groups_traj(m->groups, part->id);
    bool its_own = t && t->state == GROUPS_LEASED && t->rollout == manager_clients_number(m, c);
    if (!its_own) return 0; /* it is told to forget it */
    return err_wrap(check_part(m, c, part), "trajectory %" PRIu64, part->id);
}

/* --- those who send it ----------------------------------------------------------------------- */

void manager_refuse_ban(struct manager *m, struct manager_client *c, const char *what,
                        const char *why, int code) {
    c->banned = true;
    m->refuse->code = code;
    buf_reset(&m->refuse->last);
    if (c->offences >= OFFENCES_MAX)
        buf_printf(&m->refuse->last, "%s broke the rules %" PRIu32 " times, at last: %s: %s",
                   c->name, c->offences, what, why);
    else
        buf_printf(&m->refuse->last, "%s %s: %s", c->name, what, why);
    c->offences = OFFENCES_MAX; /* it stays so when it says hello again */
    LOG(ERROR, MANAGER, "%s; nothing of it is taken any more", m->refuse->last.data);
    manager_clients_lose(m, c, "it is banned");
}

void manager_refuse(struct manager *m, struct manager_client *c, const char *what,
                    const char *why) {
    if (c->banned) return;
    if (c->offences++ == 0)
        LOG(WARN, MANAGER, "%s %s: %s", c->name, what, why);
    else
        manager_warn(m, &c->id, what, why);
    if (c->offences >= OFFENCES_MAX) manager_refuse_ban(m, c, what, why, ERR_CORRUPT);
}

/* Who knows us gets no answer for it and would send it again: it says hello first, and what it
 * holds is looked at anew. */
void manager_refuse_message(struct manager *m, const struct net_id *from, const char *why) {
    struct manager_client *c = manager_clients_find(m, from);
    if (!c || !c->alive || c->role == MANAGER_OTHER) {
        manager_warn(m, from, "message dropped", why);
        return;
    }
    manager_refuse(m, c, "message dropped", why);
    if (c->role != MANAGER_EVALUATOR) manager_clients_lose(m, c, "it sent what cannot be read");
}

static bool has(const struct manager *m, enum manager_role role, bool banned) {
    const struct manager_client *c;
    for (size_t i = 0; (c = manager_clients_at(m, i)) != NULL; i++)
        if (c->used && c->role == role && c->banned == banned && (banned || c->alive)) return true;
    return false;
}

int manager_refuse_tick(struct manager *m) {
    static const enum manager_role needed[] = {MANAGER_ROLLOUT, MANAGER_REWARD, MANAGER_TRAINER};
    bool alone = false;
    if (m->refuse->last.len == 0) return 0; /* nobody was ever banned */
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        alone = alone || (has(m, needed[i], true) && !has(m, needed[i], false));
    if (!alone) m->refuse->alone_us = 0;
    if (alone && m->refuse->alone_us == 0) m->refuse->alone_us = m->now_us;
    if (!alone || m->now_us < m->refuse->alone_us + ALONE_US) return 0;
    return FAIL(m->refuse->code, "%s; no other service can do its work", m->refuse->last.data);
}
