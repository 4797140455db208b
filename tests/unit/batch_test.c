/* batch_test.c - batch files: a good one in full, and every way of being wrong, each with the text
 * that names it. Damaged files are the business of tests/fuzz/batch_fuzz.c. */
#include "trainer/batch/batch.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/test.h"

static int read_text(struct batch **b, const char *text) {
    char *path = file_join(test_dir(), "b.jsonl");
    CHECK_OK(file_write_atomic(path, text, strlen(text)));
    int rc = batch_read(b, path, 100, 16);
    mem_free(path);
    return rc;
}

TEST(batch_reads_a_file) {
    struct batch *b = NULL;
    CHECK_OK(read_text(
        &b, "{\"group\":\"b\",\"prompt_ids\":[1,2],\"response_ids\":[3],\"logprobs\":[-0.5],"
            "\"reward\":1.5,\"version\":3}\n"
            "\n"
            "{\"group\":7,\"prompt_ids\":[99],\"response_ids\":[4,5],\"logprobs\":[-1,0],"
            "\"reward\":-1,\"versions\":[2,4],\"loss_mask\":[0,true],\"other\":{}}\r\n"
            "{\"group\":\"b\",\"prompt_ids\":[1,2],\"response_ids\":[6],\"logprobs\":[-2],"
            "\"reward\":0,\"version\":1}"));
    CHECK_INT(b->n, 3);
    CHECK_INT(b->n_groups, 2);
    CHECK_INT(b->step, 4);
    CHECK_INT(batch_trained(b), 3);
    CHECK_INT(b->traj[0].id, 0);
    CHECK_INT(b->traj[1].id, 2); /* brought to its group */
    CHECK_INT(b->traj[2].group, 1);
    CHECK_INT(b->traj[1].ids[2], 6);
    CHECK_NEAR(b->traj[0].logprob[0], -0.5, 0);
    CHECK_NEAR(b->traj[0].reward, 1.5, 0);
    CHECK_INT(batch_oldest(&b->traj[2]), 4); /* the token of version 2 is not trained */
    batch_close(&b);
    CHECK(!b);
}

static void refuse(const char *text, const char *part) {
    struct batch *b = NULL;
    CHECK_ERR(read_text(&b, text), ERR_CORRUPT, part);
    CHECK(!b);
}

#define IDS "\"prompt_ids\":[1],\"response_ids\":[2,3],"
#define REST "\"group\":\"g\",\"reward\":1,\"version\":0"

TEST(batch_refuses_what_is_wrong) {
    refuse("", "holds no trajectory");
    refuse("\n \n", "holds no trajectory");
    refuse("[]", "is one JSON array");
    refuse("1", "must be an object");
    refuse("{", "b.jsonl line 1");
    refuse("{}", "\"prompt_ids\" must be an array, is absent");
    refuse("{" IDS "\"logprobs\":[-1]," REST "}", "\"logprobs\" has 1 elements");
    refuse("{" IDS "\"logprobs\":[-1,0.5]," REST "}", "\"logprobs\"[1]");
    refuse("{" IDS "\"logprobs\":[-1,null]," REST "}", "\"logprobs\"[1]");
    refuse("{" IDS "\"logprobs\":[-1,-1e300]," REST "}", "\"logprobs\"[1]");
    refuse("{" IDS "\"logprobs\":[-1,-1],\"loss_mask\":[1,2]," REST "}", "\"loss_mask\"[1]");
    refuse("{" IDS "\"logprobs\":[-1,-1],\"loss_mask\":[1]," REST "}", "\"loss_mask\" has 1");
    refuse("{" IDS "\"logprobs\":[-1,-1],\"versions\":[1,-2]," REST "}", "\"versions\"[1]");
    refuse("{" IDS "\"logprobs\":[-1,-1],\"group\":\"g\",\"reward\":1}", "neither \"version\"");
    refuse("{" IDS "\"logprobs\":[-1,-1],\"group\":\"g\",\"version\":1}", "\"reward\" is absent");
    refuse("{" IDS "\"logprobs\":[-1,-1],\"reward\":1,\"version\":1}", "\"group\" must be");
    refuse("{" IDS "\"logprobs\":[-1,-1],\"group\":\"a\\u0000b\",\"reward\":1,\"version\":1}",
           "NUL");
    refuse("{\"prompt_ids\":[1],\"response_ids\":[2,100],\"logprobs\":[-1,-1]," REST "}",
           "\"response_ids\"[1] is 100, ids are 0 to 99");
    refuse("{\"prompt_ids\":[-1],\"response_ids\":[2],\"logprobs\":[-1]," REST "}",
           "\"prompt_ids\"[0] is -1");
    refuse("{\"prompt_ids\":[1.5],\"response_ids\":[2],\"logprobs\":[-1]," REST "}",
           "is not an integer");
    refuse("{\"prompt_ids\":[],\"response_ids\":[2],\"logprobs\":[-1]," REST "}",
           "\"prompt_ids\" has 0 elements");
    refuse("{\"prompt_ids\":[1,1,1,1,1,1,1,1,1,1],\"response_ids\":[2,2,2,2,2,2,2],"
           "\"logprobs\":[-1,-1,-1,-1,-1,-1,-1]," REST "}",
           "have 17 tokens, the limit is 16");
}

TEST(batch_many_groups_keep_their_order) {
    struct buf text = {0};
    struct batch *b = NULL;
    for (int i = 0; i < 2000; i++)
        buf_printf(&text,
                   "{\"group\":\"g%d\",\"prompt_ids\":[1],\"response_ids\":[2],\"logprobs\":[0],"
                   "\"reward\":%d,\"version\":0}\n",
                   i % 700, i);
    CHECK_OK(read_text(&b, text.data));
    CHECK_INT(b->n_groups, 700);
    for (uint32_t i = 1; i < b->n; i++) {
        const struct batch_traj *x = &b->traj[i - 1], *y = &b->traj[i];
        CHECK(x->group < y->group || (x->group == y->group && x->id < y->id));
        CHECK_INT((int)y->reward, (int)y->id);
        CHECK_INT(y->group, y->id % 700);
    }
    batch_close(&b);
    buf_close(&text);
}
