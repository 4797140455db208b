#!/usr/bin/env python3
"""The shapes of bench/train_bench.c and bench/engine_bench.c in PyTorch, fp32, eager: a policy-gradient step with AdamW,
and sampling with a KV cache.

By itself it prints JSON lines as weir-bench does: bench/torch_train.py [--threads N] [--compile] [--seconds S]
--first-step: one step of the smallest shape, then the end. --serve: commands of weir-bench, one a line, answered by ms.
"""
import argparse
import json
import statistics
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = [("0.26M", 64, 5, 8, 4, 172, 512, 4, 256), ("10M", 288, 6, 6, 6, 768, 12288, 4, 256),
          ("125M", 768, 12, 12, 12, 2048, 50304, 4, 256)]


def build(d, layers, heads, kv, ffn, vocab, context):
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=d, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=ffn,
        vocab_size=vocab, max_position_embeddings=context, tie_word_embeddings=True))


def trainer(d, layers, heads, kv, ffn, vocab, seqs, tokens, compiled=False):
    model = build(d, layers, heads, kv, ffn, vocab, tokens)
    forward = torch.compile(model) if compiled else model
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], lr=1e-6)
    ids = torch.randint(vocab, (seqs, tokens))
    old = torch.full((seqs, tokens - 1), -torch.log(torch.tensor(float(vocab))).item())
    adv = torch.tensor([(-1.0) ** i for i in range(seqs)])[:, None]

    def step():
        opt.zero_grad(set_to_none=True)
        z = forward(ids[:, :-1], use_cache=False).logits.log_softmax(-1)
        lp = z.gather(2, ids[:, 1:, None])[..., 0]
        with torch.no_grad():
            (z.exp() * z).sum(-1)  # entropy, as the step reports it
        r = (lp - old).exp()
        loss = -torch.minimum(r * adv, r.clamp(0.8, 1.28) * adv).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()

    return step, sum(p.numel() for p in model.parameters())


def bench(name, *dims, args):
    step, parameters = trainer(*dims, args.compile)
    seqs, tokens = dims[-2:]
    step()
    times, end = [], time.perf_counter() + args.seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    t = statistics.median(times)
    print(json.dumps({"bench": "torch_train", "shape": name, "parameters": parameters,
                      "tokens": f"{seqs}x{tokens}", "threads": args.threads, "compile": args.compile,
                      "step_ms": round(1e3 * t, 2), "tokens_per_s": round(seqs * tokens / t)}), flush=True)


@torch.inference_mode()
def decode(model, batch, prompt, new):
    """Milliseconds of one step of sampling."""
    out = model(torch.randint(model.config.vocab_size, (batch, prompt)), use_cache=True, logits_to_keep=1)
    start = time.perf_counter()
    for _ in range(new - 1):
        ids = torch.multinomial(out.logits[:, -1].softmax(-1), 1)
        out = model(ids, past_key_values=out.past_key_values, use_cache=True)
    return 1e3 * (time.perf_counter() - start) / (new - 1)


def answer(words, kept):
    """train SHAPE THREADS | decode SHAPE BATCH PROMPT NEW THREADS; -1: not a shape of ours."""
    shapes = {s[0]: s[1:] for s in SHAPES}
    if words[0] == "hello":
        return 0
    if words[1] not in shapes:
        return -1
    torch.set_num_threads(int(words[-1]))
    key, dims = tuple(words[:2]), shapes[words[1]]
    if key not in kept:
        kept.clear()  # one model at a time
        kept[key] = trainer(*dims)[0] if words[0] == "train" else build(*dims[:6], 1024).eval()
    if words[0] == "decode":
        return decode(kept[key], *map(int, words[2:5]))
    start = time.perf_counter()
    kept[key]()
    return 1e3 * (time.perf_counter() - start)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--serve", action="store_true")
    p.add_argument("--first-step", action="store_true")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    kept = {}
    if args.first_step:
        print(answer(["train", SHAPES[0][0], "1"], kept), flush=True)
        return
    if args.serve:
        for line in sys.stdin:
            print(answer(line.split(), kept), flush=True)
        return
    for shape in SHAPES:
        bench(*shape, args=args)


if __name__ == "__main__":
    main()
