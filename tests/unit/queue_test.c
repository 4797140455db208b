#include "base/queue.h"

#include "tests/test.h"

#include <poll.h>
#include <pthread.h>

enum { ITEMS = 20000 };

static bool readable(const struct queue *q) {
    struct pollfd p = {.fd = queue_fd(q), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

TEST(queue_keeps_order_and_its_limit) {
    struct queue *q;
    int x[3];
    CHECK_OK(queue_open(&q, 2));
    CHECK(!readable(q) && queue_take(q, false) == NULL);
    CHECK(queue_put(q, &x[0]) && queue_put(q, &x[1]) && !queue_put(q, &x[2]));
    CHECK(readable(q) && queue_take(q, true) == &x[0]);
    CHECK(queue_put(q, &x[2]));
    queue_end(q);
    CHECK(!queue_put(q, &x[0]));
    CHECK(queue_take(q, true) == &x[1]); /* what is in comes out after the end */
    CHECK(readable(q) && queue_take(q, false) == &x[2]);
    CHECK(!readable(q) && queue_take(q, true) == NULL);
    queue_close(&q);
}

struct pair {
    struct queue *there, *back;
};

static void *echo(void *arg) {
    struct pair *p = arg;
    for (int *x; (x = queue_take(p->there, true)) != NULL;) {
        *x += 1; /* its own while it has it */
        CHECK(queue_put(p->back, x));
    }
    return NULL;
}

TEST(queue_hands_over_what_was_written) {
    static int x[ITEMS];
    struct pair p;
    pthread_t thread;
    CHECK_OK(queue_open(&p.there, 5));
    CHECK_OK(queue_open(&p.back, ITEMS));
    CHECK_INT(pthread_create(&thread, NULL, echo, &p), 0);
    int sent = 0, got = 0;
    while (got < ITEMS) {
        if (sent < ITEMS) x[sent] = sent;
        if (sent < ITEMS && queue_put(p.there, &x[sent])) {
            sent++;
            continue;
        }
        int *back = queue_take(p.back, true);
        CHECK(back != NULL);
        CHECK_INT(back - x, got);
        CHECK_INT(*back, got + 1);
        got++;
    }
    queue_end(p.there);
    CHECK_INT(pthread_join(thread, NULL), 0);
    queue_close(&p.there);
    queue_close(&p.back);
}
