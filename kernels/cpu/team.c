/* team.c - a small thread team.
 *
 * A job is a counter that members draw items from, so nobody waits for a slow neighbour, and a
 * member that wakes late finds the job closed and goes back: the caller never waits for a thread
 * that has not begun. That matters where other processes share the cores. Which member runs an item
 * cannot change a result, because items write disjoint outputs.
 *
 * Joining is a handshake of two sequentially consistent words: a member raises `active` and then
 * looks whether the job is open; the caller closes the job and then waits for `active` to fall to
 * zero. One of the two always sees the other. Idle members look for work for some microseconds
 * (ops of a forward follow each other closely) and then sleep. */
#include "kernels/cpu/team.h"

#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

enum { SPINS = 4000, MEMBERS_MAX = 1024 };

static struct team {
    int n; /* members, the caller included */
    pthread_t *threads;
    pthread_mutex_t mutex; /* for sleeping only */
    pthread_cond_t wake;
    atomic_flag busy; /* a job is running */
    atomic_uint generation;
    atomic_int open, active, sleepers, quit;
    atomic_llong next;
    int64_t items;
    cpu_team_fn *fn;
    void *ctx;
} team = {.n = 1,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .busy = ATOMIC_FLAG_INIT};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void draw_items(int member) {
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&team.next, 1, memory_order_relaxed);
        if (i >= team.items) return;
        team.fn(team.ctx, i, member);
    }
}

static void await_job(unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&team.generation) != seen || atomic_load(&team.quit)) return;
        relax();
    }
    pthread_mutex_lock(&team.mutex);
    atomic_fetch_add(&team.sleepers, 1);
    while (atomic_load(&team.generation) == seen && !atomic_load(&team.quit))
        pthread_cond_wait(&team.wake, &team.mutex);
    atomic_fetch_sub(&team.sleepers, 1);
    pthread_mutex_unlock(&team.mutex);
}

static void *member_main(void *arg) {
    int member = (int)(intptr_t)arg;
    unsigned seen = 0;
    while (!atomic_load(&team.quit)) {
        await_job(seen);
        seen = atomic_load(&team.generation);
        atomic_fetch_add(&team.active, 1);
        if (atomic_load(&team.open)) draw_items(member);
        atomic_fetch_sub(&team.active, 1);
    }
    return NULL;
}

/* A forked child has no members: it computes alone. */
static void after_fork(void) {
    team.n = 1;
    atomic_flag_clear(&team.busy);
}

static int cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

static void wake_all(void) {
    pthread_mutex_lock(&team.mutex);
    pthread_cond_broadcast(&team.wake);
    pthread_mutex_unlock(&team.mutex);
}

static void join_members(int n) {
    atomic_store(&team.quit, 1);
    wake_all();
    for (int i = 1; i < n; i++)
        pthread_join(team.threads[i], NULL);
    mem_free(team.threads);
    team.threads = NULL;
}

int cpu_team_open(int threads) {
    static bool registered;
    int n = threads > 0 ? threads : cores();
    if (n > MEMBERS_MAX) n = MEMBERS_MAX;
    ASSERT(team.n == 1);
    if (n == 1) return 0;
    if (!registered) {
        int rc = pthread_atfork(NULL, NULL, after_fork);
        if (rc) return FAIL(ERR_NOMEM, "pthread_atfork: %s", strerror(rc));
        registered = true;
    }
    atomic_store(&team.quit, 0);
    atomic_store(&team.generation, 0);
    atomic_store(&team.active, 0);
    atomic_store(&team.sleepers, 0);
    team.threads = mem_array((size_t)n, sizeof *team.threads);
    for (int i = 1; i < n; i++) {
        int rc = pthread_create(&team.threads[i], NULL, member_main, (void *)(intptr_t)i);
        if (rc == 0) continue;
        join_members(i);
        return FAIL(ERR_NOMEM, "thread %d of %d: %s", i + 1, n, strerror(rc));
    }
    team.n = n;
    return 0;
}

void cpu_team_close(void) {
    if (team.n > 1) join_members(team.n);
    team.n = 1;
}

int cpu_team_size(void) {
    return team.n;
}

void cpu_team_run(cpu_team_fn *fn, void *ctx, int64_t n) {
    if (team.n == 1 || n < 2 || atomic_flag_test_and_set(&team.busy)) {
        for (int64_t i = 0; i < n; i++)
            fn(ctx, i, 0);
        return;
    }
    team.fn = fn;
    team.ctx = ctx;
    team.items = n;
    atomic_store(&team.next, 0);
    atomic_store(&team.open, 1);
    atomic_fetch_add(&team.generation, 1);
    if (atomic_load(&team.sleepers) > 0) wake_all();
    draw_items(0);
    atomic_store(&team.open, 0);
    for (int spins = 0; atomic_load(&team.active) > 0; spins++)
        if (spins < SPINS)
            relax();
        else
            sched_yield();
    atomic_flag_clear(&team.busy);
}
