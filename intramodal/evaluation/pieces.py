"""The pieces of evidence on one label field: measured, and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.duplicates import DuplicateFinder, Duplicates
from intramodal.evaluation.episodes import prototype_result, with_episodes
from intramodal.evaluation.fewshot import FewshotResult, run_fewshot
from intramodal.evaluation.intervals import Difference, Effect, LeftOut, Paired
from intramodal.evaluation.label_evidence import LabelEvidence
from intramodal.evaluation.mapped_queries import asked_by
from intramodal.evaluation.ranking import PAGE_FIGURES
from intramodal.evaluation.resampling import (
    CLASSES_FROM,
    LEAST_UNITS,
    Population,
    Resampling,
    choose_population,
    leaves_gallery,
)
from intramodal.evaluation.result_pair import PairedResults
from intramodal.evaluation.retrieval import (
    RetrievalResult,
    result_of,
    run_task,
    with_distance,
    with_label_evidence,
)
from intramodal.evaluation.shots import FewshotTask
from intramodal.evaluation.tasks import Mask, RetrievalTask
from intramodal.evaluation.verdict import GUARD, PIECES, Piece, capital, guard_of
from intramodal.store.query_side import QuerySide
from intramodal.types import Distance, VectorTable, short_repr

TASKS = ("retrieval", "fewshot")
PIECES_OF = {"retrieval": ("map", "first"), "fewshot": ("fewshot",)}
DECIDING_CLASSIFIER = "prototype"
"""The paper's nearest prototype decides; LDA undoes part of any linear map and is shown beside."""
NO_FEWSHOT = (
    f"Few-shot accuracy needs one value per image, two classes of two images, and test images "
    f"of at least {LEAST_UNITS} units"
)


@dataclass(frozen=True)
class OtherEvidence:
    """A further vector against A, in the same population; it never changes the verdict on B."""

    vector: str
    map: float
    effect: Effect
    label_evidence: LabelEvidence | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        interval = list(self.effect.interval)
        return {
            "vector": self.vector,
            "map": self.map,
            "delta": self.effect.delta,
            "interval": interval,
        }


@short_repr
@dataclass(frozen=True, eq=False)
class FewshotEvidence:
    """Few-shot accuracy of both vectors.

    Parameters
    ----------
    mean : Paired
        Of the prototypes, over all numbers of shots: what decides.
    shots : dict of str to dict of int to Difference
        By classifier and number of shots.
    n_classes : dict of int to int
        Classes that take part, by number of shots.
    balanced : (float, float)
        Mean over the classes of A's and B's accuracy, over all numbers of shots.
    """

    mean: Paired
    shots: Mapping[str, Mapping[int, Difference]]
    n_classes: Mapping[int, int]
    balanced: tuple[float, float]

    def by_shots(self) -> dict[str, dict[str, Any]]:
        """Return JSON values of every classifier and number of shots."""
        return {
            classifier: {str(shots): found.to_dict() for shots, found in by_shots.items()}
            for classifier, by_shots in self.shots.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, beside those of the piece."""
        a, b = self.balanced
        return {
            "shots": list(self.n_classes),
            "n_classes": list(self.n_classes.values()),
            "balanced": {"a": a, "b": b, "delta": b - a},
        }


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FieldEvidence(PairedResults):
    """What one label field says.

    Parameters
    ----------
    field : str
    task : RetrievalTask
        Its queries and gallery; `results` and `population` are of them.
    population : Population
    n_classes : int
    results : pair of RetrievalResult
        Over the same queries.
    ranked : dict of str to Paired
        Differences in mAP ("ap") and of the first page; empty if retrieval was not asked for.
    fewshot : FewshotEvidence or None
        None if not asked for, or not to be had.
    duplicates : Duplicates
    class_sizes : ndarray of shape (n_classes,)
        Queries of each class.
    guard : float
    tasks : tuple of str
        What was asked for: "retrieval", "fewshot".
    others : sequence of OtherEvidence
        Controls and rivals; empty unless asked for.
    """

    field: str
    task: RetrievalTask
    population: Population
    n_classes: int
    ranked: Mapping[str, Paired]
    fewshot: FewshotEvidence | None
    duplicates: Duplicates
    class_sizes: NDArray[np.int64]
    guard: float = GUARD
    tasks: tuple[str, ...] = TASKS
    others: Sequence[OtherEvidence] = ()

    @property
    def effect(self) -> Effect | None:
        """Difference in mAP, the mean over queries; None if retrieval was not asked for."""
        found = self.ranked.get("ap")
        return None if found is None else (found.by_query or found.difference).effect

    @property
    def pieces(self) -> list[Piece]:
        """What the verdict rests on, as far as it was asked for and could be had."""
        found = {
            "map": self.ranked.get("ap"),
            "first": self.ranked.get(PAGE_FIGURES[0]),
            "fewshot": self.fewshot.mean if self.fewshot else None,
        }
        return [
            Piece(name, paired, guard_of(name, self.guard))
            for name in PIECES
            if (paired := found[name]) is not None
        ]

    @property
    def missing(self) -> list[str]:
        """Pieces that were asked for and cannot be had."""
        there = {piece.name for piece in self.pieces}
        return [name for task in self.tasks for name in PIECES_OF[task] if name not in there]

    @property
    def label_evidence(self) -> dict[str, LabelEvidence]:
        """What stands beside figures of vectors whose maps have seen labels, by vector."""
        found = {result.vector: result.label_evidence for result in self.results}
        found |= {other.vector: other.label_evidence for other in self.others}
        return {vector: one for vector, one in found.items() if one is not None}

    @property
    def effective_classes(self) -> float:
        """As how many classes of one size these classes weigh, if queries are counted alike."""
        return float(self.class_sizes.sum() ** 2 / np.square(self.class_sizes).sum())

    def __repr__(self) -> str:
        """Return the field, both mAPs and the number of queries."""
        a, b = (result.map for result in self.results)
        n = len(self.differences)
        return f"FieldEvidence({self.field!r}, mAP {a:.3f} to {b:.3f}, {n:,} queries)"


@dataclass(frozen=True, eq=False)
class Knobs:
    """How one field is compared."""

    others: tuple[str, ...]
    tasks: tuple[str, ...]
    min_class_size: int
    max_queries: int | None
    resampling: Resampling
    seed: int
    split: tuple[Mask, Mask] | None
    guard: float
    duplicates: float | None
    distances: Mapping[str, Distance]
    side: QuerySide | None = None


N_LDA = 10
"""Draws of LDA, which is shown beside: each costs a d x d factorisation."""


def gathered(table: VectorTable, a: str, b: str, field: str, knobs: Knobs) -> FieldEvidence:
    """Return what one label field says of two vectors."""
    task = RetrievalTask.of_all(
        table,
        field,
        split=knobs.split,
        min_class_size=knobs.min_class_size,
        max_queries=knobs.max_queries,
        seed=knobs.seed,
    )
    task = asked_by(task, knobs.side)
    ranked = _ranked(table, task, (a, b), knobs)

    def told(result: RetrievalResult) -> RetrievalResult:
        return with_label_evidence(result, task, table, seed=knobs.seed)

    results = [
        told(with_distance(result, task, table, knobs.distances.get(result.vector)))
        for result in ranked.results[:2]
    ]
    population, without = ranked.population, ranked.without
    differences: Mapping[str, Paired] = {}
    others: list[OtherEvidence] = []
    if "retrieval" in knobs.tasks:
        differences = population.retrieval_differences(task, *results, without=without)
        beside = [told(result) for result in ranked.results[2:]]
        effects = population.retrieval_effects(table, task, results[0], beside, without=without)
        pairs = zip(beside, effects, strict=True)
        others = [
            OtherEvidence(found.vector, found.map, effect, found.label_evidence)
            for found, effect in pairs
        ]
    return FieldEvidence(
        field=field,
        task=task,
        population=population,
        n_classes=len(task.codes.names),
        results=(results[0], results[1]),
        ranked=differences,
        fewshot=_fewshot(table, (a, b), task, population, ranked.copies, knobs),
        duplicates=ranked.copies,
        class_sizes=np.bincount(_asked_classes(task), minlength=len(task.codes.names)),
        guard=knobs.guard,
        tasks=knobs.tasks,
        others=others,
    )


@dataclass(frozen=True, eq=False)
class _Ranked:
    """What the rankings of A, B and the others say, and in which population."""

    results: Sequence[RetrievalResult]
    copies: Duplicates
    population: Population
    without: Mapping[str, LeftOut]
    """By vector, without each unit; empty where units stay in the gallery."""


def _ranked(
    table: VectorTable, task: RetrievalTask, vectors: tuple[str, str], knobs: Knobs
) -> _Ranked:
    """Rank by every vector once.

    Units that leave the gallery are left out meanwhile. Copies leave together, so that they are
    looked for before: that costs a product, not a ranking. Else the ranking by A shows them. Where
    a map has drawn images of one label together they are no copies: the vector it maps tells.
    """
    a = vectors[0]
    of = table.fitted[a].source if a in table.fitted else a
    finder = DuplicateFinder(table, task, of, knobs.duplicates)
    is_asked, unit = "retrieval" in knobs.tasks, knobs.resampling.unit
    every = (*vectors, *knobs.others) if is_asked else vectors
    if is_asked and leaves_gallery(task, unit):
        finder.look()
        copies = finder.found()
        population = choose_population(table, task, unit, seed=knobs.seed, copies=copies.groups)
        found = {vector: population.ranked_without(table, task, vector) for vector in every}
        results = [result_of(task, table, ranking, v) for v, (ranking, _) in found.items()]
        return _Ranked(results, copies, population, {v: left for v, (_, left) in found.items()})
    if of != a:
        finder.look()
    see = finder.see if of == a else None
    results = [run_task(task, table, v, seen=see if v == a else None) for v in every]
    copies = finder.found()
    population = choose_population(table, task, unit, seed=knobs.seed, copies=copies.groups)
    return _Ranked(results, copies, population, {})


def _asked_classes(task: RetrievalTask) -> NDArray[np.int64]:
    """Return the class of every query; a query of several counts in each."""
    at = np.searchsorted(task.codes.rows, task.query_rows)
    codes = task.codes
    parts = [codes.indices[codes.indptr[i] : codes.indptr[i + 1]] for i in at]
    return np.concatenate(parts)


def _fewshot(
    table: VectorTable,
    vectors: tuple[str, str],
    task: RetrievalTask,
    population: Population,
    copies: Duplicates,
    knobs: Knobs,
) -> FewshotEvidence | None:
    if "fewshot" not in knobs.tasks or task.codes.is_multi:
        return None
    drawn = FewshotTask.from_table(
        table,
        task.field,
        n_episodes=1,
        seed=knobs.seed,
        min_class_size=knobs.min_class_size,
        split=None if knobs.split is None else np.where(knobs.split[0], "test", "train").tolist(),
    )
    drawn = with_episodes(drawn, copies.groups, max_tested=knobs.max_queries)
    if not drawn.shots or _n_tested(drawn, population) < LEAST_UNITS:
        return None
    few = replace(drawn, draws=drawn.draws[:N_LDA], validation=drawn.validation[:N_LDA])
    a, b = (prototype_result(drawn, table, vector) for vector in vectors)
    lda_a, lda_b = (run_fewshot(few, table, vector, ["lda"])["lda"] for vector in vectors)
    counts = dict(zip(drawn.shots, a.extra["n_classes"], strict=True))
    with np.errstate(invalid="ignore"):
        of_a, of_b = (float(np.nanmean(found.class_accuracy)) for found in (a, b))
    return FewshotEvidence(
        mean=population.fewshot_difference(table, a, b),
        shots={
            DECIDING_CLASSIFIER: _by_shots(table, a, b, population),
            "lda": _by_shots(table, lda_a, lda_b, population),
        },
        n_classes=counts,
        balanced=(of_a, of_b),
    )


def _n_tested(task: FewshotTask, population: Population) -> int:
    """Return how many units the images are of that can be tested."""
    rows = task.rows[task.is_test]
    return len(rows) if population.name == "iid" else len(np.unique(population.groups[rows]))


def _by_shots(
    table: VectorTable, a: FewshotResult, b: FewshotResult, population: Population
) -> dict[int, Difference]:
    """Return the difference at every number of shots that leaves something to test."""
    is_tested = a.n_tested.sum(axis=1) > 0
    return {
        s: population.fewshot_at(table, a, b, i) for i, s in enumerate(a.shots) if is_tested[i]
    }


def caveats(row: FieldEvidence) -> list[str]:
    """Return what a reader has to know beside the deciding piece."""
    return [*_balance(row), *_copies(row)]


def _balance(row: FieldEvidence) -> list[str]:
    """Point out plain and balanced accuracy that differ in sign."""
    if row.fewshot is None:
        return []
    a, b = row.fewshot.balanced
    plain = (row.fewshot.mean.by_query or row.fewshot.mean.difference).effect.delta
    if plain * (b - a) >= 0:
        return []
    most = row.class_sizes.max() / row.class_sizes.sum()
    return [
        f"Over images the accuracy changes by {plain:+.4f}, over classes by {b - a:+.4f}: the "
        f"largest of {row.n_classes:,} classes holds {most:.0%} of the images."
    ]


def _copies(row: FieldEvidence) -> list[str]:
    """Say how many images are near-copies, and whether that looks wrong."""
    found = row.duplicates.to_dict()
    if not found["n_groups"]:
        return []
    taken = ""
    if row.population.name == "images":
        taken = ", each taken as one"
    elif row.fewshot is not None:  # classes and values of a field are units whatever they hold
        taken = ", of each of which one at most is a shot"
    words = (
        f"{found['n_images']:,} images are near-copies in {found['n_groups']:,} groups{taken}; "
        f"{found['page_share']:.1%} of first-page results are copies of their query."
    )
    if row.duplicates.is_suspect:
        words += (
            f" The largest group holds {found['largest']:,} images, which is hardly one image: "
            f"duplicates from a cosine of 0.95 on would be fewer."
        )
    return [words]


NEAR_SWITCH = range(15, 26)
"""Numbers of classes for which the choice of population is said."""


def speaks_of(row: FieldEvidence) -> str:
    """Return whom a verdict speaks of, and how the population was chosen near the switch."""
    words = f"This should hold for {row.population.phrase} ({len(row.differences):,} queries)."
    n, name = row.n_classes, row.population.name
    if name == "classes":
        words = words[:-2] + f"; the classes weigh as {row.effective_classes:.1f} of one size)."
        words += _extremes(row)
    if name in ("classes", "images") and n in NEAR_SWITCH:
        other = {"classes": "image", "images": "class"}[name]
        words += (
            f" With {n} classes, {name} are resampled (classes from {CLASSES_FROM} on); "
            f"the other unit is {other!r}."
        )
    return words


def _extremes(row: FieldEvidence) -> str:
    """Return the classes whose mean average precision gains and loses most, in words."""
    ends = [(row.classes_changed(sign), word) for sign, word in ((+1, "gains"), (-1, "loses"))]
    told = [
        f"{rows[0]['class']} {word} most ({rows[0]['delta']:+.4f})" for rows, word in ends if rows
    ]
    return f" {capital(' and '.join(told))}." if told else ""
