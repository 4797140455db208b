#!/usr/bin/env python3
"""Random small shapes of every model family: `weir score` and the gradient of one `weir step` against transformers in
float64. Head widths, groups of heads, biases, tied heads, windows, rope scalings, shards and storage types are drawn.

Usage: tests/golden/fuzz_models.py [MODELS [SEED]] from the root of the repository, ./weir built. Not part of CI.
The gradient is read off the optimizer's step: with lr = 100 and eps = 1 the first AdamW update is -100 g / (1 + |g|)."""
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import os

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
import torch  # noqa: E402
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

INV_TEMP = 1 / 0.8
SETS = {"rollout.temperature": 0.8, "rollout.group_size": 2, "rollout.max_prompt_tokens": 200,
        "rollout.max_new_tokens": 200, "trainer.device": "cpu", "trainer.batch.groups": 3,
        "trainer.staleness.max": 0, "trainer.optimizer.lr": 100, "trainer.optimizer.eps": 1,
        "trainer.optimizer.weight_decay": 0, "trainer.optimizer.clip_norm": 0, "trainer.algorithm.entropy": 0.01,
        "trainer.algorithm.advantage": "grpo-nostd", "trainer.algorithm.loss": "ppo-clip"}


def draw_rope(rnd):
    kind = rnd.choice(["default", "default", "linear", "llama3", "yarn"])
    rope = dict(rope_type=kind, rope_theta=rnd.choice([100.0, 10000.0, 1e6]))
    if kind != "default":
        rope["factor"] = rnd.choice([2.0, 4.0, 8.0, 3.7])
    if kind in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = rnd.choice([8, 16, 40])
    if kind == "llama3":
        rope |= dict(low_freq_factor=1.0, high_freq_factor=rnd.choice([2.0, 4.0]))
    if kind == "yarn":
        rope |= rnd.choice([{}, dict(beta_fast=16.0, beta_slow=2.0), dict(attention_factor=1.3),
                            dict(mscale=1.0, mscale_all_dim=0.7), dict(truncate=False)])
    return rope


def draw_config(rnd):
    kv = rnd.choice([1, 2, 3])
    width = rnd.choice([2, 6, 8, 16, 20, 32, 64, 128])
    c = dict(num_key_value_heads=kv, num_attention_heads=kv * rnd.choice([1, 2, 3, 5]),
             num_hidden_layers=rnd.randint(1, 4), intermediate_size=rnd.choice([1, 7, 36, 100]),
             vocab_size=rnd.choice([11, 60, 257, 1000]), max_position_embeddings=512, rms_norm_eps=rnd.choice([1e-5, 1e-6]),
             bos_token_id=1, eos_token_id=2, tie_word_embeddings=rnd.random() < 0.5, rope_parameters=draw_rope(rnd))
    family = rnd.choice([LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
    free = family in (LlamaConfig, MistralConfig, Qwen3Config) and rnd.random() < 0.6
    c["hidden_size"] = c["num_attention_heads"] * (rnd.choice([1, 4, 7, 10]) if free else width)
    if free or family is Qwen3Config:
        c["head_dim"] = width
    if family in (LlamaConfig, Qwen3Config):
        c["attention_bias"] = rnd.random() < 0.4
    if family is LlamaConfig:
        c["mlp_bias"] = rnd.random() < 0.4
    if family is MistralConfig:
        c["sliding_window"] = rnd.choice([None, 1, 5, 30])
    if family in (Qwen2Config, Qwen3Config) and rnd.random() < 0.5:
        c |= dict(use_sliding_window=True, sliding_window=rnd.choice([1, 4, 33]), max_window_layers=rnd.randint(0, 4))
    return family(**c)


def randomize(model, gen):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if p.dim() == 2:
                p.copy_(noise * (0.6 if "embed" in name else 1.2 / p.shape[1] ** 0.5))
            else:
                p.copy_(noise * 0.3 if name.endswith("bias") else 1 + noise * 0.2)


def to_double(model):
    """transformers' norm rounds to float32 inside: written anew"""
    for m in model.modules():
        if type(m).__name__.endswith("RMSNorm"):
            def forward(x, m=m):
                return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon) * m.weight
            m.forward = forward
    return model.double().eval()


def weir(*args):
    p = subprocess.run(["./weir", *map(str, args)], capture_output=True, text=True)
    if p.returncode:
        raise SystemExit(f"weir {args}\n{p.stderr}")
    return p.stdout


def draw_rows(rnd, vocab):
    rows = []
    for i in range(6):
        if i % 2 == 0:
            prompt = [rnd.randrange(vocab) for _ in range(rnd.choice([1, 2, 17, 60, 150]))]
        rows.append(dict(group=f"g{i // 2}", prompt_ids=prompt, reward=rnd.choice([0.0, 1.0, 0.3]) + i % 2, version=0,
                         response_ids=[rnd.randrange(vocab) for _ in range(rnd.choice([1, 3, 16, 70]))]))
    return rows


def loss(model, rows):
    """log-probs of each row; leaves the gradient of grpo-nostd (ratio 1), token-mean, with entropy bonus in the model"""
    total, out, tokens = 0.0, [], sum(len(r["response_ids"]) for r in rows)
    for k, r in enumerate(rows):
        n = len(r["prompt_ids"])
        ids = torch.tensor(r["prompt_ids"] + r["response_ids"])
        logp = torch.log_softmax(model(ids[None]).logits[0, n - 1:-1] * INV_TEMP, -1)
        lp = logp.gather(-1, ids[n:, None])[:, 0]
        pair = [rows[k - k % 2]["reward"], rows[k - k % 2 + 1]["reward"]]
        total = total - ((r["reward"] - sum(pair) / 2) * lp.sum() + 0.01 * -(logp.exp() * logp).sum()) / tokens
        out.append(lp.detach().double())
    total.backward()
    return out


def one(i, seed, tmp):
    rnd, gen = random.Random(seed * 1000003 + i), torch.Generator().manual_seed(seed * 7919 + i)
    config = draw_config(rnd)
    folder = tmp / "model"
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_config(config)
    randomize(model, gen)
    shard = dict(max_shard_size=rnd.choice(["20KB", "100KB"])) if rnd.random() < 0.4 else {}
    model.to(rnd.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16])).save_pretrained(folder, **shard)
    load = dict(dtype=torch.float32, attn_implementation="sdpa")
    single = AutoModelForCausalLM.from_pretrained(folder, **load).eval()
    model = to_double(AutoModelForCausalLM.from_pretrained(folder, **load))
    rows = draw_rows(rnd, config.vocab_size)
    (tmp / "s.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = {e: weir("score", "--model", folder, "--engine", e, "--file", tmp / "s.jsonl", "--temperature", 0.8,
                   "--batch", rnd.choice([1, 3, 64]), "--chunk", rnd.choice([1, 5, 64, 256]), "--page",
                   rnd.choice([1, 4, 16, 64])) for e in ("trainer", "rollout")}
    assert out["trainer"] == out["rollout"], (config, "the engines differ")
    scored = [json.loads(line)["logprobs"] for line in out["trainer"].splitlines()]
    for r, s in zip(rows, scored):
        r["logprobs"] = s
    want, theirs = loss(model, rows), loss(single, rows)
    error = max((w.cpu() - torch.tensor(s, dtype=torch.float64)).abs().max().item() for w, s in zip(want, scored))
    torch_error = max((w - t).abs().max().item() for w, t in zip(want, theirs))
    (tmp / "b.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp / "r.yaml").write_text("name: fuzz\n")
    settings = SETS | {"trainer.batch.tokens": rnd.choice([400, 1000, 8192]),
                       "trainer.prefix": rnd.choice(["off", "packed", "schedule", "auto"])}
    args = [x for k, v in settings.items() for x in ("--set", f"{k}={v}")]
    shutil.rmtree(tmp / "out", ignore_errors=True)
    weir("step", "--model", folder, "--batch", tmp / "b.jsonl", "--recipe", tmp / "r.yaml", "--out", tmp / "out", *args)
    new = {}
    for f in (tmp / "out").glob("*.safetensors"):
        new |= load_file(f)
    largest = max(p.grad.abs().max().item() for p in model.parameters())
    off = torch_off = 0.0
    plain = dict(single.named_parameters())
    for name, p in model.named_parameters():
        want = -100 * p.grad / (1 + p.grad.abs())
        got = new[name].double() - p.detach()
        rounding = 6e-8 * (p.detach().abs() + want.abs())
        off = max(off, ((got - want).abs() - rounding).max().item() / (100 * largest))
        torch_off = max(torch_off, (plain[name].grad - p.grad).abs().max().item() / largest)
    return error, torch_error, off, torch_off, config


def main():
    models, seed = (list(map(int, sys.argv[1:])) + [40, 1][len(sys.argv) - 1:])[:2]
    results = []
    with tempfile.TemporaryDirectory() as d:
        for i in range(models):
            *r, config = one(i, seed, pathlib.Path(d))
            results.append(r)
            if r[0] > 2e-5 + 3 * r[1] or r[2] > 2e-5 + 3 * r[3]:
                print(f"model {i}: log-prob {r[0]:.1e} (PyTorch in float32: {r[1]:.1e}), gradient {r[2]:.1e} ({r[3]:.1e}) "
                      f"{json.dumps(config.to_diff_dict())}", flush=True)
    worst = [max(r[k] for r in results) for k in range(4)]
    print(f"{models} models; largest log-prob difference {worst[0]:.1e} (PyTorch in float32: {worst[1]:.1e}), largest "
          f"gradient difference {worst[2]:.1e} ({worst[3]:.1e}) of the largest element")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
