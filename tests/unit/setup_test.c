/* setup_test.c - how many pages a rollout takes of a device's memory. */
#include "rollout/setup/setup_engine.h"

#include "tests/test.h"
#include "tests/tiny.h"

#include <stdio.h>

static const size_t MIB = 1 << 20;

static struct engine_config config_of(const struct recipe *r, const struct shape *s,
                                      const struct kern_backend *b) {
    struct engine_config cfg = setup_engine(r, s, NULL, b);
    CHECK_INT(cfg.pages, r->rollout.kv_memory ? cfg.pages : 0);
    return cfg;
}

static struct recipe *recipe_of(const char *rollout, const char *trainer) {
    struct recipe *r = NULL;
    char text[512];
    int n = snprintf(text, sizeof text,
                     "model: {weights: random}\n"
                     "rollout: {group_size: 4, concurrency: 64, max_prompt_tokens: 80, "
                     "max_new_tokens: 80, device: \"cudasim:0\"%s}\n"
                     "trainer: {%s}\n",
                     rollout, trainer);
    CHECK_OK(recipe_parse(&r, text, (size_t)n, "test", NULL, 0));
    return r;
}

/* Pages for a device of so much memory; ERR_CONFIG: -1. */
static int64_t pages(const struct recipe *r, const struct kern_backend *b, const struct shape *s,
                     size_t left, size_t total) {
    struct engine_config cfg = config_of(r, s, b);
    return setup_fit_within(&cfg, r, left, total) < 0 ? -1 : cfg.pages;
}

TEST(setup_pages_follow_the_memory_plan) {
    const struct kern_backend *b;
    struct shape s = tiny_shape(false);
    CHECK_OK(kern_open(&b, "cpu", 1));
    struct recipe *r = recipe_of("", "device: cpu");
    struct engine_config cfg = config_of(r, &s, b);
    int64_t all = (int64_t)64 * 10; /* 160 tokens are 10 pages of 16 */
    size_t page = setup_kv_bytes(&cfg) / (size_t)all;
    CHECK_INT(pages(r, b, &s, 1024 * MIB, 1024 * MIB), all);
    /* The least memory that holds one sequence, and what more there is gives more pages. */
    size_t least = MIB / 4;
    while (pages(r, b, &s, least, 1024 * MIB) < 0)
        least += page;
    CHECK(least > MIB / 4);
    CHECK_INT(pages(r, b, &s, least, 1024 * MIB), 10);
    CHECK_INT(pages(r, b, &s, least + 30 * page, 1024 * MIB), 40);
    CHECK_INT(pages(r, b, &s, least + 10000 * page, 1024 * MIB), all);
    cfg = config_of(r, &s, b);
    CHECK_ERR(setup_fit_within(&cfg, r, least - page, 1024 * MIB), ERR_CONFIG,
              "of cudasim:0's 1024 MiB");
    CHECK_INT(cfg.pages, 0);
    recipe_close(&r);
    kern_close(b);
}

TEST(setup_shares_a_device) {
    const struct kern_backend *b;
    struct shape s = tiny_shape(false);
    CHECK_OK(kern_open(&b, "cpu", 1));
    static const struct {
        const char *rollout, *trainer;
        size_t memory;                        /* of a device on which a rollout's share is 5 MiB */
    } cases[] = {{"", "device: cpu", 5 * 16}, /* 1/16 is kept back: all in 15ths */
                 {", workers: 2", "device: cpu", 10 * 16},
                 {"", "device: \"cudasim:0\"", 10 * 16},
                 {", workers: 2", "device: \"cudasim:0\", memory: 1MiB", 10 * 16 + 16}};
    int64_t want = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct recipe *r = recipe_of(cases[i].rollout, cases[i].trainer);
        size_t total = cases[i].memory * MIB / 15 + 64;
        struct engine_config cfg = config_of(r, &s, b);
        cfg.seqs_max = cfg.waiting_max = 64; /* in two processes as well */
        CHECK_OK(setup_fit_within(&cfg, r, total, total));
        if (i == 0) want = cfg.pages;
        CHECK(want > 10 && want < 640);
        CHECK(cfg.pages >= want - 1 && cfg.pages <= want + 1);
        recipe_close(&r);
    }
    kern_close(b);
}

/* Asked of the device itself; the recipe's own number comes first; hosts have no such memory. */
TEST(setup_asks_the_device) {
    const struct kern_backend *b;
    struct shape s = tiny_shape(false);
    struct recipe *r = recipe_of("", "device: cpu");
    CHECK_OK(kern_open(&b, "cudasim:0", 1));
    struct engine_config cfg = config_of(r, &s, b);
    CHECK_OK(setup_fit(&cfg, r));
    CHECK_INT(cfg.pages, 640);
    kern_close(b);
    CHECK_OK(kern_open(&b, "cpu", 1));
    cfg = config_of(r, &s, b);
    CHECK_OK(setup_fit(&cfg, r));
    CHECK_INT(cfg.pages, 0);
    recipe_close(&r);
    r = recipe_of(", kv_memory: 1MiB", "device: cpu");
    cfg = config_of(r, &s, b);
    int64_t given = cfg.pages;
    CHECK(given > 10);
    CHECK_OK(setup_fit(&cfg, r));
    CHECK_INT(cfg.pages, given);
    recipe_close(&r);
    kern_close(b);
}
