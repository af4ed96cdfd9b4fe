"""Claim: what `advise` chooses by 200 labels costs at most half a point of mAP on fresh images.

Real product photos with eight label fields: 200 of them are drawn per seed, `advise` chooses by
these alone, every candidate is fitted to the same 200 and judged by leave-one-out among all other
images. Regret is the mAP of the best that `advise` may offer, minus that of its choice.

    INTRAMODAL_REAL_DATA=FOLDER python benchmarks/advice.py [--seeds 20] [--budget 200]
"""

from __future__ import annotations

import argparse
from collections import Counter

import _real_data
import numpy as np
from _real_data import FASHION
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from intramodal.evaluation.advice import BUDGET, FieldAdvice, advise
from intramodal.evaluation.candidates import judged, makers_of
from intramodal.fit_rows import FitRows
from intramodal.projection.fit import LabelledRows
from intramodal.types import VectorTable

FIELDS = ("gender", "articleType", "baseColour", "season", "usage", "masterCategory",
          "subCategory", "year")  # fmt: skip
MIN_CLASS_SIZE = 5


def advised(
    X: NDArray[np.float32], labels: list[str], T: NDArray[np.float32], seed: int, budget: int
) -> tuple[FieldAdvice, dict[str, float]]:
    """Return the advice by a few labels, and what each candidate then gives on all other images.

    Raises `InputError` where the drawn labels are no basis for advice.
    """
    ids = np.random.default_rng(seed).permutation(len(X))[:budget]
    rows = FitRows(ids=tuple(ids.tolist()))
    table = VectorTable(list(range(len(X))), {"raw": X}, {"label": labels})
    advice = advise(table, fields=["label"], rows=rows, budget=budget, text=T, seed=seed)["label"]
    is_fresh = ~np.isin(np.arange(len(X)), ids)
    every = LabelledRows(X, labels, "label", rows, ("", ""), gallery=X[is_fresh])
    makers, _ = makers_of(every.take(ids), T)
    offered = [one.name for one in advice.candidates if one.name not in advice.not_offered]
    return advice, {name: judged(every, is_fresh, makers[name])[0] for name in offered}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--fields", nargs="+", default=FIELDS)
    asked = parser.parse_args()
    X, T = _real_data.images(FASHION).astype(np.float32), _real_data.texts()
    fields = _real_data.labels(FASHION)
    print(f"{asked.budget} labels, {asked.seeds} seeds; points of mAP on fresh images")
    print(f"{'field':<16}{'regret':>8}{'largest':>9}  interval holds  chosen")
    for field in asked.fields:
        sizes = Counter(fields[field])
        kept = [i for i, label in enumerate(fields[field]) if sizes[label] >= MIN_CLASS_SIZE]
        labels = [fields[field][i] for i in kept]
        regrets, chosen, held = [], Counter[str](), []
        for seed in range(asked.seeds):
            advice, fresh = advised(X[kept], labels, T, seed, asked.budget)
            choice = advice.choice
            chosen[choice.name] += 1
            regrets.append(100 * (max(fresh.values()) - fresh[choice.name]))
            if choice.gain is not None:
                low, high = choice.gain.interval
                held.append(low <= fresh[choice.name] - fresh["raw"] <= high)
        share = f"{np.mean(held):.0%}" if held else "-"
        names = ", ".join(f"{name} {n}" for name, n in chosen.most_common())
        print(f"{field:<16}{np.mean(regrets):>8.2f}{max(regrets):>9.2f}  {share:>14}  {names}",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
