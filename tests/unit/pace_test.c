/* pace_test.c - time left and tokens a second of a session; the line they stand in. */
#include "deploy/pace.h"

#include "deploy/live.h"
#include "tests/test.h"

#include <string.h>

static void step(struct pace *p, double wall, double seconds, double tokens) {
    struct pace_part part = {seconds, tokens, 100, 0.5};
    pace_step(p, wall, &part);
}

TEST(time_left_is_of_this_session) {
    struct pace p = {0};
    pace_start(&p, 10000);
    for (int i = 0; i < 200; i++) /* a session before: a step a second, long ago */
        step(&p, 5000 + i, 1, 100);
    CHECK(pace_left(&p, 300, 10001) < 0);
    step(&p, 10005, 4, 100); /* the first: with what came before it */
    CHECK_NEAR(pace_left(&p, 10, 10005), 50, 1e-9);
    step(&p, 10007, 2, 100);
    CHECK_NEAR(pace_left(&p, 10, 10007), 20, 1e-9);
    CHECK_NEAR(pace_left(&p, 10, 10008.5), 18.5, 1e-9); /* counts down */
    CHECK_NEAR(pace_left(&p, 10, 10100), 18, 1e-9);     /* a step that takes longer */
    for (int i = 0; i < 500; i++)
        step(&p, 10007 + 3.0 * (i + 1), 3, 100);
    CHECK_NEAR(pace_left(&p, 10, 10007 + 1500), 30, 1e-9);
    CHECK_NEAR(pace_left(&p, 0, 20000), 0, 0);
}

TEST(rates_are_never_nought_in_between) {
    struct pace p = {0};
    pace_start(&p, 0);
    CHECK(pace_rollout(&p) < 0 && pace_trainer(&p) < 0);
    for (int i = 0; i < 100; i++) {
        step(&p, i, 1, i % 4 ? 0 : 400); /* three of four batches were there already */
        CHECK(pace_rollout(&p) > 0);
    }
    CHECK_NEAR(pace_rollout(&p), 100, 25);
    CHECK_NEAR(pace_trainer(&p), 200, 1e-9);
}

static const char *line(const struct live *l, int columns) {
    static struct buf b;
    buf_reset(&b);
    live_line(&b, l, columns);
    return b.data;
}

TEST(the_line_fits_with_its_time) {
    struct live l = {.step = 123456,
                     .steps = 1000000,
                     .left_s = 3 * 86400 + 4 * 3600,
                     .mark = "entropy collapsed",
                     .reward = -123456.789,
                     .eval = 0.123,
                     .align = "-0.12 scale",
                     .stale = 12.3,
                     .bound = 1024,
                     .rollout = 1234567,
                     .trainer = 98765};
    for (int columns = 40; columns < 200; columns++) {
        const char *text = line(&l, columns);
        CHECK((int)strlen(text) < columns);
        CHECK(strstr(text, "step 123456/1000000 ETA 3d 4h"));
        if (columns >= 60) CHECK(strstr(text, "! entropy collapsed"));
        if (columns >= 80) CHECK(strstr(text, "reward -1.23e+05"));
    }
    CHECK_STR(line(&l, 199), "step 123456/1000000 ETA 3d 4h ! entropy collapsed reward -1.23e+05 "
                             "eval 0.12 cos -0.12 scale tok/s gen 1.2M train 99k stale 12.3/1024");
    for (int columns = 0; columns < 40; columns++)
        CHECK((int)strlen(line(&l, columns)) < (columns > 2 ? columns : 2));
}

TEST(what_is_not_known_is_not_there) {
    struct live l = {
        .steps = 500, .left_s = -1, .reward = NAN, .eval = NAN, .rollout = -1, .trainer = -1};
    CHECK_STR(line(&l, 80), "step 0/500 ETA - stale 0.0/0");
    l = (struct live){.step = 12,
                      .steps = 500,
                      .left_s = 62,
                      .reward = 0.5,
                      .eval = 0.25,
                      .rollout = 950,
                      .trainer = 25600,
                      .bound = 2};
    CHECK_STR(line(&l, 80),
              "step 12/500 ETA 1:02 reward 0.50 eval 0.25 tok/s gen 950 train 26k stale 0.0/2");
}

TEST(times) {
    static const struct {
        double s;
        const char *text;
    } cases[] = {{-1, "-"},       {NAN, "-"},        {0, "0:00"},          {59.6, "1:00"},
                 {3599, "59:59"}, {3600, "1:00:00"}, {172799, "47:59:59"}, {172800, "2d 0h"},
                 {1e300, "-"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[24];
        live_time(text, cases[i].s);
        CHECK_STR(text, cases[i].text);
    }
}
