"""Claim: a map is fitted to labels in less than twice the time of the products it consists of.

100,000 labelled vectors of 512 numbers in 100 classes. The products, in plain NumPy and float64:
the mean, the sum of each class, the scatter within classes, its eigenvectors, the lengths along
the axes that are kept. A second line has the thin SVD of the labelled rows, which the eigenvectors
of the scatter take the place of.

    python benchmarks/fit_labels.py [--n 100000] [--dim 512] [--classes 100]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from intramodal.fit_rows import FitRows
from intramodal.projection.fit import LabelledRows, fit_label_map, fit_posterior
from intramodal.projection.projection import Projection

BLOCK = 4096


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest of a few runs."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def products(X: NDArray[np.float32], codes: NDArray[np.int64], n_axes: int) -> None:
    """Do what a label map cannot do without, block by block as it must be at this size."""
    d, n_classes = X.shape[1], int(codes.max()) + 1
    mean, sums, scatter = np.zeros(d), np.zeros((n_classes, d)), np.zeros((d, d))
    axes, squares = np.random.default_rng(0).normal(size=(d, n_axes)), np.zeros(n_axes)
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK].astype(np.float64)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        mean += block.sum(axis=0)
        one_hot = np.eye(n_classes)[codes[start : start + BLOCK]]
        sums += one_hot.T @ block
        scatter += block.T @ block
        squares += np.square(block @ axes).sum(axis=0)
    np.linalg.eigh(scatter)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    codes = rng.integers(asked.classes, size=asked.n)
    X = rng.normal(size=(asked.n, asked.dim)).astype(np.float32)
    X += 0.5 * rng.normal(size=(asked.classes, asked.dim)).astype(np.float32)[codes]
    rows = LabelledRows(
        X, [f"c{code}" for code in codes], "kind", FitRows(share=1), ("clip", "benchmark")
    )
    text = Projection(np.eye(asked.dim, asked.dim // 2, dtype=np.float32), "pca", *rows.made_by)
    base = seconds(lambda: products(X, codes, 128))
    label = seconds(lambda: fit_label_map(rows, text=text))
    print(f"{asked.n:,} x {asked.dim}, {asked.classes} classes")
    print(f"products        {base:7.2f} s")
    print(f"label map       {label:7.2f} s  {label / base:.2f} times the products")
    posterior = seconds(lambda: fit_posterior(rows, text=text), repeats=1)
    # Its statistics are taken 5 times: in four folds for the temperature, and of all rows.
    print(f"posterior codes {posterior:7.2f} s  {posterior / (5 * base):.2f} times 5 x products")
    svd = seconds(lambda: np.linalg.svd(X, full_matrices=False), repeats=1)
    print(f"thin SVD        {svd:7.2f} s  label map / SVD {label / svd:.2f}")


if __name__ == "__main__":
    main()
