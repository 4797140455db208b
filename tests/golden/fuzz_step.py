#!/usr/bin/env python3
"""Random (batch, recipe) pairs: one `weir step` against PyTorch in float64, every loss, advantage, correction,
aggregation and the critic; the loss is written with autograd and detach, so no derivative is Weir's.

Usage: tests/golden/fuzz_step.py [PAIRS [SEED]] from the root of the repository, ./weir built. Not part of CI;
with the word `golden` it writes tests/golden/step/algorithms.json and batches instead, which is.
"""
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import make_step as ms  # noqa: E402

T64 = torch.float64
LIMIT = 20.0


def draw_recipe(rnd):
    c = {"loss": rnd.choice(["ppo-clip", "gspo", "cispo", "dppo", "decoupled", "topr"]),
         "advantage": rnd.choice(["grpo", "grpo-nostd", "rloo", "reinforce++", "reinforce++-baseline", "remax", "gae"]),
         "aggregation": rnd.choice(["token-mean", "sequence-mean", "sequence-sum", "constant"]),
         "tis": rnd.choice(["off", "off", "token", "sequence"]),
         "mask": rnd.choice(["off", "off", "token", "sequence", "geometric", "m2po"]),
         "denominator": rnd.choice(["behaviour", "behaviour", "recomputed"]), "proximal": "recompute",
         "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 0.0, "gamma": rnd.choice([1.0, 0.9]),
         "lambda": rnd.choice([1.0, 0.8]), "cap": 1.3, "low": 0.6, "high": 1.5, "m2": 0.1,
         "entropy": rnd.choice([0.0, 0.02]), "kl": rnd.choice([0.0, 0.0, 0.3]), "kl_type": rnd.choice(["k1", "k2", "k3"]),
         "place": "loss", "overlong": rnd.choice(["keep", "mask"]), "ess_lr": rnd.random() < 0.3,
         "optimal_baseline": False, "constant": rnd.choice([0.0, 7.0]), "dppo_kl": rnd.choice([0.0, 0.01]),
         "critic_clip": 0.5, "temperature": rnd.choice([1.0, 0.7]), "minibatches": 1}
    if c["loss"] == "dppo":
        c["denominator"] = "behaviour"
    if c["loss"] == "decoupled":
        c["proximal"] = rnd.choice(["recompute", "interpolate"])
        if c["proximal"] == "interpolate" and c["tis"] == "sequence":
            c["tis"] = "token"
    if c["loss"] in ("ppo-clip", "gspo", "decoupled") and rnd.random() < 0.4:
        c["dual_clip"] = 1.5
    if c["kl"] and rnd.random() < 0.5:
        c["place"] = "reward"
    if c["advantage"] in ("grpo", "grpo-nostd") and rnd.random() < 0.4:
        c["optimal_baseline"] = True
    return c


def sets_of(c, reference):
    a = "trainer.algorithm."
    s = {a + k: c[k] for k in ("loss", "advantage", "aggregation", "denominator", "proximal", "clip_low", "clip_high",
                               "dual_clip", "gamma", "lambda", "entropy", "overlong", "constant")}
    s |= {a + "correction." + k: c[k] for k in ("tis", "mask", "cap", "low", "high", "m2")}
    s |= {a + "kl.coef": c["kl"], a + "kl.type": c["kl_type"], a + "kl.place": c["place"], a + "kl.reference": reference,
          a + "dppo.low": 0.02, a + "dppo.high": 0.03, a + "dppo.kl": c["dppo_kl"], a + "critic.clip": c["critic_clip"],
          a + "ess_lr": str(c["ess_lr"]).lower(), a + "optimal_baseline": str(c["optimal_baseline"]).lower(),
          "rollout.temperature": c["temperature"], "rollout.group_size": 4, "rollout.max_prompt_tokens": 16,
          "rollout.max_new_tokens": 16, "trainer.device": "cpu", "trainer.batch.tokens": 64, "trainer.batch.groups": 4,
          "trainer.batch.minibatches": c["minibatches"], "trainer.staleness.max": 9, "trainer.optimizer.lr": c.get("lr", 1e-3),
          "trainer.optimizer.eps": 0.1, "trainer.optimizer.weight_decay": 0.0, "trainer.optimizer.clip_norm": 0.0}
    return [f"{k}={v}" for k, v in s.items()]


def limited(x):
    return x.clamp(-LIMIT, LIMIT).exp()


def _hidden(w, ids):
    """hidden states after the last norm, which is the last norm that the network calls"""
    real, out = ms.norm, {}

    def spy(x, weight):
        out["h"] = real(x, weight)
        return out["h"]
    ms.norm = spy
    try:
        ms.logits(w, ids)
    finally:
        ms.norm = real
    return out["h"]


def whiten(x):
    return (x - x.mean()) / (x.var() + 1e-8).sqrt() if len(x) > 1 else x * 0


def forward(w, ref, batch, c):
    out = []
    for t in batch:
        m = torch.tensor(t.get("loss_mask", [1] * len(t["response_ids"])), dtype=torch.bool)
        if c["overlong"] == "mask" and t.get("truncated"):
            m = m & False
        lp, ent = ms.response(w, t, c["temperature"])
        with torch.no_grad():
            f, _ = ms.response(ref, t, c["temperature"])
        b = torch.tensor(t["logprobs"], dtype=T64).float().double()
        d = {"lp": lp[m], "ent": ent[m], "f": f[m], "b": b[m], "n": int(m.sum()), "t": t}
        d["v"] = torch.tensor(t.get("versions", [t["version"]] * len(b)))[m]
        if c["advantage"] == "gae":
            n = len(t["prompt_ids"])
            h = _hidden(w, t["prompt_ids"] + t["response_ids"])[n - 1:-1][m]
            d["val"] = h @ w["value_head.weight"]
        out.append(d)
    return out


def kl_of(c, x):
    return ms.KINDS[c["kl_type"]](x)


def advantages(w, rows, c):
    groups = {}
    scores = []
    for d in rows:
        r = float(torch.tensor(d["t"]["reward"], dtype=torch.float32))
        kl = c["kl"] * kl_of(c, (d["lp"] - d["f"]).detach()) if c["place"] == "reward" else torch.zeros(d["n"], dtype=T64)
        d["tok"] = -kl
        d["score"] = r - float(kl.sum())
        if d["n"]:
            d["tok"] = d["tok"].clone()
            d["tok"][-1] += r
        groups.setdefault(d["t"]["group"], []).append(d)
        scores.append(d["score"])
    kind = c["advantage"]
    for g in groups.values():
        s = torch.tensor([d["score"] for d in g], dtype=T64)
        base = s.mean()
        if c["optimal_baseline"]:
            ws = []
            for d in g:
                if d["n"] == 0:
                    ws.append(0.0)
                    continue
                grads = torch.autograd.grad(d["lp"].sum(), [x for n, x in w.items() if n != "value_head.weight"],
                                            retain_graph=True)
                ws.append(sum((x ** 2).sum().item() for x in grads)
                          * limited((d["lp"].detach() - d["b"]).sum()).item() ** 2)
            ws = torch.tensor(ws, dtype=T64)
            if ws.sum() > 0:
                base = (ws * s).sum() / ws.sum()
        for i, d in enumerate(g):
            a = float(s[i] - base) if len(g) > 1 else 0.0
            if kind == "grpo" and len(g) > 1:
                a /= float(s.std()) + 1e-6
            if kind == "rloo" and len(g) > 1:
                a = float(s[i] - (s.sum() - s[i]) / (len(g) - 1))
            d["A"] = torch.full((d["n"],), a, dtype=T64)
    for d in rows:
        n = d["n"]
        if kind in ("reinforce++", "remax"):
            ret, acc = torch.zeros(n, dtype=T64), 0.0
            for k in reversed(range(n)):
                acc = float(d["tok"][k]) + c["gamma"] * acc
                ret[k] = acc
            d["A"] = ret - (float(torch.tensor(d["t"]["baseline"], dtype=torch.float32)) if kind == "remax" else 0.0)
        if kind == "gae":
            v = d["val"].detach()
            a, nxt = torch.zeros(n, dtype=T64), 0.0
            for k in reversed(range(n)):
                follow = float(v[k + 1]) if k + 1 < n else 0.0
                nxt = float(d["tok"][k]) + c["gamma"] * follow - float(v[k]) + c["gamma"] * c["lambda"] * nxt
                a[k] = nxt
            d["A"], d["ret"], d["v0"] = a, a + v, v
    if kind in ("reinforce++", "reinforce++-baseline", "gae"):
        flat = whiten(torch.cat([d["A"] for d in rows]))
        for d, part in zip(rows, flat.split([d["n"] for d in rows])):
            d["A"] = part


def keep_and_weigh(rows, c):
    xs = torch.cat([(d["lp"].detach() - d["b"]) for d in rows])
    order = xs.square().sort()
    bound = torch.zeros(len(xs), dtype=torch.bool)
    means = order.values.cumsum(0) / torch.arange(1, len(xs) + 1)
    bound[order.indices[means < c["m2"]]] = True
    for d, m2 in zip(rows, bound.split([d["n"] for d in rows])):
        x = d["lp"].detach() - d["b"]
        w = limited(x)
        if c["tis"] == "sequence":
            w = limited(x.sum()).expand(d["n"])
        always = c["loss"] == "decoupled"
        d["tis"] = w.clamp(max=c["cap"]) if c["tis"] != "off" else (w if always else torch.ones(d["n"], dtype=T64))
        m = {"off": torch.ones(d["n"], dtype=torch.bool), "token": (limited(x) >= c["low"]) & (limited(x) <= c["high"]),
             "m2po": m2}
        whole, mean = limited(x.sum()), limited(x.mean()) if d["n"] else torch.tensor(1.0)
        m["sequence"] = torch.full((d["n"],), bool(c["low"] <= whole <= c["high"]))
        m["geometric"] = torch.full((d["n"],), bool(c["low"] <= mean <= c["high"]))
        d["keep"] = m[c["mask"]].double()


def surrogate(r, a, c):
    pg = -torch.minimum(r * a, r.clamp(1 - c["clip_low"], 1 + c["clip_high"]) * a)
    if c["dual_clip"]:
        pg = torch.where(a < 0, torch.minimum(pg, -c["dual_clip"] * a), pg)
    return pg


def policy(d, c, version):
    lp, b, a = d["lp"], d["b"], d["A"]
    old = lp.detach() if c["denominator"] == "recomputed" else b
    r = limited(lp - old)
    if c["loss"] == "ppo-clip":
        return d["tis"] * surrogate(r, a, c)
    if c["loss"] == "gspo":
        s = (lp - old).detach().mean()
        return d["tis"] * surrogate((s + lp - lp.detach()).exp(), a, c)
    if c["loss"] == "cispo":
        return d["tis"] * -r.clamp(1 - c["clip_low"], 1 + c["clip_high"]).detach() * a * lp
    if c["loss"] == "topr":
        return d["tis"] * -torch.where(a > 0, torch.ones_like(r), r.clamp(max=1)).detach() * a * lp
    if c["loss"] == "dppo":
        rise = (lp.exp() - b.exp()).detach()
        drop = ((a > 0) & (rise > 0.03)) | ((a < 0) & (rise < -0.02))
        return d["tis"] * torch.where(drop, 0 * r, -r * a) + c["dppo_kl"] * (lp - b) ** 2
    if c["proximal"] == "interpolate":
        lag = version - d["v"]
        alpha = torch.where(lag > 0, (lag - 1) / lag.clamp(min=1), torch.zeros(len(lag))).float().double()
        prox = (b + alpha * (lp - b)).detach()
        w = (prox - b).exp()
        return (w.clamp(max=c["cap"]) if c["tis"] != "off" else w) * surrogate((lp - prox).exp(), a, c)
    return d["tis"] * surrogate((lp - lp.detach()).exp(), a, c)


def loss_of(rows, c, version):
    total, tokens = 0.0, sum(d["n"] for d in rows)
    seqs = sum(d["n"] > 0 for d in rows)
    for d in rows:
        if d["n"] == 0:
            continue
        share = {"token-mean": 1 / tokens, "sequence-mean": 1 / (seqs * d["n"]), "sequence-sum": 1 / seqs,
                 "constant": 1 / (seqs * (c["constant"] or 16))}[c["aggregation"]]
        one = policy(d, c, version) - c["entropy"] * d["ent"]
        if c["kl"] and c["place"] == "loss":
            one = one + c["kl"] * kl_of(c, d["lp"] - d["f"])
        total = total + share * (one * d["keep"]).sum()
        if c["advantage"] == "gae":
            v, ret, v0 = d["val"], d["ret"].float().double(), d["v0"]
            near = torch.maximum(torch.minimum(v, v0 + c["critic_clip"]), v0 - c["critic_clip"])
            total = total + 0.5 * share * 0.5 * torch.maximum((v - ret) ** 2, (near - ret) ** 2).sum()
    return total


def make_batch(gen, rnd, model, c):
    batch = ms.make_batch(gen, model, c["temperature"], 5, 4, rnd.choice([0.0, 0.3, 0.6]))
    for t in batch:
        n = len(t["response_ids"])
        t["versions"] = [rnd.randint(1, 5) for _ in range(n)]
        t["baseline"] = rnd.choice([0.0, 0.5, 1.0])
        t["truncated"] = rnd.random() < 0.2
    batch[-1]["truncated"] = False
    batch[-1]["versions"] = [5, 5]
    return batch


def reference_step(model, reference, head, batch, c):
    w = {n: t.double().clone().requires_grad_(True) for n, t in model.items()}
    if c["advantage"] == "gae":
        w["value_head.weight"] = head.double().clone().requires_grad_(True)
    rows = forward(w, {n: t.double() for n, t in reference.items()}, batch, c)
    order = {}
    for d in rows:
        order.setdefault(d["t"]["group"], []).append(d)
    rows = [d for g in order.values() for d in g]
    advantages(w, rows, c)
    keep_and_weigh(rows, c)
    value = loss_of(rows, c, 5)
    grads = torch.autograd.grad(value, list(w.values()), allow_unused=True)
    lr = c.get("lr", 1e-3)
    if c["ess_lr"]:
        s = torch.stack([limited((d["lp"].detach() - d["b"]).sum()) for d in rows])
        lr *= math.sqrt(float(s.sum() ** 2 / (len(s) * (s ** 2).sum())))
    return w, value.detach(), grads, lr, rows


def one(i, seed, model, reference, head, tmp):
    rnd, gen = random.Random(seed * 100003 + i), torch.Generator().manual_seed(seed * 7919 + i)
    c = draw_recipe(rnd)
    batch = make_batch(gen, rnd, model, c)
    (tmp / "b.jsonl").write_text("".join(json.dumps(t) + "\n" for t in batch))
    (tmp / "r.yaml").write_text("name: fuzz\n")
    args = ["./weir", "step", "--model", str(tmp / "model"), "--batch", str(tmp / "b.jsonl"), "--recipe",
            str(tmp / "r.yaml"), "--out", str(tmp / "out"), "--version", "5"]
    for s in sets_of(c, str(ms.HERE / "reference")):
        args += ["--set", s]
    p = subprocess.run(args, capture_output=True, text=True)
    if p.returncode:
        raise SystemExit(f"{c}\n{p.stderr}")
    got = json.loads(p.stdout)
    w, value, grads, lr, rows = reference_step(model, reference, head, batch, c)
    new = load_file(tmp / "out" / "model.safetensors")
    if c["advantage"] == "gae":
        new |= load_file(tmp / "out" / "value_head.safetensors")
    worst = abs(got["loss"] - float(value)) / (1 + abs(float(value)))
    norm = math.sqrt(sum(float((g ** 2).sum()) for g in grads if g is not None))
    worst = max(worst, abs(got["grad_norm"] - norm) / (1e-3 + norm))
    for (n, x), g in zip(w.items(), grads):
        g = torch.zeros_like(x) if g is None else g
        want = -lr * g / (g.abs() + 0.1)
        off = (new[n].double() - x.detach() - want).abs().max().item()
        scale = want.abs().max().item()
        rounding = 1.2e-7 * x.detach().abs().max().item()
        worst = max(worst, max(0.0, off - rounding) / (scale + 1e-9))
    return worst, c


def golden(model, reference, head):
    """one pair for each loss x a few draws: loss, gradient norm, and sum and norm of each tensor's update"""
    ms.save_file({"value_head.weight": head}, ms.HERE / "model" / "value_head.safetensors")
    listed = []
    for i in range(28):
        rnd, gen = random.Random(i), torch.Generator().manual_seed(i)
        c = draw_recipe(rnd)
        batch = make_batch(gen, rnd, model, c)
        c["lr"], name = 1.0, f"algorithm-{i:02}.jsonl"
        (ms.HERE / name).write_text("".join(json.dumps(t) + "\n" for t in batch))
        w, value, grads, scale, _ = reference_step(model, reference, head, batch, c)
        updates = {}
        for (n, x), g in zip(w.items(), grads):
            u = torch.zeros_like(x) if g is None else -scale * g / (g.abs() + 0.1)
            updates[n] = [float(u.sum()), float((u ** 2).sum().sqrt())]
        norm = math.sqrt(sum(float((g ** 2).sum()) for g in grads if g is not None))
        listed.append({"name": f"{c['loss']}-{c['advantage']}-{i}", "batch": name, "loss": float(value),
                       "grad_norm": norm, "updates": updates, "reference": True,
                       "sets": [s for s in sets_of(c, "") if not s.startswith("trainer.algorithm.kl.reference")]})
    (ms.HERE / "algorithms.json").write_text(json.dumps(listed, indent=0) + "\n")


def main():
    numbers = [int(x) for x in sys.argv[1:] if x.isdigit()] + [200, 1][len(sys.argv[1:]):]
    pairs, seed = (numbers + [200, 1])[0], (numbers + [1, 1])[1]
    model = load_file(ms.HERE / "model" / "model.safetensors")
    reference = load_file(ms.HERE / "reference" / "model.safetensors")
    head = 0.2 * torch.randn(ms.D, generator=torch.Generator().manual_seed(3))
    if "golden" in sys.argv:
        golden(model, reference, head)
        return
    results = []
    with tempfile.TemporaryDirectory() as d:
        tmp = pathlib.Path(d)
        (tmp / "model").mkdir()
        for f in (ms.HERE / "model").iterdir():
            (tmp / "model" / f.name).write_bytes(f.read_bytes())
        ms.save_file({"value_head.weight": head}, tmp / "model" / "value_head.safetensors")
        for i in range(pairs):
            worst, c = one(i, seed, model, reference, head, tmp)
            results.append((worst, i))
            if worst > 1e-3:
                print(f"pair {i}: {worst:.2e} {c}", flush=True)
    results.sort(reverse=True)
    print(f"{pairs} pairs, worst relative error {results[0][0]:.2e} (pair {results[0][1]}), "
          f"median {results[len(results) // 2][0]:.2e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
