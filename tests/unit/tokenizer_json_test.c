/* tokenizer_json_test.c - a tokenizer.json that lies is refused with an error that names the field;
 * a component that Weir lacks is refused by its name. */
#include "actor/text/tokenizer.h"
#include "base/mem.h"
#include "tests/test.h"

/* A whole file out of some of its parts; NULL: the usual one. */
struct parts {
    const char *vocab, *merges, *model, *added, *normalizer, *pre, *post, *decoder;
};

static int open_parts(struct tokenizer **t, struct parts p) {
    char *text = mem_printf(
        "{\"version\": \"1.0\", \"added_tokens\": [%s], \"normalizer\": %s, \"pre_tokenizer\": %s,"
        "\"post_processor\": %s, \"decoder\": %s, \"model\": {\"type\": \"BPE\", %s"
        "\"vocab\": {%s}, \"merges\": [%s]}}",
        p.added ? p.added : "", p.normalizer ? p.normalizer : "null", p.pre ? p.pre : "null",
        p.post ? p.post : "null", p.decoder ? p.decoder : "null", p.model ? p.model : "",
        p.vocab ? p.vocab : "\"a\": 0, \"b\": 1, \"ab\": 2", p.merges ? p.merges : "\"a b\"");
    int rc = tokenizer_open_text(t, text, strlen(text), "T.json");
    mem_free(text);
    return rc;
}

static void refused(struct parts p, int code, const char *part) {
    struct tokenizer *t;
    CHECK_ERR(open_parts(&t, p), code, part);
    CHECK(strncmp(err_text(), "T.json", 6) == 0);
}

TEST(vocabulary_and_merges) {
    struct tokenizer *t;
    CHECK_OK(open_parts(&t, (struct parts){0}));
    CHECK_INT(tokenizer_size(t), 3);
    tokenizer_close(&t);
    refused((struct parts){.vocab = "\"a\": 0, \"b\": 0"}, ERR_CORRUPT, "id 0 is given to");
    refused((struct parts){.vocab = "\"a\": 0, \"a\": 1"}, ERR_CORRUPT, "there twice");
    refused((struct parts){.vocab = "\"a\": -1"}, ERR_CORRUPT, "model.vocab: the id of \"a\"");
    refused((struct parts){.vocab = "\"a\": 4194304"}, ERR_CORRUPT, "0..4194303");
    refused((struct parts){.vocab = "\"a\": 1e3"}, ERR_CORRUPT, "the id of \"a\"");
    refused((struct parts){.vocab = "\"a\": \"0\""}, ERR_CORRUPT, "the id of \"a\"");
    refused((struct parts){.vocab = ""}, ERR_CORRUPT, "empty");
    refused((struct parts){.merges = "\"a c\""}, ERR_CORRUPT, "merges[0]: \"c\"");
    refused((struct parts){.merges = "\"b a\""}, ERR_CORRUPT, "merges[0] makes \"ba\"");
    refused((struct parts){.merges = "\"ab\""}, ERR_CORRUPT, "merges[0]");
    refused((struct parts){.merges = "\"a b\", \"a b c\""}, ERR_CORRUPT, "merges[1]");
    refused((struct parts){.merges = "[\"a\"]"}, ERR_CORRUPT, "merges[0] must be");
    refused((struct parts){.merges = "7"}, ERR_CORRUPT, "merges[0] must be");
    refused((struct parts){.model = "\"dropout\": 0.1,"}, ERR_UNSUP, "dropout");
    refused((struct parts){.model = "\"unk_token\": 3,"}, ERR_CORRUPT, "model.unk_token");
    CHECK_OK(open_parts(&t, (struct parts){.vocab = "\"a\": 7, \"b\": 0, \"ab\": 3"})); /* holes */
    CHECK_INT(tokenizer_size(t), 8);
    int32_t ids[] = {7, 5, 3};
    char *text;
    size_t n;
    CHECK_OK(tokenizer_decode(t, ids, 3, false, &text, &n));
    CHECK_STR(text, "a ab");
    mem_free(text);
    tokenizer_close(&t);
}

/* A token that no merges reach is found only as a whole word. */
TEST(ignore_merges) {
    for (int ignore = 0; ignore < 2; ignore++) {
        struct tokenizer *t;
        int32_t *ids;
        size_t n;
        CHECK_OK(open_parts(&t, (struct parts){.vocab = "\"a\": 0, \"b\": 1, \"ab\": 2, \"aba\": 3",
                                               .model = ignore ? "\"ignore_merges\": true," : ""}));
        CHECK_OK(tokenizer_encode(t, "aba", 3, false, &ids, &n));
        CHECK_INT(n, ignore ? 1 : 2);
        CHECK_INT(ids[0], ignore ? 3 : 2);
        mem_free(ids);
        tokenizer_close(&t);
    }
}

TEST(added_tokens_agree_with_the_vocabulary) {
#define FLAGS                                                                                      \
    "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "        \
    "\"special\": true}"
    struct tokenizer *t;
    struct parts p = {.added = "{\"id\": 3, \"content\": \"<s>\", " FLAGS};
    CHECK_OK(open_parts(&t, p));
    CHECK_INT(tokenizer_id(t, "<s>"), 3);
    tokenizer_close(&t);
    p.added = "{\"id\": 4, \"content\": \"<s>\", " FLAGS;
    refused(p, ERR_CORRUPT, "added_tokens[0]: \"<s>\" has the id 4, by the vocabulary it is 3");
    p.added = "{\"id\": 5, \"content\": \"ab\", " FLAGS;
    refused(p, ERR_CORRUPT, "by the vocabulary it is 2");
    p.added = "{\"id\": 99999999, \"content\": \"x\", " FLAGS;
    refused(p, ERR_CORRUPT, "added_tokens[0]");
    p.added = "{\"id\": 3, \"content\": \"<s>\"}";
    refused(p, ERR_NOTFOUND, "single_word");
}

TEST(unsupported_components_are_named) {
    refused((struct parts){.normalizer = "{\"type\": \"Precompiled\"}"}, ERR_UNSUP, "Precompiled");
    refused((struct parts){.pre = "{\"type\": \"UnicodeScripts\"}"}, ERR_UNSUP, "UnicodeScripts");
    refused((struct parts){.decoder = "{\"type\": \"WordPiece\"}"}, ERR_UNSUP, "WordPiece");
    refused((struct parts){.post = "{\"type\": \"Magic\"}"}, ERR_UNSUP, "post_processor: ");
    refused(
        (struct parts){.pre = "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"X\"}]}"},
        ERR_UNSUP, "pre_tokenizer.pretokenizers[0]: the pre-tokenizer \"X\"");
    refused((struct parts){.pre = "{}"}, ERR_NOTFOUND, "pre_tokenizer: type");
    refused((struct parts){.pre = "[]"}, ERR_CORRUPT, "pre_tokenizer must be an object");
    struct tokenizer *t;
    static const char unigram[] = "{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}";
    CHECK_ERR(tokenizer_open_text(&t, unigram, sizeof unigram - 1, "T.json"), ERR_UNSUP, "Unigram");
    CHECK_ERR(tokenizer_open_text(&t, "{\"version\": \"2.0\"}", 18, "T.json"), ERR_UNSUP,
              "version");
    CHECK_ERR(tokenizer_open_text(&t, "{", 1, "T.json"), ERR_CORRUPT, "T.json: line 1");
}

/* Whether the pattern, isolated, keeps the characters a and b together: then they merge. */
static bool together(const char *regex, const char *a, const char *b) {
    char *pre = mem_printf("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, "
                           "\"behavior\": \"Isolated\", \"invert\": false}",
                           regex);
    char *vocab = mem_printf("\"%s\": 0, \"%s\": 1, \"%s%s\": 2", a, b, a, b);
    char *merges = mem_printf("[\"%s\", \"%s\"]", a, b), *text = mem_printf("%s%s", a, b);
    struct tokenizer *t;
    int32_t *ids;
    size_t n;
    CHECK_OK(open_parts(&t, (struct parts){.vocab = vocab, .merges = merges, .pre = pre}));
    CHECK_OK(tokenizer_encode(t, text, strlen(text), false, &ids, &n));
    mem_free(ids);
    mem_free(pre);
    mem_free(vocab);
    mem_free(merges);
    mem_free(text);
    tokenizer_close(&t);
    return n == 1;
}

TEST(patterns_mean_what_oniguruma_means) {
    CHECK(together("\\\\p{L}+", "a", "\xF0\x90\x97\x80")); /* U+105C0, a letter since Unicode 16 */
    CHECK(!together("\\\\s+|x", " ", "\xE1\xA0\x8E"));     /* U+180E is no space */
    CHECK(together("\\\\s+", " ", "\xC2\x85"));            /* U+0085 is one */
    CHECK(together("(?i:'s)", "'", "\xC5\xBF"));           /* long s */
    CHECK(!together("'s|'", "'", "\xC5\xBF"));
    CHECK(together("(?:a|b){1,1}+", "a", "b")); /* repeats, not possessive */
    CHECK(!together("(?:a|b){1,1}", "a", "b"));
    CHECK(!together("\\\\h|x", "a", "b"));
    CHECK(together("\\\\w+", "a", "\xC2\xB2"));        /* superscript two is a word character */
    CHECK(!together("[\\\\w]+", "a", "\xC2\xB2"));     /* but not in a class */
    CHECK(together(" ?[^(\\\\s|[.,!?])]+", "a", "]")); /* a class in a class */
    CHECK(together("[0-9[a-f[x]]]+", "a", "x"));
}

/* A first character that composes with the second only in the second form: what came from the
 * start of the text is then part of a character. */
TEST(normal_forms_after_one_another) {
    struct tokenizer *t;
    int32_t *ids;
    size_t n;
    const char *forms = "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}, "
                        "{\"type\": \"NFKC\"}, {\"type\": \"NFD\"}]}";
    CHECK_OK(open_parts(&t, (struct parts){.normalizer = forms}));
    CHECK_OK(tokenizer_encode(t, "e\xCC\x81 b", 5, false, &ids, &n));
    CHECK_INT(n, 1); /* b; the rest is not in the vocabulary */
    CHECK_INT(ids[0], 1);
    mem_free(ids);
    tokenizer_close(&t);
}

static void pattern_refused(const char *regex, int code, const char *part) {
    char *pre = mem_printf("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, "
                           "\"behavior\": \"Isolated\", \"invert\": false}",
                           regex);
    refused((struct parts){.pre = pre}, code, part);
    mem_free(pre);
}

TEST(patterns_are_translated_or_refused) {
    static const char *const bad[] = {"(a", "a)", "[a", "[b-a]", "*a", "\\\\p{L", "\\\\x{110000}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        pattern_refused(bad[i], ERR_CORRUPT, "pre_tokenizer.pattern");
    static const char *const unknown[] = {
        "\\\\p{Klingon}", "(?<n>a)\\\\k<n>", "[a&&b]", "[[:alpha:]]",  "[a[^b]]", "\\\\X", "a**",
        "x{2}?",          "(?m:.)",          "a(?i)b", "(?i:\\u00e9)", "(?i:ss)", "\\\\G", "\\\\1"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        pattern_refused(unknown[i], ERR_UNSUP, "is not supported");
}

/* (a+)+$ on a text of a's and one other letter: exponential for a backtracker. */
TEST(runaway_pattern_is_an_error) {
    struct tokenizer *t;
    int32_t *ids;
    size_t n;
    CHECK_OK(
        open_parts(&t, (struct parts){.pre = "{\"type\": \"Split\", \"pattern\": {\"Regex\": "
                                             "\"(?:a+)+[bd]\\\\z\"}, \"behavior\": \"Isolated\", "
                                             "\"invert\": false}"}));
    CHECK_ERR(
        tokenizer_encode(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", 47, false, &ids, &n),
        ERR_CORRUPT, "pre_tokenizer.pattern: the regular expression gives up");
    tokenizer_close(&t);
}

TEST(template_is_checked) {
    refused((struct parts){.post =
                               "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
                               "{\"id\": \"<s>\"}}], \"special_tokens\": {}}"},
            ERR_CORRUPT, "\"<s>\"");
    refused((struct parts){.post =
                               "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
                               "{\"id\": \"x\"}}], \"special_tokens\": {\"x\": {\"ids\": [3]}}}"},
            ERR_CORRUPT, "0..2");
    refused((struct parts){.post = "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": "
                                   "{\"id\": \"B\"}}], \"special_tokens\": {}}"},
            ERR_CORRUPT, "the sequence \"B\"");
}
