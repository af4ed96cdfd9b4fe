"""What production gets: the store's own top-k answers, against the exact ranking."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.distances import other_distances
from intramodal.evaluation.index_search import CANDIDATES_AN_ANSWER, IndexSearch, in_gallery
from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.label_evidence import LabelEvidence, beside_tasks
from intramodal.evaluation.labels import require_read
from intramodal.evaluation.mapped_queries import (
    asked_by,
    distances_by_side,
    fitted_sides,
    log_query_side,
    side_scores,
    with_mapped_queries,
)
from intramodal.evaluation.ranking import score_blocks
from intramodal.evaluation.resampling import Population, Resampling, interval_population
from intramodal.evaluation.results import ResultList, class_means, interval_values, log_source
from intramodal.evaluation.retrieval import (
    CLASSES,
    RetrievalResult,
    exact_results,
    note_of,
)
from intramodal.evaluation.tasks import (
    Mask,
    Points,
    RetrievalTask,
    Sides,
    read_labelled,
    tasks_of,
)
from intramodal.plots import Plot, figure_plot
from intramodal.progress import tracked
from intramodal.runs.frames import data_frame, html_table, json_values
from intramodal.runs.run import Run
from intramodal.runs.scores import MEDIA_TYPE, SCORES, QueryScores, pack_scores
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import searched_vectors
from intramodal.types import Distance, Floats, PointId, VectorTable

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
"""Rows of a table that answer one query, best first; -1 for answers that are not in it."""

_BATCH = 100
_PRIOR = 40
"""Answers that a query's own share of relevant ones is weighed against."""


def judge(
    task: RetrievalTask, table: VectorTable, answers: Sequence[Rows], k: int, most: int | None
) -> dict[str, Any]:
    """Return the figures of every query's k answers; AP@k over at most `most` relevant items."""
    figures = np.zeros((len(answers), 6))
    n_relevant, n_answers = np.zeros((2, len(answers)), dtype=np.int64)
    for i, (places, relevant) in enumerate(_paired(task, table, answers)):
        n_others = len(task.gallery_rows) - int(task.query_at[i] >= 0)
        n_relevant[i], n_answers[i] = len(relevant), len(places)
        is_relevant = np.isin(places, relevant)
        figures[i, :3] = certified_ap(is_relevant, len(relevant), n_others)
        figures[i, 3:] = first_places(is_relevant, len(relevant), k)
    ap, lower, upper, ndcg, precision, precision_at_1 = figures.T
    if most is not None:
        ap = ap * n_relevant / np.minimum(n_relevant, most)
    return {
        "ap": ap,
        "lower": lower,
        "upper": upper,
        "ndcg": ndcg,
        "precision": precision,
        "precision_at_1": precision_at_1,
        "n_relevant": n_relevant,
        "n_answers": n_answers,
    }


def _paired(
    task: RetrievalTask, table: VectorTable, answers: Sequence[Rows]
) -> Iterator[tuple[Rows, Rows]]:
    """Yield, for every query, the gallery places of its answers and of what is relevant."""
    # One place more: row -1, an answer that is not in the table, is not in the gallery either.
    place = np.full(len(table) + 1, -1, dtype=np.int64)
    place[task.gallery_rows] = np.arange(len(task.gallery_rows))
    for start in range(0, len(answers), _BATCH):
        part = answers[start : start + _BATCH]
        pointers, positives = task.relevance.positives(start, start + len(part))
        for i, rows in enumerate(part):
            places = place[rows]
            yield places[places >= 0], positives[pointers[i] : pointers[i + 1]]


def map_at_k_interval(
    task: RetrievalTask,
    table: VectorTable,
    answers: Sequence[Rows],
    ap: NDArray[np.float64],
    population: Population | None,
    most: int | None,
) -> Interval | None:
    """Return the interval of the mAP@k, the mean of `ap` (n_queries,)."""
    if population is None:
        return None
    groups = population.groups_of(task)

    # A picture that is left out leaves the answers, too, and another one comes up from below.
    def without() -> Iterator[NDArray[np.float64]]:
        chances = _chances(task, table, answers)
        pairs = _paired(task, table, answers)
        for pair, chance, own in zip(pairs, chances, groups.own, strict=True):
            found = _ap_without(*pair, groups.gallery, groups.n_groups, most, chance)
            found[own] = np.nan  # the query itself is left out
            yield found[None]

    return population.map_interval(ap, groups, without)


def _chances(
    task: RetrievalTask, table: VectorTable, answers: Sequence[Rows]
) -> NDArray[np.float64]:
    """Return each query's chance (n_queries,) that the picture below its answers is relevant."""
    # The share of the relevant in the lower half of the answers, which are few: drawn towards that
    # of all queries, as `_PRIOR` more answers would. 0 where nothing is below.
    found = np.zeros((len(answers), 2))
    is_below = np.ones(len(answers), dtype=bool)
    for i, (places, relevant) in enumerate(_paired(task, table, answers)):
        lower = places[len(places) // 2 :]
        found[i] = np.isin(lower, relevant).sum(), len(lower)
        is_below[i] = len(places) < len(task.gallery_rows) - int(task.query_at[i] >= 0)
    hits, n = found.T
    pooled = hits.sum() / max(n.sum(), 1)
    return np.where(is_below, (hits + _PRIOR * pooled) / (n + _PRIOR), 0.0)


def _ap_without(
    places: Rows,
    relevant: Rows,
    group: NDArray[np.int64],
    n_groups: int,
    most: int | None,
    chance: float,
) -> NDArray[np.float64]:
    """Return AP@k (n_groups,) without the answers and the relevant items of each group."""
    is_relevant = np.isin(places, relevant)
    there, own = np.unique(group[places], return_inverse=True)
    # Row 0 leaves nothing out, row 1 + i the group there[i].
    is_kept = np.vstack([np.ones(len(places), bool), own != np.arange(len(there))[:, None]])
    is_hit = is_kept & is_relevant
    hits, ranks = np.cumsum(is_hit, axis=1), np.cumsum(is_kept, axis=1)
    sums = (hits / np.maximum(ranks, 1) * is_hit).sum(axis=1)
    # What comes up stands at the end, where its precision is that of the hits with it.
    n_gone = (~is_kept).sum(axis=1)
    sums += n_gone * chance * (is_hit.sum(axis=1) + 1) / max(len(places), 1)
    total = np.full(n_groups, sums[0])
    total[there] = sums[1:]
    n_left = len(relevant) - np.bincount(group[relevant], minlength=n_groups)
    counted = n_left if most is None else np.minimum(n_left, most)
    return np.where(n_left > 0, total / np.maximum(counted, 1), np.nan)


def certified_ap(
    is_relevant: NDArray[np.bool_], n_relevant: int, n_gallery: int
) -> tuple[float, float, float]:
    """Return AP@k, and the least and most AP of any full ranking that begins so, (k,)."""
    # With h of the R relevant items among the k answers, the others stand last in the worst case
    # and at the places k + 1, ... in the best.
    found = np.flatnonzero(is_relevant) + 1.0
    sure = float((np.arange(1, len(found) + 1) / found).sum())
    missing = np.arange(1, n_relevant - len(found) + 1)
    hits = len(found) + missing
    least = float((hits / (n_gallery - len(missing) + missing)).sum())
    most = float((hits / (len(is_relevant) + missing)).sum())
    return sure / n_relevant, (sure + least) / n_relevant, (sure + most) / n_relevant


def first_places(
    is_relevant: NDArray[np.bool_], n_relevant: int, k: int
) -> tuple[float, float, float]:
    """Return nDCG@k, precision@k and precision@1 of the answers (at most k,) to a query."""
    # Places that no answer fills hold nothing relevant.
    gains = 1 / np.log2(np.arange(2, k + 2))
    ndcg = gains[: len(is_relevant)][is_relevant].sum() / gains[:n_relevant].sum()
    return float(ndcg), float(is_relevant.sum() / k), float(is_relevant[:1].sum())


Denominator = Literal["relevant", "min"]
DENOMINATORS: dict[Denominator, str] = {"relevant": "all relevant", "min": "min(k, relevant)"}

_N_WARM = 5


@dataclass(frozen=True, eq=False, repr=False)
class IndexResult:
    """Quality of the store's answers to one search for one label field.

    Parameters
    ----------
    search : IndexSearch
    k : int
        Answers a query.
    field : str
    query_ids : list of str or int
        Queries that have at least one relevant gallery item, ascending.
    labels : list
        Label of each query (a tuple for multi-valued fields).
    ap : ndarray of shape (n_queries,)
        Sum of the precisions at the relevant answers, over the denominator: over *all* relevant
        items it is what of the average precision the k answers are sure to give.
    lower, upper : ndarray of shape (n_queries,)
        Least and most average precision of any full ranking that begins with these answers.
        With ``exact=True`` that is the exact ranking, ties in the order of the ids.
    ndcg, precision, precision_at_1 : ndarray of shape (n_queries,)
        nDCG@k, its best value that of min(k, R) relevant items; precision@k and precision@1.
    recall : ndarray of shape (n_queries,)
        Share of the answers that belong to the exact top k, by the collection's own distance; NaN
        for a fused search, which has none.
    n_relevant, n_answers : ndarray of shape (n_queries,)
    n_outside : int
        Answers taken out because they have no label or are of a class too small.
    latency_ms : ndarray of shape (n_timed,)
        Of single searches, as this process sees them.
    distance : {"Cosine", "Dot", "Euclid", "Manhattan"}
        By which the collection compares the vector; the exact mAP is by cosine.
    denominator : {"relevant", "min"}
        Of `ap`: all R relevant items, or min(k, R).
    interval : Interval or None
        95% interval of the mean of `ap`, the mAP@k.
    """

    search: IndexSearch
    k: int
    field: str
    query_ids: list[PointId]
    labels: list[Any]
    ap: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    ndcg: NDArray[np.float64]
    precision: NDArray[np.float64]
    precision_at_1: NDArray[np.float64]
    recall: NDArray[np.float64]
    n_relevant: NDArray[np.int64]
    n_answers: NDArray[np.int64]
    n_outside: int
    latency_ms: NDArray[np.float64]
    distance: Distance = "Cosine"
    denominator: Denominator = "relevant"
    interval: Interval | None = None

    def class_mean(self) -> dict[Any, tuple[float, int]]:
        """Return the mean AP@k and the number of queries of every class, by label."""
        return class_means(self.labels, self.ap)

    def to_dict(self, *, classes: bool = False) -> dict[str, Any]:
        """Return the figures as JSON values; with `classes` every class's mean AP@k, too."""
        p50, p95, p99 = np.percentile(self.latency_ms, [50, 95, 99])
        values: dict[str, Any] = json_values(
            {
                "search": self.search.name,
                "distance": self.distance,
                "field": self.field,
                "k": self.k,
                "map_at_k": self.ap.mean(),
                "denominator": DENOMINATORS[self.denominator],
                **interval_values(self.interval),
                "map_interval": [self.lower.mean(), self.upper.mean()],
                "ndcg_at_k": self.ndcg.mean(),
                "precision_at_k": self.precision.mean(),
                "precision_at_1": self.precision_at_1.mean(),
                "recall": self.recall.mean(),
                "n_queries": len(self.ap),
                "n_outside": self.n_outside,
                "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "n": len(self.latency_ms)},
            }
        )
        return values | ({"classes": self._classes()} if classes else {})

    def _classes(self) -> dict[str, Any]:
        means = self.class_mean().items()
        return {str(name): {"ap": ap, "n_queries": n} for name, (ap, n) in means}

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a query; needs the extra ``notebook``."""
        about = {"search": self.search.name, "field": self.field}
        return data_frame({**about, "query": self.query_ids, "label": self.labels, **self.scores})

    @property
    def scores(self) -> dict[str, NDArray[Any]]:
        """Figures of every query by name, as a run keeps them."""
        return {
            "n_relevant": self.n_relevant,
            "n_answers": self.n_answers,
            # trec_eval's map_cut is over all relevant items.
            f"ap@{self.k}" if self.denominator == "relevant" else f"ap@{self.k}_of_min": self.ap,
            "ap_least": self.lower,
            "ap_most": self.upper,
            f"ndcg@{self.k}": self.ndcg,
            f"precision@{self.k}": self.precision,
            "precision@1": self.precision_at_1,
            f"exact_recall@{self.k}": self.recall,
        }

    def log(self, run: Run) -> None:
        """Record the figures."""
        row = self.to_dict()
        about = {"vector": row["search"], "field": row["field"], "n": row["n_queries"]}
        over = "" if self.denominator == "relevant" else f", over {row['denominator']}"
        run.log_metric(f"mAP@{self.k}{over}", row["map_at_k"], interval=row["interval"], **about)
        for name, value in zip(("least", "most"), row["map_interval"], strict=True):
            run.log_metric(f"mAP at {name}, by {self.k} answers", value, **about)
        run.log_metric(f"nDCG@{self.k}", row["ndcg_at_k"], **about)
        for k, name in {self.k: "precision_at_k", 1: "precision_at_1"}.items():
            run.log_metric(f"precision@{k}", row[name], **about)
        run.log_metric(f"recall@{self.k}", row["recall"], **about)
        timed = {**about, "n": row["latency_ms"]["n"]}
        for name in ("p50", "p95", "p99"):
            run.log_metric(f"latency {name}, ms", row["latency_ms"][name], **timed)

    def _repr_html_(self) -> str:
        plain = self.to_dict()
        return html_table(list(plain), [[str(value) for value in plain.values()]])

    def __repr__(self) -> str:
        """Return search, field and the figures."""
        return (
            f"IndexResult({self.search.name!r} by {self.field!r}, mAP@{self.k} "
            f"{self.ap.mean():.4f}, full mAP within [{self.lower.mean():.4f}, "
            f"{self.upper.mean():.4f}], recall {self.recall.mean():.4f})"
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class IndexResults(ResultList[IndexResult]):
    """Quality of the store's answers to several searches for several label fields.

    ``results[field, name]`` is one `IndexResult`; iterating gives all of them.

    Parameters
    ----------
    k : int
        Answers a query.
    searches : list of IndexSearch
    results : list of IndexResult
        By field, then search.
    exact : mapping of (str, str) to RetrievalResult
        The exact ranking by cosine, by field and vector (the name of a query side), equal scores
        in the order of the ids, as a store gives them; with the mAP of the collection's own
        distance where that ranks otherwise. A fused search has none.
    label_evidence : mapping of str to mapping of str to LabelEvidence
        What stands beside figures of vectors whose maps have seen labels, by field and vector.
    """

    k: int
    searches: list[IndexSearch]
    results: list[IndexResult]
    exact: Mapping[tuple[str, str], RetrievalResult]
    label_evidence: Mapping[str, Mapping[str, LabelEvidence]] = dataclass_field(
        default_factory=dict
    )

    def __getitem__(self, key: tuple[str, str]) -> IndexResult:
        """Return the result of a field and a search, by its name."""
        return {(result.field, result.search.name): result for result in self.results}[key]

    def __iter__(self) -> Iterator[IndexResult]:
        """Iterate over the results."""
        return iter(self.results)

    def to_dict(self, *, classes: bool = False) -> dict[str, Any]:
        """Return what ``--json`` prints; with `classes` every class's mean AP@k, too.

        "exact" says whether every search is, "params" are those that all searches share.
        """
        points = asdict(self.points)
        first, *others = (dict(search.params) for search in self.searches)
        return {
            "collection": points["collection"],
            "k": self.k,
            "exact": all(search.exact for search in self.searches),
            "params": {
                name: value
                for name, value in first.items()
                if all(name in params and params[name] == value for params in others)
            },
            "n_points": points["n_points"],
            "n_incomplete": points["n_incomplete"],
            "where": points["where"],
            "labels_from": points["labels_from"],
            "held_out": points["held_out"],
            "rows": [self._row(result, classes=classes) for result in self.results],
            "distance_note": note_of(self.exact.values(), baseline="The exact mAP is"),
            "run_id": self.run_id,
        }

    def _row(self, result: IndexResult, *, classes: bool) -> dict[str, Any]:
        """Return what is shown of a search: its own figures, and what the vector is capable of."""
        search = result.search
        found = None if search.fuse is not None else self.exact[result.field, search.ranked_as]
        beside = found.to_dict() if found else {}
        seen = self.label_evidence.get(result.field, {})
        names = dict.fromkeys([search.ranked_as, *search.vectors])
        return {
            **result.to_dict(classes=classes),
            "exact_map": beside.get("map"),
            "exact_interval": beside.get("interval"),
            "by_distance": beside.get("by_distance"),
            "label_evidence": {v: seen[v].to_dict() for v in names if v in seen} or None,
        }

    def record(self, run: Run) -> None:
        """Record the figures, and the scores of every query and class."""
        for found in self.exact.values():
            found.log_map(run, "mAP exact")
        for field, beside in self.label_evidence.items():
            for vector, one in beside.items():
                if (field, vector) not in self.exact:
                    one.log(run, field=field, figure="mAP exact")
        for result in self.results:
            result.log(run)
        scores = [
            QueryScores(result.field, result.search.name, result.query_ids, result.scores)
            for result in self.results
        ]
        run.save_artefact(SCORES, pack_scores(scores), MEDIA_TYPE)
        run.save_artefact(CLASSES, {"rows": [row.to_dict(classes=True) for row in self.results]})

    def plot(self) -> Plot:
        """Return mAP@k of every field and search, and how many exact neighbours each finds."""
        rows = [(f"{row['field']}: {row['search']}", row) for row in self.to_dict()["rows"]]
        return Plot.of(
            [
                figure_plot([(n, r["map_at_k"], r["interval"]) for n, r in rows], f"mAP@{self.k}"),
                figure_plot([(n, r["recall"], None) for n, r in rows], f"recall@{self.k}"),
            ]
        )


def evaluate_index(  # noqa: PLR0913  a job has as many knobs as it has
    collection: ImageCollection,
    *,
    searches: Sequence[IndexSearch] | None = None,
    fields: Sequence[str],
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
    k: int = 100,
    denominator: Denominator = "relevant",
    min_class_size: int = 2,
    max_queries: int | None = None,
    n_timed: int = 200,
    resampling: Resampling = Resampling(),
    seed: int = 0,
    run: Run | None = None,
) -> IndexResults:
    """Ask the store as production does, and judge its answers beside the exact ranking.

    What the model loses and what the index or quantisation loses are two figures: the first is
    the exact mAP, the second is the recall and the distance of the two.

    Parameters
    ----------
    collection : ImageCollection
        Read once, and then asked.
    searches : sequence of IndexSearch, optional
        By default `usual_searches`: with the encoder's own vector, with its projection, and in
        two stages.
    fields, sides, min_class_size, max_queries
        As in `evaluate_retrieval`. Where the gallery is chosen by a payload field, the searches
        are filtered by it; answers outside of a gallery given as a mask are taken out.
    where : Filter, optional
        Only points that match take part: every search is filtered by it, and the exact ranking is
        over the matching points; see `parse_filter`.
    k : int
        Answers a query.
    denominator : {"relevant", "min"}
        Of the mAP@k: all R relevant items, as trec_eval's; or min(k, R), as Cross-the-Gap's.
    n_timed : int
        Queries asked one by one for the latency.
    resampling : Resampling
        Whom the intervals of the mAP and the mAP@k speak for.
    seed : int
        Random seed of the resampling, of drawn queries, and of those that are timed.
    run : Run, optional
        Records the results.

    Raises
    ------
    InputError
        For a table instead of a collection, searches of the same name, or as
        `evaluate_retrieval`.
    """
    searches = _checked(collection, searches, denominator)
    sides, run = Sides.of(sides), run or Run()
    query_sides = [search.side for search in searches if search.side is not None]
    for side in query_sides:
        side.check(collection)
    vectors = [name for search in searches for name in search.vectors]
    wanted = [*fields, *sides.fields, *resampling.fields]
    seen = fitted_sides(query_sides)
    table = read_labelled(collection, vectors, wanted, where=where, fitted=seen)
    rows, split = sides.apply(table)
    tasks = tasks_of(
        rows, fields, split, min_class_size=min_class_size, max_queries=max_queries, seed=seed
    )
    distances = other_distances(collection, table, vectors)
    for side in query_sides:
        rows = with_mapped_queries(rows, side)
        tasks = [asked_by(task, side) for task in tasks]
        distances = distances_by_side(distances, side)
    filtered = [in_gallery(search, sides) for search in searches]
    may_answer = _may_answer(filtered, split)
    k, filtered = _allowed(collection, filtered, k)
    asked = [search.within(where) for search in filtered]
    _warn_of_slowness(collection, asked, tasks, n_timed)
    exact = _exact(tasks, asked, rows, distances, resampling, seed)
    how: Any = {"k": k, "denominator": denominator, "n_timed": n_timed}
    how |= {"cluster": resampling.unit, "seed": seed}
    found = IndexResults(
        points=Points.of(collection, table, seed, where),
        run_id=run.id,
        k=k,
        searches=asked,
        results=_judged(collection, rows, tasks, asked, may_answer, how),
        exact=exact,
        label_evidence=_evidence(rows, tasks, asked, exact, seed),
    )
    log_source(run, collection, found.points)
    for side in query_sides:
        log_query_side(run, side)
    run.keep(found)
    return found


def usual_searches(collection: ImageCollection, *, own_only: bool = False) -> list[IndexSearch]:
    """Return searches with the encoder's own vector, its projection, and both in two stages.

    With `own_only`, as beside a query side, the first of them alone.
    """
    own, *projected = searched_vectors(collection, own_only=own_only)
    two_stages = [IndexSearch(own, prefetch=vector) for vector in projected]
    return [*map(IndexSearch, (own, *projected)), *two_stages]


def _checked(
    collection: Any, searches: Sequence[IndexSearch] | None, denominator: str
) -> Sequence[IndexSearch]:
    if not isinstance(collection, ImageCollection):
        raise InputError(
            "an index is searched through a collection, not a table; give the collection"
        )
    if denominator not in DENOMINATORS:
        raise InputError(
            f"the denominator of mAP@k is {' or '.join(DENOMINATORS)}, got {denominator!r}"
        )
    searches = usual_searches(collection) if searches is None else searches
    if not searches:
        raise InputError("there is no search to evaluate; give at least one")
    name, n = Counter(search.name for search in searches).most_common(1)[0]
    if n > 1:
        raise InputError(f"{n} searches are called {name!r}; evaluate them one by one")
    return searches


def _allowed(
    collection: ImageCollection, searches: Sequence[IndexSearch], k: int
) -> tuple[int, list[IndexSearch]]:
    """Return how many answers, and searches of as many candidates, the store allows."""
    most = collection.search_limits.answers
    longest = max([k, *(search.n_candidates(k) for search in searches)])
    if most is None or longest <= most:
        return k, list(searches)
    fewer_answers = f"k is {most} instead of {k}, and " if k > most else ""
    log.warning(
        "strict mode gives at most %d results per search of %r (max_query_limit): %slists of "
        "candidates are no longer either",
        *(most, collection.name, fewer_answers),
    )
    fewer = [
        search.with_candidates(most) if search.n_candidates(k) > most else search
        for search in searches
    ]
    return min(k, most), fewer


def _warn_of_slowness(
    collection: ImageCollection,
    searches: Sequence[IndexSearch],
    tasks: Sequence[RetrievalTask],
    n_timed: int,
) -> None:
    """Say how long the searches take where the store limits their rate."""
    a_minute = collection.search_limits.reads_a_minute
    asked = sum(
        len(task.query_rows) + min(n_timed, len(task.query_rows)) + _N_WARM for task in tasks
    )
    cost = asked * sum(search.n_reads for search in searches)
    if a_minute is not None and cost > a_minute:
        log.warning(
            "strict mode allows %r %d reads a minute (read_rate_limit): these %s searches take "
            "about %s minutes, and latencies include the pauses; drawing fewer queries "
            "(max_queries) takes less",
            *(collection.name, a_minute, f"{asked * len(searches):,}", f"{cost / a_minute:,.0f}"),
        )


def _may_answer(
    searches: Sequence[IndexSearch], split: tuple[Mask, Mask] | None
) -> dict[str, Mask]:
    """Return by search which rows may answer, where that is not all of them.

    A search without a filter may find what is not in the gallery.
    """
    return {one.name: split[1] for one in searches if one.where is not None and split}


def _exact(
    tasks: Sequence[RetrievalTask],
    searches: Sequence[IndexSearch],
    table: VectorTable,
    distances: Mapping[str, Distance],
    resampling: Resampling,
    seed: int,
) -> dict[tuple[str, str], RetrievalResult]:
    """Return the exact figures by field and vector, equal scores in the order of ids."""
    vectors = list({search.ranked_as: None for search in searches if search.fuse is None})
    how: Any = {"ks": (), "ties": "id", "cluster": resampling.unit, "seed": seed}
    found = exact_results(tasks, table, vectors, distances, title="exact ranking", **how)
    return {(result.field, result.vector): result for result in found}


def _evidence(
    table: VectorTable,
    tasks: Sequence[RetrievalTask],
    searches: Sequence[IndexSearch],
    exact: Mapping[tuple[str, str], RetrievalResult],
    seed: int,
) -> dict[str, dict[str, LabelEvidence]]:
    """Return what stands beside figures by field and vector: of candidates and fused ones, too."""
    names = dict.fromkeys(name for search in searches for name in search.vectors)
    others = [name for name in names if (tasks[0].field, name) not in exact]
    found = beside_tasks(table, tasks, others, seed=seed)
    for (field, vector), result in exact.items():
        if result.label_evidence is not None:
            found.setdefault(field, {})[vector] = result.label_evidence
    return found


def _judged(
    collection: ImageCollection,
    table: VectorTable,
    tasks: Sequence[RetrievalTask],
    searches: Sequence[IndexSearch],
    may_answer: Mapping[str, Mask],
    how: Mapping[str, Any],
) -> list[IndexResult]:
    """Return the figures of every task and search; `how` is what `judge_search` takes."""
    pairs = [(task, search) for task in tasks for search in searches]
    named: Any = {"name": lambda pair: pair[0].field, "part": lambda pair: pair[1].name}
    return [
        judge_search(
            collection, table, task, search, may_answer=may_answer.get(search.name), **how
        )
        for task, search in tracked(pairs, "index", unit="field", **named)
    ]


def judge_search(  # noqa: PLR0913  what a job hands on
    collection: ImageCollection,
    table: VectorTable,
    task: RetrievalTask,
    search: IndexSearch,
    *,
    k: int,
    may_answer: Mask | None = None,
    denominator: Denominator = "relevant",
    n_timed: int = 200,
    cluster: str | None = None,
    seed: int = 0,
) -> IndexResult:
    """Return the figures of one search for a task.

    Recall is among the rows of the mask (n,), those that the search's own filter lets answer.
    """
    population = interval_population(table, task, cluster, seed=seed)
    require_read(table, vectors=search.vectors)
    rows = task.query_rows
    answers = answers_of(collection, table, search, rows, k)
    most = k if denominator == "min" else None
    judged = judge(task, table, answers, k, most)
    distance = collection.vectors[search.vector].distance
    recall = recall_at_k(table, search, rows, answers, k, may_answer=may_answer, distance=distance)
    timed = np.random.default_rng(seed).permutation(rows)[:n_timed]
    return IndexResult(
        search=search,
        k=k,
        field=task.field,
        query_ids=[table.ids[row] for row in rows],
        labels=task.query_labels(),
        recall=recall,
        n_outside=sum(map(len, answers)) - int(judged["n_answers"].sum()),
        latency_ms=time_searches(collection, table, search, timed, k),
        distance=distance,
        denominator=denominator,
        interval=map_at_k_interval(task, table, answers, judged["ap"], population, most),
        **judged,
    )


def answers_of(
    collection: ImageCollection,
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    k: int,
) -> list[Rows]:
    """Return the rows of the table that answer each query, best first; -1 for others.

    Rows that a map was fitted on are no answers: so many more are asked for that k are left.
    """
    row_of = {point: row for row, point in enumerate(table.ids)}
    answers: list[Rows] = []
    for start in range(0, len(rows), _BATCH):
        found = _judging_answers(collection, table, search, rows[start : start + _BATCH], k)
        answers += [np.array([row_of.get(i, -1) for i in ids], dtype=np.int64) for ids in found]
    return answers


def _judging_answers(
    collection: ImageCollection,
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    k: int,
) -> list[list[PointId]]:
    """Return the first k answers to each query that no map was fitted on, or all there are."""
    if table.held_out is None:
        return search.ask(collection, table, rows, k).ids
    if search.side is not None and search.rerank is not None:
        # No such row takes one of the first places, either.
        plain, n = replace(search, rerank=None), search.rerank
        asked = _judging_answers(collection, table, plain, rows, max(k, n))
        X = table.vectors[search.vector][rows]
        ranked = search.side.reranked(collection, X, [ids[:n] for ids in asked])
        pairs = zip(ranked, asked, strict=True)
        return [[*first, *ids[n:]][:k] for (first, _), ids in pairs]
    limit = collection.search_limits.answers or collection.described.n_points
    if search.n_candidates(k):
        limit = search.candidates or limit // CANDIDATES_AN_ANSWER
    limit = max(k, limit)
    most = min(limit, 2 * k)
    while True:
        found = search.ask(collection, table, rows, most).ids
        left = [[i for i in ids if i not in table.held_out.ids] for ids in found]
        if most == limit or min(map(len, left), default=k) >= k:
            return [ids[:k] for ids in left]
        most = min(limit, 2 * most)


def time_searches(
    collection: ImageCollection,
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    k: int,
) -> NDArray[np.float64]:
    """Return milliseconds (n_rows,) of single searches, after a few that are not timed."""
    for row in rows[:_N_WARM]:
        search.ask(collection, table, np.array([row]), k)
    seconds = []
    for row in rows:
        started = time.perf_counter()
        search.ask(collection, table, np.array([row]), k)
        seconds.append(time.perf_counter() - started)
    return np.asarray(seconds) * 1e3


# Two float32 implementations of a score differ by a few units in the last place.
_SAME_SCORE = 1e-6
_BLOCK_ROWS = 256


def recall_at_k(
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    answers: Sequence[Rows],
    k: int,
    *,
    may_answer: Mask | None = None,
    distance: Distance = "Cosine",
) -> NDArray[np.float64]:
    """Return the share (n_queries,) of each query's answers that score as the exact top k do."""
    # Equal scores are equally right, whichever of them the store chose. Answers that are not in
    # the table, because they lack one of its vectors, cannot be judged: they shorten both lists.
    recall = np.full(len(rows), np.nan)
    if search.fuse is not None:
        return recall
    X = table.vectors[search.vector]
    is_there = np.asarray(np.isfinite(X).all(axis=1))
    if may_answer is not None:
        is_there &= may_answer
    for start, stop, S in _nearness(table, search, rows, is_there, distance):
        S[:, ~is_there] = -np.inf
        S[np.arange(stop - start), rows[start:stop]] = -np.inf
        for i in range(stop - start):
            given = answers[start + i]
            inside = given[given >= 0]
            recall[start + i] = _share(S[i], inside, k - (len(given) - len(inside)))
    return recall


def _nearness(
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    is_there: Mask,
    distance: Distance,
) -> Iterator[tuple[int, int, Floats]]:
    """Yield (start, stop, scores of those rows with all); what is not there may have any score."""
    vector = search.vector
    if search.side is not None:
        columns = np.flatnonzero(is_there)
        for start, stop, scores in side_scores(table, search.side, rows, columns, distance):
            S = np.full((stop - start, len(table)), -np.inf, dtype=np.float32)
            S[:, columns] = scores
            yield start, stop, S
        return
    if distance == "Cosine":
        U = table.unit(vector)
        yield from score_blocks(U[rows], U)
        return
    X = table.vectors[vector]
    Q, G = X[rows], np.where(is_there[:, None], X, 0)
    if distance == "Dot":
        yield from score_blocks(Q, G)
    else:
        from scipy.spatial.distance import cdist

        metric = "cityblock" if distance == "Manhattan" else "euclidean"
        for start in range(0, len(Q), _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, len(Q))
            yield start, stop, -cdist(Q[start:stop], G, metric)


def _share(scores: Floats, answers: Rows, k: int) -> float:
    wanted = min(k, int(np.isfinite(scores).sum()))
    if wanted == 0:
        return float("nan")
    least = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    rounding = _SAME_SCORE * max(1.0, abs(float(least)))
    return float((scores[answers] >= least - rounding).sum()) / wanted
