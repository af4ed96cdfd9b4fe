"""What a figure or a comparison speaks of: which pictures could have been others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.intervals import (
    DIFFERENCE,
    FRACTION,
    Difference,
    Effect,
    Interval,
    LeftOut,
    Paired,
    bootstrap_t,
    group_jackknife,
    sign_flip,
)
from intramodal.evaluation.labels import encode_labels
from intramodal.evaluation.ranking import (
    PAGE_FIGURES,
    Groups,
    Ranking,
    leave_group_out,
    rank_without_groups,
)
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.types import PointId, VectorTable, short_repr

CLASSES_FROM = 20
"""Number of classes from which the default population is "classes like these"."""
LEAST_UNITS = 5
NO_INTERVAL = "none"
"""As `cluster`: a figure without an interval."""
UNITS = ("class", "image", "iid", NO_INTERVAL)
"""What `cluster` can be beside the name of a payload field."""


@dataclass(frozen=True)
class Resampling:
    """Whom the intervals speak for.

    Parameters
    ----------
    unit : {"class", "image", "iid", "none"} or the name of a payload field, optional
        What is resampled; see `choose_population`. By default classes from 20 on, else images,
        for which a CPU works some three times as long as for the ranking. ``"none"`` leaves the
        intervals out.
    """

    unit: str | None = None

    @property
    def fields(self) -> list[str]:
        """Payload fields that must be read."""
        return [] if self.unit is None or self.unit in UNITS else [self.unit]


class RankedQueries(Protocol):
    """What an interval needs of a retrieval result: its vector, and ap (n_queries,)."""

    @property
    def vector(self) -> str:
        """Name of the vector that was ranked by."""

    @property
    def ap(self) -> NDArray[np.float64]:
        """Average precision of each query, (n_queries,)."""

    @property
    def metrics(self) -> Mapping[str, NDArray[np.float64]]:
        """Further figures of each query by name, each (n_queries,)."""


PAIRED_FIGURES = ("ap", *PAGE_FIGURES)
"""What a comparison takes of a ranking: the whole of it, and its first page."""


class ClassifiedImages(Protocol):
    """What an interval needs of a few-shot result; see `FewshotResult`."""

    @property
    def ids(self) -> list[PointId]:
        """The images that can be tested."""

    @property
    def shots(self) -> tuple[int, ...]:
        """Labelled images a class."""

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share classified right, (n_shots, n_episodes)."""

    @property
    def n_correct(self) -> NDArray[np.int64]:
        """Episodes in which each image was classified right, (n_shots, n_images)."""

    @property
    def n_tested(self) -> NDArray[np.int64]:
        """Episodes in which each image was tested, (n_shots, n_images)."""

    @property
    def n_pool(self) -> NDArray[np.float64]:
        """Mean number of images a class that the shots were drawn from, (n_shots,)."""

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """Share classified right of each class, (n_shots, n_classes)."""


LeaveOut = Callable[[], Iterable[NDArray[np.float64]]]
"""Yields blocks of average precisions (b, n_groups) without each group, as `leave_group_out`."""


@short_repr
@dataclass(frozen=True, eq=False)
class Population:
    """The units that are resampled.

    Parameters
    ----------
    name : str
        "classes", "images", "iid", or the payload field whose values are the units.
    groups : ndarray of shape (n_table,)
        Unit of each row of the table, -1 for rows that take no part.
    phrase : str
        Whom a sentence speaks of.
    unit : str
        What to ask for when there is not enough evidence.
    seed : int
        Of the resampling.
    """

    name: str
    groups: NDArray[np.int64]
    phrase: str
    unit: str
    seed: int = 0

    @property
    def leaves_gallery(self) -> bool:
        """Whether a unit is left out as gallery, too (the jackknife), or only as queries."""
        return self.name not in ("classes", "iid")

    def ranked_without(
        self, table: VectorTable, task: RetrievalTask, vector: str
    ) -> tuple[Ranking, LeftOut]:
        """Return a vector's ranking and all `PAIRED_FIGURES` without each unit, in one pass."""
        Q, G = task.vectors(table, vector)
        groups = self.groups_of(task)
        reranking = task.reranking(table, vector)
        ranking, sums, counts = rank_without_groups(
            Q, G, task.relevance, groups, reranking=reranking
        )
        return ranking, LeftOut(sums, counts, self._sizes)

    def retrieval_effects(
        self,
        table: VectorTable,
        task: RetrievalTask,
        a: RankedQueries,
        others: Sequence[RankedQueries],
        *,
        without: Mapping[str, LeftOut] = MappingProxyType({}),
    ) -> list[Effect]:
        """Return the difference in mAP to `a` of every other result of the same task.

        `without` is what is known of vectors without each unit, see `ranked_without`.
        """
        if not self.leaves_gallery:
            groups = self.groups_of(task)
            ones = np.ones(len(groups.own))
            return [_by_clusters(b.ap - a.ap, ones, groups.own, self.seed) for b in others]
        vectors = [result.vector for result in (a, *others)] if others else []
        left = [
            _map_of(without[vector])
            if vector in without
            else self._left_out(self._leave_out(table, task, vector))
            for vector in vectors
        ]
        return [
            of_b.minus(left[0]).effect(float((b.ap - a.ap).mean()))
            for b, of_b in zip(others, left[1:], strict=True)
        ]

    def retrieval_differences(
        self,
        task: RetrievalTask,
        a: RankedQueries,
        b: RankedQueries,
        *,
        without: Mapping[str, LeftOut] = MappingProxyType({}),
    ) -> dict[str, Paired]:
        """Return the differences B minus A of `PAIRED_FIGURES`.

        Where units leave the gallery, `without` is what `ranked_without` says of both vectors.
        """
        of_a, of_b = (_figures_of(result) for result in (a, b))
        own = self.groups_of(task).own
        if self.name == "classes":
            means = zip(PAIRED_FIGURES, _by_class(of_a, own), _by_class(of_b, own), strict=True)
            found = {name: self._of_classes(*values) for name, *values in means}
            by_query = self._over_queries(of_a, of_b, own)
            return {name: Paired(found[name], by_query[name]) for name in PAIRED_FIGURES}
        if self.name == "iid":
            over = self._over_queries(of_a, of_b, own)
            return {name: Paired(over[name]) for name in PAIRED_FIGURES}
        left = without[b.vector].minus(without[a.vector])
        effects = left.effects((of_b - of_a).mean(axis=1))
        ends = zip(PAIRED_FIGURES, of_a.mean(axis=1), of_b.mean(axis=1), effects, strict=True)
        found = {name: Difference(float(x), float(y), effect) for name, x, y, effect in ends}
        return {name: Paired(found[name]) for name in PAIRED_FIGURES}

    def _of_classes(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
        """Return the difference of means over classes (K,), each of which counts alike."""
        return Difference(float(a.mean()), float(b.mean()), bootstrap_t(b - a, seed=self.seed))

    def _over_queries(
        self, a: NDArray[np.float64], b: NDArray[np.float64], own: NDArray[np.int64]
    ) -> dict[str, Difference]:
        ones = np.ones(len(own))
        effects = [_by_clusters(row, ones, own, self.seed) for row in b - a]
        ends = zip(PAIRED_FIGURES, a.mean(axis=1), b.mean(axis=1), effects, strict=True)
        return {name: Difference(float(x), float(y), effect) for name, x, y, effect in ends}

    def retrieval_interval(
        self, table: VectorTable, task: RetrievalTask, result: RankedQueries
    ) -> Interval | None:
        """Return the interval of the mAP of one result of a task, ties in expectation."""
        leave_out = self._leave_out(table, task, result.vector)
        return self.map_interval(result.ap, self.groups_of(task), leave_out)

    def map_interval(
        self, ap: NDArray[np.float64], groups: Groups, leave_out: LeaveOut
    ) -> Interval | None:
        """Return the interval of the mean of average precisions (n_queries,).

        `groups` are of queries and gallery (queries that are no images have no group of images);
        `leave_out` yields the same figures without each group, where groups leave the gallery,
        too. None where the queries are of fewer than five units: they cannot speak of others.
        """
        asking = groups.own if groups.own.max(initial=-1) >= 0 else groups.gallery
        if len(np.unique(asking)) < LEAST_UNITS:
            return None
        found = self._left_out(leave_out) if self.leaves_gallery else None
        if found is not None:
            effect = found.effect(float(ap.mean()))
        else:
            effect = _by_clusters(ap, np.ones(len(ap)), groups.own, self.seed)
        low, high = effect.within(FRACTION).interval
        return Interval(low, high, self.name, effect.n_units, found)

    def groups_of(self, task: RetrievalTask) -> Groups:
        """Return the units of a task's gallery and queries."""
        return Groups(
            gallery=self.groups[task.gallery_rows],
            own=self.groups[task.query_rows],
            query=task.query_at,
            n_groups=self.n_groups,
        )

    @property
    def n_groups(self) -> int:
        """Number of units."""
        return int(self.groups.max()) + 1

    def fewshot_difference(
        self, table: VectorTable, a: ClassifiedImages, b: ClassifiedImages
    ) -> Paired:
        """Return the difference in accuracy, the mean over the shots, of paired episodes."""
        every = list(range(len(a.shots)))
        by_image = self._fewshot(table, a, b, every)
        if self.name != "classes":
            return Paired(by_image)
        with np.errstate(invalid="ignore"):
            of_a, of_b = (_mean_of_shots(result.class_accuracy) for result in (a, b))
        seen = np.isfinite(of_a)
        return Paired(self._of_classes(of_a[seen], of_b[seen]), by_image)

    def fewshot_at(
        self, table: VectorTable, a: ClassifiedImages, b: ClassifiedImages, shot: int
    ) -> Difference:
        """Return the difference in accuracy at one number of shots (an index)."""
        return self._fewshot(table, a, b, [shot])

    def _fewshot(
        self, table: VectorTable, a: ClassifiedImages, b: ClassifiedImages, at: list[int]
    ) -> Difference:
        """Return the difference in the mean over some shots of the share classified right.

        Pictures are tested and serve as shots. What is left out in turn carries the variance of
        the former; `_variance_of_shots` adds that of the latter.
        """
        row_of = {point: row for row, point in enumerate(table.ids)}
        own = self.groups[[row_of[point] for point in a.ids]]
        if self.name == "iid":
            own = np.arange(len(own))
        tested = a.n_tested[at].astype(float)
        tested /= tested.sum(axis=1, keepdims=True)
        right_a, right_b = (_share(result, at) for result in (a, b))
        ends = float(right_a.sum() / len(at)), float(right_b.sum() / len(at))
        difference = right_b - right_a
        if not self.leaves_gallery:
            sums, sizes = difference.mean(axis=0), tested.mean(axis=0)
            return Difference(*ends, _by_clusters(sums, sizes, own, self.seed))
        sums, sizes = _summed(difference, own), _summed(tested, own)
        used = sizes.sum(axis=0) > 0
        sums, sizes = sums[:, used], sizes[:, used]
        left = np.maximum(1 - sizes, _LEAST_SHARE)
        without = ((sums.sum(axis=1, keepdims=True) - sums) / left).mean(axis=0)
        whole, weights = float(difference.sum() / len(at)), sizes.mean(axis=0)
        error = group_jackknife(whole, without, weights).error or 0.0
        extra = _variance_of_shots(a, b, at, error)
        effect = group_jackknife(whole, without, weights, extra_variance=extra)
        return Difference(*ends, effect.within(DIFFERENCE))

    def _leave_out(self, table: VectorTable, task: RetrievalTask, vector: str) -> LeaveOut:
        groups = self.groups_of(task)
        reranking = task.reranking(table, vector)
        return lambda: leave_group_out(
            *task.vectors(table, vector), task.relevance, groups, reranking
        )

    def _left_out(self, leave_out: LeaveOut) -> LeftOut:
        return LeftOut(*_totals(leave_out()), self._sizes)

    @property
    def _sizes(self) -> NDArray[np.int64]:
        """Pictures in each unit."""
        return np.bincount(self.groups[self.groups >= 0])


def interval_population(
    table: VectorTable, task: RetrievalTask, cluster: str | None, *, seed: int
) -> Population | None:
    """Return the population that the interval of a single figure speaks of.

    As `choose_population`; None for `NO_INTERVAL`, and by default where pictures are too few.
    """
    n_pictures = len(np.union1d(task.query_rows, task.gallery_rows))
    if cluster == NO_INTERVAL or (cluster is None and n_pictures < LEAST_UNITS):
        return None
    return choose_population(table, task, cluster, seed=seed)


def query_population(
    table: VectorTable,
    query_rows: NDArray[np.intp],
    gallery_rows: NDArray[np.intp],
    unit: str | None,
    *,
    seed: int,
) -> Population | None:
    """Return whom figures of queries speak for that have no classes: new images, or queries.

    `unit` is "image", which None means, too, "iid" or "none"; None where images are too few.
    """
    taking_part = np.union1d(query_rows, gallery_rows)
    if unit == NO_INTERVAL or len(taking_part) < LEAST_UNITS:
        return None
    if unit == "iid":
        groups = _numbered(table, query_rows, np.arange(len(query_rows)))
        return Population("iid", groups, IID_PHRASE, "queries", seed)
    groups = _numbered(table, taking_part, np.arange(len(taking_part)))
    return Population("images", groups, "new images like these", "queries", seed)


def leaves_gallery(task: RetrievalTask, cluster: str | None) -> bool:
    """Return whether the units that `cluster` means are left out as gallery, too."""
    return _unit_of(task, cluster) not in ("class", "iid")


def choose_population(
    table: VectorTable,
    task: RetrievalTask,
    cluster: str | None,
    *,
    seed: int,
    copies: NDArray[np.int64] | None = None,
) -> Population:
    """Return the population that `cluster` means for a task.

    "class", "image", "iid" or a payload field; None is "class" from 20 classes on, else "image".
    Of images, near-copies are one unit where `copies` (n_table,) are their groups. Raises
    `InputError` for fewer than five units, or a field that was not read.
    """
    return replace(_chosen(table, task, _unit_of(task, cluster), copies), seed=seed)


def _unit_of(task: RetrievalTask, cluster: str | None) -> str:
    """Return what is resampled, by default classes from `CLASSES_FROM` on."""
    is_many = len(task.codes.names) >= CLASSES_FROM and not task.codes.is_multi
    return cluster or ("class" if is_many else "image")


def _chosen(
    table: VectorTable, task: RetrievalTask, cluster: str, copies: NDArray[np.int64] | None
) -> Population:
    if cluster == "class":
        return _classes(table, task)
    if cluster == "iid":
        groups = _numbered(table, task.query_rows, np.arange(len(task.query_rows)))
        return Population("iid", groups, IID_PHRASE, "queries")
    taking_part = np.union1d(task.query_rows, task.gallery_rows)
    if cluster == "image":
        return _images(table, taking_part, len(task.codes.names), copies)
    return _field(table, taking_part, cluster)


IID_PHRASE = "queries taken as independent, which they are not"


def classes_phrase(n_classes: int) -> str:
    """Return whom a sentence speaks of whose units are classes."""
    return f"other classes like these {n_classes:,}"


def images_phrase(n_classes: int) -> str:
    """Return whom a sentence speaks of whose units are pictures."""
    return f"new images of the same {n_classes:,} classes"


def field_phrase(field: str, n_units: int) -> str:
    """Return whom a sentence speaks of whose units are the values of a field."""
    return f"other values of {field} like these {n_units:,}"


def check_classes(field: str, n_classes: int, *, is_multi: bool) -> None:
    """Raise `InputError` unless the classes of a field can be the units of a statement."""
    if is_multi:
        raise InputError(
            f"{field!r} holds several values per image, so classes are no separate units; "
            f"resample by 'image' instead"
        )
    if n_classes < LEAST_UNITS:
        raise InputError(
            f"{field!r} has {n_classes} classes and a statement about other classes "
            f"needs at least {LEAST_UNITS}; resample by 'image' instead"
        )


def _classes(table: VectorTable, task: RetrievalTask) -> Population:
    n_classes = len(task.codes.names)
    check_classes(task.field, n_classes, is_multi=task.codes.is_multi)
    groups = _numbered(table, task.codes.rows, task.codes.codes)
    return Population("classes", groups, classes_phrase(n_classes), "classes")


def _images(
    table: VectorTable,
    rows: NDArray[np.intp],
    n_classes: int,
    copies: NDArray[np.int64] | None,
) -> Population:
    units = np.arange(len(rows))
    if copies is not None:
        _, units = np.unique(copies[rows], return_inverse=True)
    n_units = int(units.max(initial=-1)) + 1
    if n_units < LEAST_UNITS:
        apart = "" if n_units == len(rows) else f", {n_units} of them no copies of each other,"
        raise InputError(
            f"{len(rows)} images{apart} are too few to compare; at least {LEAST_UNITS}"
        )
    groups = _numbered(table, rows, units)
    return Population("images", groups, images_phrase(n_classes), "queries")


def _field(table: VectorTable, rows: NDArray[np.intp], field: str) -> Population:
    if field not in table.payload:
        raise InputError(f"the table was read without the cluster field {field!r}; read it, too")
    codes = encode_labels([table.payload[field][row] for row in rows], field=field)
    if codes.is_multi:
        raise InputError(
            f"cluster field {field!r} holds several values per image; units need one each"
        )
    n_units = len(codes.names)
    if n_units < LEAST_UNITS:
        raise InputError(
            f"cluster field {field!r} has {n_units} values; at least {LEAST_UNITS} are needed: "
            f"choose another field, or 'image'"
        )
    # A picture without a value is a unit of its own.
    units = n_units + np.arange(len(rows))
    units[codes.rows] = codes.codes
    _, dense = np.unique(units, return_inverse=True)
    groups = _numbered(table, rows, dense)
    return Population(field, groups, field_phrase(field, n_units), f"values of {field}")


def _numbered(
    table: VectorTable, rows: NDArray[np.intp], numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    groups = np.full(len(table), -1, dtype=np.int64)
    groups[rows] = numbers
    return groups


def _map_of(without: LeftOut) -> LeftOut:
    """Return the average precision of what has all `PAIRED_FIGURES`."""
    return replace(without, sums=without.sums[:, 0])


def _totals(
    blocks: Iterable[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return sum and number of the queries' figures (n_groups,) without each group."""
    sums, counts = np.float64(0.0), np.int64(0)
    for ap in blocks:
        sums, counts = sums + np.nansum(ap, axis=0), counts + np.isfinite(ap).sum(axis=0)
    return np.asarray(sums), np.asarray(counts)


_LEAST_SHARE = 1e-9
"""Of what is tested: a unit that holds all of it leaves none."""


def _variance_of_shots(
    a: ClassifiedImages, b: ClassifiedImages, at: list[int], error: float
) -> float:
    """Return what the shots add to the variance of a difference whose test side has `error`.

    Draws of s out of n pictures a class are a delete-d jackknife: their variance times s/(n - s)
    is that of other pictures as shots. A picture that is hard to tell also misleads as a shot, so
    both sides' errors are added, as if they always went together: an upper bound. The mean over
    few episodes is uncertain by itself. Fewer shots are the first of more: draws go together.
    """
    draws = (b.accuracy[at] - a.accuracy[at]).T
    # Where few images are tested, all of them may be shots of an episode: it says nothing.
    draws = np.where(np.isfinite(draws), draws, np.nanmean(draws, axis=0))
    s, n = np.array(a.shots, dtype=float)[at], a.n_pool[at]
    scaled = draws * np.sqrt(s / np.maximum(1.0, n - s))
    shots = np.sqrt(scaled.mean(axis=1).var(ddof=1))
    own = draws.mean(axis=1).var(ddof=1) / len(draws)
    return float((error + shots) ** 2 - error**2 + own)


def _figures_of(result: RankedQueries) -> NDArray[np.float64]:
    """Return `PAIRED_FIGURES` (4, n_queries)."""
    return np.stack([result.ap, *(result.metrics[name] for name in PAGE_FIGURES)])


def _by_class(values: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the means (n, n_classes) of values (n, n_queries) over each class that asks."""
    _, units, sizes = np.unique(own, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(units, weights=row) for row in values]) / sizes


def _mean_of_shots(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each class's mean (K,) over the shots that it can serve; NaN where there are none."""
    seen = np.isfinite(accuracy)
    n = seen.sum(axis=0)
    return np.asarray(np.where(seen, accuracy, 0.0).sum(axis=0) / np.where(n > 0, n, np.nan))


def _share(result: ClassifiedImages, at: list[int]) -> NDArray[np.float64]:
    """Return each image's part (n, n_images) of the share classified right at some shots."""
    n_tested = result.n_tested[at].sum(axis=1, keepdims=True)
    return np.asarray(result.n_correct[at] / n_tested)


def _summed(values: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return sums (n, n_units) of values (n, n_images) over each unit."""
    _, units = np.unique(own, return_inverse=True)
    return np.stack([np.bincount(units, weights=row) for row in values])


def _by_clusters(
    differences: NDArray[np.float64],
    weights: NDArray[np.float64],
    clusters: NDArray[np.int64],
    seed: int,
) -> Effect:
    _, units = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(units, weights=differences), np.bincount(units, weights=weights)
    return sign_flip(sums[sizes > 0], sizes[sizes > 0], seed=seed)
