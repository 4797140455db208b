#!/usr/bin/env python3
"""Random tokenizers, composed of random normalizers, pre-tokenizers, added tokens, BPE options and decoders, against
the reference library on random Unicode text: encoding, with special tokens, and decoding of the ids and of random ids.

Usage: tests/golden/fuzz_tokenizers.py [TOKENIZERS [SEED [TEXTS]]] from the root of the repository, ./weir built. Not
part of CI."""
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

N, P, D = normalizers, pre_tokenizers, decoders
REGEXES = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))|\p{L}+", r"(?<=\d)(?=(\d{3})+(?!\d))|\s", r"[\u4e00-\u9fa5\u3040-\u30ff]+",
    r"\p{Han}+|\p{Hangul}+|[\p{Lu}]\p{Ll}*", r"\d{1,4}|[A-Fa-f]+|[^\w\s]", r"(?:\r?\n)+|\h+", r"\b\w|\B.",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
    r"\s?\p{L}+|\s?\p{P}+|[一-龥ࠀ-一가-퟿]+|\p{N}", r"(\p{L})\p{M}*", r"^\s+|\s+$", r".{1,5}", r"a|e|i|o|u",
    r" ?[^(\s|[.,!?…。，、।۔،])]+", r"[a-f[x-z[0-4]]é[日本]]+| [^[a-m]\n]"]
LETTERS = ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789   \t\n\r'.,!?-_/\\<>[]()\"$%éßñöüçøÅ\u0301\u0308ſﬁ½²"
           "привет你好世界日本語カナ안녕שלוםمرحباไทยहिन्दी😀👍🏽👨\u200d👩🇩🇪▁Ġ\u00a0\u3000\u200b\u2028\u0085\u1e9b\u0323\u212b\ufb03")
WORDS = ["the", " the", "The", "don't", "WE'LL", "'ſ", "1234567", "3.14", "  ", "\n\n", "\r\n", "<s>", "</s>", "<|im|>", "<a>", "<ab",
         "[X]", "wörd", "naïve", "e\u0301", "한국어", "\u1112\u1161\u11ab", "日本", "👨\u200d👩\u200d👧", "\u0000", "\u2581", "café", "x y",
         "<0x41>", "\ufeff", "İ", "ǅ", "Σς", "ﬀ", "\U0001d15e", "\u0344", "\u0f71\u0f72", "٣٤", "Ⅷ", "_", "\u180e"]
CORPUS = ["the cat sat on the mat and the dog ran to the house again and again", "numbers 1234 56789 42% 3.14 1,000,000",
          "Hello World HELLO world don't we'll they're I've", "naïve café über straße e\u0301te\u0301", "привет мир как дела",
          "你好世界 日本語 カナ", "안녕하세요 한국어", "שלום مرحبا हिन्दी", "def f(x):\n    return x * 2\n\n\n", "😀 👍🏽 👨‍👩‍👧", "<a> [X] </s>"] * 6


def draw_text(rnd):
    out = []
    for _ in range(rnd.choice([0, 1, 2, 5, 12, 30])):
        kind = rnd.random()
        if kind < 0.35:
            out.append(rnd.choice(WORDS))
        elif kind < 0.75:
            out.append("".join(rnd.choice(LETTERS) for _ in range(rnd.randint(1, 6))))
        elif kind < 0.85:
            out.append(rnd.choice(" \t\n'e1我!") * rnd.choice([1, 2, 3, 9, 40]))
        else:
            c = rnd.choice([rnd.randrange(0x250), rnd.randrange(0x3000), rnd.randrange(0x10000), rnd.randrange(0x20000)])
            # characters newer than the libraries' tables may be classed otherwise: assigned ones only
            out.append(chr(c) if not 0xd800 <= c < 0xe000 and unicodedata.category(chr(c)) != "Cn" else "-")
    return "".join(out)


def draw_pattern(rnd):
    return Regex(rnd.choice(REGEXES)) if rnd.random() < 0.7 else rnd.choice([" ", "'", "e", "ab", "\n", "▁", "日"])


def draw_normalizer(rnd, metaspace):
    steps = []
    for _ in range(rnd.choice([0, 0, 1, 2, 3])):
        steps.append(rnd.choice([
            N.NFC, N.NFD, N.NFKC, N.NFKD, N.Lowercase, lambda: N.Strip(rnd.random() < 0.5, rnd.random() < 0.5),
            lambda: N.Replace(draw_pattern(rnd), rnd.choice(["", " ", "x", "▁", "ab"])),
            lambda: N.Prepend(rnd.choice(["▁", " ", "ab"]))])())
    if metaspace:
        steps += [N.Prepend("▁"), N.Replace(" ", "▁")]
    return N.Sequence(steps) if len(steps) != 1 else steps[0]


BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


def draw_splits(rnd):
    steps = []
    for _ in range(rnd.choice([0, 1, 1, 2])):
        steps.append(rnd.choice([
            lambda: P.Split(draw_pattern(rnd), rnd.choice(["isolated", "isolated", *BEHAVIORS]), rnd.random() < 0.2),
            lambda: P.Digits(rnd.random() < 0.5), lambda: P.Punctuation(rnd.choice(BEHAVIORS)), P.Whitespace,
            P.WhitespaceSplit, P.BertPreTokenizer])())
    return steps


def draw_added(rnd, tok):
    for name in rnd.sample([w for w in WORDS if w.strip()] + ["ab", "b c", "<ab>", "<abc>", " x", "x ", "日", "'s"], rnd.choice([0, 3, 8, 14])):
        token = AddedToken(name, single_word=rnd.random() < 0.3, lstrip=rnd.random() < 0.3, rstrip=rnd.random() < 0.3,
                           normalized=rnd.random() < 0.5, special=rnd.random() < 0.5)
        (tok.add_special_tokens if token.special else tok.add_tokens)([token])


def train(tok, size, special, alphabet):
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False, limit_alphabet=rnd_alphabet(size),
        initial_alphabet=P.ByteLevel.alphabet() if alphabet else []))


def rnd_alphabet(size):
    return 60 if size < 700 else 1000


def byte_level(rnd):
    tok = Tokenizer(models.BPE(ignore_merges=rnd.random() < 0.3))
    steps = draw_splits(rnd)
    steps.append(P.ByteLevel(add_prefix_space=rnd.random() < 0.3, use_regex=rnd.random() < 0.4))
    tok.pre_tokenizer = P.ByteLevel(add_prefix_space=False)
    train(tok, rnd.choice([300, 420, 600]), ["<s>", "</s>"], True)
    tok.normalizer = draw_normalizer(rnd, False)
    tok.pre_tokenizer = P.Sequence(steps) if len(steps) > 1 else steps[0]
    tok.decoder = D.ByteLevel()
    return tok


def pieces(rnd):
    fallback = rnd.random() < 0.7
    tok = Tokenizer(models.BPE(unk_token=None if rnd.random() < 0.15 else "<unk>", byte_fallback=fallback, fuse_unk=rnd.random() < 0.6,
                               ignore_merges=rnd.random() < 0.2))
    tok.pre_tokenizer = P.Metaspace()
    train(tok, rnd.choice([420, 800]), ["<unk>", "<s>", "</s>"] + ([f"<0x{i:02X}>" for i in range(256)] if fallback else []), False)
    doc = json.loads(tok.to_str())
    doc["added_tokens"] = doc["added_tokens"][:3]
    doc["pre_tokenizer"] = None
    tok = Tokenizer.from_str(json.dumps(doc))
    how = rnd.choice(["normalizer", "metaspace", "split"])
    tok.normalizer = draw_normalizer(rnd, how == "normalizer")
    meta = P.Metaspace(prepend_scheme=rnd.choice(["always", "first", "never"]), split=rnd.random() < 0.5)
    if how != "normalizer":
        steps = (draw_splits(rnd) if how == "split" else []) + [meta]
        tok.pre_tokenizer = P.Sequence(steps) if len(steps) > 1 else meta
    tok.decoder = rnd.choice([
        lambda: D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]),
        lambda: D.Sequence([D.ByteFallback(), D.Metaspace(prepend_scheme=rnd.choice(["always", "first", "never"]))]),
        D.Metaspace, lambda: D.Sequence([D.Fuse(), D.Replace(Regex(r"▁+"), " ")]),
        lambda: D.Sequence([D.Replace("▁", " "), D.Fuse(), D.Strip(rnd.choice([" ", "e"]), rnd.randint(0, 3), rnd.randint(0, 3))])])()
    return tok


def draw(rnd):
    tok = byte_level(rnd) if rnd.random() < 0.5 else pieces(rnd)
    draw_added(rnd, tok)
    if rnd.random() < 0.5:
        ids = [(n, tok.token_to_id(n)) for n in ("<s>", "</s>")]
        frame = processors.TemplateProcessing(single=rnd.choice(["<s> $A", "$A </s>", "<s> $A </s> </s>"]), pair="$A $B", special_tokens=ids)
        tok.post_processor = frame if rnd.random() < 0.5 else processors.Sequence([processors.ByteLevel(trim_offsets=False), frame])
    return tok


def weir(folder, lines, *options):
    p = subprocess.run(["./weir", "tokenize", "--model", str(folder), *options], input="\n".join(lines) + "\n", capture_output=True, text=True)
    return [json.loads(x) for x in p.stdout.split("\n")[:-1]] if p.returncode == 0 else p.stderr.strip()


def tried(f, inputs):
    """what the reference answers; None where it panics, as its Strip decoder does on an empty token"""
    out = []
    for x in inputs:
        try:
            out.append(f(x))
        except BaseException as e:
            if type(e).__name__ != "PanicException":
                raise
            out.append(None)
    return out


def compare(name, got, want, inputs):
    if isinstance(got, str):
        if "empty after normalization" in got or "both have the text" in got:
            return 0  # refused by name: ambiguous, or in the reference between any two characters
        print(f"{name}: {got}")
        return 1
    bad = [k for k in range(len(want)) if want[k] is not None and got[k] != want[k]]
    for k in bad[:2]:
        print(f"{name}: {inputs[k]!r}\n  weir {got[k]!r}\n  ref  {want[k]!r}", flush=True)
    return len(bad)


def one(i, seed, n_texts, folder):
    rnd = random.Random(seed * 1000003 + i)
    tok = draw(rnd)
    text = tok.to_str(pretty=rnd.random() < 0.3)
    (folder / "tokenizer.json").write_text(text)
    tok = Tokenizer.from_str(text)  # a token's first flags outlive a second addition in memory, not in the file
    texts = [draw_text(rnd) for _ in range(n_texts)]
    lines = [json.dumps(t, ensure_ascii=rnd.random() < 0.5) for t in texts]
    plain = tried(lambda t: tok.encode(t, add_special_tokens=False).ids, texts)
    special = tried(lambda t: tok.encode(t).ids, texts)
    size = tok.get_vocab_size()
    ids = [x for x in special if x is not None] + [[rnd.randrange(size) for _ in range(rnd.randint(0, 12))] for _ in range(n_texts // 4)]
    bad = compare(f"tokenizer {i}", weir(folder, lines), plain, texts)
    bad += compare(f"tokenizer {i} --special", weir(folder, lines, "--special"), special, texts)
    rows = [json.dumps(x) for x in ids]
    bad += compare(f"tokenizer {i} --decode", weir(folder, rows, "--decode"), tried(lambda x: tok.decode(x, skip_special_tokens=False), ids), ids)
    bad += compare(f"tokenizer {i} --skip-special", weir(folder, rows, "--decode", "--skip-special"), tried(tok.decode, ids), ids)
    if bad:
        kept = pathlib.Path(tempfile.gettempdir()) / f"fuzz-tokenizer-{seed}-{i}"
        kept.mkdir(exist_ok=True)
        (kept / "tokenizer.json").write_text((folder / "tokenizer.json").read_text())
    return bad


def main():
    n, seed, n_texts = (list(map(int, sys.argv[1:])) + [40, 1, 400][len(sys.argv) - 1:])[:3]
    with tempfile.TemporaryDirectory() as d:
        bad = [one(i, seed, n_texts, pathlib.Path(d)) for i in range(n)]
    print(f"{n} tokenizers x {n_texts} texts: {sum(bad)} differences in {sum(b > 0 for b in bad)} tokenizers")


if __name__ == "__main__":
    main()
