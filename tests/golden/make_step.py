#!/usr/bin/env python3
"""Makes tests/golden/step/: a tiny model, batches, and what one or two optimizer steps do to it.

Everything is computed in float64 with PyTorch's autograd and AdamW from a network written down here, independent of
Weir. Usage: tests/golden/make_step.py (needs torch and safetensors; writes beside itself).
"""
import json
import math
import pathlib

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent / "step"
V, D, LAYERS, HEADS, KV, HD, FFN, CONTEXT, EPS, THETA = 32, 16, 2, 2, 1, 4, 16, 32, 1e-5, 10000.0


def shapes():
    out = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (D,), p + "post_attention_layernorm.weight": (D,),
                p + "self_attn.q_proj.weight": (HEADS * HD, D), p + "self_attn.k_proj.weight": (KV * HD, D),
                p + "self_attn.v_proj.weight": (KV * HD, D), p + "self_attn.o_proj.weight": (D, HEADS * HD),
                p + "mlp.gate_proj.weight": (FFN, D), p + "mlp.up_proj.weight": (FFN, D),
                p + "mlp.down_proj.weight": (D, FFN)}
    return out


def norm(x, w):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS) * w


def rope(x):  # x [n, heads, HD]
    n = x.shape[0]
    freq = THETA ** (-torch.arange(0, HD, 2, dtype=torch.float64) / HD)
    angle = torch.arange(n, dtype=torch.float64)[:, None] * freq
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
    a, b = x[..., : HD // 2], x[..., HD // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def logits(w, ids):
    n = len(ids)
    x = w["model.embed_tokens.weight"][torch.tensor(ids)]
    causal = torch.full((n, n), -math.inf, dtype=torch.float64).triu(1)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"])
        q = rope((h @ w[p + "self_attn.q_proj.weight"].T).view(n, HEADS, HD))
        k = rope((h @ w[p + "self_attn.k_proj.weight"].T).view(n, KV, HD)).repeat_interleave(HEADS // KV, 1)
        v = (h @ w[p + "self_attn.v_proj.weight"].T).view(n, KV, HD).repeat_interleave(HEADS // KV, 1)
        s = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(HD) + causal
        o = torch.einsum("hqk,khd->qhd", s.softmax(-1), v).reshape(n, HEADS * HD)
        x = x + o @ w[p + "self_attn.o_proj.weight"].T
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        gate, up = h @ w[p + "mlp.gate_proj.weight"].T, h @ w[p + "mlp.up_proj.weight"].T
        x = x + (torch.nn.functional.silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


def response(w, t, temperature):
    """log-probs and entropies of the response tokens"""
    ids = t["prompt_ids"] + t["response_ids"]
    z = (logits(w, ids) / temperature).log_softmax(-1)[len(t["prompt_ids"]) - 1: len(ids) - 1]
    lp = z.gather(1, torch.tensor(t["response_ids"])[:, None])[:, 0]
    return lp, -(z.exp() * z).sum(-1)


def advantages(batch, std):
    groups = {}
    for t in batch:
        groups.setdefault(t["group"], []).append(t["reward"])
    out = []
    for t in batch:
        r = torch.tensor(groups[t["group"]], dtype=torch.float64)
        a = t["reward"] - r.mean()
        out.append(0.0 if len(r) < 2 else (a / (r.std() + 1e-6) if std else a).item())
    return out


KINDS = {"k1": lambda x: x, "k2": lambda x: x * x / 2, "k3": lambda x: (-x).exp() - 1 + x}


def loss(w, ref, batch, c):
    adv = advantages(batch, c["std"])
    masks = [torch.tensor(t.get("loss_mask", [1] * len(t["response_ids"])), dtype=torch.float64) for t in batch]
    total, count, seqs = 0.0, sum(m.sum() for m in masks), sum(1 for m in masks if m.sum() > 0)
    stats = {"entropy": 0.0, "kl": 0.0, "clip_fraction": 0.0}
    for t, a, m in zip(batch, adv, masks):
        if m.sum() == 0:
            continue
        lp, ent = response(w, t, c["temperature"])
        r = (lp - torch.tensor(t["logprobs"], dtype=torch.float64)).exp()
        clipped = r.clamp(1 - c["clip_low"], 1 + c["clip_high"])
        token = -torch.minimum(r * a, clipped * a) - c["entropy"] * ent
        stats["clip_fraction"] += ((clipped * a < r * a) * m).sum().item()
        stats["entropy"] += (ent * m).sum().item()
        if c["kl"]:
            with torch.no_grad():
                f, _ = response(ref, t, c["temperature"])
            kl = KINDS[c["kl"]](lp - f)
            token = token + c["coef"] * kl
            stats["kl"] += (kl * m).sum().item()
        weight = 1 / (seqs * m.sum()) if c["sequence"] else 1 / count
        total = total + (token * m).sum() * weight
    return total, {k: float(v / count) for k, v in stats.items()}


def align(g, p, c):
    """(gradient to use, cosine): the parallel part is removed down to cosine c_low"""
    if p is None:
        return g, None
    names = list(g)
    d = sum((g[n] * p[n]).sum() for n in names)
    gg, pp = (sum((x[n] ** 2).sum() for n in names) for x in (g, p))
    cos = (d / (gg * pp).sqrt()).item()
    lo = c.get("c_low")
    if lo is None or cos <= lo:
        return g, cos
    # an independent way: orthogonal part kept, parallel part of the length that gives the cosine lo
    orth = {n: g[n] - d / pp * p[n] for n in names}
    length = sum((orth[n] ** 2).sum() for n in names).sqrt() * lo / math.sqrt(1 - lo * lo)
    return {n: orth[n] + length / pp.sqrt() * p[n] for n in names}, cos


def run(model, reference, batches, c):
    w = {n: t.double().clone().requires_grad_(True) for n, t in model.items()}
    ref = {n: t.double() for n, t in (reference if c["reference"] else model).items()}
    matrices, vectors = [t for t in w.values() if t.dim() == 2], [t for t in w.values() if t.dim() == 1]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": c["decay"]}, {"params": vectors, "weight_decay": 0.0}],
                            betas=(0.9, 0.95), eps=c["eps"])
    reports, previous = [], None
    for step, batch in enumerate(batches):
        opt.zero_grad()
        value, stats = loss(w, ref, batch, c)
        value.backward()
        g = {n: t.grad.clone() for n, t in w.items()}
        raw = sum((x ** 2).sum() for x in g.values()).sqrt().item()
        used, cosine = align(g, previous, c)
        size = sum((x ** 2).sum() for x in used.values()).sqrt().item()
        scale = min(1.0, c["clip_norm"] / (size + 1e-6))
        for n, t in w.items():
            t.grad.copy_(used[n] * scale)
        for group in opt.param_groups:
            group["lr"] = c["lr"] * (step + 1) / c["warmup"] if step < c["warmup"] else c["lr"]
        opt.step()
        previous = g
        reports.append({"loss": value.item(), "grad_norm": raw, "gac.cosine": cosine, **stats})
    return {n: t.detach().float() for n, t in w.items()}, reports


def sets_of(c):
    s = ["trainer.algorithm.advantage=" + ("grpo" if c["std"] else "grpo-nostd"),
         "trainer.algorithm.aggregation=" + ("sequence-mean" if c["sequence"] else "token-mean"),
         f"trainer.algorithm.entropy={c['entropy']}", f"trainer.algorithm.clip_low={c['clip_low']}",
         f"trainer.algorithm.clip_high={c['clip_high']}", f"rollout.temperature={c['temperature']}",
         f"trainer.optimizer.lr={c['lr']}", f"trainer.optimizer.eps={c['eps']}",
         f"trainer.optimizer.weight_decay={c['decay']}", f"trainer.optimizer.clip_norm={c['clip_norm']}",
         f"trainer.optimizer.warmup={c['warmup']}"]
    if c["kl"]:
        s += [f"trainer.algorithm.kl.type={c['kl']}", f"trainer.algorithm.kl.coef={c['coef']}"]
    if "c_low" in c:
        s += ["trainer.alignment.mode=on", f"trainer.alignment.c_low={c['c_low']}", "trainer.alignment.c_high=1.0"]
    return s


def make_batch(gen, model, temperature, version, groups, shift):
    """log-probs are the model's own plus noise, and for some tokens far enough off that the clip acts on both sides"""
    def draw(n):
        return int(torch.randint(n, (1,), generator=gen))
    batch = []
    for g in range(groups):
        prompt = [draw(V) for _ in range(1 + draw(6))]
        for i in range(4 if g else 3):
            t = {"group": f"g{g}", "prompt_ids": prompt, "response_ids": [draw(V) for _ in range(1 + draw(9))]}
            n = len(t["response_ids"])
            with torch.no_grad():
                lp, _ = response({k: v.double() for k, v in model.items()}, t, temperature)
            lp = lp + 0.05 * torch.randn(n, generator=gen, dtype=torch.float64)
            lp = lp + shift * torch.randint(-1, 2, (n,), generator=gen)
            t["logprobs"] = [round(min(x, 0.0), 6) for x in lp.tolist()]
            t["reward"] = [0.0, 1.0, 0.5, 1.0][(i + draw(2)) % 4] if g != 1 else 1.0
            if draw(2):
                t["loss_mask"] = [0 if draw(4) == 0 else 1 for _ in range(n)]
            t["version"] = version
            batch.append(t)
    batch.append({"group": "single", "prompt_ids": [3], "response_ids": [5, 6], "logprobs": [-3.5, -3.4], "reward": 1.0,
                  "version": version})
    return batch


def cases():
    base = {"std": True, "sequence": False, "kl": None, "coef": 0.0, "entropy": 0.0, "clip_low": 0.2, "clip_high": 0.28,
            "temperature": 1.0, "lr": 1e-3, "eps": 1e-4, "decay": 0.1, "clip_norm": 1.0, "warmup": 0, "reference": True}
    out = {}
    for sequence in (False, True):
        for i, kl in enumerate((None, "k1", "k2", "k3")):
            for j, std in enumerate((True, False)):
                entropy = 0.02 if (i + j + sequence) % 2 else 0.0
                name = f"{'seq' if sequence else 'tok'}-{kl or 'nokl'}-{'std' if std else 'nostd'}"
                out[name] = base | {"sequence": sequence, "kl": kl, "coef": 0.3 if kl else 0.0, "std": std,
                                    "entropy": entropy, "temperature": 0.7 if i % 2 else 1.0}, ["b0"]
    for name in ("tok-nokl-std", "seq-k1-nostd"):
        out[name][0]["eps"] = 1e-8
    out["two-steps"] = base | {"kl": "k3", "coef": 0.5, "reference": False, "warmup": 3, "entropy": 0.01,
                               "eps": 1e-8}, ["b0", "b1"]
    out["linear"] = base | {"eps": 0.1, "clip_norm": 0.05, "decay": 0.0}, ["b0"]
    out["aligned"] = base | {"c_low": 0.1, "eps": 0.01}, ["b0", "b0"]
    return out


def main():
    gen = torch.Generator().manual_seed(20)
    model, reference = {}, {}
    for n, s in shapes().items():
        mean, sd = (1.0, 0.1) if len(s) == 1 else (0.0, 0.25)
        model[n] = (mean + sd * torch.randn(s, generator=gen, dtype=torch.float64)).float()
        reference[n] = (model[n].double() + 0.05 * torch.randn(s, generator=gen, dtype=torch.float64)).float()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": D, "intermediate_size": FFN,
              "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV, "head_dim": HD,
              "vocab_size": V, "max_position_embeddings": CONTEXT, "rms_norm_eps": EPS, "rope_theta": THETA,
              "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True,
              "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"}
    for name, weights in (("model", model), ("reference", reference)):
        d = HERE / name
        d.mkdir(parents=True, exist_ok=True)
        (d / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        save_file(weights, d / "model.safetensors", metadata={"format": "pt"})
    batches = {"b0": make_batch(gen, model, 1.0, 0, 4, 0.6), "b1": make_batch(gen, model, 1.0, 1, 3, 0.0)}
    for name, b in batches.items():
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(t) + "\n" for t in b))
    listed = []
    for name, (c, files) in cases().items():
        weights, reports = run(model, reference, [batches[f] for f in files], c)
        (HERE / name).mkdir(exist_ok=True)
        save_file(weights, HERE / name / "model.safetensors", metadata={"format": "pt"})
        listed.append({"name": name, "sets": sets_of(c), "reference": bool(c["kl"] and c["reference"]),
                       "batches": [f + ".jsonl" for f in files], "reports": reports})
        print(name, reports)
    (HERE / "cases.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
