/* batch_fuzz.c - any bytes as a batch file of `weir step`, for a model of 64 tokens and a context
 * of 16. The reader takes a path, so the bytes lie in a memfd. What is accepted must be what
 * trainer/ builds on: ids in the vocabulary, log-probs and rewards finite, groups together and
 * numbered without gaps. */
#include "base/mem.h"
#include "trainer/batch/batch.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VOCAB = 64, CONTEXT = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_traj(const struct batch *b, const struct batch_traj *t) {
    ASSERT(t->n_prompt > 0 && t->n_response > 0 && t->n_prompt + t->n_response <= CONTEXT);
    ASSERT(isfinite(t->reward) && t->id < b->n);
    for (int32_t i = 0; i < t->n_prompt + t->n_response; i++)
        ASSERT(t->ids[i] >= 0 && t->ids[i] < VOCAB);
    for (int32_t i = 0; i < t->n_response; i++) {
        ASSERT(isfinite(t->logprob[i]) && t->mask[i] <= 1);
        ASSERT(t->version[i] >= 0 && t->version[i] <= b->step);
    }
}

static void check_batch(const struct batch *b) {
    uint32_t group = 0;
    ASSERT(b->n > 0 && b->n_groups > 0 && b->n_groups <= b->n);
    for (uint32_t i = 0; i < b->n; i++) {
        check_traj(b, &b->traj[i]);
        if (i > 0 && b->traj[i].group != group) group++;
        ASSERT(b->traj[i].group == group);
        ASSERT(i == 0 || b->traj[i - 1].group < group || b->traj[i - 1].id < b->traj[i].id);
    }
    ASSERT(group + 1 == b->n_groups && batch_trained(b) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    int fd = memfd_create("batch", MFD_CLOEXEC);
    ASSERT(fd >= 0);
    ssize_t put = n ? write(fd, data, n) : 0;
    ASSERT(put == (ssize_t)n);
    char *path = mem_printf("/proc/self/fd/%d", fd);
    struct batch *b = NULL;
    if (batch_read(&b, path, VOCAB, CONTEXT) == 0)
        check_batch(b);
    else
        ASSERT(err_text()[0] != '\0' && !b);
    batch_close(&b);
    mem_free(path);
    close(fd);
    return 0;
}
