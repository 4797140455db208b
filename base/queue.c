/* queue.c - see queue.h. A ring under a lock that is held for a few words only. The descriptor is
 * an eventfd in semaphore mode whose count is the number of items, changed under the same lock, so
 * a loop that polls it neither misses an item nor finds none. */
#include "base/queue.h"

#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void **item;
    size_t capacity, first, n;
    bool ended;
    int fd;
};

int queue_open(struct queue **out, size_t capacity) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (fd < 0) return FAIL(ERR_IO, "cannot create an event descriptor: %s", strerror(errno));
    struct queue *q = mem_zalloc(sizeof *q);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    q->item = mem_array(capacity, sizeof *q->item);
    q->capacity = capacity;
    q->fd = fd;
    *out = q;
    return 0;
}

void queue_close(struct queue **q) {
    struct queue *p = *q;
    if (!p) return;
    close(p->fd);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->item);
    mem_free(p);
    *q = NULL;
}

bool queue_put(struct queue *q, void *item) {
    const uint64_t one = 1;
    ASSERT(item);
    pthread_mutex_lock(&q->lock);
    bool fits = q->n < q->capacity && !q->ended;
    if (fits) {
        q->item[(q->first + q->n++) % q->capacity] = item;
        ssize_t n = write(q->fd, &one, sizeof one);
        ASSERT(n == sizeof one);
        pthread_cond_signal(&q->changed);
    }
    pthread_mutex_unlock(&q->lock);
    return fits;
}

void *queue_take(struct queue *q, bool wait) {
    uint64_t one;
    void *item = NULL;
    pthread_mutex_lock(&q->lock);
    while (wait && q->n == 0 && !q->ended)
        pthread_cond_wait(&q->changed, &q->lock);
    if (q->n > 0) {
        item = q->item[q->first];
        q->first = (q->first + 1) % q->capacity;
        q->n--;
        ssize_t n = read(q->fd, &one, sizeof one);
        ASSERT(n == sizeof one);
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

void queue_end(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
}

int queue_fd(const struct queue *q) {
    return q->fd;
}
