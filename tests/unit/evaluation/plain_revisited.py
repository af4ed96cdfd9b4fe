"""The revisited protocol in plain loops, after the benchmark's published formula."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KS = (1, 5, 10)


def published(
    S: np.ndarray, relevant: Sequence[np.ndarray], ignored: Sequence[np.ndarray]
) -> tuple[list[float], list[list[float]]]:
    """Return AP, and precision at `KS`, of the queries that have something relevant.

    Plain loops over float64 scores (n_queries, n_gallery) after the formula of the benchmark.
    """
    aps, precisions = [], []
    for q in range(len(S)):
        positives, junk = set(relevant[q].tolist()), set(ignored[q].tolist())
        if not positives:
            continue
        positions, n_counted = [], 0
        for g in sorted(range(S.shape[1]), key=lambda g, q=q: (-S[q, g], g)):  # type: ignore[misc]
            if g in junk:
                continue
            if g in positives:
                positions.append(n_counted)
            n_counted += 1
        ap = 0.0
        for j, position in enumerate(positions):
            precision_0 = 1.0 if position == 0 else j / position
            precision_1 = (j + 1) / (position + 1)
            ap += (precision_0 + precision_1) / 2 / len(positives)
        aps.append(ap)
        row = []
        for k in KS:
            kq = min(max(positions) + 1, k)
            row.append(sum(position + 1 <= kq for position in positions) / kq)
        precisions.append(row)
    return aps, precisions
