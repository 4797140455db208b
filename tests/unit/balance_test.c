/* balance_test.c - which side a run's summary calls the slower one. */
#include "deploy/progress/balance.h"

#include "tests/test.h"

#include <stdio.h>

static const char *sentence(double wait, double train, double held, int64_t eta, int64_t steps) {
    static char text[1024];
    struct balance b = {.eta = eta, .workers = 4};
    struct buf line = {0}, out = {0};
    buf_printf(&line,
               "{\"time/wait\": %g, \"time/step\": %g, \"idle/rollout\": %g, "
               "\"off_policy/level\": 1.5}",
               wait, train, held);
    for (int64_t step = 1; step <= steps; step++) {
        struct json_doc *doc = NULL;
        CHECK_OK(json_parse(&doc, line.data, line.len, "line"));
        balance_step(&b, json_root(doc), step);
        json_close(&doc);
    }
    balance_text(&out, &b);
    for (const char *at = out.data; at && *at;
         at += strcspn(at, "\n") + (at[strcspn(at, "\n")] != 0))
        CHECK(strcspn(at, "\n") <= 80); /* as wide as a terminal */
    snprintf(text, sizeof text, "%s", out.data ? out.data : "");
    buf_close(&line);
    buf_close(&out);
    return text;
}

TEST(balance_names_the_slower_side) {
    CHECK(strstr(sentence(0.3, 0.7, 0.0, 4, 40), "rollouts are the slower side"));
    CHECK(strstr(sentence(0.3, 0.7, 0.0, 4, 40), "up to 30 % off a step"));
    CHECK(strstr(sentence(0.0, 1.0, 0.6, 4, 40), "2 of 4 rollout workers might do"));
    CHECK(strstr(sentence(0.0, 1.0, 0.15, 4, 40), "more threads or devices for it"));
    CHECK(strstr(sentence(0.3, 0.7, 0.6, 4, 40), "both wait in turn"));
    CHECK(strstr(sentence(0.02, 0.98, 0.05, 4, 40), "balanced"));
    CHECK(strstr(sentence(0.02, 0.98, 0.05, 4, 40), "level 1.5 of at most 4 batches"));
}

TEST(balance_of_a_synchronous_run) {
    CHECK(strstr(sentence(0.4, 0.6, 0.5, 0, 40), "up to 40 % less"));
    CHECK(strstr(sentence(0.7, 0.3, 0.5, 0, 40), "up to 30 % less"));
    CHECK(!strstr(sentence(0.05, 0.95, 0.5, 0, 40), "less"));
}

TEST(balance_needs_some_steps) {
    CHECK_STR(sentence(0.3, 0.7, 0.0, 4, 11), "");
    CHECK(strlen(sentence(0.3, 0.7, 0.0, 4, 12)) > 0);
    struct balance b = {.eta = 4, .workers = 1, .steps = 7, .step_s = 7};
    CHECK(!balance_became_known(&b));
    b.steps++;
    CHECK(balance_became_known(&b));
    b.steps++;
    CHECK(!balance_became_known(&b)); /* once is enough */
}
