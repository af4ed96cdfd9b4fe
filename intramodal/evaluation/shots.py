"""Few-shot tasks: which images may be shots, which are tested, and the shots that are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.labels import LabelCodes, encode_labels, labels_of
from intramodal.types import Floats, VectorTable

SHOTS = (1, 2, 4, 8, 16)
"""The paper's numbers of shots (table 2)."""

_SIDES = ("train", "val", "test")

_N_ROWS = 2048
"""Images scaled at once: that many stay in the cache."""


@dataclass(frozen=True, eq=False)
class FewshotTask:
    """Classes, images and drawn shots: the same for every vector of a table."""

    field: str
    names: list[str]
    """The K classes."""
    rows: NDArray[np.intp]
    codes: NDArray[np.int64]
    """(n,): Rows of the table that take part, and the class of each."""
    is_pool: NDArray[np.bool_]
    is_test: NDArray[np.bool_]
    """(n,): Images that may be shots, and images that are tested unless they are shots."""
    draws: NDArray[np.int64]
    """(n_episodes, K, max_shots): Shots by position in `rows`, in the order of the permutation; -1
    beyond a class's pool."""
    shots: tuple[int, ...]
    """Ascending."""
    seed: int
    is_split: bool
    """Whether shots and tests come from different, given, rows."""
    facts: dict[str, Any]
    """Counts of images left out."""
    is_validation: NDArray[np.bool_]
    """(n,): Images that may tune: those that may be shots, unless the split names others."""
    validation: NDArray[np.int64]
    """(n_episodes, K, n_validation): Images that tune, by position in `rows`: never shots of the
    episode and never tested in it; -1 where a class has too few."""
    groups: NDArray[np.int64]
    """(n,): Near-copies share a group. Nothing is tested of which a copy is a shot."""
    is_padded: bool = False
    """Whether a class with fewer images than shots gives some of them more than once."""
    keeps_lengths: bool = False
    """Whether vectors are taken as they are, and not scaled to unit length."""

    @classmethod
    def from_table(  # noqa: PLR0913 - one option a choice of the protocol
        cls,
        table: VectorTable,
        field: str,
        *,
        shots: Sequence[int] = SHOTS,
        n_episodes: int = 50,
        seed: int = 0,
        min_class_size: int = 2,
        split: Sequence[Any] | None = None,
        test_share: float | None = None,
        n_validation: int = 0,
    ) -> FewshotTask:
        """Return the task of one label field; parameters as in `evaluate_fewshot`.

        Of every class, `n_validation` images are kept for tuning: the last ones of each
        permutation, or images whose `split` is "val" if there are any. Shots are the same,
        whatever their number. With `test_share` instead of `split`, that share of every class is
        drawn once, by the seed, and tested in all episodes; shots come from the rest.
        """
        _check_counts(shots, n_episodes, n_validation)
        if test_share is not None:
            split = _stratified(table, field, min_class_size, split, test_share, seed)
        if n_validation == 0 and split is not None:  # nothing is tuned
            split = [None if side == "val" else side for side in split]
        found, facts = _labels(table, field, min_class_size, split)
        side = None if split is None else np.array([split[row] for row in found.rows], object)
        everything = np.ones(len(found), dtype=bool)
        is_pool = everything if side is None else side == "train"
        tunes = is_pool if side is None or "val" not in side else side == "val"
        task = cls(
            field=field,
            names=found.names,
            rows=found.rows,
            codes=found.codes,
            is_pool=is_pool,
            is_test=everything if side is None else side == "test",
            draws=np.empty((0, 0, 0), dtype=np.int64),
            shots=tuple(sorted(set(shots))),
            seed=seed,
            is_split=split is not None,
            facts={**facts, "n_validation": n_validation, "test_share": test_share},
            is_validation=tunes,
            validation=np.empty((n_episodes, len(found.names), n_validation), dtype=np.int64),
            groups=np.arange(len(found)),
        )
        return task._drawn(n_episodes)

    def _drawn(self, n_episodes: int) -> FewshotTask:
        n_tuned = self.validation.shape[2]
        n_shots = min(max(self.shots), int(self.pool_sizes.max()))
        orders = _permutations(self.codes, self.is_pool, n_episodes, self.seed)
        if self._tunes_in_pool:
            pairs = [
                (_from_ends(sizes, order, n_shots), _from_ends(sizes, order, n_tuned, last=True))
                for sizes, order in orders
            ]
            draws, validation = (np.stack(part) for part in zip(*pairs, strict=True))
        else:
            draws = np.stack([_from_ends(*pair, n_shots) for pair in orders])
            # A stream of its own, so that the shots do not depend on how many images tune.
            others = _permutations(self.codes, self.is_validation, n_episodes, (self.seed, 1))
            validation = np.stack([_from_ends(*pair, n_tuned) for pair in others])
        return replace(self, draws=draws, validation=validation)

    @property
    def n_validation(self) -> int:
        """Number of images of a class that are kept for tuning."""
        return int(self.validation.shape[2])

    @property
    def _tunes_in_pool(self) -> bool:
        return bool((self.is_validation & self.is_pool).any())

    @cached_property
    def pool_sizes(self) -> NDArray[np.int64]:
        """Number of images of each class that may be shots, copies apart, of shape (K,)."""
        n_groups = 1 + int(self.groups.max(initial=0))
        pairs = np.unique(self.codes[self.is_pool] * n_groups + self.groups[self.is_pool])
        return np.bincount(pairs // n_groups, minlength=len(self.names)).astype(np.int64)

    def classes_at(self, n_shots: int) -> NDArray[np.intp]:
        """Return the classes that can give so many shots and still have something to test."""
        n_needed = n_shots + self.n_validation * self._tunes_in_pool
        if not self.is_split:
            return np.flatnonzero(self.pool_sizes > n_needed)
        tested, tuning = (
            np.bincount(self.codes[side], minlength=len(self.names))
            for side in (self.is_test, self.is_validation)
        )
        enough = self.pool_sizes >= (1 if self.is_padded else n_needed)
        enough &= tuning >= self.n_validation
        return np.flatnonzero(enough & (tested > 0))

    def why_empty(self, n_shots: int) -> str | None:
        """Return why so many shots give no accuracy: fewer than two classes have the images."""
        n_able, tuned = len(self.classes_at(n_shots)), self.n_validation
        if n_able > 1:
            return None
        kinds = [f"{n_shots} for shots", *([f"{tuned} to tune"] if tuned else []), "1 to test"]
        advice = "; give fewer shots" if len(self.classes_at(1)) > 1 else ""
        return (
            f"{n_able} of {len(self.names)} classes have enough images ({', '.join(kinds)}), and "
            f"two are needed{advice}"
        )

    def by_classes(self) -> Iterator[tuple[NDArray[np.intp], tuple[int, ...]]]:
        """Yield classes, and the numbers of shots that exactly these can serve."""
        served: dict[tuple[int, ...], list[int]] = {}
        for s in self.shots:
            served.setdefault(tuple(self.classes_at(s).tolist()), []).append(s)
        for classes, shots in served.items():
            yield np.array(classes, dtype=np.intp), tuple(shots)

    def images(self, table: VectorTable, vector: str) -> Floats:
        """Return the vectors (n, d) of the images that take part, unless told otherwise unit ones.

        Rows of images that no episode uses are zero: a large split has many, and scaling them
        would cost more than reading them.
        """
        if vector not in table.vectors:
            raise InputError(
                f"the table holds no vector {vector!r}, only {', '.join(sorted(table.vectors))}"
            )
        X = table.vectors[vector]
        found, is_used = np.zeros((len(self.rows), X.shape[1]), dtype=np.float32), self._is_used()
        for start in range(0, len(found), _N_ROWS):
            if not np.isfinite(X[self.rows[start : start + _N_ROWS]]).all():
                raise InputError(
                    f"vector {vector!r} holds NaN or infinity; leave those points out"
                )
            used = start + np.flatnonzero(is_used[start : start + _N_ROWS])
            rows = self.rows[used]
            found[used] = X[rows] if self.keeps_lengths else table.unit(vector, rows)
        return found

    def _is_used(self) -> NDArray[np.bool_]:
        is_used = self.is_test.copy()
        for drawn in (self.draws, self.validation):
            is_used[drawn[drawn >= 0]] = True
        return is_used


def drawn_anew(task: FewshotTask, n_seeds: int) -> list[FewshotTask]:
    """Return a task for each number of shots, whose shots are drawn for it alone.

    As the paper's code draws them: by seeds one after another, without nesting. A class with fewer
    images than shots is drawn from with replacement, so that all classes take part. Lengths of
    vectors are kept, and nothing tunes.
    """
    seeds = range(task.seed + 1, task.seed + 1 + n_seeds)
    none = np.empty((n_seeds, len(task.names), 0), dtype=np.int64)
    return [
        replace(
            task,
            shots=(s,),
            draws=np.stack([_padded_draw(task, s, seed) for seed in seeds]),
            validation=none,
            is_padded=True,
            keeps_lengths=True,
        )
        for s in task.shots
    ]


def _padded_draw(task: FewshotTask, n_shots: int, seed: int) -> NDArray[np.int64]:
    """Return shots (K, n_shots) by position in the task's rows; -1 for a class without images."""
    ((sizes, order),) = _permutations(task.codes, task.is_pool, 1, (seed, n_shots))
    draw = _from_ends(sizes, order, n_shots)
    few = np.flatnonzero((sizes > 0) & (sizes < n_shots))
    start = np.cumsum(sizes) - sizes
    rng = np.random.default_rng((seed, n_shots, 1))  # what others draw does not depend on it
    at = rng.integers(0, sizes[few, None], size=(len(few), n_shots))
    draw[few] = order[start[few, None] + at]
    return draw


def _permutations(
    codes: NDArray[np.int64],
    member: NDArray[np.bool_],
    n_episodes: int,
    seed: int | tuple[int, int],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the members of every class in a random order, one after another, and class sizes."""
    rng = np.random.default_rng(seed)
    pool = np.flatnonzero(member)
    sizes = np.bincount(codes[pool], minlength=int(codes.max()) + 1)
    for _ in range(n_episodes):
        yield sizes, pool[np.lexsort((rng.random(len(pool)), codes[pool]))]


def _from_ends(
    sizes: NDArray[np.int64], order: NDArray[np.int64], count: int, *, last: bool = False
) -> NDArray[np.int64]:
    """Return (K, count): the first, or from the end the last, of every class; -1 beyond it."""
    rank, start = np.arange(count), np.cumsum(sizes) - sizes
    place = (start + sizes - 1)[:, None] - rank if last else start[:, None] + rank
    exists = rank < sizes[:, None]
    return np.where(exists, order[np.where(exists, place, 0)], -1)


def _check_counts(shots: Sequence[int], n_episodes: int, n_validation: int) -> None:
    if not shots or not all(isinstance(s, int | np.integer) and s >= 1 for s in shots):
        raise InputError(f"shots must be whole numbers from 1, at least one, got {list(shots)}")
    if n_episodes < 1:
        raise InputError(f"n_episodes must be a whole number from 1, got {n_episodes}")
    if n_validation < 0:
        raise InputError(f"n_validation must be a whole number from 0, got {n_validation}")


def _labels(
    table: VectorTable, field: str, min_class_size: int, split: Sequence[Any] | None
) -> tuple[LabelCodes, dict[str, Any]]:
    """Return the classes of the rows that take part, and counts of the others."""
    if field not in table.payload:
        raise InputError(f"the table was read without the field {field!r}; read it, too")
    n_unused = 0
    if split is None:
        found = labels_of(table, field, min_class_size=min_class_size)
    else:
        column = _within(split, table.payload[field])
        n_unused = sum(side not in _SIDES for side in split)
        found = encode_labels(column, min_class_size=min_class_size, field=field)
    if found.is_multi:
        raise InputError(
            f"field {field!r} gives some points several classes, and few-shot accuracy needs one; "
            f"choose another field, or evaluate retrieval by it"
        )
    facts = {"min_class_size": min_class_size, "n_missing": found.n_missing - n_unused}
    return found, {**facts, "n_dropped": found.n_dropped, "n_outside_split": n_unused}


def _stratified(
    table: VectorTable,
    field: str,
    min_class_size: int,
    split: Sequence[Any] | None,
    test_share: float,
    seed: int,
) -> list[str]:
    """Return "test" for the same share of every class, one image at least, and else "train"."""
    if split is not None:
        raise InputError("split already says what is tested; leave out test_share")
    if not 0 < test_share < 1:
        raise InputError(f"test_share must lie between 0 and 1, got {test_share}")
    found, _ = _labels(table, field, min_class_size, None)
    # A stream of its own: the shots that are drawn later do not depend on it.
    ((sizes, order),) = _permutations(found.codes, np.ones(len(found), bool), 1, (seed, 2))
    n_tested = np.maximum(1, np.rint(test_share * sizes).astype(np.int64))
    side = np.full(len(table.payload[field]), "train", dtype=object)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    side[found.rows[order[rank < np.repeat(n_tested, sizes)]]] = "test"
    return list(side)


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
    return [value if side in _SIDES else None for side, value in zip(split, column, strict=True)]
