/* recipe_table.c - see recipe_table.h. One row is everything there is to know of a key: where its
 * value goes, what may be in it, what it is without being given, and its line of docs/recipe.md. So
 * a key cannot be parsed but not printed, printed but not documented, or documented with another
 * default. Order is the order in which a recipe is printed.
 *
 * A default is text that goes through the same parser and the same limits as a user's value. */
#include "proto/recipe/recipe_table.h"

#include <stddef.h>
#include <string.h>

static const char *const weights_names[] = {"load", "random", NULL};
static const char *const thinking_names[] = {"auto", "true", "false", NULL};
static const char *const special_names[] = {"token", "text", "error", NULL};
static const char *const bad_rows_names[] = {"error", "skip", NULL};
static const char *const dtype_names[] = {"fp32", "bf16", NULL};
static const char *const sampling_names[] = {"plain", "dapo", "vade", NULL};
static const char *const update_names[] = {"trajectory", "token", NULL};
static const char *const advantage_names[] = {
    "grpo", "grpo-nostd", "rloo", "reinforce++", "reinforce++-baseline", "remax", "gae", NULL};
#define LOSS_NAME(name, word, low, high, formula) word,
static const char *const loss_names[] = {RECIPE_LOSSES(LOSS_NAME) NULL};
static const char *const denominator_names[] = {"behaviour", "recomputed", NULL};
static const char *const proximal_names[] = {"recompute", "interpolate", NULL};
static const char *const tis_names[] = {"off", "token", "sequence", NULL};
static const char *const mask_names[] = {"off", "token", "sequence", "geometric", "m2po", NULL};
static const char *const aggregation_names[] = {"token-mean", "sequence-mean", "sequence-sum",
                                                "constant", NULL};
static const char *const place_names[] = {"loss", "reward", NULL};
static const char *const overlong_names[] = {"keep", "mask", NULL};
static const char *const kl_names[] = {"k1", "k2", "k3", NULL};
static const char *const late_names[] = {"wait", "drop", NULL};
static const char *const hold_names[] = {"auto", "max", NULL};
static const char *const schedule_names[] = {"constant", "cosine", NULL};
static const char *const alignment_names[] = {"off", "on", "calibrate", NULL};
static const char *const previous_names[] = {"fp32", "bf16", "host", "momentum", NULL};
static const char *const recompute_names[] = {"none", "layers", "auto", NULL};
static const char *const handover_names[] = {"auto", "off", NULL};
static const char *const prefix_names[] = {"off", "packed", "schedule", "auto", NULL};

#define AT(member) offsetof(struct recipe, member)
#define STR(path, member, def, text)                                                               \
    { path, RECIPE_STR, AT(member), 0, 0, 0, def, 0, 0, NULL, text }
#define INT(path, member, def, lo, hi, text)                                                       \
    { path, RECIPE_INT, AT(member), 0, 0, 0, def, lo, hi, NULL, text }
#define NUM(path, member, def, lo, hi, text)                                                       \
    { path, RECIPE_NUM, AT(member), 0, 0, 0, def, lo, hi, NULL, text }
#define BOOL(path, member, def, text)                                                              \
    { path, RECIPE_BOOL, AT(member), 0, 0, 0, def, 0, 0, NULL, text }
#define SIZE(path, member, def, text)                                                              \
    { path, RECIPE_SIZE, AT(member), 0, 0, 0, def, 0, 1e15, NULL, text }
#define ENUM(path, member, names, def, text)                                                       \
    { path, RECIPE_ENUM, AT(member), 0, 0, 0, def, 0, 0, names, text }
#define DATA(p, m)                                                                                 \
    STR(p ".path", m.path, NULL, "JSONL file, or builtin:NAME for a generated task"),              \
        STR(p ".prompt", m.prompt, "prompt",                                                       \
            "key of the prompt: text, or a list of {role, content}; dots descend"),                \
        STR(p ".answer", m.answer, "answer", "key of the reference answer"),                       \
        STR(p ".system", m.system, NULL, "system message"),                                        \
        STR(p ".template", m.template_, "{prompt}", "user message; {prompt} is replaced"),         \
        INT(p ".limit", m.limit, "0", 0, 1e12, "rows used, 0: all"),                               \
        INT(p ".skip", m.skip, "0", 0, 1e12, "rows left out at the start"),                        \
        ENUM(p ".special", m.special, special_names, "token",                                      \
             "special tokens spelled in a row's text: that token (as transformers does), plain "   \
             "text, or an error"),                                                                 \
        ENUM(p ".bad_rows", m.bad_rows, bad_rows_names, "error",                                   \
             "rows that cannot be used (too long, a reference that a reward needs and cannot "     \
             "read): refused at the start, or said at the start and left out when drawn")
#define EVAL(p, kind, member, def, lo, hi, text)                                                   \
    {                                                                                              \
        "data.eval[]." p, kind, AT(data.eval[0].member), sizeof(struct recipe_eval),               \
            RECIPE_EVAL_MAX, AT(data.n_eval), def, lo, hi, NULL, text                              \
    }
#define EVAL_ENUM(p, member, names, def, text)                                                     \
    {                                                                                              \
        "data.eval[]." p, RECIPE_ENUM, AT(data.eval[0].member), sizeof(struct recipe_eval),        \
            RECIPE_EVAL_MAX, AT(data.n_eval), def, 0, 0, names, text                               \
    }
#define REWARD(p, member, kind, def, lo, hi, text)                                                 \
    {                                                                                              \
        "reward[]." p, kind, AT(reward[0].member), sizeof(struct recipe_reward),                   \
            RECIPE_REWARD_MAX, AT(n_reward), def, lo, hi, NULL, text                               \
    }

static const struct recipe_field fields[] = {
    STR("name", name, "run", "name of the run"),
    INT("seed", seed, "1", 0, 9e15, "every random number of the run follows from it"),
    STR("model.path", model.path, NULL, "Hugging Face folder"),
    STR("model.chat", model.chat, "auto",
        "chat format: auto, plain, chatml, qwen2.5, qwen3, llama3, mistral, deepseek-r1, ..."),
    ENUM("model.chat_template_kwargs.enable_thinking", model.thinking, thinking_names, "auto",
         "argument of qwen3's template; false: the prompt closes an empty thinking; auto: as the "
         "template does without it"),
    ENUM("model.weights", model.weights, weights_names, "load",
         "random: config.json and tokenizer only, weights from the seed"),
    ENUM("model.dtype", model.dtype, dtype_names, "fp32",
         "of weights, activations, keys and published versions; sums, gradients of weights and the "
         "optimizer are fp32"),
    BOOL("model.exact", model.exact, "true",
         "a token's log-prob has the same bits in any batch, in rollout and trainer; false: the "
         "fastest algorithm for each batch, on cuda (docs/exact.md)"),
    DATA("data.train", data.train),
    BOOL("data.train.shuffle", data.train.shuffle, "true", "shuffle each epoch by the seed"),
    EVAL("name", RECIPE_STR, name, NULL, 0, 0, "metrics are eval/NAME; none: the path's last part"),
    EVAL("path", RECIPE_STR, rows.path, NULL, 0, 0, "as in data.train"),
    EVAL("prompt", RECIPE_STR, rows.prompt, "prompt", 0, 0, "as in data.train"),
    EVAL("answer", RECIPE_STR, rows.answer, "answer", 0, 0, "as in data.train"),
    EVAL("system", RECIPE_STR, rows.system, NULL, 0, 0, "as in data.train"),
    EVAL("template", RECIPE_STR, rows.template_, "{prompt}", 0, 0, "as in data.train"),
    EVAL("limit", RECIPE_INT, rows.limit, "0", 0, 1e12, "rows used, 0: all"),
    EVAL("skip", RECIPE_INT, rows.skip, "0", 0, 1e12, "rows left out at the start"),
    EVAL_ENUM("special", rows.special, special_names, "token", "as in data.train"),
    EVAL_ENUM("bad_rows", rows.bad_rows, bad_rows_names, "error", "as in data.train"),
    EVAL("samples", RECIPE_INT, samples, "1", 1, RECIPE_SAMPLES_MAX, "answers to each prompt"),
    EVAL("temperature", RECIPE_NUM, temperature, "=eval.temperature", 0, 100, "0: greedy"),
    EVAL("top_p", RECIPE_NUM, top_p, "1.0", 0.0001, 1, "nucleus"),
    EVAL("top_k", RECIPE_INT, top_k, "0", 0, 1000000, "0: off"),
    EVAL("pass", RECIPE_NUM, pass, NULL, -1e6, 1e6,
         "an answer is right if its first score is at least this; none: right-or-wrong scores, 1"),
    EVAL("k[]", RECIPE_INTS, k, NULL, 1, RECIPE_SAMPLES_MAX,
         "report pass@k for these, each at most samples"),
    INT("rollout.workers", rollout.workers, "1", 1, 1024, "rollout processes"),
    STR("rollout.device", rollout.device, "auto", "auto, cpu, ref or cuda:N"),
    INT("rollout.threads", rollout.threads, "1", 0, 1024,
        "CPU threads of one rollout, 0: all cores"),
    INT("rollout.group_size", rollout.group_size, "8", 1, 1024, "trajectories per prompt (G)"),
    INT("rollout.max_new_tokens", rollout.max_new_tokens, "1024", 1, 1048576,
        "longest response, tokens"),
    INT("rollout.max_prompt_tokens", rollout.max_prompt_tokens, "1024", 1, 1048576,
        "longest prompt; longer rows are an error"),
    NUM("rollout.temperature", rollout.temperature, "1.0", 0.001, 100, "of the behaviour policy"),
    NUM("rollout.top_p", rollout.top_p, "1.0", 0.0001, 1,
        "below 1 the ratio is biased; said at start"),
    INT("rollout.top_k", rollout.top_k, "0", 0, 1000000,
        "0: off; otherwise the ratio is biased; said at start"),
    {"rollout.stop[]", RECIPE_STR, AT(rollout.stop[0]), sizeof(char *), RECIPE_STOP_MAX,
     AT(rollout.n_stop), NULL, 0, 0, NULL, "strings that end a response"},
    INT("rollout.concurrency", rollout.concurrency, "64", 1, 65536,
        "trajectories running at a time in the whole run"),
    SIZE("rollout.kv_memory", rollout.kv_memory, "0",
         "bytes of keys and values per rollout, 0: as many as concurrency needs, on a device no "
         "more "
         "than its share of the memory holds"),
    INT("rollout.page", rollout.page, "16", 1, 1024, "keys per page"),
    INT("rollout.chunk_tokens", rollout.chunk_tokens, "256", 1, 1048576,
        "prefill tokens per engine step"),
    INT("rollout.stream_every", rollout.stream_every, "8", 1, 100000,
        "engine steps between streamed partials"),
    INT("rollout.heartbeat_ms", rollout.heartbeat_ms, "1000", 50, 600000,
        "a rollout silent for five of these is dead"),
    ENUM("rollout.update", rollout.update, update_names, "trajectory",
         "when new weights are taken"),
    ENUM("rollout.sampling.policy", rollout.sampling.policy, sampling_names, "plain",
         "which groups are generated and trained: docs/sampling.md"),
    INT("rollout.sampling.max_rejected", rollout.sampling.max_rejected, "0", 0, 1e9,
        "dapo: groups without a signal between two batches until the run ends with an error; 0: "
        "10 (staleness.max + 1) batches' worth"),
    INT("rollout.sampling.candidates", rollout.sampling.candidates, "8", 1, 1000000,
        "vade: rows that each group is chosen from"),
    NUM("rollout.sampling.hit", rollout.sampling.hit, "0.5", -1e6, 1e6,
        "vade: a response with at least this reward counts as right"),
    NUM("rollout.sampling.decay_in", rollout.sampling.decay_in, "0.7", 0, 1,
        "vade: what is left of a row's evidence when new evidence comes"),
    NUM("rollout.sampling.decay_out", rollout.sampling.decay_out, "0.98", 0, 1,
        "vade: what is left of a row's evidence after each step that brings none"),
    NUM("rollout.sampling.decay_age", rollout.sampling.decay_age, "0.0", 0, 100,
        "vade: new evidence counts exp(-decay_age * staleness)"),
    REWARD("type", type, RECIPE_STR, NULL, 0, 0,
           "the verifier that judges: docs/rewards.md has them"),
    REWARD("name", name, RECIPE_STR, NULL, 0, 0, "of its score; none: the type"),
    REWARD("weight", weight, RECIPE_NUM, "1.0", -1e6, 1e6, "factor of its score in the sum"),
    REWARD("pattern", pattern, RECIPE_STR, NULL, 0, 0, "regex, format: the pattern (PCRE2)"),
    REWARD("after", after, RECIPE_STR, NULL, 0, 0,
           "only what follows this text is judged, as what follows </think>; \"\": all is judged"),
    REWARD("flexible", flexible, RECIPE_BOOL, "false", 0, 0,
           "gsm8k: without ####, the last number counts"),
    REWARD("whole_word", whole_word, RECIPE_BOOL, "false", 0, 0, "contains: whole words only"),
    REWARD("ignore_case", ignore_case, RECIPE_BOOL, "false", 0, 0,
           "exact, regex, contains: fold case"),
    REWARD("min_tokens", min_tokens, RECIPE_INT, "0", 0, 1e9, "length: shorter responses score 0"),
    REWARD("max_tokens", max_tokens, RECIPE_INT, "0", 0, 1e9,
           "length: limit, 0: rollout.max_new_tokens"),
    REWARD("buffer_tokens", buffer_tokens, RECIPE_INT, "0", 0, 1e9,
           "length: soft zone before the limit (DAPO)"),
    REWARD("penalty", penalty, RECIPE_NUM, "0", 0, 1e6, "length: largest penalty, 0: 1"),
    INT("reward_service.workers", reward_service.workers, "1", 1, 64, "verifier processes"),
    INT("reward_service.timeout_ms", reward_service.timeout_ms, "1000", 10, 600000, "per response"),
    STR("trainer.device", trainer.device, "auto", "auto, cpu, ref or cuda:N"),
    INT("trainer.threads", trainer.threads, "1", 0, 1024,
        "CPU threads of a rank, 0: all cores, divided among the ranks"),
    INT("trainer.ranks", trainer.ranks, "1", 1, 256,
        "processes that train a batch together: groups divided, optimizer state sharded; rank i of "
        "cuda:N uses cuda:N+i"),
    INT("trainer.rank_timeout_ms", trainer.rank_timeout_ms, "600000", 100, 86400000,
        "longest wait of a rank for another one that is alive"),
    INT("trainer.steps", trainer.steps, "100", 1, 1e9, "optimizer steps"),
    ENUM("trainer.recompute", trainer.recompute, recompute_names, "auto",
         "layers of which only the input is kept and which run again in the reverse pass, same "
         "bits; auto: the fewest that fit into trainer.memory"),
    INT("trainer.recompute_layers", trainer.recompute_layers, "0", 0, 10000,
        "layers: how many, the first; 0: all"),
    BOOL("trainer.offload_activations", trainer.offload_activations, "false",
         "inputs of recomputed layers wait in host memory"),
    SIZE("trainer.memory", trainer.memory, "0",
         "device memory of a rank, most that is taken; 0: what is free at the start (no limit on "
         "the host)"),
    INT("trainer.batch.groups", trainer.batch.groups, "8", 1, 65536, "groups per step (B)"),
    INT("trainer.batch.minibatches", trainer.batch.minibatches, "1", 1, 1024,
        "optimizer steps per batch"),
    INT("trainer.batch.tokens", trainer.batch.tokens, "4096", 1, 16777216,
        "tokens of one microbatch"),
    ENUM("trainer.algorithm.advantage", trainer.algorithm.advantage, advantage_names, "grpo",
         "formulas of this section: docs/losses.md; grpo-nostd: Dr.GRPO"),
    NUM("trainer.algorithm.gamma", trainer.algorithm.gamma, "1.0", 0, 1,
        "discount per trained token: gae, reinforce++, remax"),
    NUM("trainer.algorithm.lambda", trainer.algorithm.lambda, "1.0", 0, 1, "of gae"),
    ENUM("trainer.algorithm.loss", trainer.algorithm.loss, loss_names, "ppo-clip", "policy loss"),
    NUM("trainer.algorithm.clip_low", trainer.algorithm.clip_low, "-1", -1, 1,
        "ratio clipped below 1 - clip_low; -1: 0.2, gspo 3e-4, cispo 1 (no lower clip)"),
    NUM("trainer.algorithm.clip_high", trainer.algorithm.clip_high, "-1", -1, 1e9,
        "and above 1 + clip_high; -1: 0.28, gspo 4e-4, cispo 4"),
    NUM("trainer.algorithm.dual_clip", trainer.algorithm.dual_clip, "0.0", 0, 1e9,
        "largest ratio that counts against a token of negative advantage; 0: off, else above 1"),
    ENUM("trainer.algorithm.denominator", trainer.algorithm.denominator, denominator_names,
         "behaviour", "of the ratio: recorded log-probs, or those at the start of the step"),
    ENUM("trainer.algorithm.proximal", trainer.algorithm.proximal, proximal_names, "recompute",
         "decoupled: the proximal policy by a forward pass, or interpolated (A-3PO)"),
    NUM("trainer.algorithm.dppo.low", trainer.algorithm.dppo.low, "0.2", 0, 1,
        "dppo: largest fall of a token's probability"),
    NUM("trainer.algorithm.dppo.high", trainer.algorithm.dppo.high, "0.2", 0, 1,
        "dppo: largest rise of a token's probability"),
    NUM("trainer.algorithm.dppo.kl", trainer.algorithm.dppo.kl, "1.0e-3", 0, 100,
        "dppo: coefficient of the squared log-ratio"),
    ENUM("trainer.algorithm.correction.tis", trainer.algorithm.correction.tis, tis_names, "off",
         "truncated importance weight of the loss"),
    NUM("trainer.algorithm.correction.cap", trainer.algorithm.correction.cap, "2.0", 0.001, 1e9,
        "tis: largest weight"),
    ENUM("trainer.algorithm.correction.mask", trainer.algorithm.correction.mask, mask_names, "off",
         "rejection by importance weight; combines with tis"),
    NUM("trainer.algorithm.correction.low", trainer.algorithm.correction.low, "-1", -1, 1e9,
        "mask: smallest weight kept; -1: token and sequence 0.5, geometric 0.999"),
    NUM("trainer.algorithm.correction.high", trainer.algorithm.correction.high, "-1", -1, 1e9,
        "mask: largest weight kept; -1: token 5, sequence 2, geometric 1.001"),
    NUM("trainer.algorithm.correction.m2", trainer.algorithm.correction.m2, "0.04", 0, 1e9,
        "mask m2po: largest mean squared log-ratio of the tokens kept"),
    ENUM("trainer.algorithm.aggregation", trainer.algorithm.aggregation, aggregation_names,
         "token-mean", "of token losses"),
    NUM("trainer.algorithm.constant", trainer.algorithm.constant, "0.0", 0, 1e9,
        "aggregation constant: tokens a sequence's sum is divided by, 0: rollout.max_new_tokens"),
    NUM("trainer.algorithm.entropy", trainer.algorithm.entropy, "0.0", -100, 100,
        "coefficient of the entropy bonus"),
    NUM("trainer.algorithm.kl.coef", trainer.algorithm.kl.coef, "0.0", 0, 100,
        "KL to the reference policy"),
    ENUM("trainer.algorithm.kl.type", trainer.algorithm.kl.type, kl_names, "k3", "estimator"),
    ENUM("trainer.algorithm.kl.place", trainer.algorithm.kl.place, place_names, "loss",
         "in the loss, or taken off the reward token by token"),
    STR("trainer.algorithm.kl.reference", trainer.algorithm.kl.reference, NULL,
        "reference folder; none: the initial policy"),
    ENUM("trainer.algorithm.overlong", trainer.algorithm.overlong, overlong_names, "keep",
         "responses cut at max_new_tokens: trained, or masked (their rewards still count)"),
    BOOL("trainer.algorithm.ess_lr", trainer.algorithm.ess_lr, "false",
         "learning rate times sqrt(ESS / sequences) (VCPO)"),
    BOOL("trainer.algorithm.optimal_baseline", trainer.algorithm.optimal_baseline, "false",
         "grpo, grpo-nostd: baseline of least variance instead of the group's mean (VCPO); one "
         "more reverse pass"),
    NUM("trainer.algorithm.critic.coef", trainer.algorithm.critic.coef, "0.5", 0, 100,
        "gae: weight of the value loss"),
    NUM("trainer.algorithm.critic.clip", trainer.algorithm.critic.clip, "0.5", 0, 1e9,
        "gae: largest change of a value that counts, 0: off"),
    NUM("trainer.algorithm.critic.lr", trainer.algorithm.critic.lr, "0.0", 0, 100,
        "gae: learning rate of the value head, 0: trainer.optimizer.lr"),
    INT("trainer.staleness.max", trainer.staleness.max, "4", 0, 1024,
        "eta: versions, from a trajectory's oldest token to the step"),
    ENUM("trainer.staleness.late", trainer.staleness.late, late_names, "wait",
         "what is done about groups that would become too stale"),
    ENUM("trainer.staleness.hold", trainer.staleness.hold, hold_names, "auto",
         "how far rollouts run ahead within max: as little as keeps the trainer from waiting, or "
         "always as far as max allows"),
    ENUM("trainer.alignment.mode", trainer.alignment.mode, alignment_names, "off",
         "gradient alignment control; calibrate: measure first, then on with what was measured"),
    NUM("trainer.alignment.c_low", trainer.alignment.c_low, "0.1", 0, 0.999,
        "cosine with the previous gradient up to which nothing is changed"),
    NUM("trainer.alignment.c_high", trainer.alignment.c_high, "0.5", 0, 1,
        "cosine above which the step is skipped"),
    INT("trainer.alignment.calibrate_steps", trainer.alignment.calibrate_steps, "50", 8, 256,
        "calibrate: steps that are only measured"),
    ENUM("trainer.alignment.previous", trainer.alignment.previous, previous_names, "fp32",
         "where the previous gradient is kept; momentum: AdamW's first moment instead of it"),
    BOOL("trainer.alignment.lr_loop", trainer.alignment.lr_loop, "false",
         "divide the learning rate by 1 + staleness * smoothed cosine"),
    ENUM("trainer.prefix", trainer.prefix, prefix_names, "auto",
         "shared-prefix reuse in training: within a pass, over passes, or the cheaper"),
    BOOL("trainer.prefix_offload", trainer.prefix_offload, "false",
         "activations of shared prefixes wait in host memory (schedule, auto)"),
    {"trainer.prefix_cost[]", RECIPE_NUM, AT(trainer.prefix_cost_pass), sizeof(double), 2, 0,
     "10 2", 0, 1e6, NULL,
     "cost model of prefix: what a pass costs beside its rows, in rows; time of a FLOP of "
     "attention over that of a matrix product. weir bench --fit-prefix measures both"},
    NUM("trainer.optimizer.lr", trainer.optimizer.lr, "1.0e-6", 0, 100, "AdamW learning rate"),
    NUM("trainer.optimizer.weight_decay", trainer.optimizer.weight_decay, "0.01", 0, 100,
        "decoupled, matrices only"),
    {"trainer.optimizer.betas[]", RECIPE_NUM, AT(trainer.optimizer.beta1), sizeof(double), 2, 0,
     "0.9 0.95", 0, 0.999999, NULL, "decay of the moments"},
    NUM("trainer.optimizer.eps", trainer.optimizer.eps, "1.0e-8", 1e-20, 1,
        "added to the root of the second moment in AdamW's division"),
    NUM("trainer.optimizer.clip_norm", trainer.optimizer.clip_norm, "1.0", 0, 1e9,
        "gradient norm limit, 0: none"),
    INT("trainer.optimizer.warmup", trainer.optimizer.warmup, "0", 0, 1e9,
        "steps of linear warm-up"),
    ENUM("trainer.optimizer.schedule", trainer.optimizer.schedule, schedule_names, "constant",
         "after the warm-up"),
    NUM("trainer.optimizer.min_lr", trainer.optimizer.min_lr, "0.0", 0, 100, "end of the cosine"),
    INT("trainer.checkpoint.every", trainer.checkpoint.every, "50", 1, 1e9,
        "steps between checkpoints"),
    INT("trainer.checkpoint.keep", trainer.checkpoint.keep, "2", 1, 1000, "checkpoints that stay"),
    INT("eval.every", eval.every, "0", 0, 1e9,
        "steps between evaluations; 0: only before the first and after the last"),
    INT("eval.max_new_tokens", eval.max_new_tokens, "0", 0, 1048576,
        "0: as rollout.max_new_tokens"),
    NUM("eval.temperature", eval.temperature, "0.0", 0, 100,
        "0: greedy; of the sets that do not state theirs"),
    INT("sft.max_tokens", sft.max_tokens, "0", 0, 1048576,
        "weir sft: longest row, prompt and answer; 0: rollout.max_prompt_tokens and "
        "max_new_tokens, each for its part"),
    INT("sft.held_out", sft.held_out, "0", 0, 1e9,
        "weir sft: rows of data.train that are not trained on but give an evaluation loss"),
    BOOL("relay.delta", relay.delta, "false", "publish changed values only (between nodes)"),
    INT("relay.anchor_every", relay.anchor_every, "10", 1, 1e9, "versions between full ones"),
    ENUM("relay.device_handover", relay.device_handover, handover_names, "auto",
         "rollouts on the trainer's device copy new weights there, from two versions kept in its "
         "memory; off: through host memory"),
    STR("monitor.http", monitor.http, NULL, "address of the dashboard"),
};

/* Names that users of AReaL, verl, prime-rl, TRL, NeMo-RL, slime, SkyRL, OpenRLHF know: the whole
 * path of a key or its last words, the longer of two that both fit first. */
static const struct peer {
    const char *theirs, *ours;
} peers[] = {
    {"data.eval[].n", "data.eval[].samples"},
    {"data.eval[].num_generations", "data.eval[].samples"},
    {"n_samples_per_eval_prompt", "data.eval[].samples"},
    {"max_head_offpolicyness", "trainer.staleness.max"},
    {"max_staleness", "trainer.staleness.max"},
    {"max_staleness_steps", "trainer.staleness.max"},
    {"max_off_policy_steps", "trainer.staleness.max"},
    {"max_off_policy_threshold", "trainer.staleness.max"},
    {"max_async_level", "trainer.staleness.max"},
    {"max_trajectory_age_steps", "trainer.staleness.max"},
    {"staleness_threshold", "trainer.staleness.max"},
    {"async_generation_ratio", "trainer.staleness.max"},
    {"max_lag", "trainer.staleness.max"},
    {"max_off_policy_strategy", "trainer.staleness.late"},
    {"num_generations", "rollout.group_size"},
    {"num_generations_per_prompt", "rollout.group_size"},
    {"n_samples", "rollout.group_size"},
    {"n_samples_per_prompt", "rollout.group_size"},
    {"n", "rollout.group_size"},
    {"filter_groups", "rollout.sampling.policy"},
    {"algorithm.filter_groups.enable", "rollout.sampling.policy"},
    {"dynamic_sampling", "rollout.sampling.policy"},
    {"trainer.algorithm.dynamic_sampling.type", "rollout.sampling.policy"},
    {"use_dynamic_sampling", "rollout.sampling.policy"},
    {"dynamic_sampling_filter_path", "rollout.sampling.policy"},
    {"dynamic_filtering", "rollout.sampling.policy"},
    {"dynamic_filtering_enable", "rollout.sampling.policy"},
    {"filter_zero_advantages", "rollout.sampling.policy"},
    {"should_accept_fn", "rollout.sampling.policy"},
    {"max_num_gen_batches", "rollout.sampling.max_rejected"},
    {"dynamic_sampling_max_gen_batches", "rollout.sampling.max_rejected"},
    {"max_sample_batches", "rollout.sampling.max_rejected"},
    {"max_concurrent_rollouts", "rollout.concurrency"},
    {"max_inflight_tasks", "rollout.concurrency"},
    {"num_parallel_generation_workers", "rollout.concurrency"},
    {"max_completion_length", "rollout.max_new_tokens"},
    {"max_completion_tokens", "rollout.max_new_tokens"},
    {"max_response_length", "rollout.max_new_tokens"},
    {"rollout_max_response_len", "rollout.max_new_tokens"},
    {"max_prompt_length", "rollout.max_prompt_tokens"},
    {"val_kwargs.temperature", "eval.temperature"},
    {"temperature", "rollout.temperature"},
    {"top_p", "rollout.top_p"},
    {"top_k", "rollout.top_k"},
    {"vllm_gpu_memory_utilization", "rollout.kv_memory"},
    {"gpu_memory_utilization", "rollout.kv_memory"},
    {"train_batch_size", "trainer.batch.groups"},
    {"per_device_train_batch_size", "trainer.batch.groups"},
    {"gradient_accumulation_steps", "trainer.batch.tokens"},
    {"ppo_micro_batch_size_per_gpu", "trainer.batch.tokens"},
    {"num_prompts_per_step", "trainer.batch.groups"},
    {"rollout_batch_size", "trainer.batch.groups"},
    {"batch_size", "trainer.batch.groups"},
    {"ppo_n_minibatches", "trainer.batch.minibatches"},
    {"ppo_mini_batch_size", "trainer.batch.minibatches"},
    {"num_steps_per_rollout", "trainer.batch.minibatches"},
    {"num_iterations", "trainer.batch.minibatches"},
    {"max_tokens_per_mb", "trainer.batch.tokens"},
    {"max_tokens_per_gpu", "trainer.batch.tokens"},
    {"max_tokens_per_microbatch", "trainer.batch.tokens"},
    {"ppo_max_token_len_per_gpu", "trainer.batch.tokens"},
    {"token_budget", "trainer.batch.tokens"},
    {"train_mb_tokens", "trainer.batch.tokens"},
    {"adv_estimator", "trainer.algorithm.advantage"},
    {"advantage_estimator", "trainer.algorithm.advantage"},
    {"loss_type", "trainer.algorithm.loss"},
    {"loss_mode", "trainer.algorithm.loss"},
    {"eps_clip", "trainer.algorithm.clip_low"},
    {"epsilon", "trainer.algorithm.clip_low"},
    {"clip_ratio", "trainer.algorithm.clip_low"},
    {"clip_ratio_low", "trainer.algorithm.clip_low"},
    {"ratio_clip_min", "trainer.algorithm.clip_low"},
    {"eps_clip_higher", "trainer.algorithm.clip_high"},
    {"eps_clip_high", "trainer.algorithm.clip_high"},
    {"epsilon_high", "trainer.algorithm.clip_high"},
    {"clip_ratio_high", "trainer.algorithm.clip_high"},
    {"ratio_clip_max", "trainer.algorithm.clip_high"},
    {"loss_agg_mode", "trainer.algorithm.aggregation"},
    {"loss_reduction", "trainer.algorithm.aggregation"},
    {"mean_level", "trainer.algorithm.advantage"},
    {"norm_adv_by_std_in_grpo", "trainer.algorithm.advantage"},
    {"grpo_norm_by_std", "trainer.algorithm.advantage"},
    {"disable_grpo_std_normalization", "trainer.algorithm.advantage"},
    {"scale_rewards", "trainer.algorithm.advantage"},
    {"gae_lambda", "trainer.algorithm.lambda"},
    {"lam", "trainer.algorithm.lambda"},
    {"discount", "trainer.algorithm.gamma"},
    {"policy_loss_type", "trainer.algorithm.loss"},
    {"use_cispo", "trainer.algorithm.loss"},
    {"use_cispo_loss", "trainer.algorithm.loss"},
    {"use_decoupled_loss", "trainer.algorithm.loss"},
    {"importance_sampling_level", "trainer.algorithm.loss"},
    {"sequence_level_importance_ratios", "trainer.algorithm.loss"},
    {"pg_variant", "trainer.algorithm.loss"},
    {"clip_ratio_c", "trainer.algorithm.dual_clip"},
    {"c_clip", "trainer.algorithm.dual_clip"},
    {"eps_clip_c", "trainer.algorithm.dual_clip"},
    {"ratio_clip_c", "trainer.algorithm.dual_clip"},
    {"delta", "trainer.algorithm.dual_clip"},
    {"cispo_eps_clip_low", "trainer.algorithm.clip_low"},
    {"cispo_eps_clip_high", "trainer.algorithm.clip_high"},
    {"cispo_epsilon_low", "trainer.algorithm.clip_low"},
    {"cispo_epsilon_high", "trainer.algorithm.clip_high"},
    {"recompute_logprob", "trainer.algorithm.denominator"},
    {"bypass_mode", "trainer.algorithm.denominator"},
    {"bypass_old_logprob_for_rollout", "trainer.algorithm.denominator"},
    {"prox_logp_method", "trainer.algorithm.proximal"},
    {"dppo_mask_low", "trainer.algorithm.dppo.low"},
    {"dppo_mask_high", "trainer.algorithm.dppo.high"},
    {"use_tis", "trainer.algorithm.correction.tis"},
    {"rollout_is", "trainer.algorithm.correction.tis"},
    {"vllm_importance_sampling_correction", "trainer.algorithm.correction.tis"},
    {"vllm_importance_sampling_mode", "trainer.algorithm.correction.tis"},
    {"truncated_importance_sampling_type", "trainer.algorithm.correction.tis"},
    {"use_importance_sampling_correction", "trainer.algorithm.correction.tis"},
    {"is_correction_type", "trainer.algorithm.correction.tis"},
    {"tis_imp_ratio_cap", "trainer.algorithm.correction.cap"},
    {"tis_clip", "trainer.algorithm.correction.cap"},
    {"rollout_is_threshold", "trainer.algorithm.correction.cap"},
    {"behav_imp_weight_cap", "trainer.algorithm.correction.cap"},
    {"behave_imp_weight_cap", "trainer.algorithm.correction.cap"},
    {"vllm_importance_sampling_cap", "trainer.algorithm.correction.cap"},
    {"rollout_rs", "trainer.algorithm.correction.mask"},
    {"rejection_sampling", "trainer.algorithm.correction.mask"},
    {"rollout_rs_threshold", "trainer.algorithm.correction.high"},
    {"rollout_rs_threshold_lower", "trainer.algorithm.correction.low"},
    {"m2_threshold", "trainer.algorithm.correction.m2"},
    {"loss_scale_factor", "trainer.algorithm.constant"},
    {"use_kl_in_reward", "trainer.algorithm.kl.place"},
    {"use_kl_loss", "trainer.algorithm.kl.place"},
    {"kl_estimator", "trainer.algorithm.kl.type"},
    {"kl_penalty", "trainer.algorithm.kl.type"},
    {"mask_truncated_completions", "trainer.algorithm.overlong"},
    {"apply_overlong_filtering", "trainer.algorithm.overlong"},
    {"mask_no_eos_with_zero", "trainer.algorithm.overlong"},
    {"ess_scaling", "trainer.algorithm.ess_lr"},
    {"grad_baselining", "trainer.algorithm.optimal_baseline"},
    {"vf_coef", "trainer.algorithm.critic.coef"},
    {"cliprange_value", "trainer.algorithm.critic.clip"},
    {"value_clip", "trainer.algorithm.critic.clip"},
    {"value_eps_clip", "trainer.algorithm.critic.clip"},
    {"critic_learning_rate", "trainer.algorithm.critic.lr"},
    {"entropy_coeff", "trainer.algorithm.entropy"},
    {"entropy_coef", "trainer.algorithm.entropy"},
    {"beta", "trainer.algorithm.kl.coef"},
    {"kl_coef", "trainer.algorithm.kl.coef"},
    {"kl_ctl", "trainer.algorithm.kl.coef"},
    {"kl_tau", "trainer.algorithm.kl.coef"},
    {"kl_loss_coef", "trainer.algorithm.kl.coef"},
    {"reference_policy_kl_penalty", "trainer.algorithm.kl.coef"},
    {"kl_loss_type", "trainer.algorithm.kl.type"},
    {"critic.optim.lr", "trainer.algorithm.critic.lr"},
    {"optim.lr", "trainer.optimizer.lr"},
    {"optimizer.kwargs.lr", "trainer.optimizer.lr"},
    {"learning_rate", "trainer.optimizer.lr"},
    {"adam_epsilon", "trainer.optimizer.eps"},
    {"adam_beta1", "trainer.optimizer.betas[]"},
    {"adam_beta2", "trainer.optimizer.betas[]"},
    {"grad_clip", "trainer.optimizer.clip_norm"},
    {"max_grad_norm", "trainer.optimizer.clip_norm"},
    {"max_norm", "trainer.optimizer.clip_norm"},
    {"clip_grad", "trainer.optimizer.clip_norm"},
    {"gradient_clipping", "trainer.optimizer.clip_norm"},
    {"lr_warmup_steps", "trainer.optimizer.warmup"},
    {"warmup_steps", "trainer.optimizer.warmup"},
    {"lr_scheduler_type", "trainer.optimizer.schedule"},
    {"max_steps", "trainer.steps"},
    {"total_training_steps", "trainer.steps"},
    {"total_epochs", "trainer.steps"},
    {"num_train_epochs", "trainer.steps"},
    {"save_steps", "trainer.checkpoint.every"},
    {"save_total_limit", "trainer.checkpoint.keep"},
    {"eval_steps", "eval.every"},
    {"save_freq", "trainer.checkpoint.every"},
    {"save_period", "trainer.checkpoint.every"},
    {"save_interval", "trainer.checkpoint.every"},
    {"test_freq", "eval.every"},
    {"eval_interval", "eval.every"},
    {"val_period", "eval.every"},
    {"train_files", "data.train.path"},
    {"val_files", "data.eval[].path"},
    {"input_key", "data.train.prompt"},
    {"prompt_key", "data.train.prompt"},
    {"label_key", "data.train.answer"},
    {"model_name_or_path", "model.path"},
    {"enable_thinking", "model.chat_template_kwargs.enable_thinking"},
    {"chat_template_kwargs", "model.chat_template_kwargs.enable_thinking"},
    {"apply_chat_template_kwargs", "model.chat_template_kwargs.enable_thinking"},
    {"split_special_tokens", "data.train.special"},
    {"filter_overlong_prompts", "data.train.bad_rows"},
};

/* Their names of values, by our key. */
static const struct value {
    const char *key, *theirs, *ours;
} values[] = {
    {"rollout.sampling.policy", "true", "dapo"},
    {"rollout.sampling.policy", "dynamic", "dapo"},
    {"rollout.sampling.policy", "filter", "dapo"},
    {"rollout.sampling.policy", "none", "plain"},
    {"trainer.algorithm.advantage", "dr-grpo", "grpo-nostd"},
    {"trainer.algorithm.advantage", "dr_grpo", "grpo-nostd"},
    {"trainer.algorithm.advantage", "group_norm", "grpo"},
    {"trainer.algorithm.advantage", "mean_leave1out", "rloo"},
    {"trainer.algorithm.advantage", "reinforce_plus_plus", "reinforce++"},
    {"trainer.algorithm.advantage", "reinforce", "reinforce++"},
    {"trainer.algorithm.advantage", "reinforce_plus_plus_baseline", "reinforce++-baseline"},
    {"trainer.algorithm.advantage", "reinforce_baseline", "reinforce++-baseline"},
    {"trainer.algorithm.advantage", "ppo", "gae"},
    {"trainer.algorithm.loss", "ppo", "ppo-clip"},
    {"trainer.algorithm.loss", "vanilla", "ppo-clip"},
    {"trainer.algorithm.loss", "grpo", "ppo-clip"},
    {"trainer.algorithm.loss", "regular", "ppo-clip"},
    {"trainer.algorithm.loss", "sequence", "gspo"},
    {"trainer.algorithm.loss", "dppo_tv", "dppo"},
    {"trainer.algorithm.aggregation", "seq-mean-token-mean", "sequence-mean"},
    {"trainer.algorithm.aggregation", "sequence_mean", "sequence-mean"},
    {"trainer.algorithm.aggregation", "token_mean", "token-mean"},
    {"trainer.algorithm.aggregation", "seq-mean-token-sum", "sequence-sum"},
    {"trainer.algorithm.aggregation", "seq-mean-token-sum-norm", "constant"},
    {"trainer.algorithm.aggregation", "seq_mean_token_sum_norm", "constant"},
    {"trainer.algorithm.aggregation", "dr_grpo", "constant"},
    {"trainer.algorithm.proximal", "loglinear", "interpolate"},
    {"trainer.algorithm.correction.mask", "icepop", "token"},
    {"trainer.algorithm.kl.type", "kl", "k1"},
    {"trainer.algorithm.kl.type", "mse", "k2"},
    {"trainer.algorithm.kl.type", "low_var_kl", "k3"},
};

size_t recipe_table_count(void) {
    return sizeof fields / sizeof fields[0];
}

const struct recipe_field *recipe_table_field(size_t i) {
    return &fields[i];
}

const char *recipe_table_peer(const char *path) {
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof peers / sizeof peers[0]; i++) {
        const char *theirs = peers[i].theirs;
        size_t m = strlen(theirs);
        if (m <= n && strcmp(theirs, path + n - m) == 0 && (m == n || path[n - m - 1] == '.'))
            return peers[i].ours;
    }
    return NULL;
}

const char *recipe_table_peer_value(const char *key, const char *value) {
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (strcmp(values[i].key, key) == 0 && strcmp(values[i].theirs, value) == 0)
            return values[i].ours;
    return NULL;
}
