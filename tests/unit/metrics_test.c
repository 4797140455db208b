/* metrics_test.c - proto/metrics: the table says something of every row, names lead back to their
 * rows, keys are what readers expect, and the page in docs is the table's. */
#include "base/file.h"
#include "base/mem.h"
#include "proto/metrics/metrics.h"
#include "tests/test.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

TEST(metrics_rows_are_whole) {
    for (size_t i = 0; i < METRICS_N; i++) {
        const struct metrics_row *r = metrics_row((enum metric)i);
        CHECK(r->who != 0 && strlen(r->meaning) > 10);
        CHECK(strchr(r->meaning, '\n') == NULL && r->meaning[strlen(r->meaning) - 1] != '.');
        CHECK(strspn(r->name, "abcdefghijklmnopqrstuvwxyz0123456789_/@{}") == strlen(r->name));
        CHECK(r->kind == METRICS_GAUGE || r->kind == METRICS_TEXT || r->kind == METRICS_FLAG ||
              *r->unit);                     /* a count is of something */
        CHECK_INT(metrics_find(r->name), i); /* no name twice */
    }
}

TEST(metrics_names_lead_to_rows) {
    static const struct {
        const char *name;
        enum metric id;
    } cases[] = {{"reward/mean", METRIC_REWARD_MEAN},
                 {"eval/accuracy", METRIC_EVAL_ACCURACY},
                 {"eval/gsm8k.test", METRIC_EVAL_SET},
                 {"eval/gsm8k.test/pass@16", METRIC_EVAL_SET_PASS},
                 {"eval/gsm8k.test/pass@", METRICS_N},
                 {"eval/gsm8k.test/pass@4/more", METRICS_N},
                 {"eval/gsm8k.test/other", METRICS_N},
                 {"eval/", METRICS_N},
                 {"rejected/prompt", METRIC_REJECTED_PROMPT},
                 {"rejected/stale", METRIC_REJECTED_REASON},
                 {"client/rollout-0/kv_used", METRIC_CLIENT_KV_USED},
                 {"reward", METRICS_N},
                 {"", METRICS_N}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_INT(metrics_find(cases[i].name), cases[i].id);
}

TEST(metrics_keys) {
    static const int64_t cells[] = {2, 0, 1, 0}, none[] = {0, 0};
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_COMPACT);
    struct json_doc *doc;
    CHECK_OK(json_parse(&doc, "{\"off_policy/max\":9}", 20, "T"));
    struct metrics m = {.json = &w, .label = "held_out", .k = 4, .but = json_root(doc)};
    json_write_object(&w, NULL);
    metrics_num(&m, METRIC_REWARD_MEAN, 0.5);
    metrics_num(&m, METRIC_GAC_COSINE, (double)NAN);
    metrics_text(&m, METRIC_GAC_ACTION, "pass");
    metrics_int(&m, METRIC_OFF_POLICY_MAX, 3);
    metrics_cells(&m, METRIC_OFF_POLICY_HISTOGRAM, cells, 4);
    metrics_num(&m, METRIC_EVAL_SET_PASS, 1);
    m.leaf = true;
    metrics_int(&m, METRIC_OFF_POLICY_MAX, 3);
    metrics_cells(&m, METRIC_OFF_POLICY_HISTOGRAM, none, 2);
    metrics_num(&m, METRIC_EVAL_SET_PASS, 1);
    m = (struct metrics){.json = &w, .aliases = true};
    metrics_num(&m, METRIC_ACTOR_LOSS, 2);
    metrics_flag(&m, METRIC_RETRAIN_AS_LOGGED, true);
    json_write_end(&w);
    CHECK_STR(b.data, "{\"reward/mean\":0.5,\"gac/cosine\":null,\"gac/action\":\"pass\","
                      "\"off_policy/histogram\":[2,0,1],\"eval/held_out/pass@4\":1,"
                      "\"max\":3,\"histogram\":[0],\"pass@4\":1,"
                      "\"actor/loss\":2,\"loss\":2,\"retrain/as_logged\":true}");
    json_close(&doc);
    CHECK_OK(json_parse(&doc, b.data, b.len, "T"));
    CHECK(metrics_get_num(json_root(doc), METRIC_REWARD_MEAN, 7) == 0.5);
    CHECK(metrics_get_num(json_root(doc), METRIC_GAC_COSINE, 7) == 7);
    CHECK(metrics_get(json_root(doc), METRIC_OFF_POLICY_MAX) == NULL);
    json_close(&doc);
    buf_close(&b);
}

TEST(metrics_document_is_the_page_in_docs) {
    struct buf b = {0};
    char *text;
    size_t n;
    metrics_document(&b);
    CHECK_OK(file_read(&text, &n, "docs/metrics.md", 1 << 20));
    CHECK_STR(b.data, text); /* after a change: weir metrics --document > docs/metrics.md */
    mem_free(text);
    buf_close(&b);
}
