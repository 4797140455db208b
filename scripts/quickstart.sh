#!/usr/bin/env bash
# The main job in about a minute on two cores: warm start, evaluation, asynchronous GRPO with two rollout processes,
# evaluation. SEED (default 1) changes every random number. Leaves build/quickstart/{base,run}.
set -eu
cd "$(dirname "$0")/.."
seed=${SEED:-1}
dir=build/quickstart
rm -rf "$dir"
mkdir -p "$dir"
start=$SECONDS
echo "1/2  warm start: a tiny random model sees a few sums (weir sft)"
./weir sft --recipe recipes/quickstart-sft.yaml --set "seed=$seed" --out "$dir/base"
echo
echo "2/2  reinforcement learning: two rollouts, a trainer, a reward service (weir run)"
./weir run recipes/quickstart.yaml --set "seed=$seed" --out "$dir/run"
echo
echo "took $((SECONDS - start)) s; try also:"
echo "  ./weir generate --model $dir/run/hf --prompt '27+46=' --temperature 0 --raw --max-tokens 8"
