"""Exact retrieval quality of a named vector, by any payload field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.distances import (
    DistanceFigure,
    distance_note,
    figure_by_distance,
    other_distances,
)
from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.label_evidence import LabelEvidence, label_evidence
from intramodal.evaluation.mapped_queries import (
    asked_by,
    check_query_side,
    distances_by_side,
    fitted_sides,
    log_query_side,
    with_mapped_queries,
)
from intramodal.evaluation.ranking import (
    DEFAULT_KS,
    Ranking,
    Reranking,
    Ties,
    on_device,
    rank,
)
from intramodal.evaluation.resampling import Resampling, interval_population
from intramodal.evaluation.results import (
    ResultList,
    class_means,
    interval_values,
    log_figures,
    log_source,
)
from intramodal.evaluation.tasks import Mask, Points, RetrievalTask, Sides, read_labelled, tasks_of
from intramodal.plots import Plot, figure_plot
from intramodal.progress import tracked
from intramodal.projection.projection import Projection
from intramodal.runs.frames import data_frame, html_table, json_values
from intramodal.runs.run import Run
from intramodal.runs.scores import MEDIA_TYPE, SCORES, QueryScores, pack_scores
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import searched_vectors
from intramodal.store.query_side import QuerySide
from intramodal.types import Distance, Floats, PointId, VectorTable

CLASSES = "per-class results"
"""Name of the run's artefact with the figures of every class."""

FIGURES = ("map", "interval", "population", "by_distance", "label_evidence")
"""What the JSON of every evaluation says of a `RetrievalResult` first."""


@dataclass(frozen=True, eq=False, repr=False)
class RetrievalResult:
    """Exact retrieval quality of one vector for one label field.

    Parameters
    ----------
    vector, field : str
        The named vector and the payload field that says what is relevant.
    protocol : str
        ``"leave-one-out"`` or ``"query-gallery"``.
    query_ids : list of str or int
        Queries that have at least one relevant gallery item, ascending.
    labels : list
        Label of each query (a tuple for multi-valued fields).
    ap : ndarray of shape (n_queries,)
        Average precision, expected over random orders of ties unless `ties` says otherwise.
    metrics : dict of str to ndarray of shape (n_queries,)
        Further per-query figures: "recall@1", "r_precision", "ap@r", "mrr", ...
    n_relevant : ndarray of shape (n_queries,)
    n_gallery : int
    n_without_positives : int
        Queries left out of the mean because nothing is relevant to them.
    tie_width : float
        mAP with best minus mAP with worst order of ties.
    ties : str
    interval : Interval or None
        95% interval of the mAP; None where it was not asked for, or units are too few.
    by_distance : DistanceFigure or None
        The mAP by the collection's own distance; None where that ranks as the cosine does.
    label_evidence : LabelEvidence or None
        What stands beside the figures of a vector whose map has seen labels; None of others.
    """

    vector: str
    field: str
    protocol: str
    query_ids: list[PointId]
    labels: list[Any]
    ap: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]
    n_relevant: NDArray[np.int64]
    n_gallery: int
    n_without_positives: int
    tie_width: float
    ties: str = "expected"
    interval: Interval | None = None
    by_distance: DistanceFigure | None = None
    label_evidence: LabelEvidence | None = None

    @property
    def map(self) -> float:
        """Mean average precision over the queries, a fraction."""
        return float(self.ap.mean()) if self.ap.size else float("nan")

    def class_mean(self) -> dict[Any, tuple[float, int]]:
        """Return the mean AP and the number of queries of every class, by label.

        A query of several labels counts in each of its classes.
        """
        return class_means(self.labels, self.ap)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the per-query arrays; NaN becomes None."""
        means = {
            name: values.mean() if values.size else None for name, values in self.metrics.items()
        }
        values: dict[str, Any] = json_values(
            {
                **self._head(),
                "metrics": means,
                "tie_width": self.tie_width,
                "ties": self.ties,
                "index": None,  # what runs of 0.1 recorded; the store's answers are IndexResults
                "classes": {
                    name: {"ap": ap, "n_queries": n} for name, (ap, n) in self.class_mean().items()
                },
            }
        )
        return values

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a query; needs the extra ``notebook``."""
        return data_frame(
            {
                "vector": self.vector,
                "field": self.field,
                "query": self.query_ids,
                "label": self.labels,
                "n_relevant": self.n_relevant,
                "ap": self.ap,
                **self.metrics,
            }
        )

    def scores(self) -> QueryScores:
        """Return what every query scored, as a run keeps it."""
        figures = {"n_relevant": self.n_relevant, "ap": self.ap, **self.metrics}
        return QueryScores(self.field, self.vector, self.query_ids, figures)

    def log_map(self, run: Run, name: str = "mAP") -> None:
        """Record the mean average precision with its interval."""
        ends = (self.interval.low, self.interval.high) if self.interval else None
        about: Any = {"vector": self.vector, "field": self.field, "n": len(self.query_ids)}
        run.log_metric(name, self.map, interval=ends, **about)
        if self.label_evidence:
            self.label_evidence.log(run, field=self.field, n=len(self.query_ids), figure=name)
        own = self.by_distance
        if own:
            run.log_metric(f"{name} by {own.distance}", own.map, **about)

    def _head(self) -> dict[str, Any]:
        return {
            "vector": self.vector,
            "field": self.field,
            "protocol": self.protocol,
            "map": self.map,
            **interval_values(self.interval),
            "by_distance": self.by_distance and self.by_distance.to_dict(),
            "label_evidence": self.label_evidence and self.label_evidence.to_dict(),
            "n_queries": len(self.query_ids),
            "n_gallery": self.n_gallery,
            "n_without_positives": self.n_without_positives,
        }

    def _repr_html_(self) -> str:
        head = self._head()
        head["label_evidence"] = self.label_evidence and self.label_evidence.sentence
        return html_table(list(head), [list(head.values())])

    def __repr__(self) -> str:
        """Return vector, field, mAP with its interval, and the number of queries."""
        found = self.interval
        within = f" [{found.low:.4f}, {found.high:.4f}]" if found else ""
        return (
            f"RetrievalResult({self.vector!r} by {self.field!r}, mAP {self.map:.4f}{within}, "
            f"{len(self.query_ids):,} queries, {self.protocol})"
            f"{f'; {self.label_evidence.sentence}' if self.label_evidence else ''}"
        )


def map_plot(results: Iterable[RetrievalResult]) -> Plot:
    """Return the mAP of results, with its 95% interval where there is one.

    That of shuffled labels stands below that of a map which has seen labels.
    """
    rows: list[tuple[str, float, Sequence[float] | None]] = []
    for result in results:
        ends = (result.interval.low, result.interval.high) if result.interval else None
        rows.append((f"{result.field}: {result.vector}", result.map, ends))
        beside = result.label_evidence
        if beside and beside.control is not None:
            rows.append((f"{result.field}: shuffled labels", beside.control, None))
    return Plot.of([figure_plot(rows, "mAP")])


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RetrievalResults(ResultList[RetrievalResult]):
    """Exact retrieval quality of several vectors for several label fields.

    ``results[field, vector]`` is one `RetrievalResult`; iterating gives all of them.

    Parameters
    ----------
    ties : str
    min_class_size : int
    tasks : list of RetrievalTask
        One a field.
    results : list of RetrievalResult
        By field, then vector.
    """

    ties: Ties
    min_class_size: int
    tasks: list[RetrievalTask]
    results: list[RetrievalResult]

    def __getitem__(self, key: tuple[str, str]) -> RetrievalResult:
        """Return the result of a field and a vector."""
        return {(result.field, result.vector): result for result in self.results}[key]

    def __iter__(self) -> Iterator[RetrievalResult]:
        """Iterate over the results."""
        return iter(self.results)

    def to_dict(self, *, classes: bool = False) -> dict[str, Any]:
        """Return what ``--json`` prints; with `classes` every class's mean AP, too."""
        fields: dict[str, Any] = {t.field: t.counts() | {"vectors": {}} for t in self.tasks}
        for result in self.results:
            row = result.to_dict()
            figures = {name: row[name] for name in FIGURES}
            figures |= {**row["metrics"], "tie_width": row["tie_width"]}
            figures |= {"classes": row["classes"]} if classes else {}
            fields[result.field]["vectors"][result.vector] = figures
        return {
            **asdict(self.points),
            "protocol": self.results[0].protocol,
            "ties": self.ties,
            "min_class_size": self.min_class_size,
            "fields": fields,
            "distance_note": note_of(self.results),
            "run_id": self.run_id,
        }

    def record(self, run: Run) -> None:
        """Record the figures, and the scores of every query and class."""
        record_results(run, self.results)

    def plot(self) -> Plot:
        """Return the mAP of every field and vector, with its 95% interval where there is one."""
        return map_plot(self.results)


def note_of(
    results: Iterable[RetrievalResult], *, baseline: str = "Figures here are"
) -> str | None:
    """Return the note of `distance_note` on results; None where all rank as the cosine does."""
    distances = {r.vector: r.by_distance.distance for r in results if r.by_distance}
    return distance_note(distances, baseline=baseline)


def maps_by_distance(results: Iterable[RetrievalResult]) -> dict[str, float | None] | None:
    """Return the mAP by the collection's own distance, of the vectors that it ranks otherwise."""
    return {r.vector: r.by_distance.map for r in results if r.by_distance} or None


def record_results(run: Run, results: Sequence[RetrievalResult]) -> None:
    """Record figures, and the scores of every query and class."""
    for result in results:
        result.log_map(run)
        row = result.to_dict()
        about: Any = {"vector": result.vector, "field": result.field}
        figures = {**row["metrics"], "tie width": row["tie_width"]}
        log_figures(run, figures, **about, n=len(result.query_ids))
        run.log_metric("queries without positives", result.n_without_positives, **about)
    run.save_artefact(SCORES, pack_scores([result.scores() for result in results]), MEDIA_TYPE)
    run.save_artefact(CLASSES, {"rows": [result.to_dict() for result in results]})


def evaluate_retrieval(  # noqa: PLR0913  a job has as many knobs as it has
    source: VectorTable | ImageCollection,
    *,
    vectors: Sequence[str] | None = None,
    fields: Sequence[str],
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    min_class_size: int = 2,
    max_queries: int | None = None,
    sample: int | None = None,
    device: str | None = None,
    query_side: Projection | None = None,
    rerank: int | None = None,
    resampling: Resampling = Resampling(),
    seed: int = 0,
    run: Run | None = None,
) -> RetrievalResults:
    """Return exact retrieval figures over the full ranking (paper, section 6).

    Parameters
    ----------
    source : ImageCollection or VectorTable
        A collection is read once; or what `ImageCollection.table` has read.
    vectors : sequence of str, optional
        Named vectors; compared by cosine. By default the encoder's own and its projection, as the
        collection's manifest says. Where the collection ranks otherwise, each result has the mAP
        of that, too (`RetrievalResult.by_distance`).
    fields : sequence of str
        Payload fields: relevant is what shares a value. A query never finds itself.
    sides : Sides, str or pair of ndarray of shape (n,), bool, optional
        Queries and gallery: `Sides`, a payload field with the values ``test`` and ``train``, or
        two masks over the points that take part, in the order of their ids. By default every
        image is a query against all others (leave-one-out).
    where : Filter, optional
        Only points that match take part, as queries and as gallery; see `parse_filter`.
    ks : sequence of int
    ties : {"expected", "sklearn", "best", "worst", "id"}
        See `rank`.
    min_class_size : int
        Classes with fewer images are left out.
    max_queries : int, optional
        Where there are more queries, so many are drawn; the gallery stays whole.
    sample : int, optional
        Of a collection with more points, so many are drawn and read.
    device : str, optional
        A torch device to rank on, for example ``"cuda"``; without it numba does, on the CPU.
    query_side : Projection, optional
        Also searches the first of `vectors` with projected queries (`Projection.query`), as one
        more vector, ``pca@query``: what a projection gives where nothing is written.
    rerank : int, optional
        Puts so many first places of the query side in the order of their projected cosines, as
        `search` does: ``pca@query:100``.
    resampling : Resampling
        Whom the intervals of the mAP speak for.
    seed : int
        Random seed of the resampling and of drawn points and queries.
    run : Run, optional
        Records the results.

    Raises
    ------
    InputError
        If a field cannot serve as a label, no point matches, nothing is relevant to any query,
        the units of the resampling are too few, or the query side is not of these vectors.
    ManifestMismatchError
        If the query side was fitted for another model.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], dtype=np.float32)
    >>> table = VectorTable([1, 2, 3, 4], {"raw": X}, {"kind": ["a", "b", "a", "b"]})
    >>> evaluate_retrieval(table, vectors=["raw"], fields=["kind"])["kind", "raw"].map
    1.0
    """
    sides, run = Sides.of(sides), run or Run()
    vectors = searched_vectors(source, vectors, own_only=query_side is not None)
    side = QuerySide.of(query_side, vectors, rerank)
    check_query_side(source, side)
    wanted = [*fields, *sides.fields, *resampling.fields]
    seen = fitted_sides([side])
    read: Any = {"where": where, "sample": sample, "seed": seed, "fitted": seen}
    table = read_labelled(source, vectors, wanted, **read)
    rows, split = sides.apply(table)
    rows = with_mapped_queries(rows, side)
    at_least, most = min_class_size, max_queries
    tasks = tasks_of(rows, fields, split, min_class_size=at_least, max_queries=most, seed=seed)
    tasks = [asked_by(task, side) for task in tasks]
    every = [*vectors, *([side.name] if side else [])]
    distances = distances_by_side(other_distances(source, table, vectors), side)
    how: Any = {"ks": ks, "ties": ties, "device": device, "cluster": resampling.unit, "seed": seed}
    found = RetrievalResults(
        points=Points.of(source, table, seed, where),
        run_id=run.id,
        ties=ties,
        min_class_size=min_class_size,
        tasks=tasks,
        results=exact_results(tasks, rows, every, distances, title="retrieval", **how),
    )
    log_source(run, source, found.points)
    log_query_side(run, side)
    run.keep(found)
    return found


def exact_results(  # noqa: PLR0913  what jobs hand on
    tasks: Sequence[RetrievalTask],
    table: VectorTable,
    vectors: Sequence[str],
    distances: Mapping[str, Distance],
    *,
    title: str,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    device: str | None = None,
    cluster: str | None = None,
    seed: int = 0,
) -> list[RetrievalResult]:
    """Return the figures of every task and vector, with all that is said beside them."""

    def result(task: RetrievalTask, vector: str) -> RetrievalResult:
        found = run_task(task, table, vector, ks=ks, ties=ties, device=device)
        found = with_distance(found, task, table, distances.get(vector), device=device)
        found = with_interval(found, task, table, cluster=cluster, seed=seed)
        return with_label_evidence(found, task, table, seed=seed)

    pairs = [(task, vector) for task in tasks for vector in vectors]
    how: Any = {"name": lambda pair: pair[0].field, "part": itemgetter(1)}
    return [result(*pair) for pair in tracked(pairs, title, unit="field", **how)]


def with_label_evidence(
    result: RetrievalResult, task: RetrievalTask, table: VectorTable, *, seed: int = 0
) -> RetrievalResult:
    """Return the result with what stands beside it where its vector's map has seen labels.

    Raises `InputError` where that map does not know most of the classes.
    """
    found = label_evidence(table, task, result.vector, result.ap, seed=seed)
    return result if found is None else replace(result, label_evidence=found)


def with_interval(
    result: RetrievalResult,
    task: RetrievalTask,
    table: VectorTable,
    *,
    cluster: str | None = None,
    seed: int = 0,
) -> RetrievalResult:
    """Return the result of a task with the interval of its mAP; see `evaluate_retrieval`."""
    population = interval_population(table, task, cluster, seed=seed)
    if population is None:
        return result
    # Groups are left out with ties in expectation; another rule moves the figure, not its width.
    plain = result if result.ties == "expected" else run_task(task, table, result.vector, ks=())
    found = population.retrieval_interval(table, task, plain)
    return replace(result, interval=found and found.shifted(result.map - plain.map))


def with_distance(
    result: RetrievalResult,
    task: RetrievalTask,
    table: VectorTable,
    distance: Distance | None,
    *,
    device: str | None = None,
) -> RetrievalResult:
    """Return the result of a task with the mAP by a distance; as it is without one."""
    if distance is None:
        return result
    Q, G = task.stored(table, result.vector)
    reranking = _reranking(task, table, result.vector, device)
    how: Any = {"ties": result.ties, "device": device, "reranking": reranking}
    found = figure_by_distance(Q, G, task.relevance, distance, **how)
    return replace(result, by_distance=found)


def _reranking(
    task: RetrievalTask, table: VectorTable, vector: str, device: str | None
) -> Reranking | None:
    """Return how the first places are put in another order; refused on a device."""
    found = task.reranking(table, vector)
    if found is not None and device is not None:
        raise InputError(
            f"the first places are put in order on the CPU, not on {device!r}; leave the device "
            f"or the reranking out"
        )
    return found


def run_task(
    task: RetrievalTask,
    table: VectorTable,
    vector: str,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    device: str | None = None,
    seen: Callable[[int, Floats], None] | None = None,
) -> RetrievalResult:
    """Return the figures of one vector for a task that several vectors share; see `rank`."""
    reranking = _reranking(task, table, vector, device)
    Q, G = (on_device(X, device) for X in task.vectors(table, vector))
    ranking = rank(Q, G, task.relevance, ks=ks, ties=ties, seen=seen, reranking=reranking)
    return result_of(task, table, ranking, vector, ties=ties)


def result_of(
    task: RetrievalTask,
    table: VectorTable,
    ranking: Ranking,
    vector: str,
    *,
    ties: Ties = "expected",
) -> RetrievalResult:
    """Return the ranking of a task's queries as the result of the vector of that name."""
    return RetrievalResult(
        vector=vector,
        field=task.field,
        protocol=task.protocol,
        query_ids=[table.ids[row] for row in task.query_rows],
        labels=task.query_labels(),
        ap=ranking.ap,
        metrics=ranking.figures,
        n_relevant=ranking.n_relevant,
        n_gallery=len(task.gallery_rows),
        n_without_positives=task.n_without_positives,
        tie_width=float(ranking.tie_width.mean()),
        ties=ties,
    )
