/* sim.cc - the scheduler of threads behind cuda_runtime.h of this folder.
 *
 * A fiber runs thread after thread of the block until one meets a barrier; then it belongs to that
 * thread, and another fiber goes on with the next. So a kernel without barriers costs one fiber for
 * each block. A warp's barrier opens when all its threads of the mask that have not ended stand at
 * one, the block's when all that have not ended do. If nobody can go on, the kernel has a barrier
 * in a branch that not everybody takes: that is reported and ends the process. */
#include <cuda_runtime.h>

#include "arena.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

enum { THREADS_MAX = 1024, STACK = 64 << 10, WARP = 32 };
enum wait { RUNS, AT_BLOCK, AT_WARP, ENDED };

struct fiber {
    ucontext_t context;
    jmp_buf at;
    void *stack, *fake;
    bool begun;
};

struct copy {
    void *dst;
    const void *src; /* null: zeros */
    unsigned bytes, group;
};

enum { COPIES_MAX = 256 };

struct copies { /* of a thread: those begun and not waited for, oldest first */
    struct copy at[COPIES_MAX];
    unsigned n, group; /* the group that is open */
};

struct together { /* of a warp; two, as a lane may reach the next before all have left this one */
    void *lane[WARP];
    bool ready;
};

struct lane { /* a thread of the block */
    struct sim_thread self;
    struct copies copies;
    unsigned togethers;
    enum wait wait;
    unsigned mask;
    struct fiber *fiber; /* that holds it while it waits */
};

struct sim { /* of one host thread */
    struct lane lane[THREADS_MAX];
    struct fiber fiber[THREADS_MAX];
    struct fiber *idle[THREADS_MAX];
    uint64_t slots[THREADS_MAX];
    struct together together[THREADS_MAX / WARP][2];
    ucontext_t scheduler;
    jmp_buf scheduler_at;
    const void *stack_bottom;
    size_t stack_size;
    struct lane *now;
    struct fiber *running;
    sim_body *body;
    void *ctx, *shared;
    size_t shared_bytes;
    unsigned n, started, n_idle, n_fibers;
    bool descending;
};

thread_local struct sim_thread *sim_self;
static thread_local struct sim *sim;
static thread_local bool descending;

void sim_descend(bool on) {
    descending = on;
}

[[noreturn]] void sim_die(const char *what) {
    fprintf(stderr, "cudasim: %s\n", what);
    abort();
}

/* swapcontext asks the kernel for the signal mask each time; jumps do not, but the address
 * sanitizer must be told of a switch and takes jumps for returns. */
#if defined(__SANITIZE_ADDRESS__)
static void to_fiber(struct fiber *f) {
    void *fake = nullptr;
    sim->running = f;
    __sanitizer_start_switch_fiber(&fake, f->stack, STACK);
    if (swapcontext(&sim->scheduler, &f->context) != 0) sim_die("swapcontext");
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

static void to_scheduler(struct fiber *f) {
    __sanitizer_start_switch_fiber(&f->fake, sim->stack_bottom, sim->stack_size);
    if (swapcontext(&f->context, &sim->scheduler) != 0) sim_die("swapcontext");
    __sanitizer_finish_switch_fiber(f->fake, &sim->stack_bottom, &sim->stack_size);
}
#else
static void to_fiber(struct fiber *f) {
    sim->running = f;
    if (_setjmp(sim->scheduler_at) != 0) return;
    if (f->begun) _longjmp(f->at, 1);
    f->begun = true;
    setcontext(&f->context);
    sim_die("setcontext");
}

static void to_scheduler(struct fiber *f) {
    if (_setjmp(f->at) == 0) _longjmp(sim->scheduler_at, 1);
}
#endif

/* Never returns: when there is no thread left to start, the fiber waits in the idle list. */
static void fiber_main(void) {
    struct fiber *f = sim->running;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &sim->stack_bottom, &sim->stack_size);
#endif
    for (;;) {
        while (sim->started < sim->n) {
            unsigned k = sim->started++;
            struct lane *l = &sim->lane[sim->descending ? sim->n - 1 - k : k];
            sim->now = l;
            sim_self = &l->self;
            sim->body(sim->ctx);
            sim->now->wait =
                ENDED; /* after barriers it is still the thread that this fiber holds */
        }
        sim->idle[sim->n_idle++] = f;
        to_scheduler(f);
    }
}

static struct fiber *fresh(void) {
    if (sim->n_idle > 0) return sim->idle[--sim->n_idle];
    if (sim->n_fibers == THREADS_MAX) sim_die("too many fibers");
    struct fiber *f = &sim->fiber[sim->n_fibers++];
    f->stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED) sim_die("no memory for a stack");
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    makecontext(&f->context, fiber_main, 0);
    return f;
}

static void wait_here(enum wait why, unsigned mask) {
    struct lane *l = sim->now;
    l->wait = why;
    l->mask = mask;
    l->fiber = sim->running;
    to_scheduler(l->fiber);
    sim->now = l;
    sim_self = &l->self;
}

void sim_block_barrier(void) {
    wait_here(AT_BLOCK, 0);
}

void sim_warp_barrier(unsigned mask) {
    wait_here(AT_WARP, mask);
}

static void resume(struct lane *l) {
    l->wait = RUNS;
    sim->now = l;
    sim_self = &l->self;
    to_fiber(l->fiber);
}

/* Threads of [from, to) in the order of this device. */
static struct lane *nth(unsigned from, unsigned to, unsigned i) {
    return &sim->lane[sim->descending ? to - 1 - i : from + i];
}

/* True if the mask of the warp's first waiting thread is complete there; its threads then run. */
static bool open_warp(unsigned from, unsigned to) {
    bool go[WARP] = {};
    for (unsigned first = from; first < to; first++) {
        if (sim->lane[first].wait != AT_WARP) continue;
        unsigned mask = sim->lane[first].mask;
        bool all = true;
        for (unsigned i = from; i < to && all; i++) {
            const struct lane *l = &sim->lane[i];
            go[i - from] = (mask >> (i - from) & 1) && l->wait != ENDED;
            all = !go[i - from] || (l->wait == AT_WARP && l->mask == mask);
        }
        if (!all) continue;
        for (unsigned i = 0; i < to - from; i++) {
            struct lane *l = nth(from, to, i);
            if (go[l - &sim->lane[from]]) resume(l);
        }
        return true;
    }
    return false;
}

static unsigned warp_end(unsigned from) {
    return from + WARP < sim->n ? from + WARP : sim->n;
}

/* Warp by warp, each as far as it gets: a kernel that relies on warps keeping step is shown up. */
static bool open_block(void) {
    unsigned waiting = 0, ended = 0;
    for (unsigned i = 0; i < sim->n; i++) {
        waiting += sim->lane[i].wait == AT_BLOCK;
        ended += sim->lane[i].wait == ENDED;
    }
    if (waiting == 0 || waiting + ended < sim->n) return false;
    bool go[THREADS_MAX];
    for (unsigned i = 0; i < sim->n; i++)
        go[i] = sim->lane[i].wait == AT_BLOCK;
    unsigned warps = (sim->n + WARP - 1) / WARP;
    for (unsigned k = 0; k < warps; k++) {
        unsigned from = (sim->descending ? warps - 1 - k : k) * WARP, to = warp_end(from);
        for (unsigned i = 0; i < to - from; i++) {
            struct lane *l = nth(from, to, i);
            if (go[l - sim->lane]) resume(l);
        }
        while (open_warp(from, to)) {
        }
    }
    return true;
}

static void run_block(dim3 index, dim3 grid, dim3 block) {
    sim->started = 0;
    for (unsigned i = 0; i < sim->n; i++) {
        struct lane *l = &sim->lane[i];
        l->wait = RUNS;
        l->copies.n = l->copies.group = l->togethers = 0;
        l->self.thread = dim3(i % block.x, i / block.x % block.y, i / block.x / block.y);
        l->self.block = index;
        l->self.block_dim = block;
        l->self.grid_dim = grid;
    }
    while (sim->started < sim->n)
        to_fiber(fresh());
    for (;;) {
        bool moved = false, left = false;
        for (unsigned w = 0; w < sim->n; w += WARP)
            while (open_warp(w, warp_end(w)))
                moved = true;
        moved |= open_block();
        for (unsigned i = 0; i < sim->n; i++)
            left |= sim->lane[i].wait != ENDED;
        if (!left) break;
        if (!moved) sim_die("threads wait at different barriers");
    }
    for (unsigned i = 0; i < sim->n; i++)
        if (sim->lane[i].copies.n) sim_die("a thread ended before its copies");
}

void *sim_shared(void) {
    return sim->shared;
}

uint64_t *sim_warp_slots(void) {
    return sim->slots + (sim->now - sim->lane) / WARP * WARP;
}

void sim_warp_together(void *mine, void (*fn)(void *const *lanes)) {
    struct lane *me = sim->now;
    unsigned i = (unsigned)(me - sim->lane);
    struct together *t = &sim->together[i / WARP][me->togethers++ % 2];
    t->lane[i % WARP] = mine;
    t->ready = true;
    sim_warp_barrier(0xffffffffu);
    if (!t->ready) return;
    t->ready = false;
    fn(t->lane);
}

void sim_copy_begin(void *dst, const void *src, unsigned bytes, bool there) {
    struct copies *c = &sim->now->copies;
    if (c->n == COPIES_MAX) sim_die("too many copies on their way");
    if ((uintptr_t)dst % bytes || (there && (uintptr_t)src % bytes))
        sim_die("a copy off its place");
    memset(dst, 0xff, bytes);
    c->at[c->n++] = {dst, there ? src : nullptr, bytes, c->group};
}

void sim_copy_commit(void) {
    sim->now->copies.group++;
}

void sim_copy_wait(unsigned groups_left) {
    struct copies *c = &sim->now->copies;
    unsigned done = 0;
    while (done < c->n && c->at[done].group + groups_left < c->group) {
        const struct copy *x = &c->at[done++];
        if (x->src)
            memcpy(x->dst, x->src, x->bytes);
        else
            memset(x->dst, 0, x->bytes);
    }
    memmove(c->at, c->at + done, (c->n - done) * sizeof *c->at);
    c->n -= done;
}

void sim_run(dim3 grid, dim3 block, size_t shared_bytes, sim_body *body, void *ctx) {
    if (!sim) sim = new struct sim();
    sim->n = block.x * block.y * block.z;
    if (sim->n < 1 || sim->n > THREADS_MAX || grid.x * grid.y * grid.z == 0)
        sim_die("a launch of no threads, or of more than 1024 a block");
    if (sim->running && sim->now) sim_die("a launch inside a kernel");
    sim->body = body;
    sim->ctx = ctx;
    sim->descending = descending;
    arena_enter();
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                sim->shared = shared_bytes ? malloc(shared_bytes) : nullptr;
                if (shared_bytes && !sim->shared) sim_die("no shared memory");
                if (shared_bytes) memset(sim->shared, 0xff, shared_bytes); /* NaNs */
                run_block(dim3(x, y, z), grid, block);
                free(sim->shared);
            }
    arena_leave();
    sim->running = nullptr;
    sim->now = nullptr;
}
