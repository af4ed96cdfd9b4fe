"""Few-shot accuracy of a named vector without text: nearest prototype and shrunken LDA.

With text, see `intramodal.evaluation.fewshot_text`; both share their episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.classifiers import FITS, Kind, fit_nested
from intramodal.evaluation.distances import distance_note, other_distances
from intramodal.evaluation.intervals import FRACTION, student_interval
from intramodal.evaluation.labels import LabelCodes, encode_labels, labels_of
from intramodal.evaluation.results import Results
from intramodal.evaluation.tasks import Mask, Points, Sides, read_labelled
from intramodal.progress import tracked
from intramodal.runs.frames import data_frame, html_table, json_values, stacked_frames
from intramodal.runs.run import Run
from intramodal.store.base import Distance, Filter
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId, VectorTable

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
        enough = (self.pool_sizes >= n_needed) & (tuning >= self.n_validation)
        return np.flatnonzero(enough & (tested > 0))

    def by_classes(self) -> Iterator[tuple[NDArray[np.intp], tuple[int, ...]]]:
        """Yield classes, and the numbers of shots that exactly these can serve."""
        served: dict[tuple[int, ...], list[int]] = {}
        for s in self.shots:
            served.setdefault(tuple(self.classes_at(s).tolist()), []).append(s)
        for classes, shots in served.items():
            yield np.array(classes, dtype=np.intp), tuple(shots)

    def images(self, table: VectorTable, vector: str) -> Floats:
        """Return the unit vectors (n, d) of the images that take part.

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
            found[used] = table.unit(vector, self.rows[used])
        return found

    def _is_used(self) -> NDArray[np.bool_]:
        is_used = self.is_test.copy()
        for drawn in (self.draws, self.validation):
            is_used[drawn[drawn >= 0]] = True
        return is_used


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


EPISODES = "per-episode results"
"""Name of the run's artefact with the accuracy of every episode and class."""

_N_WEIGHTS = 2**14
"""Classes of classifiers held at once, d + 1 floats each; or those of one episode if more."""
_N_COLUMNS = 2048
"""Classes that images are compared with in one matrix product; or those of one classifier."""
_N_SCORES = 2**21
"""Scores of one matrix product, 8 MB of float32; or those of one image if more."""


@dataclass(frozen=True, eq=False, repr=False)
class FewshotResult:
    """Few-shot accuracy of one vector for one label field.

    Parameters
    ----------
    vector, field : str
    classifier : str
        ``"prototype"``, ``"lda"``, ...
    shots : tuple of int
        Labelled images a class, ascending.
    accuracy : ndarray of shape (n_shots, n_episodes)
        Share of all test images of an episode that were classified right; NaN for a number of
        shots that fewer than two classes can serve.
    class_names : list of str
    class_accuracy : ndarray of shape (n_shots, n_classes)
        Mean over episodes; NaN for a class that does not take part.
    n_test : ndarray of shape (n_shots,)
        Mean number of test images an episode.
    seed : int
        Seed of the episodes: same points and same seed, same episodes, whatever the vector.
    ids : list of str or int
        The images that can be tested.
    labels : list of str
        Class of each.
    n_correct, n_tested : ndarray of shape (n_shots, n_images), int64
        In how many episodes each image was classified right, and tested at all.
    n_pool : ndarray of shape (n_shots,)
        Mean number of images a class that the shots were drawn from.
    extra : dict
        Further facts: "n_classes" a number of shots, "n_missing", "n_dropped", ...
    """

    vector: str
    field: str
    classifier: str
    shots: tuple[int, ...]
    accuracy: NDArray[np.float64]
    class_names: list[str]
    class_accuracy: NDArray[np.float64]
    n_test: NDArray[np.float64]
    seed: int
    ids: list[PointId]
    labels: list[str]
    n_correct: NDArray[np.int64]
    n_tested: NDArray[np.int64]
    n_pool: NDArray[np.float64]
    extra: Mapping[str, Any] = dataclass_field(default_factory=dict)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean accuracy over the episodes, a fraction, of shape (n_shots,)."""
        return np.asarray(self.accuracy.mean(axis=1))

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """Standard error of `mean` over the draw of the episodes, of shape (n_shots,).

        It says how well the number of episodes pins the mean down on *these* images, not what
        other images would give. NaN for a single episode.
        """
        n_episodes = self.accuracy.shape[1]
        if n_episodes < 2:
            return np.full(len(self.shots), np.nan)
        return np.asarray(self.accuracy.std(axis=1, ddof=1) / np.sqrt(n_episodes))

    def interval(self, at: int) -> tuple[float, float] | None:
        """Return the 95% interval of the mean accuracy at one number of shots (an index).

        Student's t over the episodes: how well their number pins the mean down on these images,
        not what other images would give. None for a single episode, or where nothing was tested.
        """
        n_episodes = self.accuracy.shape[1]
        return student_interval(self.mean[at], self.standard_error[at], n_episodes, FRACTION)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the per-image arrays; NaN becomes None."""
        rows = zip(self.mean, self.standard_error, self.n_test, self.n_pool, strict=True)
        names = ("accuracy", "standard_error", "n_test", "n_pool")
        values: dict[str, Any] = json_values(
            {
                "vector": self.vector,
                "field": self.field,
                "classifier": self.classifier,
                "seed": self.seed,
                "n_episodes": self.accuracy.shape[1],
                "n_images": len(self.ids),
                "shots": {
                    str(s): dict(zip(names, row, strict=True))
                    for s, row in zip(self.shots, rows, strict=True)
                },
                "classes": dict(zip(self.class_names, self.class_accuracy.T, strict=True)),
                "extra": self.extra,
            }
        )
        return values

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row an episode; needs the extra ``notebook``."""
        n_shots, n_episodes = self.accuracy.shape
        return data_frame(
            {
                "vector": self.vector,
                "field": self.field,
                "classifier": self.classifier,
                "shots": np.repeat(self.shots, n_episodes),
                "episode": np.tile(np.arange(n_episodes), n_shots),
                "accuracy": self.accuracy.ravel(),
            }
        )

    def _repr_html_(self) -> str:
        rows = zip(self.shots, self.mean, self.standard_error, self.n_test, strict=True)
        title = f"{self.classifier} on {self.vector} by {self.field}"
        return f"<p>{escape(title)}</p>" + html_table(
            ["shots", "accuracy", "standard error", "test images"], [list(row) for row in rows]
        )

    def __repr__(self) -> str:
        """Return classifier, vector, field and the mean accuracy by shots."""
        means = ", ".join(f"{s}: {m:.4f}" for s, m in zip(self.shots, self.mean, strict=True))
        return (
            f"FewshotResult({self.classifier} on {self.vector!r} by {self.field!r}, {{{means}}}, "
            f"{self.accuracy.shape[1]} episodes)"
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FewshotResults(Results):
    """Few-shot accuracy of several vectors for several label fields.

    ``results[field, vector]`` holds one `FewshotResult` a classifier; iterating gives all.

    Parameters
    ----------
    results : list of FewshotResult
        By field, vector, classifier.
    split : str or None
        Payload field of the two sides.
    test_share : float or None
    episodes, seed : int
    distances : mapping of str to str
        Vectors that the collection does not rank as the cosine does, and its distance.
    """

    results: list[FewshotResult]
    split: str | None
    test_share: float | None
    episodes: int
    seed: int
    distances: Mapping[str, Distance] = dataclass_field(default_factory=dict)

    def __getitem__(self, key: tuple[str, str]) -> dict[str, FewshotResult]:
        """Return the results of a field and a vector, by classifier."""
        found = {r.classifier: r for r in self.results if (r.field, r.vector) == key}
        if not found:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[FewshotResult]:
        """Iterate over the results."""
        return iter(self.results)

    def to_dict(self, *, classes: bool = False) -> dict[str, Any]:
        """Return what ``--json`` prints; with `classes` every class's accuracy, too."""
        return {
            "collection": self.points.collection,
            "n_points": self.points.n_points,
            "n_incomplete": self.points.n_incomplete,
            "where": self.points.where,
            "split": self.split,
            "test_share": self.test_share,
            "seed": self.seed,
            "n_episodes": self.episodes,
            "fields": by_field(self.results, with_classes=classes),
            "distance_note": distance_note(self.distances, has_map=False),
            "run_id": self.run_id,
        }

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row an episode of every result."""
        return stacked_frames(result.to_frame() for result in self.results)

    def record(self, run: Run) -> None:
        """Record the figures, and the accuracy of every episode and class."""
        for result in self.results:
            for at, shots in enumerate(result.shots):
                run.log_metric(
                    f"accuracy, {result.classifier}, {shots} shots",
                    float(result.mean[at]),
                    vector=result.vector,
                    field=result.field,
                    interval=result.interval(at),
                    n=result.accuracy.shape[1],
                )
        rows = [{**r.to_dict(), "episodes": json_values(r.accuracy)} for r in self.results]
        run.save_artefact(EPISODES, {"rows": rows})

    def _repr_html_(self) -> str:
        return "".join(result._repr_html_() for result in self.results)

    def __repr__(self) -> str:
        """Return the repr of each result, one a line."""
        return "\n".join(map(repr, self.results))


def by_field(results: list[FewshotResult], *, with_classes: bool) -> dict[str, Any]:
    """Return the figures by field, vector, classifier and shots."""
    found: dict[str, Any] = {}
    for result in results:
        extra = {k: result.extra[k] for k in ("n_missing", "n_dropped", "n_outside_split")}
        entry = found.setdefault(
            result.field,
            {"n_images": len(result.ids), "n_classes": len(result.class_names)}
            | {**extra, "vectors": {}},
        )
        by_classifier = entry["vectors"].setdefault(result.vector, {})
        by_classifier[result.classifier] = _by_shots(result, with_classes=with_classes)
    return found


def _by_shots(result: FewshotResult, *, with_classes: bool) -> dict[str, Any]:
    rows = {}
    for at, shots in enumerate(result.shots):
        row = {
            "accuracy": result.mean[at],
            "interval": result.interval(at),
            "standard_error": result.standard_error[at],
            "n_test": result.n_test[at],
            "n_classes": result.extra["n_classes"][at],
        }
        if with_classes:
            names = zip(result.class_names, result.class_accuracy[at], strict=True)
            row["classes"] = dict(names)
        rows[str(shots)] = row
    values: dict[str, Any] = json_values(rows)
    return values


def evaluate_fewshot(  # noqa: PLR0913  a job has as many knobs as it has
    source: VectorTable | ImageCollection,
    *,
    vectors: Sequence[str] = ("raw", "pca"),
    fields: Sequence[str],
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
    classifiers: Sequence[str] = ("prototype", "lda"),
    shots: Sequence[int] = SHOTS,
    episodes: int = 50,
    test_share: float | None = None,
    min_class_size: int = 2,
    seed: int = 0,
    run: Run | None = None,
) -> FewshotResults:
    """Return few-shot accuracies without text (paper, section 5).

    At s shots the classes with more than s images take part, the first s of each permutation
    are the shots, and all other images of these classes are tested. Equal scores go to the class
    whose name comes first.

    Parameters
    ----------
    source : ImageCollection or VectorTable
    vectors : sequence of str
        Named vectors; rows are scaled to unit length here.
    fields : sequence of str
        Payload fields with one class an image.
    sides : Sides, str or pair of ndarray of shape (n,), bool, optional
        Shots come from the gallery side (``train``), the query side (``test``) is tested; here
        classes with s training images and a test image take part. By default all that are no
        shots are tested.
    where : Filter, optional
        Only points that match take part, as shots and as test images; see `parse_filter`.
    classifiers : sequence of {"prototype", "lda"}
        Nearest prototype: cosine to the mean of the unit shots. LDA: common covariance with the
        shrinkage of Kubokawa and Srivastava, equal priors; without scatter within classes, as at
        one shot, its covariance is the identity and it is the prototype classifier.
    shots : sequence of int
        Labelled images per class. What fewer than two classes can serve becomes NaN.
    episodes : int
        Draws of the shots.
    test_share : float, optional
        Instead of `sides`: this share of every class, between 0 and 1 and one image at least, is
        drawn once by the seed and tested in all episodes, so that all shots are tested on the
        same images.
    min_class_size : int
        Classes with fewer images are left out.
    seed : int
        Same points, labels and seed: same episodes, whatever the vector.
    run : Run, optional
        Records the results.

    Raises
    ------
    InputError
        If a field cannot serve as a label, no point matches, or an option is outside its range.

    Notes
    -----
    Statistics in float64, scores in float32. Memory beyond a unit copy of the vectors: weights of
    16,384 classes and 8 MB of scores (one episode's, one image's, if these are more), 2048
    contrasts of shots in float64, and a byte for each image and classifier of a block.
    """
    sides, run = Sides.of(sides), run or Run()
    table = read_labelled(source, vectors, [*fields, *sides.fields], where=where)
    rows, split = sides.named(table)
    tasks = [
        FewshotTask.from_table(
            rows,
            name,
            shots=shots,
            n_episodes=episodes,
            seed=seed,
            min_class_size=min_class_size,
            split=split,
            test_share=test_share,
        )
        for name in fields
    ]
    asked = [(task, vector) for task in tasks for vector in vectors]
    results: list[FewshotResult] = []
    for task, vector in tracked(asked, "episodes", total=len(asked)):
        results += run_fewshot(task, rows, vector, classifiers).values()
    found = FewshotResults(
        points=Points.of(source, table, seed, where),
        run_id=run.id,
        results=results,
        split=sides.split,
        test_share=test_share,
        episodes=episodes,
        seed=seed,
        distances=other_distances(source, table, vectors),
    )
    if isinstance(source, ImageCollection):
        run.log_origins(source.manifest.vectors)
    run.keep(found)
    return found


def run_fewshot(
    task: FewshotTask, table: VectorTable, vector: str, classifiers: Sequence[str]
) -> dict[str, FewshotResult]:
    """Return the accuracy of one vector for a task that several vectors share."""
    unknown = sorted(set(classifiers) - set(FITS))
    if unknown:
        raise InputError(f"no classifier {unknown[0]!r}; choose from {', '.join(sorted(FITS))}")
    X = task.images(table, vector)
    # At one shot nothing scatters within a class: every classifier is the prototype one.
    wanted = {c: [("prototype" if s == 1 else c, s) for s in task.shots] for c in classifiers}
    distinct = sorted({kind for kinds in wanted.values() for kind in kinds})
    counts = {
        kind: found
        for classes, shots in task.by_classes()
        for kind, found in _counts(task, X, classes, [k for k in distinct if k[1] in shots])
    }
    return {
        name: fewshot_result(task, table, vector, name, [counts[kind] for kind in kinds])
        for name, kinds in wanted.items()
    }


def fewshot_result(
    task: FewshotTask, table: VectorTable, vector: str, classifier: str, counts: list[Counts]
) -> FewshotResult:
    """Return the result of one classifier from its counts at every number of shots."""
    right, tested, accuracy = (np.stack(parts) for parts in zip(*counts, strict=True))
    at = [task.classes_at(s) for s in task.shots]
    seen = np.flatnonzero(task.is_test)
    by_class = [_class_accuracy(task, r, t) for r, t in zip(right, tested, strict=True)]
    return FewshotResult(
        vector=vector,
        field=task.field,
        classifier=classifier,
        shots=task.shots,
        accuracy=accuracy,
        class_names=task.names,
        class_accuracy=np.stack(by_class),
        n_test=tested.sum(axis=1) / accuracy.shape[1],
        seed=task.seed,
        ids=[table.ids[row] for row in task.rows[seen]],
        labels=[task.names[code] for code in task.codes[seen]],
        n_correct=right[:, seen],
        n_tested=tested[:, seen],
        n_pool=np.array([task.pool_sizes[c].mean() if len(c) else np.nan for c in at]),
        extra={**task.facts, "n_classes": [len(c) for c in at]},
    )


Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Times right and times tested of every image (n,), and accuracy of every episode."""


def _counts(
    task: FewshotTask, X: Floats, classes: NDArray[np.intp], kinds: list[Kind]
) -> Iterator[tuple[Kind, Counts]]:
    """Yield the counts of each kind of classifier for shots that the same classes can serve."""
    images = np.flatnonzero(task.is_test & np.isin(task.codes, classes))
    truth = np.searchsorted(classes, task.codes[images])
    right, tested = (np.zeros((len(kinds), len(X)), dtype=np.int64) for _ in range(2))
    accuracy = np.full((len(kinds), len(task.draws)), np.nan)
    width = max(1, _N_WEIGHTS // (len(kinds) * max(1, len(classes))))
    for start in range(0, len(task.draws) if len(classes) > 1 else 0, width):
        block = slice(start, start + width)
        W = np.stack([fit_nested(X, draw[classes], kinds) for draw in task.draws[block]])
        hits = _hits(X, images, truth, W.reshape(-1, *W.shape[2:]))
        hits = hits.reshape(len(images), -1, len(kinds))
        for k, (_, n_shots) in enumerate(kinds):
            seen = _is_tested(task, block, classes, n_shots)[images]
            hit = hits[:, :, k] & seen
            right[k, images] += hit.sum(axis=1)
            tested[k, images] += seen.sum(axis=1)
            accuracy[k, block] = hit.sum(axis=0) / seen.sum(axis=0)
    yield from zip(kinds, zip(right, tested, accuracy, strict=True), strict=True)


def _is_tested(
    task: FewshotTask, block: slice, classes: NDArray[np.intp], n_shots: int
) -> NDArray[np.bool_]:
    """Return (n, n_episodes): which images are neither shots nor tune in each episode."""
    draws, tuned = task.draws[block][:, classes, :n_shots], task.validation[block][:, classes]
    is_tested = np.ones((1 + int(task.groups.max()), len(draws)), dtype=bool)
    for e, used in enumerate(np.concatenate([draws, tuned], axis=2)):
        is_tested[task.groups[used.ravel()], e] = False
    return is_tested[task.groups]


def _hits(
    X: Floats, images: NDArray[np.intp], truth: NDArray[np.int64], W: Floats
) -> NDArray[np.bool_]:
    """Return which images each of P classifiers (P, K, d + 1) has right, of shape (m, P)."""
    from intramodal.evaluation.kernels.classification import mark_hits  # numba: when it is needed

    hits = np.empty((len(images), len(W)), dtype=bool)
    width = max(1, _N_COLUMNS // W.shape[1])
    size = max(1, _N_SCORES // (width * W.shape[1]))
    held = np.empty(size * width * W.shape[1], dtype=np.float32)
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        part = X[images[rows]]
        for first in range(0, len(W), width):
            few = W[first : first + width].reshape(-1, W.shape[2])
            scores = held[: len(part) * len(few)].reshape(len(part), len(few))
            np.matmul(part, few[:, :-1].T, out=scores)
            mark_hits(scores, few[:, -1].copy(), truth[rows], hits[rows, first : first + width])
    return hits


def _class_accuracy(
    task: FewshotTask, right: NDArray[np.int64], tested: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (K,); a class has equally many tests in each episode, so pooling is the mean."""
    n_right, n_tested = (
        np.bincount(task.codes, weights=counts, minlength=len(task.names))
        for counts in (right, tested)
    )
    return np.asarray(n_right / np.where(n_tested > 0, n_tested, np.nan))
