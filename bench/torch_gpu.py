#!/usr/bin/env python3
"""The shapes of weir-bench gpu-model and gpu-ops in PyTorch on one device, bf16: attention forward and backward by each
backend (cuDNN, flash), a training step (fused attention, fused AdamW, optionally compiled) and a decode step (static
cache, a CUDA graph), each in turn with a large matrix product or a copy.

bench/torch_gpu.py [--device cuda] [--quick] [--compile] [--seconds S]. JSON lines. --quick --device cpu shows that it works.
"""
import argparse
import json
import statistics
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM, StaticCache

MODELS = [("qwen3-0.6b", 1024, 28, 16, 8, 128, 3072, 151936, True), ("qwen3-1.7b", 2048, 28, 16, 8, 128, 6144, 151936, True),
          ("qwen3-4b", 2560, 36, 32, 8, 128, 9728, 151936, True), ("llama3-8b", 4096, 32, 32, 8, 128, 14336, 128256, False)]
TINY = [("tiny", 32, 2, 2, 1, 16, 64, 96, True)]


def build(shape, context, layers, device):
    _, d, _, heads, kv, width, ffn, vocab, qwen = shape
    config, model = (Qwen3Config, Qwen3ForCausalLM) if qwen else (LlamaConfig, LlamaForCausalLM)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        m = model(config(hidden_size=d, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
                         head_dim=width, intermediate_size=ffn, vocab_size=vocab, max_position_embeddings=context,
                         tie_word_embeddings=qwen, attn_implementation="sdpa"))
    torch.set_default_dtype(torch.float32)
    return m


def wait(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def once(device, f):
    wait(device)
    start = time.perf_counter()
    f()
    wait(device)
    return time.perf_counter() - start


def pairs(args, own, peer, own_work, peer_work):
    """Shares of the peer's rate, taken in turn."""
    for f in (own, own, peer):
        f()
    shares, times, end = [], [], time.perf_counter() + args.seconds
    while len(shares) < 3 or (time.perf_counter() < end and len(shares) < 9):
        a, b = once(args.device, own), once(args.device, peer)
        shares.append(own_work / a / (peer_work / b))
        times.append(a)
    return {"share": statistics.median(shares), "min": min(shares), "max": max(shares), "n": len(shares),
            "ms": 1e3 * statistics.median(times)}


def product(args):
    n = 64 if args.quick else 8192
    a, b = (torch.randn(n, n, device=args.device, dtype=torch.bfloat16) for _ in range(2))
    return lambda: torch.mm(a, b), 2 * n**3


def copy(args):
    n = 1 << (12 if args.quick else 28)
    a, b = (torch.randn(n, device=args.device) for _ in range(2))
    return lambda: b.copy_(a), 8 * n


def attention(args, shape, seqs, length, backend):
    """Causal, grouped heads; where a backend does not take groups, keys and values are repeated (and the line says so)."""
    name, _, _, heads, kv, width, _, _, _ = shape

    def tensor(n):
        return torch.randn(seqs, n, length, width, device=args.device, dtype=torch.bfloat16, requires_grad=True)

    def forward():
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)

    q, k, v, grouped = tensor(heads), tensor(kv), tensor(kv), True
    try:
        out = forward()
    except RuntimeError:
        k, v, grouped = tensor(heads), tensor(heads), False
        out = forward()
    g = torch.randn_like(out)
    flops = 2 * heads * width * seqs * length**2
    with torch.no_grad():
        lines = {"forward": pairs(args, forward, *reversed_pair(flops, product(args)))}
    backward = lambda: torch.autograd.grad(out, (q, k, v), g, retain_graph=True)
    lines["reverse"] = pairs(args, backward, *reversed_pair(2.5 * flops, product(args)))
    for which, line in lines.items():
        line |= {"bench": "torch attention", "model": name, "backend": backend.name, "pass": which, "grouped": grouped,
                 "tokens": f"{seqs}x{length}", "against": "a large square product"}
        print(json.dumps(line), flush=True)


def train(args, shape, seqs, length, layers):
    name, d, _, heads, kv, width, ffn, vocab, _ = shape
    model = build(shape, length, layers, args.device)
    forward = torch.compile(model) if args.compile else model
    opt = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=args.device.startswith("cuda"))
    ids = torch.randint(vocab, (seqs, length), device=args.device)

    def step():
        opt.zero_grad(set_to_none=True)
        logits = forward(ids, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()

    rows = seqs * length
    matrices = layers * d * (2 * heads * width + 2 * kv * width + 3 * ffn) + vocab * d
    flops = 6 * matrices * rows + 12 * layers * heads * width * rows * length / 2
    line = pairs(args, step, *reversed_pair(flops, product(args)))
    line |= {"bench": "torch train", "model": name, "layers": layers, "of_layers": shape[2], "tokens": f"{seqs}x{length}",
             "compile": args.compile, "tokens_per_s": rows / line["ms"] * 1e3, "against": "a large square product"}
    print(json.dumps(line), flush=True)


def reversed_pair(own_work, peer):
    """(peer function, own work, peer work) in the order of pairs()."""
    return peer[0], own_work, peer[1]


@torch.inference_mode()
def decode(args, shape, batch, context, layers):
    name, d, _, heads, kv, width, ffn, vocab, _ = shape
    model = build(shape, context, layers, args.device).eval()
    cache = StaticCache(config=model.config, max_cache_len=context)
    token = torch.zeros((batch, 1), dtype=torch.long, device=args.device)
    at = torch.tensor([[context - 1]], device=args.device).expand(batch, 1)
    where = torch.tensor([context - 1], device=args.device)

    def step():
        logits = model(token, past_key_values=cache, position_ids=at, cache_position=where, use_cache=True).logits[:, -1]
        token.copy_(torch.multinomial(logits.float().softmax(-1), 1))

    run, graph = step, False
    step()
    if args.device.startswith("cuda"):
        try:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                step()
            wait(args.device)
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured):
                step()
            run, graph = captured.replay, True
        except RuntimeError as e:
            print(f"torch_gpu: no CUDA graph: {e}", file=sys.stderr)
    matrices = layers * d * (2 * heads * width + 2 * kv * width + 3 * ffn) + vocab * d
    bytes_ = 2 * matrices + 4 * layers * kv * width * batch * context
    line = pairs(args, run, *reversed_pair(bytes_, copy(args)))
    line |= {"bench": "torch decode", "model": name, "layers": layers, "of_layers": shape[2], "batch": batch,
             "context": context, "graph": graph, "tokens_per_s": batch / line["ms"] * 1e3, "against": "a copy"}
    print(json.dumps(line), flush=True)


def attempt(what, f, *a):
    """What does not fit, or is not there, is said and left out."""
    try:
        f(*a)
    except Exception as e:
        reason = "out of memory" if isinstance(e, torch.OutOfMemoryError) else str(e).strip().split("\n")[0][:200]
        print(json.dumps({"bench": what, "model": a[1][0], "with": str(a[-1]), "skipped": reason}), flush=True)
    if a[0].device.startswith("cuda"):
        torch.cuda.empty_cache()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--device", default="cuda")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--seconds", type=float, default=1)
    args = p.parse_args()
    shapes = TINY if args.quick else MODELS
    for length in (8,) if args.quick else (2048, 8192):
        for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
            attempt("torch attention", attention, args, shapes[-1], 2 if args.quick else 16384 // length, length, backend)
    for shape in shapes:
        layers = shape[2]
        for batch in (2,) if args.quick else (1, 64, 256):
            attempt("torch decode", decode, args, shape, batch, 16 if args.quick else 1024, layers)
        # AdamW in bf16 here; where the activations of all layers do not fit, a quarter of them
        layers = layers if args.quick or shape[1] <= 2048 else layers // 4
        attempt("torch train", train, args, shape, 2 if args.quick else 4, 8 if args.quick else 2048, layers)
    for shape in () if args.quick else shapes:
        attempt("torch decode", decode, args, shape, 64, 8192, shape[2])
        attempt("torch train", train, args, shape, 1, 8192, shape[2] if shape[1] <= 2048 else shape[2] // 4)


if __name__ == "__main__":
    main()
