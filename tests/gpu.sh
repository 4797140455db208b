#!/usr/bin/env bash
# Everything that wants a GPU, in one call of less than nine minutes, one JSON file as the result.
#
#   make gpu-bundle; tests/gpu.sh [--device cuda:0] [--out FILE] [--bundle DIR] [--quick] [--seconds 530] [--python PYTHON]
#                                   [PART...]
#
# Parts, in this order: ops (the op suite), golden (logits and gradients against float64), exact (invariant I6: the same bits
# in any batch, any chunk, rollout and trainer), quickstart (the main job on the device), sanitizer (compute-sanitizer over
# one small case of each op, where it is found), bench (weir-bench gpu-*), torch (the same shapes in PyTorch, where the
# Python has it). Each has a limit, and together they end within --seconds: bench and torch have 240 of them for themselves.
# Each is "passed", "failed" or "skipped" with its reason and time; logs lie beside the JSON. The exit status is 0 if nothing
# failed and at least ops ran. --quick: tiny sizes, so that any device shows that the script works (--device cudasim:0, cpu).
set -u
cd "$(dirname "$0")/.." || exit 1
device=cuda:0 out=build/gpu.json bundle=build/gpu quick='' seconds=530 python=python3
parts=()
while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --bundle) bundle=$2 && shift 2 ;;
    --seconds) seconds=$2 && shift 2 ;;
    --python) python=$2 && shift 2 ;;
    --quick) quick=--quick && shift ;;
    -*) echo "tests/gpu.sh: unknown option $1" >&2 && exit 64 ;;
    *) parts+=("$1") && shift ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || parts=(ops golden exact quickstart sanitizer bench torch)
[ -x "$bundle/weir" ] || { echo "tests/gpu.sh: no $bundle/weir: make gpu-bundle" >&2 && exit 66; }
bundle=$(realpath "$bundle")
logs=${out%.json}.logs
rm -rf "$logs"
mkdir -p "$logs"
work=$(mktemp -d /tmp/weir-gpu-XXXXXX)
trap 'rm -rf "$work"' EXIT
export WEIR_DEVICE=$device
results=() failed=0 ran_ops=0
readonly SKIP=200 # no program's: weir itself ends with 77 where a device cannot be had

# cuBLASLt and NCCL: the loader's own places, else the toolkit's or those of Python's packages.
libraries=$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for folder in /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib \
    "$("$python" -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)"/*/lib; do
    case $(ls "$folder" 2>/dev/null) in *libcublasLt.so.* | *libnccl.so.*) libraries=$libraries:$folder ;; esac
done

text() { # a JSON string
    printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | tr -d '\000-\037' | sed 's/[\\"]/\\&/g' | cut -c1-400)"
}

# Seconds that the part at hand may take at most: what comes after it keeps `reserve` of the whole.
reserve=0
left() { echo $((seconds - reserve - SECONDS)); }

ours() { # a program of the bundle, with its libraries, and a limit: ours LIMIT PROGRAM ...
    local limit=$1 program=$2
    shift 2
    [ "$(left)" -gt 5 ] || return 124
    [ "$limit" -lt "$(left)" ] || limit=$(left)
    LD_LIBRARY_PATH=$libraries timeout --kill-after=5 "$limit" "$bundle/$program" "$@"
}

record() { # record NAME RESULT SECONDS DETAIL [LINES-FILE]
    local lines=''
    [ ! -s "${5:-}" ] || lines=", \"lines\": [$(grep '^{' "$5" | paste -sd, -)]"
    results+=("{\"part\": $(text "$1"), \"result\": \"$2\", \"seconds\": $3, \"detail\": $(text "$4")$lines}")
    [ "$2" != failed ] || failed=1
    echo "$2 $1 ($3 s): $4" >&2
}

part() { # part NAME FUNCTION [LINES-FILE]: the function's last line is the detail; SKIP skips
    local start=$SECONDS rc=0 result=passed detail
    "part_$1" >"$logs/$1.log" 2>&1 || rc=$?
    [ "$rc" = 0 ] || result=failed
    [ "$rc" != $SKIP ] || result=skipped
    detail=$(grep -v '^ *$' "$logs/$1.log" | tail -n 1)
    [ "$rc" != 124 ] || detail="out of time; $detail"
    record "$1" "$result" $((SECONDS - start)) "$detail" "${2:-}"
}

# Of the tests with these names nothing may fail, and something must run.
tests_of() { # tests_of LIMIT FILTER
    local log rc=0
    log=$work/tests-$2
    ours "$1" weir-test --filter "$2" >"$log" 2>&1 || rc=$?
    cat "$log"
    [ "$rc" = 0 ] || return "$rc"
    ! grep -q '^0 passed' "$log" || { grep -o 'skipped: .*' "$log" && return 1; }
}

part_ops() {
    if [ -n "$quick" ]; then
        tests_of 120 op_cuda_small
    else
        tests_of 150 op_cuda_ && tests_of 60 attention_cuda_
    fi && tests_of 60 hash_cuda_ || return
    # Some containers share no device memory between processes: a run then goes through host memory.
    tests_of 60 swap_cuda_ || grep 'cannot be shared' "$work/tests-swap_cuda_"
}

part_golden() {
    if [ -n "$quick" ]; then
        tests_of 60 actor_cuda_logprobs
    else
        tests_of 90 actor_cuda_
    fi
}

# Log-probs as `weir score` prints them, digit for digit, in every way of computing them.
part_exact() {
    local model models="llama-gqa mistral-window qwen2-tied qwen3-norm" n=256 options ways=0
    local all=("--engine rollout --batch 1" "--engine rollout --batch 256" "--engine rollout --chunk 1"
        "--engine rollout --chunk 7 --batch 64 --page 5" "--engine trainer --batch 3")
    [ -z "$quick" ] || { n=2 models=qwen3-norm && all=("--engine rollout --chunk 2 --batch 1"); }
    awk -v lines="$n" -f tests/score_lines.awk >"$work/lines"
    for model in $models; do
        score() { ours 60 weir score --model "tests/golden/models/$model" --device "$device" --file "$work/lines" "$@"; }
        score --engine trainer >"$work/want" || return
        [ "$(wc -l <"$work/want")" = "$n" ] || { echo "$model: $n lines in, others out" && return 1; }
        for options in "${all[@]}"; do
            # shellcheck disable=SC2086
            score $options >"$work/got" || return
            cmp -s "$work/want" "$work/got" || { echo "$model: $options prints other digits" && return 1; }
            ways=$((ways + 1))
        done
    done
    # shellcheck disable=SC2086
    ours 120 weir-bench --device "$device" $quick gpu-exact >"$logs/exact.jsonl" || return
    echo "$ways ways of scoring and $(wc -l <"$logs/exact.jsonl") products: no bit differs"
}

part_quickstart() {
    local set=(--set "trainer.device=$device") run=(--set "rollout.device=$device" --set "model.path=$work/base")
    local reached
    if [ -n "$quick" ]; then
        cp -r recipes/tiny "$work/tiny"
        sed -E -i 's/("hidden_size"|"intermediate_size"): [0-9]+/\1: 16/; s/("num_hidden_layers"|"num_key_value_heads"): [0-9]+/\1: 1/
            s/("num_attention_heads"): [0-9]+/\1: 2/; s/("head_dim"): [0-9]+/\1: 8/' "$work/tiny/config.json"
        set+=(--set "model.path=$work/tiny" --set trainer.steps=1 --set trainer.batch.groups=2 --set trainer.batch.tokens=64)
        run+=(--set trainer.steps=1 --set trainer.batch.groups=2 --set rollout.group_size=2 --set rollout.workers=1
            --set rollout.max_new_tokens=3 --set data.eval.limit=2)
    fi
    ours 90 weir sft --recipe recipes/quickstart-sft.yaml "${set[@]}" --out "$work/base" || return
    ours 180 weir run recipes/quickstart.yaml --set "trainer.device=$device" "${run[@]}" --out "$work/run" || return
    ours 60 weir replay "$work/run" verify || return
    reached=$(grep -o '"eval/[a-z_]*accuracy[^,}]*' "$work/run/metrics.jsonl" | tail -n 1)
    cp "$work/run/metrics.jsonl" "$logs/quickstart.jsonl" 2>/dev/null
    echo "trained, evaluated, replayed: ${reached:-no accuracy in metrics.jsonl}"
}

part_sanitizer() {
    local tool check start
    tool=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
    [ -n "$tool" ] || { echo "no compute-sanitizer on this machine" && return $SKIP; }
    case $device in cuda:*) ;; *) echo "$device is no GPU" && return 77 ;; esac
    for check in memcheck racecheck; do
        start=$SECONDS
        [ "$(left)" -gt 30 ] || return 124
        LD_LIBRARY_PATH=$libraries timeout --kill-after=5 $(($(left) < 90 ? $(left) : 90)) "$tool" --tool "$check" \
            --target-processes all --error-exitcode 9 "$bundle/weir-test" --slow --filter op_cuda_small || return
        echo "$check: $((SECONDS - start)) s"
    done
    echo "memcheck and racecheck: no error in one small case of each op"
}

part_bench() {
    local name
    : >"$logs/bench.jsonl"
    for name in gpu-ops gpu-model; do
        # shellcheck disable=SC2086
        ours 160 weir-bench --device "$device" $quick "$name" >>"$logs/bench.jsonl"
        case $? in
        0) ;;
        124) echo "$name was cut short" ;;
        *) return 1 ;;
        esac
    done
    echo "$(wc -l <"$logs/bench.jsonl") lines"
}

part_torch() {
    local where=cuda limit compile=--compile
    case $device in cuda:*) ;; *) where=cpu compile='' ;; esac
    "$python" -c 'import torch, transformers' 2>/dev/null || { echo "no PyTorch on this machine" && return $SKIP; }
    [ "$(left)" -gt 20 ] || { echo "no time left" && return $SKIP; }
    limit=$(left)
    # shellcheck disable=SC2086
    timeout --kill-after=5 "$limit" "$python" bench/torch_gpu.py --device "$where" $quick $compile --seconds 0.3 >"$logs/torch.jsonl" ||
        echo "cut short or failed: $?"
    [ -s "$logs/torch.jsonl" ] && echo "$(wc -l <"$logs/torch.jsonl") lines"
}

for name in "${parts[@]}"; do
    case $name in
    torch) reserve=0 ;;
    bench) reserve=80 ;;
    *) reserve=240 ;;
    esac
    [ -z "$quick" ] && [ ${#parts[@]} -gt 1 ] || reserve=0
    case $name in
    bench | torch | exact) part "$name" "$logs/$name.jsonl" ;;
    ops) part ops && ran_ops=1 ;;
    golden | quickstart | sanitizer) part "$name" ;;
    *) echo "tests/gpu.sh: unknown part $name" >&2 && exit 64 ;;
    esac
done

gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)
{
    printf '{"device": %s, "gpu": %s, "driver": %s, "memory": %s, "commit": %s, "quick": %s, "seconds": %s, "result": "%s",\n' \
        "$(text "$device")" "$(text "${gpu%%, *}")" "$(text "$(printf '%s' "$gpu" | cut -d, -f2 | tr -d ' ')")" \
        "$(text "$(printf '%s' "$gpu" | cut -d, -f3)")" "$(text "$(cat "$bundle/COMMIT")")" \
        "$([ -n "$quick" ] && echo true || echo false)" "$SECONDS" "$([ $failed = 0 ] && echo passed || echo failed)"
    printf ' "parts": [\n%s]}\n' "$(printf '%s,\n' "${results[@]}" | sed '$ s/,$//')"
} >"$out"
echo "$out: $([ $failed = 0 ] && echo passed || echo failed) in $SECONDS s" >&2
[ "$failed" = 0 ] && { [ "$ran_ops" = 1 ] || [ "${#parts[@]}" -lt 7 ]; }
