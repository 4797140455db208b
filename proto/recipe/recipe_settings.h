/* recipe_settings.h - struct recipe: every setting of a run. recipe_table.c says what each is
 * called in a file, what may be in it and what it means. */
#ifndef PROTO_RECIPE_RECIPE_SETTINGS_H
#define PROTO_RECIPE_RECIPE_SETTINGS_H

#include "proto/recipe/recipe_enum.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RECIPE_STOP_MAX = 8,
    RECIPE_REWARD_MAX = 16,
    RECIPE_EVAL_MAX = 16,
    RECIPE_NAME_MAX = 100, /* bytes of a run's name */
    RECIPE_EVAL_NAME = 48, /* bytes of a set's name, with the NUL */
    RECIPE_SAMPLES_MAX = 4096,
    RECIPE_INTS_MAX = 8
};

struct recipe_data {
    char *path;      /* JSONL file, or "builtin:NAME" (a generated task); NULL: absent */
    char *prompt;    /* key of the prompt: text, or a list of {role, content}; dots descend */
    char *answer;    /* key of the reference answer */
    char *system;    /* system message, NULL: none */
    char *template_; /* user message; "{prompt}" is replaced; default "{prompt}" */
    int64_t limit;   /* rows used, 0: all */
    int64_t skip;    /* rows left out at the start */
    bool shuffle;
    enum recipe_special special;
    enum recipe_bad_rows bad_rows;
};

struct recipe_ints {
    int64_t n, at[RECIPE_INTS_MAX];
};

struct recipe_eval { /* one set of held-out prompts */
    char *name;      /* in metrics: eval/<name>; filled in from the path if it is not given */
    struct recipe_data rows;
    int64_t samples, top_k; /* samples: answers to each prompt */
    double temperature, top_p;
    double pass;          /* least first score of a right answer; NAN: not stated */
    struct recipe_ints k; /* pass@k is reported for these */
};

struct recipe_reward {
    char *type, *name;
    double weight;
    char *pattern;   /* regex, format */
    char *after;     /* closing mark of reasoning; "": none is known */
    bool flexible;   /* gsm8k: also the last number */
    bool whole_word; /* contains */
    bool ignore_case;
    int64_t min_tokens, max_tokens, buffer_tokens; /* length */
    double penalty;                                /* length */
};

struct recipe {
    char *name;
    uint64_t seed;
    struct {
        char *path, *chat;
        /* Random: config.json and tokenizer.json only, weights from the seed */
        enum recipe_weights weights;
        enum recipe_dtype dtype;
        enum recipe_thinking thinking;
        bool exact;
    } model;
    struct {
        struct recipe_data train;
        struct recipe_eval eval[RECIPE_EVAL_MAX];
        int64_t n_eval;
    } data;
    struct {
        int64_t workers, threads, group_size, max_new_tokens, max_prompt_tokens, top_k, concurrency;
        int64_t page, chunk_tokens, stream_every, heartbeat_ms;
        char *device, *stop[RECIPE_STOP_MAX];
        int64_t n_stop;
        double temperature, top_p;
        uint64_t kv_memory; /* bytes */
        enum recipe_update update;
        struct {
            enum recipe_sampling policy;
            int64_t max_rejected, candidates;
            double hit, decay_in, decay_out, decay_age;
        } sampling;
    } rollout;
    struct recipe_reward reward[RECIPE_REWARD_MAX];
    int64_t n_reward;
    struct {
        int64_t workers, timeout_ms;
    } reward_service;
    struct {
        char *device;
        int64_t threads, ranks, rank_timeout_ms, steps;
        enum recipe_recompute recompute;
        int64_t recompute_layers;
        bool offload_activations;
        uint64_t memory; /* bytes */
        struct {
            int64_t groups, minibatches, tokens; /* groups per step; tokens per microbatch */
        } batch;
        struct recipe_algorithm {
            enum recipe_advantage advantage;
            double gamma, lambda;
            enum recipe_loss loss;
            double clip_low, clip_high; /* by the loss where the recipe gives none */
            double dual_clip;           /* 0: off */
            enum recipe_denominator denominator;
            enum recipe_proximal proximal;
            struct {
                double low, high, kl;
            } dppo;
            struct {
                enum recipe_tis tis;
                enum recipe_mask mask;
                double cap, low, high, m2; /* low, high: by the mask where none are given */
            } correction;
            enum recipe_aggregation aggregation;
            double constant; /* of the aggregation; 0: rollout.max_new_tokens */
            double entropy;
            struct {
                double coef;
                enum recipe_kl type;
                enum recipe_place place;
                char *reference; /* HF folder; NULL: the initial policy */
            } kl;
            enum recipe_overlong overlong;
            bool ess_lr, optimal_baseline;
            struct {
                double coef, clip, lr; /* clip 0: off; lr 0: the optimizer's */
            } critic;
        } algorithm;
        struct {
            int64_t max;
            enum recipe_late late;
            enum recipe_hold hold;
        } staleness;
        struct {
            enum recipe_alignment mode;
            double c_low, c_high;
            int64_t calibrate_steps;
            enum recipe_previous previous;
            bool lr_loop;
        } alignment;
        enum recipe_prefix prefix;
        bool prefix_offload;
        double prefix_cost_pass, prefix_cost_key;
        struct {
            double lr, weight_decay, beta1, beta2, eps, clip_norm, min_lr;
            int64_t warmup;
            enum recipe_schedule schedule;
        } optimizer;
        struct {
            int64_t every, keep;
        } checkpoint;
    } trainer;
    struct {
        int64_t every, max_new_tokens; /* every: steps between evaluations, 0: never; 0 new tokens:
                                          as rollout's */
        double temperature;            /* of sets that do not state theirs */
    } eval;
    struct {
        int64_t max_tokens; /* prompt and answer; 0: rollout's limits, each for its part */
        int64_t held_out;   /* rows of data.train */
    } sft;
    struct {
        bool delta;
        int64_t anchor_every;
        enum recipe_handover device_handover;
    } relay;
    struct {
        char *http;
    } monitor;
};

/* Trajectories that are generated for a prompt: the group, and with remax a greedy one after it. */
static inline int64_t recipe_generated(const struct recipe *r) {
    return r->rollout.group_size + (r->trainer.algorithm.advantage == RECIPE_ADV_REMAX);
}

#endif
