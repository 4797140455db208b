"""Writes tests/golden/tokenizers/: small tokenizers trained with the reference library, one per group of
components, each as NAME.json with NAME.jsonl, a line per text:
{"text": ..., "ids": [...], "special": [...], "decoded": "...", "skipped": "..."}
ids without and special with the post-processor's tokens; decoded and skipped are the decoding of `special`
with and without special tokens. Run in the reference environment: python tests/golden/make_tokenizers.py"""

import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*"
          r"|\s*[\r\n]|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ll)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+(?!\S)|\s+")
CORPUS = ["the cat sat on the mat and the dog ran to the house",
          "a number like 1234 or 56789 is not a word, is it? It's 42% of 3.14!",
          "Hello World, HELLO world; don't we'll they're I've",
          "naïve café über straße e\u0301te\u0301", "привет мир", "你好世界 日本語", "안녕하세요", "१२३ ٣٤٥",
          "def f(x):\n    return x * 2\n\n\n", "😀 👍🏽 family 👨‍👩‍👧"] * 8
TEXTS = ["", " ", "Hello World", "  two  spaces ", "the cat's mat, don't WE'LL 'S 'ſ 'K", "1234567 ½ ² Ⅷ १२३४ ٣",
         "naïve cafe\u0301 Å \u212b ﬁ ﬀ \u1e9b\u0323 \u0344", "tab\tnew\nline\r\n\r\n\n  end  \n ",
         "\u00a0nbsp\u3000wide\u1680\u180e\u200b\u2028\u2029\u0085", "안녕 \u1112\u1161\u11ab 가\u11a8",
         "👨‍👩‍👧‍👦👍🏽🇩🇪", "שלום مرحبا ١٢", "a\u0000b\u0001", "\U000105c0\U0001e030\u0897\U00031350 \ua7cb\u1c89",
         "<a><ab><abc> b c wörd xabx ab\n[X] [X", "</s><s> <unk>", "▁x▁▁ Ġa", "e" * 90 + " " * 70 + "!" * 41,
         "\U0001d15e\U00011938\u0f71\u0f72\u0f74\u0345\u0316\u0301", "camelCaseWORD x_y-z /path\\to", "中文，测试。"]


def train(tok, size, special=(), alphabet=True, **options):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [], **options)
    tok.train_from_iterator(sorted(CORPUS), trainer)
    return tok


def byte_level(regex=None, normalizer=None, before=(), prefix=False, **model):
    tok = Tokenizer(models.BPE(**model))
    if normalizer:
        tok.normalizer = normalizer
    steps = list(before)
    if isinstance(regex, str):
        steps.append(pre_tokenizers.Split(Regex(regex), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex is None))
    tok.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tok.decoder = decoders.ByteLevel()
    return train(tok, 320)


def add_flags(tok):
    names = ["<a>", "<ab>", "<abc>", "b c", "wörd", "[X]", "[X", "ab", "e\u0301", "Å"]
    for i, name in enumerate(names):
        bits = random.Random(i).getrandbits(5)
        token = AddedToken(name, single_word=bool(bits & 1), lstrip=bool(bits & 2), rstrip=bool(bits & 4),
                           normalized=bool(bits & 8), special=bool(bits & 16))
        (tok.add_special_tokens if token.special else tok.add_tokens)([token])
    return tok


def frame(tok, names):
    tok.add_special_tokens([AddedToken(n, normalized=False, special=True) for n in names])
    ids = [(n, tok.token_to_id(n)) for n in names]
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single=f"{names[0]} $A {names[-1]}", pair=f"{names[0]} $A $B", special_tokens=ids)])
    return tok


def pieces(**model):
    """Sentencepiece-style: trained on words, used without a pre-tokenizer."""
    options = dict(unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    options.update(model)
    tok = Tokenizer(models.BPE(**options))
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if options["byte_fallback"] else []
    train(tok, 340 if bytes_ else 100, ["<unk>", "<s>", "</s>"] + bytes_, alphabet=False, limit_alphabet=40)
    doc = json.loads(tok.to_str())
    doc["added_tokens"] = doc["added_tokens"][:3]
    doc["pre_tokenizer"] = None
    tok = Tokenizer.from_str(json.dumps(doc))
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return tok


def with_parts(tok, normalizer=None, pre=None, decoder=None):
    if normalizer:
        tok.normalizer = normalizer
    if pre:
        tok.pre_tokenizer = pre
    if decoder:
        tok.decoder = decoder
    return tok


def cases():
    n, p, d = normalizers, pre_tokenizers, decoders
    yield "gpt2", byte_level(prefix=True)
    yield "llama3", frame(byte_level(LLAMA3, ignore_merges=True), ["<bos>", "<eos>"])
    yield "qwen2", add_flags(byte_level(LLAMA3, n.NFC()))
    yield "cl100k", byte_level(CL100K)
    yield "o200k", byte_level(O200K, n.NFKC())
    yield "digits", byte_level("\\w+|\\s+$|^\\W", None, [p.Digits(individual_digits=True), p.Punctuation("merged_with_next")])
    yield "words", add_flags(byte_level("[a-c]+", n.Sequence([n.Strip(), n.NFKD(), n.Lowercase(), n.Replace("sat", "ab c")]),
                                        [p.Whitespace(), p.Split("t", "merged_with_previous")]))
    yield "llama2", add_flags(with_parts(pieces(), n.Sequence([n.Prepend("▁"), n.Replace(" ", "▁")])))
    yield "mistral", with_parts(pieces(), None, p.Metaspace(prepend_scheme="first", split=False))
    yield "metaspace", with_parts(pieces(byte_fallback=False), n.NFD(), p.Metaspace(), d.Metaspace())
    yield "unknown", with_parts(pieces(byte_fallback=False, fuse_unk=False), n.Replace(Regex("\\s{2,}"), "▁"), None,
                                d.Sequence([d.BPEDecoder("e"), d.Strip("▁", 1, 0)]))
    word = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", continuing_subword_prefix="##"))
    word.pre_tokenizer = p.BertPreTokenizer()
    yield "suffix", train(word, 120, ["<unk>"], alphabet=False, end_of_word_suffix="</w>", continuing_subword_prefix="##")


def main():
    os.makedirs(HERE, exist_ok=True)
    for name, tok in cases():
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
            doc = json.loads(tok.to_str())
            if name == "cl100k":  # the older way to write merges
                doc["model"]["merges"] = [" ".join(m) for m in doc["model"]["merges"]]
            json.dump(doc, f, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(HERE, name + ".jsonl"), "w", encoding="utf-8") as f:
            for text in TEXTS:
                special = tok.encode(text).ids
                line = {"text": text, "ids": tok.encode(text, add_special_tokens=False).ids, "special": special,
                        "decoded": tok.decode(special, skip_special_tokens=False), "skipped": tok.decode(special)}
                f.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
