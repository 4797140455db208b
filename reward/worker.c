/* worker.c - what runs inside a verifier process. It reads a request, runs the verifiers under a
 * CPU timer, writes the reply; nothing survives a job but the compiled verifiers. All limits are
 * the kernel's, so a bug in a verifier cannot lift them: SIGPROF's default action ends a job that
 * uses up its CPU time (RLIMIT_CPU would count whole seconds, and the life of the process instead
 * of the job's), no file can be opened or grown, no process started, memory is capped above what
 * the process had at its start. The wall deadline is the pool's. */
#include "reward/worker.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIMIT_MEMORY = 0 }; /* their shadow memory reserves terabytes of addresses */
#else
enum { LIMIT_MEMORY = 1 };
#endif

int worker_encode(struct buf *out, uint64_t id, const struct verify_input *in, uint32_t text_max) {
    const char *text[3] = {in->prompt, in->response, in->answer};
    uint32_t n[3];
    size_t total = 0;
    for (int i = 0; i < 3; i++) {
        if (!text[i]) text[i] = "";
        size_t len = strnlen(text[i], (size_t)text_max + 1);
        total += len;
        n[i] = (uint32_t)len;
    }
    if (total > text_max)
        return FAIL(ERR_CORRUPT, "prompt, response and answer are longer than %u bytes together",
                    text_max);
    struct worker_request h = {.id = id,
                               .prompt = n[0],
                               .response = n[1],
                               .answer = n[2],
                               .n_tokens = in->n_tokens,
                               .max_tokens = in->max_tokens,
                               .truncated = in->truncated};
    buf_add(out, &h, sizeof h);
    for (int i = 0; i < 3; i++)
        buf_add(out, text[i], n[i] + 1);
    return 0;
}

static bool ends_within(const char *s, size_t size) {
    return memchr(s, 0, size) != NULL;
}

bool worker_reply_is_sane(const struct worker_reply *r, uint64_t id) {
    const struct verify_result *v = &r->result;
    if (r->id != id || v->n_scores < 0 || v->n_scores > VERIFY_MAX) return false;
    if (v->error > 0 || strcmp(err_name(v->error), "UNKNOWN") == 0 || !isfinite(v->total))
        return false;
    for (int32_t i = 0; i < v->n_scores; i++)
        if (!isfinite(v->scores[i].value) || !ends_within(v->scores[i].name, VERIFY_NAME))
            return false;
    if (!ends_within(v->reason, VERIFY_REASON)) return false;
    return utf8_valid_prefix(v->reason, strlen(v->reason)) == strlen(v->reason);
}

struct input { /* requests come in runs: read together */
    int fd;
    size_t at, n;
    char data[16 << 10];
};

/* false at the end of the stream or on an error: the pool is gone */
static bool read_request(struct input *in, void *data, size_t n) {
    char *p = data;
    while (n > 0) {
        if (in->at == in->n) {
            ssize_t got = read(in->fd, in->data, sizeof in->data);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return false;
            in->n = (size_t)got;
            in->at = 0;
        }
        size_t k = in->n - in->at < n ? in->n - in->at : n;
        memcpy(p, in->data + in->at, k);
        in->at += k;
        p += k;
        n -= k;
    }
    return true;
}

static bool write_reply(int fd, const void *data, size_t n) {
    const char *p = data;
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

/* Bytes of address space in use. */
static bool address_space(uint64_t *out) {
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    bool ok = f && fscanf(f, "%llu", &pages) == 1;
    if (f) fclose(f);
    *out = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return ok;
}

static bool limit(int what, uint64_t value) {
    struct rlimit r = {.rlim_cur = value, .rlim_max = value};
    return setrlimit((__rlimit_resource_t)what, &r) == 0;
}

/* Once, before the first job; what is limited here cannot be raised again. */
static bool set_limits(const struct worker_context *c) {
    uint64_t now = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || !address_space(&now)) return false;
    if (LIMIT_MEMORY && !limit(RLIMIT_AS, now + ((uint64_t)c->memory_mib << 20))) return false;
    return limit(RLIMIT_CORE, 0) && limit(RLIMIT_FSIZE, 0) && limit(RLIMIT_NPROC, 0) &&
           limit(RLIMIT_NOFILE, 0);
}

/* Arms the timer whose signal ends this process; 0 disarms it. */
static void cpu_timer(uint32_t ms) {
    struct itimerval t = {.it_value = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000}};
    if (setitimer(ITIMER_PROF, &t, NULL) < 0) _exit(1);
}

/* The pool's lengths are checked again: a worker trusts its pool no more than the pool its workers.
 */
void worker_main(int fd, const void *context) {
    const struct worker_context *c = context;
    struct worker_request h;
    static struct input input;
    input = (struct input){.fd = fd};
    if (!set_limits(c)) _exit(1);
    while (read_request(&input, &h, sizeof h)) {
        struct worker_reply reply = {.id = h.id};
        size_t n = (size_t)h.prompt + h.response + h.answer + 3;
        if (n > (size_t)c->text_max + 3) _exit(1);
        char *text = mem_alloc(n);
        if (!read_request(&input, text, n)) _exit(0);
        const struct verify_input in = {.prompt = text,
                                        .response = text + h.prompt + 1,
                                        .answer = text + h.prompt + h.response + 2,
                                        .n_tokens = h.n_tokens,
                                        .max_tokens = h.max_tokens,
                                        .truncated = h.truncated != 0};
        cpu_timer(c->cpu_ms);
        verify_run(c->verify, &in, &reply.result);
        cpu_timer(0);
        mem_free(text);
        if (!write_reply(fd, &reply, sizeof reply)) _exit(0);
    }
    _exit(0);
}
