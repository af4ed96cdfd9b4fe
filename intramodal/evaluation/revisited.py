"""Retrieval as revisited Oxford and Paris measure it: easy, medium and hard, without junk.

F. Radenović, A. Iscen, G. Tolias, Y. Avrithis, O. Chum, *Revisiting Oxford and Paris: Large-Scale
Image Retrieval Benchmarking*, CVPR 2018.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.distances import DistanceFigure, as_products, other_distances
from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.kernels.trapezoid import Ranked, without_each
from intramodal.evaluation.label_evidence import seen_labels
from intramodal.evaluation.ranking import (
    DEFAULT_KS,
    Groups,
    Ints,
    Lists,
    Relevance,
    as_lists,
    rank,
    score_blocks,
)
from intramodal.evaluation.resampling import Resampling, query_population
from intramodal.evaluation.results import ResultList, log_source
from intramodal.evaluation.retrieval import (
    FIGURES,
    RetrievalResult,
    map_plot,
    note_of,
    record_results,
)
from intramodal.evaluation.tasks import Mask, Points, Sides, read_labelled
from intramodal.ground_truth import DIFFICULTIES, Difficulty, GroundTruth
from intramodal.plots import Plot
from intramodal.progress import tracked
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import searched_vectors
from intramodal.types import Distance, Floats, VectorTable, unkeyed

Rows = NDArray[np.intp]

CROPPED = "cropped"
"""Payload field of queries that says whether they were cropped to their boxes before encoding."""

IDS = "id"
"""As the field of names: the points' ids."""

_MOST_NAMED = 3


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RevisitedResults(ResultList[RetrievalResult]):
    """Retrieval of several vectors by the revisited protocol.

    ``results["medium", vector]`` is one `RetrievalResult`, whose `field` is the difficulty and
    whose `ap` is the benchmark's; iterating gives all of them. There is none of a difficulty at
    which no query has a relevant image.

    Parameters
    ----------
    ground_truth : str
        Fingerprint of the ground truth.
    n_cropped : int or None
        Queries that were cropped to their boxes before encoding, as their payload says; None where
        it says nothing.
    n_unnamed : int
        Points that the ground truth does not name: they take no part.
    n_relevant : dict of str to int
        Relevant images of all queries, by difficulty.
    results : list of RetrievalResult
        By difficulty, then vector.
    """

    ground_truth: str
    n_cropped: int | None
    n_unnamed: int
    n_relevant: dict[Difficulty, int]
    results: list[RetrievalResult]

    def __getitem__(self, key: tuple[Difficulty, str]) -> RetrievalResult:
        """Return the result of a difficulty and a vector."""
        return {(result.field, result.vector): result for result in self.results}[key]

    def __iter__(self) -> Iterator[RetrievalResult]:
        """Iterate over the results."""
        return iter(self.results)

    def to_dict(self, *, classes: bool = False) -> dict[str, Any]:
        """Return what ``--json`` prints; with `classes` every query's average precision, too."""
        fields: dict[str, Any] = {}
        for result in self.results:
            row = result.to_dict()
            counts = {name: row[name] for name in ("n_queries", "n_gallery")}
            counts |= {"n_without_positives": row["n_without_positives"]}
            counts |= {"n_relevant": self.n_relevant[result.field]}  # type: ignore[index]
            figures = {name: row[name] for name in FIGURES}
            figures |= {**row["metrics"], "tie_width": row["tie_width"]}
            if classes:
                ap = zip(result.labels, result.ap.tolist(), strict=True)
                figures["queries"] = dict(sorted(ap))
            fields.setdefault(result.field, {**counts, "vectors": {}})
            fields[result.field]["vectors"][result.vector] = figures
        return {
            **asdict(self.points),
            "protocol": "revisited",
            "ties": "expected",
            "ground_truth": self.ground_truth,
            "n_cropped": self.n_cropped,
            "n_unnamed": self.n_unnamed,
            "fields": fields,
            "distance_note": note_of(self.results),
            "run_id": self.run_id,
        }

    def record(self, run: Run) -> None:
        """Record the figures, and the scores of every query."""
        record_results(run, self.results)
        if self.n_cropped is not None:
            run.log_metric("cropped queries", self.n_cropped)

    def plot(self) -> Plot:
        """Return the mAP of every difficulty and vector, with its interval."""
        return map_plot(self.results)


def evaluate_revisited(  # noqa: PLR0913  a job has as many knobs as it has
    source: VectorTable | ImageCollection,
    *,
    ground_truth: GroundTruth,
    vectors: Sequence[str] | None = None,
    name_field: str = "path",
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    resampling: Resampling = Resampling(),
    seed: int = 0,
    run: Run | None = None,
) -> RevisitedResults:
    """Return mAP and mP@k by the protocol of revisited Oxford and Paris, exact.

    For each query and difficulty (see `GroundTruth.judged`) the images that do not count are
    removed from the ranking of the gallery. Average precision is then the mean, over the relevant
    images, of the precisions before and at each of them (the area under the curve of precision by
    recall, by trapezoids). "mP@k" is the precision among the first k, or as far as the last
    relevant image where that comes earlier. Queries without a relevant image are left out and
    counted. Figures of equal scores are the mean over all their orders.

    Parameters
    ----------
    source : ImageCollection or VectorTable
        A collection is read once; or what `ImageCollection.table` has read.
    ground_truth : GroundTruth
        See `read_ground_truth`. The gallery is exactly the images it names; other points, such as
        a query image that is stored in the gallery, too, take no part.
    vectors : sequence of str, optional
        As in `evaluate_retrieval`.
    name_field : str
        Payload field by which images are found: it holds the name, a file name or a path that
        ends in it, with or without a suffix. ``"id"`` for the points' ids.
    sides : Sides, str or pair of ndarray of shape (n,), bool, optional
        Where queries and gallery are looked for, if one name has a point on either side. By
        default among all points.
    where : Filter, optional
        Only points that match are looked at.
    ks : sequence of int
        Of mP@k.
    resampling : Resampling
        Whom the intervals of the mAP speak for: by default new images, of queries and gallery
        (``"image"``), else independent queries (``"iid"``) or no one (``"none"``).
    seed : int
        Random seed of the resampling.
    run : Run, optional
        Records the results.

    Returns
    -------
    RevisitedResults

    Raises
    ------
    InputError
        If a name has no point, or several; if some queries were cropped and others not; or if no
        query has a relevant image.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]], dtype=np.float32)
    >>> names = {"path": ["q.jpg", "junk.jpg", "hall.jpg", "tree.jpg"]}
    >>> table = VectorTable(list("qjht"), {"raw": X}, names)
    >>> places = [(np.array(p, dtype=np.int64),) for p in ([1], [], [0])]
    >>> truth = GroundTruth(("junk", "hall", "tree"), ("q",), *places)
    >>> evaluate_revisited(table, ground_truth=truth, vectors=["raw"])["easy", "raw"].map
    1.0
    """
    sides, run = Sides.of(sides), run or Run()
    vectors = searched_vectors(source, vectors)
    _check_knobs(vectors, resampling)
    fields = [*([] if name_field == IDS else [name_field]), *sides.fields]
    table = read_labelled(
        source, vectors, fields, optional=(CROPPED,), where=where, seed=seed, warns=False
    )
    rows, masks = sides.apply(table)
    images = _Images.found(rows, masks, ground_truth, name_field)
    tasks = [_Task.of(images, ground_truth, difficulty) for difficulty in DIFFICULTIES]
    tasks = [task for task in tasks if len(task.queries)]
    if not tasks:
        raise InputError("the ground truth names no relevant image for any query; give another")
    pairs = [(task, vector) for task in tasks for vector in vectors]
    distances = other_distances(source, table, vectors)
    found = RevisitedResults(
        points=Points.of(source, table, seed, where),
        run_id=run.id,
        ground_truth=ground_truth.fingerprint,
        n_cropped=_n_cropped(rows, images, ground_truth),
        n_unnamed=len(table) - len(np.union1d(images.queries, images.gallery)),
        n_relevant={task.difficulty: sum(map(len, task.positives)) for task in tasks},
        results=[
            replace(
                _result(task, rows, vector, ks=ks, resampling=resampling, seed=seed),
                by_distance=_by_distance(task, rows, vector, distances.get(vector)),
                label_evidence=seen_labels(rows, vector),
            )
            for task, vector in tracked(
                pairs,
                "retrieval",
                unit="difficulty",
                name=lambda pair: pair[0].difficulty,
                part=itemgetter(1),
            )
        ],
    )
    log_source(run, source, found.points)
    run.keep(found)
    return found


def _check_knobs(vectors: Sequence[str], resampling: Resampling) -> None:
    if not vectors:
        raise InputError("no vector to evaluate; name one")
    if resampling.unit not in (None, "image", "iid", "none"):
        raise InputError(
            f"queries of the revisited protocol have no class or label, got {resampling.unit!r} "
            f"to resample; give image, iid or none"
        )


@dataclass(frozen=True, eq=False)
class _Images:
    """The rows (n_queries,) and (n_gallery,) of a table that the ground truth names, in order."""

    queries: Rows
    gallery: Rows

    @classmethod
    def found(
        cls,
        table: VectorTable,
        masks: tuple[Mask, Mask] | None,
        truth: GroundTruth,
        name_field: str,
    ) -> _Images:
        """Find all names; `InputError` if one has no point, or several."""
        is_id = name_field == IDS
        values = list(map(unkeyed, table.ids)) if is_id else table.payload[name_field]
        every = np.ones(len(table), dtype=bool)
        asks, answers = masks or (every, every)
        kinds = (("queries", truth.queries, asks), ("gallery images", truth.gallery, answers))
        parts = [(kind, names, _by_name(values, mask, names)) for kind, names, mask in kinds]
        where = "ids" if is_id else f"the field {name_field!r}"
        _check_found(parts, where, n_incomplete=table.n_incomplete)
        for kind, names, rows in parts:
            _check_one_each(kind, names, rows, table)
        return cls(*(_rows(names, rows) for _, names, rows in parts))


def _by_name(values: Sequence[Any], mask: Mask, names: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of each name."""
    wanted, found = set(names), defaultdict(list)
    for row in np.flatnonzero(mask).tolist():
        value = values[row]
        for spelling in _spellings(str(value)) if isinstance(value, str | int) else ():
            if spelling in wanted:
                found[spelling].append(row)
                break
    return found


def _spellings(value: str) -> Iterator[str]:
    """Yield a path, its file name, and both without a suffix: the nearest first."""
    path = PurePosixPath(value)
    yield value
    yield str(path.with_suffix("")) if path.name else value
    yield path.name
    yield path.stem


Part = tuple[str, Sequence[str], dict[str, list[int]]]
"""What images are called, their names, and the rows of each."""


def _check_found(parts: Iterable[Part], where: str, *, n_incomplete: int) -> None:
    """Raise `InputError` if names have no point; it counts them and names some."""
    gaps = []
    for kind, names, rows in parts:
        missing = [name for name in names if name not in rows]
        if missing:
            gaps.append(f"{len(missing):,} of {len(names):,} {kind} ({_some(missing)})")
    if gaps:
        lacking = f" ({n_incomplete:,} points lack one of the vectors)" if n_incomplete else ""
        raise InputError(
            f"no point has the name of {' and of '.join(gaps)}, by {where}{lacking}; ingest these "
            f"images, or name the field that holds their file names"
        )


def _check_one_each(
    kind: str, names: Sequence[str], rows: dict[str, list[int]], table: VectorTable
) -> None:
    twice = [name for name in names if len(rows[name]) > 1]
    if twice:
        points = " and ".join(str(table.ids[row]) for row in rows[twice[0]][:2])
        raise InputError(
            f"{len(twice):,} of {len(names):,} {kind} have several points each, {twice[0]} for "
            f"example {points}; tell queries and gallery apart by a payload field, or leave out "
            f"one of each by a filter"
        )


def _some(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _rows(names: Sequence[str], rows: dict[str, list[int]]) -> Rows:
    return np.array([rows[name][0] for name in names], dtype=np.intp)


def _n_cropped(table: VectorTable, images: _Images, truth: GroundTruth) -> int | None:
    """Return how many queries were cropped, None where nothing says so.

    Raises `InputError` where some were and some not.
    """
    column = table.payload.get(CROPPED) or [None] * len(table)
    said = [column[row] for row in images.queries.tolist()]
    if all(one is None for one in said):
        return None
    is_cropped = list(map(bool, said))
    n = sum(is_cropped)
    if 0 < n < len(is_cropped):
        pairs = zip(truth.queries, is_cropped, strict=True)
        whole = [name for name, cropped in pairs if not cropped]
        raise InputError(
            f"{n:,} of {len(is_cropped):,} queries were cropped before encoding and "
            f"{len(whole):,} were not ({_some(whole)}); ingest them again, all in one way"
        )
    return n


@dataclass(frozen=True, eq=False)
class _Task:
    """What one difficulty asks of the images: only queries that have something relevant."""

    difficulty: Difficulty
    images: _Images
    queries: Ints
    """(n_queries,): Their places in the ground truth."""
    names: list[str]
    positives: list[Ints]
    """Of each query, places in the gallery."""
    ignored: list[Ints]
    """Junk, what is of another difficulty, and the query itself where it is in the gallery."""

    @classmethod
    def of(cls, images: _Images, truth: GroundTruth, difficulty: Difficulty) -> _Task:
        """Return the task; a query image that the gallery holds is not relevant to itself."""
        relevant, ignored = truth.judged(difficulty)
        place = {row: at for at, row in enumerate(images.gallery.tolist())}
        own = [
            np.array([place[row]] if row in place else [], dtype=np.int64)
            for row in images.queries.tolist()
        ]
        positives = [np.setdiff1d(x, y) for x, y in zip(relevant, own, strict=True)]
        queries = np.array([q for q, some in enumerate(positives) if len(some)], dtype=np.int64)
        return cls(
            difficulty,
            images,
            queries,
            names=[truth.queries[q] for q in queries],
            positives=[positives[q] for q in queries],
            ignored=[np.union1d(ignored[q], own[q]) for q in queries],
        )

    @property
    def rows(self) -> Rows:
        """Rows (n_queries,) of the table that ask."""
        return self.images.queries[self.queries]

    @property
    def relevance(self) -> Relevance:
        """What `rank` takes."""

        def lists(of: list[Ints], start: int, stop: int) -> Lists:
            return as_lists(of[start:stop])

        return Relevance(
            lambda start, stop: lists(self.positives, start, stop),
            lambda start, stop: lists(self.ignored, start, stop),
            n_queries=len(self.queries),
        )


def _result(
    task: _Task,
    table: VectorTable,
    vector: str,
    *,
    ks: Sequence[int],
    resampling: Resampling,
    seed: int,
) -> RetrievalResult:
    Q, G = table.unit(vector, task.rows), table.unit(vector, task.images.gallery)
    seen: list[Ranked] = []

    def keep(start: int, S: Floats) -> None:
        judged = zip(S, task.positives[start:], task.ignored[start:], strict=False)
        seen.extend(Ranked.of(*one) for one in judged)

    ks = sorted(set(ks))
    ranking = rank(Q, G, task.relevance, ks=ks, seen=keep)
    among = np.array([ranking.figures[f"precision@{k}"] for k in ks]).reshape(len(ks), len(Q))
    pairs = zip(seen, among.T.tolist(), strict=True)
    by_k = np.array([one.precisions(ks, row) for one, row in pairs]).reshape(len(Q), len(ks)).T
    ap = ranking.trapezoid_ap
    return RetrievalResult(
        vector=vector,
        field=task.difficulty,
        protocol="revisited",
        query_ids=[table.ids[row] for row in task.rows],
        labels=task.names,
        ap=ap,
        metrics={f"mP@{k}": values for k, values in zip(ks, by_k, strict=True)},
        n_relevant=ranking.n_relevant,
        n_gallery=len(G),
        n_without_positives=len(task.images.queries) - len(task.queries),
        tie_width=float(np.mean([one.tie_width() for one in seen])),
        interval=_interval(task, table, ap, Q, G, unit=resampling.unit, seed=seed),
    )


def _by_distance(
    task: _Task, table: VectorTable, vector: str, distance: Distance | None
) -> DistanceFigure | None:
    """Return the mAP by the collection's own distance; None without one."""
    if distance is None or distance == "Manhattan":
        return distance and DistanceFigure(distance, None)
    X = table.vectors[vector]
    Q, G = as_products(X[task.rows], X[task.images.gallery], distance)
    ranking = rank(Q, G, task.relevance, ks=())
    return DistanceFigure(distance, float(ranking.trapezoid_ap.mean()))


def _interval(
    task: _Task,
    table: VectorTable,
    ap: NDArray[np.float64],
    Q: Floats,
    G: Floats,
    *,
    unit: str | None,
    seed: int,
) -> Interval | None:
    population = query_population(table, task.rows, task.images.gallery, unit, seed=seed)
    if population is None:
        return None
    n_groups = population.n_groups
    of_gallery = population.groups[task.images.gallery]
    groups = Groups(of_gallery, population.groups[task.rows], np.full(len(Q), -1), n_groups)
    # Images are left out with ties in the order of their names; another rule moves the figure, not
    # its width.
    plain = np.empty(len(Q))

    def leave_out() -> Iterator[NDArray[np.float64]]:
        for start, _, S in score_blocks(Q, G):
            for q, scores in enumerate(S, start):
                plain[q], each = without_each(scores, task.positives[q], task.ignored[q])
                left = np.full((1, n_groups), plain[q])  # other queries are not in its gallery
                left[0, of_gallery] = each
                left[0, groups.own[q]] = np.nan
                yield left

    if not population.leaves_gallery:
        return population.map_interval(ap, groups, leave_out)
    left = list(leave_out())  # they fill `plain`
    found = population.map_interval(plain, groups, lambda: left)
    return found and found.shifted(float(ap.mean() - plain.mean()))
