#!/usr/bin/env python3
"""The shapes of bench/train_bench.c in PyTorch: one policy-gradient step with AdamW, fp32, one thread by default.

JSON lines as weir-bench prints them. Usage: bench/torch_train.py [--threads N] [--compile] [--seconds S]
"""
import argparse
import json
import statistics
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = [("0.26M", 64, 5, 8, 4, 172, 512, 4, 256), ("7M", 256, 8, 8, 4, 768, 4096, 4, 256),
          ("110M", 768, 12, 12, 12, 2048, 32000, 4, 64)]


def bench(name, d, layers, heads, kv, ffn, vocab, seqs, tokens, args):
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=d, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv, intermediate_size=ffn,
        vocab_size=vocab, max_position_embeddings=tokens, tie_word_embeddings=True, use_cache=False))
    forward = torch.compile(model) if args.compile else model
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], lr=1e-6)
    ids = torch.randint(vocab, (seqs, tokens))
    old = torch.full((seqs, tokens - 1), -torch.log(torch.tensor(float(vocab))).item())
    adv = torch.tensor([(-1.0) ** i for i in range(seqs)])[:, None]

    def step():
        opt.zero_grad(set_to_none=True)
        z = forward(ids[:, :-1]).logits.log_softmax(-1)
        lp = z.gather(2, ids[:, 1:, None])[..., 0]
        with torch.no_grad():
            (z.exp() * z).sum(-1)  # entropy, as the step reports it
        r = (lp - old).exp()
        loss = -torch.minimum(r * adv, r.clamp(0.8, 1.28) * adv).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()

    step()
    times, end = [], time.perf_counter() + args.seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    t = statistics.median(times)
    print(json.dumps({"bench": "torch_train", "shape": name, "parameters": sum(p.numel() for p in model.parameters()),
                      "tokens": f"{seqs}x{tokens}", "threads": args.threads, "compile": args.compile,
                      "step_ms": round(1e3 * t, 2), "tokens_per_s": round(seqs * tokens / t)}), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--seconds", type=float, default=5)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    for shape in SHAPES:
        bench(*shape, args)


if __name__ == "__main__":
    main()
