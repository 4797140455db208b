/* recipe_enum.h - the settings of a recipe that are one of several words, in the order of the words
 * in recipe_table.c. */
#ifndef PROTO_RECIPE_RECIPE_ENUM_H
#define PROTO_RECIPE_RECIPE_ENUM_H

enum recipe_dtype { RECIPE_DTYPE_FP32, RECIPE_DTYPE_BF16 };
enum recipe_weights { RECIPE_WEIGHTS_LOAD, RECIPE_WEIGHTS_RANDOM };
enum recipe_thinking { RECIPE_THINKING_AUTO, RECIPE_THINKING_TRUE, RECIPE_THINKING_FALSE };
enum recipe_special { RECIPE_SPECIAL_TOKEN, RECIPE_SPECIAL_TEXT, RECIPE_SPECIAL_ERROR };
enum recipe_bad_rows { RECIPE_BAD_ROWS_ERROR, RECIPE_BAD_ROWS_SKIP };
enum recipe_sampling { RECIPE_SAMPLING_PLAIN, RECIPE_SAMPLING_DAPO, RECIPE_SAMPLING_VADE };
enum recipe_update { RECIPE_UPDATE_TRAJECTORY, RECIPE_UPDATE_TOKEN };
enum recipe_advantage {
    RECIPE_ADV_GRPO,
    RECIPE_ADV_GRPO_NOSTD,
    RECIPE_ADV_RLOO,
    RECIPE_ADV_REINFORCE_PP,
    RECIPE_ADV_REINFORCE_PP_BASELINE,
    RECIPE_ADV_REMAX,
    RECIPE_ADV_GAE
};
/* The policy losses. A row has the enum's name, the recipe's word, the default clip_low and
 * clip_high, and the formula that `weir plan` prints; the words in braces are filled in by
 * start_report.c. trainer/learn/loss.c computes them (docs/howto/a-loss.md). */
#define RECIPE_LOSSES(X)                                                                           \
    X(PPO_CLIP, "ppo-clip", 0.2, 0.28,                                                             \
      "-min(r A, clip(r, 1-{low}, 1+{high}) A), r = pi_theta / {old}")                             \
    X(GSPO, "gspo", 3e-4, 4e-4,                                                                    \
      "-min(s A, clip(s, 1-{low}, 1+{high}) A), s = geometric mean over the sequence of pi_theta " \
      "/ {old}")                                                                                   \
    X(CISPO, "cispo", 1, 4, "-[clip(r, 1-{low}, 1+{high})] A log pi_theta, r = pi_theta / {old}")  \
    X(DPPO, "dppo", 0.2, 0.28,                                                                     \
      "-r A where pi_theta - pi_behaviour is within -{dppo.low} (A < 0) and {dppo.high} (A > 0), " \
      "+ {dppo.kl} (log r)^2, r = pi_theta / {old}")                                               \
    X(DECOUPLED, "decoupled", 0.2, 0.28,                                                           \
      "-(pi_prox / pi_behaviour) min(u A, clip(u, 1-{low}, 1+{high}) A), u = pi_theta / pi_prox "  \
      "({proximal})")                                                                              \
    X(TOPR, "topr", 0.2, 0.28,                                                                     \
      "-A log pi_theta where A > 0, else -[min(r, 1)] A log pi_theta, r = pi_theta / {old}")
#define RECIPE_LOSS_AS_ENUM(name, word, low, high, formula) RECIPE_LOSS_##name,
enum recipe_loss { RECIPE_LOSSES(RECIPE_LOSS_AS_ENUM) RECIPE_LOSSES_N };
enum recipe_denominator { RECIPE_DENOMINATOR_BEHAVIOUR, RECIPE_DENOMINATOR_RECOMPUTED };
enum recipe_proximal { RECIPE_PROXIMAL_RECOMPUTE, RECIPE_PROXIMAL_INTERPOLATE };
enum recipe_tis { RECIPE_TIS_OFF, RECIPE_TIS_TOKEN, RECIPE_TIS_SEQUENCE };
enum recipe_mask {
    RECIPE_MASK_OFF,
    RECIPE_MASK_TOKEN,
    RECIPE_MASK_SEQUENCE,
    RECIPE_MASK_GEOMETRIC,
    RECIPE_MASK_M2PO
};
enum recipe_aggregation {
    RECIPE_TOKEN_MEAN,
    RECIPE_SEQUENCE_MEAN,
    RECIPE_SEQUENCE_SUM,
    RECIPE_AGGREGATE_CONSTANT
};
enum recipe_place { RECIPE_PLACE_LOSS, RECIPE_PLACE_REWARD };
enum recipe_overlong { RECIPE_OVERLONG_KEEP, RECIPE_OVERLONG_MASK };
enum recipe_kl { RECIPE_KL_K1, RECIPE_KL_K2, RECIPE_KL_K3 };
enum recipe_late { RECIPE_LATE_WAIT, RECIPE_LATE_DROP };
enum recipe_hold { RECIPE_HOLD_AUTO, RECIPE_HOLD_MAX };
enum recipe_schedule { RECIPE_CONSTANT, RECIPE_COSINE };
enum recipe_alignment { RECIPE_ALIGN_OFF, RECIPE_ALIGN_ON, RECIPE_ALIGN_CALIBRATE };
enum recipe_previous {
    RECIPE_PREVIOUS_FP32,
    RECIPE_PREVIOUS_BF16,
    RECIPE_PREVIOUS_HOST,
    RECIPE_PREVIOUS_MOMENTUM
};
enum recipe_recompute { RECIPE_RECOMPUTE_NONE, RECIPE_RECOMPUTE_LAYERS, RECIPE_RECOMPUTE_AUTO };
enum recipe_prefix {
    RECIPE_PREFIX_OFF,
    RECIPE_PREFIX_PACKED,
    RECIPE_PREFIX_SCHEDULE,
    RECIPE_PREFIX_AUTO
};
enum recipe_handover { RECIPE_HANDOVER_AUTO, RECIPE_HANDOVER_OFF };

#endif
