"""Writes actor/text/tokenizer_tables.c: where the reference's Unicode tables differ from those of PCRE2 and
utf8proc, and the sets that neither has. Everything is measured through the reference's own components, so
a newer reference needs only a new run: tests/golden/make_tokenizer_tables.py > actor/text/tokenizer_tables.c"""

import ctypes

from tokenizers import Regex, normalizers, pre_tokenizers

CPS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
SCRIPTS = "Han Hiragana Katakana Hangul Latin Cyrillic Greek Arabic Hebrew Thai Devanagari".split()


def ranges(cps):
    out = []
    for c in sorted(cps):
        if out and c == out[-1][1] + 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def removed(pre_tokenizer):
    """Code points that a pre-tokenizer with behaviour "removed" makes vanish."""
    found = set(CPS)
    for i in range(0, len(CPS), 4096):
        chunk = CPS[i : i + 4096]
        for _, (a, b) in pre_tokenizer.pre_tokenize_str("".join(map(chr, chunk))):
            found.difference_update(chunk[a:b])
    return found


def onig(pattern):
    return removed(pre_tokenizers.Split(Regex(pattern), "removed"))


class Pcre2:
    def __init__(self):
        self.lib = ctypes.CDLL("libpcre2-8.so.0")
        for name in ("compile", "match_data_create", "get_ovector_pointer"):
            getattr(self.lib, f"pcre2_{name}_8").restype = ctypes.c_void_p
        self.lib.pcre2_match_data_create_8.argtypes = [ctypes.c_uint32, ctypes.c_void_p]
        self.lib.pcre2_get_ovector_pointer_8.argtypes = [ctypes.c_void_p]
        self.lib.pcre2_match_8.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t,
                                           ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p]
        self.data = self.lib.pcre2_match_data_create_8(1, None)

    def chars(self, char_class):
        """Code points of a character class, from the runs it matches in a text of all of them."""
        code, offset = ctypes.c_int(), ctypes.c_size_t()
        pattern = (char_class + "+").encode()
        re = self.lib.pcre2_compile_8(pattern, ctypes.c_size_t(len(pattern)), ctypes.c_uint32(0x000A0000),
                                      ctypes.byref(code), ctypes.byref(offset), None)
        if not re:
            raise SystemExit(f"{char_class}: PCRE2 error {code.value}")
        found = set()
        for i in range(0, len(CPS), 4096):
            text = "".join(map(chr, CPS[i : i + 4096])).encode()
            at = 0
            while self.lib.pcre2_match_8(re, text, len(text), at, 0, self.data, None) > 0:
                v = ctypes.cast(self.lib.pcre2_get_ovector_pointer_8(self.data), ctypes.POINTER(ctypes.c_size_t))
                start, at = v[0], v[1]
                found.update(map(ord, text[start:at].decode()))
        return found


def emit(name, text, rows, width):
    body = ", ".join("{" + ", ".join(str(x) if isinstance(x, str) else f"0x{x:X}" for x in r) + "}" for r in rows)
    print(f"/* {text} */\nconst struct tokenizer_tables_{width} tokenizer_tables_{name}[] = {{\n{body}}};")
    print(f"const int tokenizer_tables_{name}_n = {len(rows)};\n")


def isolated(pre_tokenizer):
    return {c for c in CPS if len(pre_tokenizer.pre_tokenize_str("\u2581" + chr(c) + "\u2581")) > 1}


def main():
    pcre = Pcre2()
    print("""/* tokenizer_tables.c - see tokenizer_tables.h. Written by tests/golden/make_tokenizer_tables.py,
 * which measures the reference's components; not edited by hand.
 *
 * The reference mixes libraries of different Unicode versions. Only differences from PCRE2's and
 * utf8proc's tables are kept where those are used; sets that neither has are whole. */
#include "actor/text/tokenizer_tables.h"
""")
    rows = []
    for cat in CATEGORIES:
        rows += [[a, b, f'"{cat}"'] for a, b in ranges(onig(f"\\p{{{cat}}}") - pcre.chars(f"\\p{{{cat}}}"))]
    emit("category", "Code points whose general category is newer than PCRE2's (Unicode 14).", sorted(rows), "named")
    rows = []
    for script in SCRIPTS:
        rows += [[a, b, f'"{script}"'] for a, b in ranges(onig(f"\\p{{{script}}}") - pcre.chars(f"\\p{{sc:{script}}}"))]
    emit("script", "The same for scripts.", sorted(rows), "named")
    word = onig(r"\w") - pcre.chars(r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]")
    emit("onig_word", "What Oniguruma's \\\\w has beyond [\\\\p{Alphabetic}\\\\p{M}\\\\p{Nd}\\\\p{Pc}].".replace("\\\\", "\\"),
         ranges(word), "range")
    whitespace = pre_tokenizers.Whitespace()
    word = {c for c in CPS if len(whitespace.pre_tokenize_str("a" + chr(c))) == 1
            and whitespace.pre_tokenize_str("a" + chr(c))[0][1] == (0, 2)}
    emit("word", "The reference's \\w where it does not use Oniguruma.", ranges(word), "range")
    emit("numeric", "Numbers as Digits sees them.", ranges(isolated(pre_tokenizers.Digits(individual_digits=True))), "range")
    emit("punctuation", "Punctuation as Punctuation sees it.", ranges(removed(pre_tokenizers.Punctuation("removed"))), "range")
    lower = normalizers.Lowercase()
    maps = []
    for c in CPS:
        out = lower.normalize_str(chr(c))
        if out != chr(c):
            maps.append([c, ord(out[0]), ord(out[1]) if len(out) > 1 else 0])
    runs = []  # {first, last, step, target of first}: step 1 or 2, constant difference
    for c, a, b in maps:
        if b:
            runs.append([c, c, 1, a, b])
            continue
        r = runs[-1] if runs else None
        if r and not r[4] and r[3] - r[0] == a - c and c - r[1] in (1, 2) and (r[0] == r[1] or r[2] == c - r[1]):
            r[1], r[2] = c, c - r[1]
        else:
            runs.append([c, c, 1, a, 0])
    emit("lower", "Lower case: first, last, step, lower case of first, second code point or 0.", runs, "lower")
    emit("unnormalized", "Code points that the reference's normalization tables do not know yet.",
         ranges(unnormalized()), "range")


def unnormalized():
    """Code points whose decomposition or combining class utf8proc knows and the reference does not."""
    lib = ctypes.CDLL("libutf8proc.so.2")
    lib.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_uint16)
    lib.utf8proc_decompose_char.argtypes = [ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_ssize_t,
                                            ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    dst, last = (ctypes.c_int32 * 32)(), ctypes.c_int()
    new = set()
    for c in CPS:
        for form, options in ((nfd, 1 << 1 | 1 << 4), (nfkd, 1 << 1 | 1 << 4 | 1 << 2)):
            n = lib.utf8proc_decompose_char(c, dst, 32, options, ctypes.byref(last))
            ours = "".join(chr(dst[i]) for i in range(n))
            if ours != form.normalize_str(chr(c)):
                new.add(c)
        ccc = lib.utf8proc_get_property(c)[1]
        if not new.__contains__(c) and ccc:
            # A mark of class 1 and one of class 240 around it: a known class moves one of them.
            a, b = chr(c) + "\u0334", "\u0345" + chr(c)
            if nfd.normalize_str(a) == a and nfd.normalize_str(b) == b and ccc not in (1, 240):
                new.add(c)
    # Parts of decompositions that only newer tables compose.
    for c in sorted(new):
        n = lib.utf8proc_decompose_char(c, dst, 32, 1 << 1 | 1 << 4, ctypes.byref(last))
        if n > 1:
            new.update(dst[i] for i in range(n))
    return new


if __name__ == "__main__":
    main()
