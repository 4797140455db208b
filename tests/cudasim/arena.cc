/* arena.cc - see arena.h. One reserved range; blocks are whole pages of it, found by first fit in a
 * list ordered by address, so that what is in use stays short: opening and closing it is one call
 * whose time grows with the pages that were touched. */
#include "arena.h"

#include <stdio.h>
#include <stdlib.h>
#if !defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

#if defined(__SANITIZE_ADDRESS__)

void *arena_take(size_t bytes) {
    return aligned_alloc(256, (bytes + 255) / 256 * 256 + (bytes == 0) * 256);
}

void arena_release(void *p) {
    free(p);
}

int arena_share(void *, size_t *) {
    return -1;
}

void *arena_map(int, size_t) {
    return nullptr;
}

bool arena_has(const void *) {
    return true;
}

size_t arena_used(void) {
    return 0;
}

void arena_guard(void) {
}

void arena_enter(void) {
}

void arena_leave(void) {
}

#else

enum { PAGE = 4096, BLOCKS_MAX = 65536 };
static const size_t RESERVED = (size_t)1 << 38;

static struct arena {
    pthread_mutex_t lock;
    char *base;
    struct block {
        size_t at, bytes;
        int fd;          /* of memory that others may open, -1 */
        bool mapped;     /* not the process's own pages */
    } block[BLOCKS_MAX]; /* by address */
    int blocks, inside;  /* inside: how many are between enter and leave */
    bool guarded;
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

[[noreturn]] static void die(const char *what) {
    perror(what);
    abort();
}

static size_t top(void) {
    const struct arena::block *last = &arena.block[arena.blocks - 1];
    return arena.blocks ? last->at + last->bytes : 0;
}

static void protect(int rights) {
    if (top() && mprotect(arena.base, top(), rights) != 0) die("cudasim: mprotect");
}

static bool open_now(void) {
    return arena.inside > 0 || !arena.guarded;
}

static void reserve(void) {
    if (arena.base) return;
    void *p =
        mmap(nullptr, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) die("cudasim: mmap");
    arena.base = static_cast<char *>(p);
}

/* The first gap that holds `bytes`; *index: of the block that would stand there. */
static size_t find_gap(size_t bytes, int *index) {
    size_t at = 0;
    int i = 0;
    for (; i < arena.blocks && arena.block[i].at - at < bytes; i++)
        at = arena.block[i].at + arena.block[i].bytes;
    *index = i;
    return at;
}

void *arena_take(size_t bytes) {
    int i;
    void *p = nullptr;
    size_t whole = (bytes / PAGE + 1) * PAGE;
    pthread_mutex_lock(&arena.lock);
    reserve();
    size_t at = find_gap(whole, &i);
    if (arena.blocks < BLOCKS_MAX && whole > bytes && at <= RESERVED - whole) {
        for (int k = arena.blocks++; k > i; k--)
            arena.block[k] = arena.block[k - 1];
        arena.block[i] = {at, whole, -1, false};
        p = arena.base + at;
        if (mprotect(p, whole, open_now() ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
            die("cudasim: mprotect");
    }
    pthread_mutex_unlock(&arena.lock);
    return p;
}

static void put_pages(void *p, size_t bytes, int flags, int fd, int rights) {
    if (mmap(p, bytes, rights, MAP_FIXED | flags, fd, 0) == MAP_FAILED) die("cudasim: mmap");
}

static struct arena::block *block_of(const void *p) {
    for (int i = 0; i < arena.blocks; i++)
        if (arena.base + arena.block[i].at == p) return &arena.block[i];
    return nullptr;
}

int arena_share(void *p, size_t *bytes) {
    pthread_mutex_lock(&arena.lock);
    struct arena::block *b = block_of(p);
    int rights = open_now() ? PROT_READ | PROT_WRITE : PROT_NONE;
    if (b && b->fd < 0 && !b->mapped) {
        b->fd = memfd_create("cudasim", MFD_CLOEXEC);
        if (b->fd < 0 || ftruncate(b->fd, (off_t)b->bytes) != 0) die("cudasim: memfd");
        void *there = mmap(nullptr, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
        if (there == MAP_FAILED) die("cudasim: mmap");
        if (mprotect(p, b->bytes, PROT_READ) != 0) die("cudasim: mprotect");
        memcpy(there, p, b->bytes);
        munmap(there, b->bytes);
        put_pages(p, b->bytes, MAP_SHARED, b->fd, rights);
        b->mapped = true;
    }
    int fd = b ? b->fd : -1;
    if (b) *bytes = b->bytes;
    pthread_mutex_unlock(&arena.lock);
    return fd;
}

void *arena_map(int fd, size_t bytes) {
    void *p = arena_take(bytes - 1);
    if (!p) return nullptr;
    pthread_mutex_lock(&arena.lock);
    struct arena::block *b = block_of(p);
    put_pages(p, b->bytes, MAP_SHARED, fd, open_now() ? PROT_READ | PROT_WRITE : PROT_NONE);
    b->mapped = true;
    pthread_mutex_unlock(&arena.lock);
    return p;
}

void arena_release(void *p) {
    if (!p) return;
    pthread_mutex_lock(&arena.lock);
    int i = 0;
    while (i < arena.blocks && arena.base + arena.block[i].at != p)
        i++;
    if (i == arena.blocks) {
        fprintf(stderr, "cudasim: freed what is no device memory\n");
        abort();
    }
    const struct arena::block *b = &arena.block[i];
    if (b->mapped)
        put_pages(p, b->bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, PROT_NONE);
    if (b->fd >= 0) close(b->fd);
    madvise(p, b->bytes, MADV_DONTNEED);
    if (mprotect(p, b->bytes, PROT_NONE) != 0) die("cudasim: mprotect");
    arena.blocks--;
    for (; i < arena.blocks; i++)
        arena.block[i] = arena.block[i + 1];
    pthread_mutex_unlock(&arena.lock);
}

bool arena_has(const void *p) {
    const char *c = static_cast<const char *>(p);
    return arena.base && c >= arena.base && c < arena.base + RESERVED;
}

size_t arena_used(void) {
    size_t bytes = 0;
    pthread_mutex_lock(&arena.lock);
    for (int i = 0; i < arena.blocks; i++)
        bytes += arena.block[i].bytes;
    pthread_mutex_unlock(&arena.lock);
    return bytes;
}

void arena_guard(void) {
    pthread_mutex_lock(&arena.lock);
    if (!arena.guarded && arena.inside == 0) protect(PROT_NONE);
    arena.guarded = true;
    pthread_mutex_unlock(&arena.lock);
}

void arena_enter(void) {
    pthread_mutex_lock(&arena.lock);
    if (arena.inside++ == 0 && arena.guarded) protect(PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&arena.lock);
}

void arena_leave(void) {
    pthread_mutex_lock(&arena.lock);
    if (--arena.inside == 0 && arena.guarded) protect(PROT_NONE);
    pthread_mutex_unlock(&arena.lock);
}

#endif
