#!/usr/bin/env python3
"""Makes tests/golden/models: one tiny random model of each family as a Hugging Face folder, and what
transformers computes with it in float64: logits, log-probs, entropies and the gradient of
  sum_i a_i * logprob_i + b_i * entropy_i     (at temperature 0.8, a and b random)
by every weight.

Made with torch 2.15, transformers 5.23. Run from the repository root:
  python tests/golden/make_models.py            writes the folders
  python tests/golden/make_models.py check DIR  compares DIR/NAME (written by
      WEIR_EXPORT=DIR weir-test --filter round_trip) with the originals, bit for bit

Float64 needs two repairs of transformers' code: its RMSNorm casts to float32, and so does eager
attention (sdpa does not). The rope tables stay as transformers computes them: in float32."""
import json, os, shutil, sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
BASE = dict(hidden_size=32, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=60, max_position_embeddings=128, rms_norm_eps=1e-5,
            bos_token_id=1, eos_token_id=2)
INV_TEMP = 1.25
LENGTHS = [72, 11, 1]  # 72: several times the original context (16) of llama3 and yarn


def rope(kind, **kw):
    return dict(rope_type=kind, rope_theta=10000.0, **kw)


# name -> (config, storage dtype, shard size or None, edit of config.json or None)
def old_llama3(c):  # the spelling of transformers 4
    r = c.pop("rope_parameters")
    c["rope_theta"] = r.pop("rope_theta")
    c["rope_scaling"] = r


def old_yarn(c):  # the spelling of the first Qwen2.5 releases
    old_llama3(c)
    c["rope_scaling"]["type"] = c["rope_scaling"].pop("rope_type")


MODELS = {
    "llama-gqa": (LlamaConfig(**BASE, tie_word_embeddings=False), torch.float32, None, None),
    "llama-llama3": (LlamaConfig(**BASE, tie_word_embeddings=True, rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)), torch.bfloat16, None, old_llama3),
    "llama-yarn": (LlamaConfig(**BASE, attention_bias=True, mlp_bias=True, rope_parameters=rope(
        "yarn", factor=8.0, original_max_position_embeddings=16)), torch.float32, "40KB", old_yarn),
    "mistral-window": (MistralConfig(**BASE, sliding_window=6), torch.float16, None, None),
    "qwen2-tied": (Qwen2Config(**BASE, tie_word_embeddings=True), torch.float32, None, None),
    "qwen3-norm": (Qwen3Config(**BASE, head_dim=16, tie_word_embeddings=False,
                               use_sliding_window=True, sliding_window=5, max_window_layers=1),
                   torch.float32, None, None),
}


# Rope tables of released settings: name -> config.json. Written as rope/NAME.json; cos and sin of
# POSITIONS, and the angles (for the tolerance), to rope/tables.safetensors.
def rope_config(**kw):
    return dict(model_type="llama", hidden_size=512, intermediate_size=8, num_hidden_layers=1,
                num_attention_heads=4, head_dim=128, vocab_size=8, rms_norm_eps=1e-5,
                architectures=["LlamaForCausalLM"], **kw)


POSITIONS = [0, 1, 2, 17, 300, 4095, 40000]
ROPES = {
    "plain": rope_config(max_position_embeddings=65536, rope_theta=1000000.0),
    "linear": rope_config(max_position_embeddings=65536, rope_theta=10000.0,
                          rope_scaling=dict(type="linear", factor=4.0)),
    "llama3": rope_config(max_position_embeddings=131072, rope_theta=500000.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=8192)),
    "yarn": rope_config(max_position_embeddings=131072, rope_parameters=dict(
        rope_type="yarn", rope_theta=1000000.0, factor=4.0,
        original_max_position_embeddings=32768)),
    "yarn-mscale": rope_config(max_position_embeddings=163840, rope_theta=10000.0, rope_scaling=dict(
        type="yarn", factor=40, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1,
        mscale=1.0, mscale_all_dim=0.707)),
    "yarn-exact": rope_config(max_position_embeddings=65536, rope_theta=150000.0, rope_scaling=dict(
        rope_type="yarn", factor=32.0, original_max_position_embeddings=4096, beta_fast=16.0,
        beta_slow=2.0, truncate=False, attention_factor=1.2)),
}


def make_ropes():
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    folder, out = os.path.join(os.path.dirname(OUT), "rope"), {}
    os.makedirs(folder, exist_ok=True)
    for name, c in ROPES.items():
        json.dump(c, open(os.path.join(folder, name + ".json"), "w"), indent=2, sort_keys=True)
        emb = LlamaRotaryEmbedding(LlamaConfig(**json.loads(json.dumps(c))))
        pos = torch.tensor(POSITIONS)[None]
        cos, sin = emb(torch.zeros(1), pos)
        half = cos.shape[-1] // 2
        out[name + ".cos"], out[name + ".sin"] = cos[0, :, :half], sin[0, :, :half]
        out[name + ".angle"] = pos[0, :, None].float() * emb.inv_freq[None]
    out["positions"] = torch.tensor(POSITIONS, dtype=torch.int32)
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(folder, "tables.safetensors"))


def randomize(model, gen):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if p.dim() == 2:
                p.copy_(noise * (0.6 if "embed" in name else 1.2 / p.shape[1] ** 0.5))
            elif name.endswith("bias"):
                p.copy_(noise * 0.3)
            else:
                p.copy_(1 + noise * 0.2)


def to_double(model):
    """The model in float64, its norms too."""
    for m in model.modules():
        if type(m).__name__.endswith("RMSNorm"):
            def forward(x, m=m):
                return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon) * m.weight
            m.forward = forward
    return model.double().eval()


def load(folder):
    m = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return m.eval()


def golden(folder, gen):
    plain, model = load(folder), to_double(load(folder))
    vocab = model.config.vocab_size
    seqs = [torch.randint(0, vocab, (n,), generator=gen) for n in LENGTHS]
    logits = torch.cat([model(s[None]).logits[0] for s in seqs])
    with torch.no_grad():  # the repairs changed nothing but the precision
        rough = torch.cat([plain(s[None]).logits[0] for s in seqs])
        assert (rough - logits).abs().max() < 2e-5 * logits.abs().max(), folder
    ids = torch.cat(seqs)
    rows, at = [], 0
    for n in LENGTHS:
        rows += range(at, at + max(n - 1, 1))
        at += n
    rows = torch.tensor(rows)
    targets = ids[(rows + 1) % len(ids)]
    a = torch.randn(len(rows), generator=gen) / len(rows)
    b = torch.randn(len(rows), generator=gen) / len(rows)
    logp = torch.log_softmax(logits[rows] * INV_TEMP, -1)
    lp = logp.gather(-1, targets[:, None])[:, 0]
    entropy = -(logp.exp() * logp).sum(-1)
    (a.double() @ lp + b.double() @ entropy).backward()
    i32, f32 = torch.int32, torch.float32
    out = dict(ids=ids.to(i32), lengths=torch.tensor(LENGTHS, dtype=i32), rows=rows.to(i32),
               targets=targets.to(i32), a=a, b=b, logits=logits.detach().to(f32),
               logprob=lp.detach().to(f32), entropy=entropy.detach().to(f32))
    for name, p in model.named_parameters():
        out["grad." + name] = p.grad.to(f32)
    save_file(out, os.path.join(folder, "golden.safetensors"))


def make(name, config, dtype, shard, edit):
    gen = torch.Generator().manual_seed(sum(name.encode()))
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_config(config)
    randomize(model, gen)
    model.to(dtype).save_pretrained(folder, **(dict(max_shard_size=shard) if shard else {}))
    path = os.path.join(folder, "config.json")
    c = json.load(open(path))
    c["torch_dtype" if edit else "dtype"] = c.pop("dtype")
    if edit:
        edit(c)
    json.dump(c, open(path, "w"), indent=2, sort_keys=True)
    golden(folder, gen)


def check(name, other):
    """Our export opens in transformers and holds the same bits, and computes the same logits."""
    mine, theirs = load(os.path.join(other, name)), load(os.path.join(OUT, name))
    a, b = dict(mine.named_parameters()), dict(theirs.named_parameters())
    assert a.keys() == b.keys(), name
    for k in a:
        assert torch.equal(a[k], b[k]), (name, k)
    ids = load_file(os.path.join(OUT, name, "golden.safetensors"))["ids"][None, :72].long()
    with torch.no_grad():
        diff = (mine(ids).logits - theirs(ids).logits).abs().max().item()
    assert diff == 0, (name, diff)
    print(name, "same bits, same logits")


if len(sys.argv) == 3 and sys.argv[1] == "check":
    for n in MODELS:
        check(n, sys.argv[2])
else:
    make_ropes()
    for n, m in MODELS.items():
        make(n, *m)
