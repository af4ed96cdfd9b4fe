"""Should vector B replace vector A? Paired evidence per label field, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intramodal.errors import InputError, QueryMismatchError
from intramodal.evaluation.comparison import (
    TASKS,
    Comparison,
    FieldEvidence,
    OtherEvidence,
    ShotEvidence,
)
from intramodal.evaluation.fewshot import FewshotResult, FewshotTask, run_fewshot
from intramodal.evaluation.inference import Effect, sign_flip
from intramodal.evaluation.labels import encode_labels
from intramodal.evaluation.paired import PairedComparison
from intramodal.evaluation.population import (
    CLASSES_FROM,
    IID_PHRASE,
    Population,
    check_classes,
    choose_population,
    classes_phrase,
    field_phrase,
    images_phrase,
)
from intramodal.evaluation.retrieval import RetrievalResult, run_task
from intramodal.evaluation.retrieval_task import RetrievalTask
from intramodal.progress import tracked
from intramodal.types import VectorTable

N_EPISODES = {"prototype": 50, "lda": 10}
"""Draws of shots: the prototypes decide; LDA is shown beside, and each draw costs it a d x d
factorisation."""
MOST_MISSING = 0.5
"""A field that more points lack says too little about the collection."""


@dataclass(frozen=True)
class CompareSettings:
    """How to compare; see `compare_vectors`."""

    cluster: str | None = None
    tasks: tuple[str, ...] = TASKS
    margin: float = 0.005
    min_class_size: int = 2
    seed: int = 0
    others: tuple[str, ...] = ()
    max_queries: int | None = None


def compare_vectors(
    table: VectorTable,
    a: str,
    b: str,
    *,
    fields: Sequence[str],
    settings: CompareSettings | None = None,
) -> Comparison:
    """Compare two vectors of the same points, per label field.

    Parameters
    ----------
    table : VectorTable
        With both vectors, the label fields, and the cluster field if it is one.
    a, b : str
        Names of the vectors in use and of the one that may replace it.
    fields : sequence of str
        Payload fields; p-values are adjusted for their number (Holm).
    settings : CompareSettings, optional
        ``cluster``: what is resampled, see `choose_population`. ``tasks``: "retrieval" and
        "fewshot". ``margin``: largest harmless loss, a fraction. ``min_class_size``: classes with
        fewer images are left out. ``seed``: of resampling and episodes. ``others``: further
        vectors of the table, retrieved beside B; they never change its verdict. ``max_queries``:
        where more pictures could ask, so many are drawn; all answer.

    Raises
    ------
    InputError
        For a field that most points lack, that has one class, or too few units.
    """
    settings = settings or CompareSettings()
    _check(table, a, b, fields, settings)
    return Comparison(
        vectors=(a, b),
        dims=(table.vectors[a].shape[1], table.vectors[b].shape[1]),
        margin=settings.margin,
        fields={
            field: _compared(table, a, b, field, settings)
            for field in tracked(fields, "compare", total=len(fields))
        },
    )


def compare(
    a: RetrievalResult, b: RetrievalResult, *, cluster: str | None = None, seed: int = 0
) -> PairedComparison:
    """Return how two results over the same queries differ, B minus A.

    Parameters
    ----------
    a, b : RetrievalResult
    cluster : {"class", "image", "iid"}, the name of a payload field, or None
        What is resampled, see `choose_population`; None is "class" from 20 classes on, else
        "image". Where units leave the gallery ("image", a field), both results must have been
        evaluated with that `cluster`, as they are by default.
    seed : int
        Of the resampling.

    Raises
    ------
    QueryMismatchError
        If the results are not over the same queries, in the same order.
    InputError
        For fewer than five units, or results evaluated with another `cluster`.
    """
    if a.query_ids != b.query_ids or a.labels != b.labels:
        raise QueryMismatchError(
            f"the results cover different queries ({len(a.query_ids):,} and "
            f"{len(b.query_ids):,}); evaluate both vectors on the same points"
        )
    n_classes = len(a.class_mean())
    is_multi = any(isinstance(label, tuple) for label in a.labels)
    if cluster is None:
        cluster = "class" if n_classes >= CLASSES_FROM and not is_multi else "image"
    if cluster in ("class", "iid"):
        return _by_queries(a, b, cluster, n_classes, seed)
    return _by_left_out(a, b, "images" if cluster == "image" else cluster, n_classes)


def _by_queries(
    a: RetrievalResult, b: RetrievalResult, cluster: str, n_classes: int, seed: int
) -> PairedComparison:
    difference = b.ap - a.ap
    population, phrase, units = "iid", IID_PHRASE, np.arange(len(difference))
    if cluster == "class":
        check_classes(a.field, n_classes, is_multi=any(isinstance(x, tuple) for x in a.labels))
        population, phrase = "classes", classes_phrase(n_classes)
        _, units = np.unique(np.array([str(label) for label in a.labels]), return_inverse=True)
    sums, sizes = np.bincount(units, weights=difference), np.bincount(units).astype(float)
    effect = sign_flip(sums, sizes, seed=seed)
    return PairedComparison(results=(a, b), effect=effect, population=population, phrase=phrase)


def _by_left_out(
    a: RetrievalResult, b: RetrievalResult, population: str, n_classes: int
) -> PairedComparison:
    found = [
        result.interval.left_out
        for result in (a, b)
        if result.interval and result.interval.population == population
    ]
    without_a, without_b = (*found, None, None)[:2]
    if without_a is None or without_b is None or a.ties != "expected" or b.ties != "expected":
        name = "image" if population == "images" else population
        raise InputError(
            f"the results do not hold what they are without each unit of {population!r}; "
            f"evaluate both with cluster={name!r} and ties='expected', or use compare_vectors"
        )
    effect = without_b.minus(without_a).effect(float((b.ap - a.ap).mean()))
    phrase = images_phrase(n_classes)
    if population != "images":
        phrase = field_phrase(population, len(without_a.sizes))
    return PairedComparison(results=(a, b), effect=effect, population=population, phrase=phrase)


def _check(
    table: VectorTable, a: str, b: str, fields: Sequence[str], settings: CompareSettings
) -> None:
    unknown = sorted(set(settings.tasks) - set(TASKS))
    if unknown or not settings.tasks:
        raise InputError(f"tasks are {' and '.join(TASKS)}, got {', '.join(unknown) or 'none'}")
    if not fields:
        raise InputError("no label field is given; name at least one payload field")
    if a == b:
        raise InputError(f"{a!r} is compared with itself; name two vectors")
    if not 0 <= settings.margin < 1:
        raise InputError(
            f"the margin is a fraction from 0, for example 0.005, got {settings.margin}"
        )
    for field in fields:
        _check_field(table, field)


def _check_field(table: VectorTable, field: str) -> None:
    codes = encode_labels(table.payload[field], field=field)
    if codes.n_missing > MOST_MISSING * len(table):
        raise InputError(
            f"{codes.n_missing:,} of {len(table):,} points have no value in field {field!r}; "
            f"choose a field that most points have"
        )


def _compared(
    table: VectorTable, a: str, b: str, field: str, settings: CompareSettings
) -> FieldEvidence:
    task = RetrievalTask.from_table(
        table,
        field,
        min_class_size=settings.min_class_size,
        max_queries=settings.max_queries,
        seed=settings.seed,
    )
    population = choose_population(table, task, settings.cluster, seed=settings.seed)
    results = [run_task(task, table, vector) for vector in (a, b, *settings.others)]
    effects: list[Effect | None] = [None]
    if "retrieval" in settings.tasks:
        effects = [*population.retrieval_effects(table, task, results[0], results[1:])]
    return FieldEvidence(
        field=field,
        population=population,
        n_classes=len(task.codes.names),
        results=(results[0], results[1]),
        effect=effects[0],
        fewshot={}
        if task.codes.is_multi
        else _fewshot(table, (a, b), field, population, settings),
        tasks=settings.tasks,
        others=[
            OtherEvidence(result.vector, result.map, effect)
            for result, effect in zip(results[2:], effects[1:], strict=False)
            if effect
        ],
    )


def _fewshot(
    table: VectorTable,
    vectors: tuple[str, str],
    field: str,
    population: Population,
    settings: CompareSettings,
) -> Mapping[str, Mapping[int, ShotEvidence]]:
    if "fewshot" not in settings.tasks:
        return {}
    found = {}
    for classifier, n_episodes in N_EPISODES.items():
        task = FewshotTask.from_table(
            table,
            field,
            n_episodes=n_episodes,
            seed=settings.seed,
            min_class_size=settings.min_class_size,
        )
        a, b = (run_fewshot(task, table, vector, [classifier])[classifier] for vector in vectors)
        found[classifier] = _shots(table, a, b, population)
    return found


def _shots(
    table: VectorTable, a: FewshotResult, b: FewshotResult, population: Population
) -> dict[int, ShotEvidence]:
    evidence = {}
    for i, shots in enumerate(a.shots):
        if np.isfinite(a.accuracy[i]).all():
            effect = population.fewshot_effect(table, a, b, i)
            accuracies = float(a.accuracy[i].mean()), float(b.accuracy[i].mean())
            evidence[shots] = ShotEvidence(*accuracies, effect)
    return evidence
