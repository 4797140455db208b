"""Writes tests/golden/eval/passk.txt: lines "n c k pass@k". Exact: a ratio of binomials as fractions, rounded once.

The same numbers come out of 1 - prod(1 - k / arange(n - c + 1, n + 1)), the usual floating-point form, up to rounding;
this script checks that too.
"""
import pathlib
import random
from fractions import Fraction
from math import comb


def exact(n, c, k):
    return 1 - Fraction(comb(n - c, k), comb(n, k))


def usual(n, c, k):
    if n - c < k:
        return 1.0
    none = 1.0
    for i in range(n - c + 1, n + 1):
        none *= 1.0 - k / i
    return 1.0 - none


random.seed(1)
cases = [(1, 0, 1), (1, 1, 1), (4096, 1, 4096), (4096, 1, 1), (4096, 4095, 1), (4096, 2048, 2), (200, 1, 100)]
for n in (2, 3, 5, 10, 16, 64, 200, 1000, 4096):
    for _ in range(16):
        cases.append((n, random.randint(0, n), random.randint(1, n)))
lines = []
for n, c, k in cases:
    value = exact(n, c, k)
    assert abs(float(value) - usual(n, c, k)) < 1e-11
    lines.append(f"{n} {c} {k} {float(value)!r}\n")
(pathlib.Path(__file__).parent / "eval" / "passk.txt").write_text("".join(lines))
