"""Few-shot accuracy of a named vector without text: nearest prototype and shrunken LDA.

With text, see `intramodal.evaluation.fewshot_text`; both share their episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from html import escape
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.classifiers import FITS, Kind, fit_nested
from intramodal.evaluation.distances import distance_note, other_distances
from intramodal.evaluation.intervals import FRACTION, student_interval
from intramodal.evaluation.label_evidence import LabelEvidence, beside_fields, json_evidence
from intramodal.evaluation.protocols import (
    N_SEEDS,
    Lengths,
    Projections,
    Protocol,
    TakingPart,
    check_protocol,
    shot_images,
    with_shots,
)
from intramodal.evaluation.results import ResultList, log_source
from intramodal.evaluation.shots import SHOTS, FewshotTask, drawn_anew
from intramodal.evaluation.tasks import Mask, Points, Sides
from intramodal.plots import Plot, shots_plot
from intramodal.progress import tracked
from intramodal.runs.frames import data_frame, html_table, json_values
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import searched_vectors
from intramodal.types import Distance, Floats, PointId, VectorTable, first_lines

N_EPISODES = 50
"""Draws of the shots unless told otherwise."""

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
        Further facts: "n_classes" and "reasons" (why there is no accuracy, or None) by number of
        shots, "n_missing", "n_dropped", ...
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
class FewshotResults(ResultList[FewshotResult]):
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
    protocol : str
    shots_from : mapping of str to str
        Vectors whose shots come from other ones.
    distances : mapping of str to str
        Vectors that the collection does not rank as the cosine does, and its distance.
    label_evidence : mapping of str to mapping of str to LabelEvidence
        What stands beside figures of vectors whose maps have seen labels, by field and vector.
    """

    results: list[FewshotResult]
    split: str | None
    test_share: float | None
    episodes: int
    seed: int
    protocol: str = "nested"
    shots_from: Mapping[str, str] = dataclass_field(default_factory=dict)
    distances: Mapping[str, Distance] = dataclass_field(default_factory=dict)
    label_evidence: Mapping[str, Mapping[str, LabelEvidence]] = dataclass_field(
        default_factory=dict
    )

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
            "labels_from": self.points.labels_from,
            "held_out": self.points.held_out,
            "label_evidence": json_evidence(self.label_evidence),
            "split": self.split,
            "test_share": self.test_share,
            "protocol": self.protocol,
            "shots_from": dict(self.shots_from),
            "seed": self.seed,
            "n_episodes": self.episodes,
            "fields": by_field(self.results, with_classes=classes),
            "distance_note": distance_note(self.distances, has_map=False),
            "run_id": self.run_id,
        }

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
        for field, one in self._evidence():
            one.log(run, field=field)
        rows = [{**r.to_dict(), "episodes": json_values(r.accuracy)} for r in self.results]
        run.save_artefact(EPISODES, {"rows": rows})

    def _evidence(self) -> Iterator[tuple[str, LabelEvidence]]:
        """Yield what stands beside figures of maps that have seen labels, with the field."""
        return ((f, one) for f, beside in self.label_evidence.items() for one in beside.values())

    def _repr_html_(self) -> str:
        told = (f"<p>{escape(f'{field}: {one.sentence}')}</p>" for field, one in self._evidence())
        return "".join([super()._repr_html_(), *told])

    def __repr__(self) -> str:
        """Return what stands beside maps that have seen labels, then each result, one a line."""
        told = (f"{field}: {one.sentence}" for field, one in self._evidence())
        return first_lines([*told, *map(repr, self.results)])

    def plot(self) -> Plot:
        """Return accuracy by number of shots, one plot per field."""
        fields: dict[str, list[FewshotResult]] = {}
        for result in self.results:
            fields.setdefault(result.field, []).append(result)
        return Plot.of(map(_shots_plot, fields.values()))


def _shots_plot(results: Sequence[FewshotResult]) -> str:
    """Return the plot of one field; all results of a field have the same shots."""
    lines = {
        f"{r.vector}, {r.classifier}": [m if np.isfinite(m) else None for m in r.mean.tolist()]
        for r in results
    }
    return shots_plot(results[0].field, results[0].shots, lines, what="accuracy (fraction)")


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
            "reason": result.extra["reasons"][at],
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
    vectors: Sequence[str] | None = None,
    fields: Sequence[str],
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
    classifiers: Sequence[str] = ("prototype", "lda"),
    shots: Sequence[int] = SHOTS,
    protocol: Protocol = "nested",
    projections: Projections = (),
    shots_from: Mapping[str, str] | None = None,
    episodes: int | None = None,
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
    vectors : sequence of str, optional
        Named vectors; rows are scaled to unit length here, but for the protocol of the paper. By
        default the encoder's own and its projection, as the collection's manifest says.
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
    protocol : {"nested", "paper"}
        ``"paper"`` is that of the paper's code: shots come from the train side of `sides` and are
        drawn anew for every number of them, not nested, by the seeds ``seed + 1`` to
        ``seed + episodes`` (1, 2, 3); a class with fewer images is drawn from with replacement,
        so that all take part. Projected vectors keep the lengths that the projection leaves them;
        prototypes are scaled after the mean. Rows of a table are taken as they are then: give
        unit rows, or projections of unit rows.
    projections : sequence of Projection, or mapping of str to Projection
        For protocol ``"paper"``, those that made a collection's projected vectors: stored vectors
        have unit length, so they are projected again.
    shots_from : mapping of str to str, optional
        Named vectors that the shots of others are taken from, such as augmented views:
        ``{"raw": "raw_augmented"}``. Tested images keep their own.
    episodes : int, optional
        Draws of the shots; by default 50, and 3 of protocol ``"paper"``.
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
    sides, run, shots_from = Sides.of(sides), run or Run(), shots_from or {}
    vectors = searched_vectors(source, vectors)
    is_paper = check_protocol(protocol, sides, test_share, projections)
    episodes = (N_SEEDS if is_paper else N_EPISODES) if episodes is None else episodes
    needed = with_shots(source, shots_from, vectors)
    scaled = Lengths.of(source, needed, projections) if is_paper else None
    those = TakingPart.of(source, needed, fields, sides=sides, where=where, scaled=scaled)
    how: Any = {"shots": shots, "n_episodes": episodes, "seed": seed, "split": those.split}
    how |= {"min_class_size": min_class_size, "test_share": test_share}
    tasks = [FewshotTask.from_table(those.rows, name, **how) for name in fields]
    asked = [(task, vector) for task in tasks for vector in vectors]
    results: list[FewshotResult] = []
    for task, vector in tracked(
        asked, "few-shot", unit="field", name=lambda pair: pair[0].field, part=itemgetter(1)
    ):
        parts = drawn_anew(task, episodes) if is_paper else [task]
        drawn_from = shots_from.get(vector)
        found = [run_fewshot(one, those.rows, vector, classifiers, drawn_from) for one in parts]
        results += joined(found).values()
    kept = FewshotResults(
        points=Points.of(source, those.table, seed, where),
        run_id=run.id,
        results=results,
        split=sides.split,
        test_share=test_share,
        protocol=protocol,
        shots_from=shots_from,
        episodes=episodes,
        seed=seed,
        distances=other_distances(source, those.table, those.read),
        label_evidence=beside_fields(
            those.rows, those.split, fields, vectors, min_class_size=min_class_size, seed=seed
        ),
    )
    log_source(run, source, kept.points)
    run.keep(kept)
    return kept


def joined(parts: Sequence[dict[str, FewshotResult]]) -> dict[str, FewshotResult]:
    """Return results by classifier, of parts that hold other numbers of shots each."""
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(parts: list[FewshotResult]) -> FewshotResult:
    first = parts[0]
    extra = dict(first.extra) | {
        name: [value for one in parts for value in one.extra[name]]
        for name in ("n_classes", "reasons")
    }
    if "parameters" in extra:
        extra["parameters"] = {s: v for one in parts for s, v in one.extra["parameters"].items()}
    return replace(
        first,
        shots=tuple(s for one in parts for s in one.shots),
        accuracy=np.concatenate([one.accuracy for one in parts]),
        class_accuracy=np.concatenate([one.class_accuracy for one in parts]),
        n_test=np.concatenate([one.n_test for one in parts]),
        n_correct=np.concatenate([one.n_correct for one in parts]),
        n_tested=np.concatenate([one.n_tested for one in parts]),
        n_pool=np.concatenate([one.n_pool for one in parts]),
        extra=extra,
    )


def run_fewshot(
    task: FewshotTask,
    table: VectorTable,
    vector: str,
    classifiers: Sequence[str],
    shots_from: str | None = None,
) -> dict[str, FewshotResult]:
    """Return the accuracy of one vector for a task that several vectors share.

    The shots are taken from another vector if `shots_from` names one.
    """
    unknown = sorted(set(classifiers) - set(FITS))
    if unknown:
        raise InputError(f"no classifier {unknown[0]!r}; choose from {', '.join(sorted(FITS))}")
    X = task.images(table, vector)
    S = X if shots_from is None else shot_images(task, table, shots_from, X)
    # At one shot nothing scatters within a class: every classifier is the prototype one.
    wanted = {c: [("prototype" if s == 1 else c, s) for s in task.shots] for c in classifiers}
    distinct = sorted({kind for kinds in wanted.values() for kind in kinds})
    counts = {
        kind: found
        for classes, shots in task.by_classes()
        for kind, found in _counts(task, X, S, classes, [k for k in distinct if k[1] in shots])
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
        extra={
            **task.facts,
            "n_classes": [len(c) for c in at],
            "reasons": [task.why_empty(s) for s in task.shots],
        },
    )


Counts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Times right and times tested of every image (n,), and accuracy of every episode."""


def _counts(
    task: FewshotTask, X: Floats, S: Floats, classes: NDArray[np.intp], kinds: list[Kind]
) -> Iterator[tuple[Kind, Counts]]:
    """Yield the counts of each kind of classifier for shots that the same classes can serve.

    `X` (n, d) are the images as they are tested, `S` (n, d) as they are shots.
    """
    images = np.flatnonzero(task.is_test & np.isin(task.codes, classes))
    truth = np.searchsorted(classes, task.codes[images])
    right, tested = (np.zeros((len(kinds), len(X)), dtype=np.int64) for _ in range(2))
    accuracy = np.full((len(kinds), len(task.draws)), np.nan)
    width = max(1, _N_WEIGHTS // (len(kinds) * max(1, len(classes))))
    for start in range(0, len(task.draws) if len(classes) > 1 else 0, width):
        block = slice(start, start + width)
        W = np.stack([fit_nested(S, draw[classes], kinds) for draw in task.draws[block]])
        hits = _hits(X, images, truth, W.reshape(-1, *W.shape[2:]))
        hits = hits.reshape(len(images), -1, len(kinds))
        for k, (_, n_shots) in enumerate(kinds):
            seen = _is_tested(task, block, classes, n_shots)[images]
            hit = hits[:, :, k] & seen
            right[k, images] += hit.sum(axis=1)
            tested[k, images] += seen.sum(axis=1)
            with np.errstate(invalid="ignore"):  # no image may be left to test: NaN
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
