"""What one group of equally scored gallery items adds to each figure of its query.

A group has `c` items above it, `p` of them relevant; it holds `n` items, `r` of them relevant
(r >= 1). Where n > r the order inside is arbitrary, and each figure is its expected value over
all orders (McSherry and Najork, ECIR 2008), in closed form: a relevant item stands at place j
with probability r / n, with (j - 1)(r - 1)/(n - 1) relevant ones expected before it.

Written as scalar loops so that numba compiles them; the plain kernel runs them as they are.
"""

from __future__ import annotations

import math
from typing import Any

AP, AP_BEST, AP_WORST, AP_SKLEARN, AP_ID, AP_TRAPEZOID, AP_AT_R, R_PRECISION, MRR, NDCG = range(10)
N_FIXED = 10
"""After these come, for each k, the expected number of relevant items among the first k, and the
probability that there is one."""


def add_single(row: Any, c: int, p: int, m: int) -> None:
    """Add a relevant item that shares its score with nobody; `m` items are relevant in all."""
    precision = (p + 1) / (c + 1)
    row[AP] += precision
    row[AP_BEST] += precision
    row[AP_WORST] += precision
    row[AP_SKLEARN] += precision
    row[AP_ID] += precision
    row[AP_TRAPEZOID] += 0.5 * (precision + (p / c if c > 0 else 1.0))
    if c < m:
        row[AP_AT_R] += precision
        row[R_PRECISION] += 1.0
    if p == 0:
        row[MRR] = 1.0 / (c + 1)
    row[NDCG] += 1.0 / math.log2(c + 2)


def add_tied(row: Any, c: int, n: int, p: int, r: int, m: int) -> None:
    """Add a group of `n` tied items, `r` of them relevant."""
    share = r / n
    slope = (r - 1) / (n - 1) if n > 1 else 0.0
    first = share  # probability that the first relevant item of the group stands at place j
    for j in range(1, n + 1):
        rank = c + j
        before = p + (j - 1) * slope
        precision = (before + 1) / rank
        row[AP] += share * precision
        row[AP_TRAPEZOID] += share * 0.5 * (precision + (before / (rank - 1) if rank > 1 else 1.0))
        if rank <= m:
            row[AP_AT_R] += share * precision
            row[R_PRECISION] += share
        row[NDCG] += share / math.log2(rank + 1)
        if p == 0 and first > 0.0:
            row[MRR] += first / rank
            first = first * (n - r - j + 1) / (n - j) if j < n else 0.0
    for j in range(1, r + 1):
        row[AP_BEST] += (p + j) / (c + j)
        row[AP_WORST] += (p + j) / (c + n - r + j)
    row[AP_SKLEARN] += r * (p + r) / (c + n)


def add_top_k(row: Any, ks: Any, c: int, n: int, p: int, r: int) -> None:
    """Add the group to "how many of the first k are relevant" and "is one of them"."""
    for i in range(len(ks)):
        inside = min(n, ks[i] - c)
        if inside <= 0:
            continue
        row[N_FIXED + 2 * i] += r * inside / n
        if p > 0 or row[N_FIXED + 2 * i + 1] > 0.0:
            continue
        missed = 1.0  # probability that the `inside` first places hold none of the r
        for j in range(inside):
            missed *= max(0, n - r - j) / (n - j)
        row[N_FIXED + 2 * i + 1] = 1.0 - missed


def precision_sum(c: int, n: int, p: int, r: int) -> float:
    """Return what a group adds to the sum of precisions: the expected value alone."""
    if n == 1:
        return (p + 1) / (c + 1)
    share = r / n
    slope = (r - 1) / (n - 1)
    total = 0.0
    for j in range(1, n + 1):
        total += share * (p + (j - 1) * slope + 1) / (c + j)
    return total
