"""Episodes of few-shot evaluation: which images are shots, which tune, which are tested.

An episode is one random permutation of the images of every class. The first s of it are the
shots, so that curves are nested; the last tune what has to be tuned. Episodes depend on ids,
labels and seed only, so that vectors and methods are compared on the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.labels import LabelCodes, encode_labels
from intramodal.types import Floats, VectorTable, unit_rows

SHOTS = (1, 2, 4, 8, 16)
"""The paper's numbers of shots (table 2)."""


@dataclass(frozen=True, eq=False)
class FewshotTask:
    """Classes, images and drawn shots: the same for every vector of a table.

    Parameters
    ----------
    field : str
    names : list of str
        The K classes.
    rows, codes : ndarray of shape (n,)
        Rows of the table that take part, and the class of each.
    is_pool, is_test : ndarray of shape (n,), bool
        Images that may be shots, and images that are tested unless they are shots.
    draws : ndarray of shape (n_episodes, K, max_shots), int64
        Shots by position in `rows`, in the order of the permutation; -1 beyond a class's pool.
    shots : tuple of int
        Ascending.
    seed : int
    is_split : bool
        Whether shots and tests come from different, given, rows.
    facts : dict
        Counts of images left out.
    """

    field: str
    names: list[str]
    rows: NDArray[np.intp]
    codes: NDArray[np.int64]
    is_pool: NDArray[np.bool_]
    is_test: NDArray[np.bool_]
    draws: NDArray[np.int64]
    shots: tuple[int, ...]
    seed: int
    is_split: bool
    facts: dict[str, Any]

    @classmethod
    def from_table(
        cls,
        table: VectorTable,
        field: str,
        *,
        shots: Sequence[int] = SHOTS,
        n_episodes: int = 50,
        seed: int = 0,
        min_class_size: int = 2,
        split: Sequence[Any] | None = None,
    ) -> FewshotTask:
        """Return the task of one label field; parameters as in `evaluate_fewshot`."""
        _check_counts(shots, n_episodes)
        found, facts = _labels(table, field, min_class_size, split)
        side = None if split is None else np.array([split[row] for row in found.rows], object)
        everything = np.ones(len(found), dtype=bool)
        task = cls(
            field=field,
            names=found.names,
            rows=found.rows,
            codes=found.codes,
            is_pool=everything if side is None else side == "train",
            is_test=everything if side is None else side == "test",
            draws=np.empty((0, 0, 0), dtype=np.int64),
            shots=tuple(sorted(set(shots))),
            seed=seed,
            is_split=split is not None,
            facts=facts,
        )
        return replace(task, draws=task._drawn(n_episodes))

    def _drawn(self, n_episodes: int) -> NDArray[np.int64]:
        rng = np.random.default_rng(self.seed)
        pool = np.flatnonzero(self.is_pool)
        codes, sizes = self.codes[pool], self.pool_sizes
        rank = np.arange(min(max(self.shots), int(sizes.max())))
        at = np.cumsum(sizes) - sizes
        place = np.minimum(at[:, None] + rank, len(pool) - 1)
        exists = rank < sizes[:, None]
        draws = np.empty((n_episodes, len(sizes), len(rank)), dtype=np.int64)
        for episode in draws:
            order = np.lexsort((rng.random(len(pool)), codes))
            episode[:] = np.where(exists, pool[order[place]], -1)
        return draws

    @property
    def pool_sizes(self) -> NDArray[np.int64]:
        """Number of images of each class that may be shots, of shape (K,)."""
        return np.bincount(self.codes[self.is_pool], minlength=len(self.names)).astype(np.int64)

    def classes_at(self, n_shots: int) -> NDArray[np.intp]:
        """Return the classes that can give so many shots and still have something to test."""
        if self.is_split:
            tested = np.bincount(self.codes[self.is_test], minlength=len(self.names))
            return np.flatnonzero((self.pool_sizes >= n_shots) & (tested > 0))
        return np.flatnonzero(self.pool_sizes > n_shots)

    def images(self, table: VectorTable, vector: str) -> Floats:
        """Return the unit vectors (n, d) of the images that take part.

        Raises
        ------
        InputError
            If the table lacks the vector, or it holds NaN or infinity.
        """
        if vector not in table.vectors:
            raise InputError(
                f"the table holds no vector {vector!r}, only {', '.join(sorted(table.vectors))}"
            )
        X = table.vectors[vector][self.rows]
        if not np.isfinite(X).all():
            raise InputError(f"vector {vector!r} holds NaN or infinity; leave those points out")
        return unit_rows(X)


def _check_counts(shots: Sequence[int], n_episodes: int) -> None:
    if not shots or not all(isinstance(s, int | np.integer) and s >= 1 for s in shots):
        raise InputError(f"shots must be whole numbers from 1, at least one, got {list(shots)}")
    if n_episodes < 1:
        raise InputError(f"n_episodes must be a whole number from 1, got {n_episodes}")


def _labels(
    table: VectorTable, field: str, min_class_size: int, split: Sequence[Any] | None
) -> tuple[LabelCodes, dict[str, Any]]:
    """Return the classes of the rows that take part, and counts of the others."""
    if field not in table.payload:
        raise InputError(f"the table was read without the field {field!r}; read it, too")
    column = table.payload[field]
    n_unused = 0
    if split is not None:
        column = _within(split, column)
        n_unused = sum(side not in ("train", "test") for side in split)
    found = encode_labels(column, min_class_size=min_class_size, field=field)
    if found.is_multi:
        raise InputError(
            f"field {field!r} gives some points several classes, and few-shot accuracy needs one; "
            f"choose another field, or evaluate retrieval by it"
        )
    facts = {"min_class_size": min_class_size, "n_missing": found.n_missing - n_unused}
    return found, {**facts, "n_dropped": found.n_dropped, "n_outside_split": n_unused}


def _within(split: Sequence[Any], column: Sequence[Any]) -> list[Any]:
    """Return the column with None for rows that are in neither part."""
    if len(split) != len(column):
        raise InputError(f"split has {len(split)} values for {len(column)} points; give one each")
    for side in ("train", "test"):
        if side not in split:
            raise InputError(
                f"split names no {side!r} row; its values must be 'train' or 'test', got "
                f"{sorted({str(value) for value in split})[:5]}"
            )
    return [
        value if side in ("train", "test") else None
        for side, value in zip(split, column, strict=True)
    ]
