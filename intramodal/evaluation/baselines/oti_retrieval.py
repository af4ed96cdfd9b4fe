"""Texts that stand for pictures ask, pictures answer; judged beside the pictures themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from intramodal.errors import InputError
from intramodal.evaluation.baselines.oti import Inversion
from intramodal.evaluation.inference import Effect
from intramodal.evaluation.population import Population, interval_population
from intramodal.evaluation.retrieval import RetrievalResult, run_task
from intramodal.evaluation.retrieval_task import Mask, RetrievalTask
from intramodal.types import Floats, PointId, VectorTable

TEXTS = "oti"
"""What the texts are called in results."""


@dataclass(frozen=True, eq=False)
class InversionEvidence:
    """How texts of pictures retrieve, and vectors of the pictures, by one label field.

    Parameters
    ----------
    population : Population or None
        What intervals and differences speak of; None where it was left out, or pictures are few.
    results : list of RetrievalResult
        Of the texts, then of every vector, over the same queries.
    effects : mapping of str to Effect
        Difference in mAP: the texts less each vector, by its name; empty without a population.
    """

    population: Population | None
    results: list[RetrievalResult]
    effects: Mapping[str, Effect]


def evaluate_inversion(
    table: VectorTable,
    inversion: Inversion,
    *,
    vector: str,
    field: str,
    split: tuple[Mask, Mask] | None = None,
    min_class_size: int = 2,
) -> RetrievalResult:
    """Return exact retrieval figures with pseudo-words asking and pictures answering.

    A picture is never in the gallery of its own pseudo-word.

    Parameters
    ----------
    table : VectorTable
        With the payload column `field`.
    inversion : Inversion
        Of pictures of the table, by their ids; those that are not inverted only answer.
    vector : str
        The pictures in the space of the texts: the vector that was inverted.
    field : str
        Payload field: relevant is what shares a value.
    split : pair of ndarray of shape (n,), bool, optional
        Rows that ask and rows that answer; without it all that are inverted ask all others.
    min_class_size : int
        Classes with fewer images are left out.
    """
    texts = text_rows(table.ids, inversion.keys, inversion.texts)
    is_inverted = np.isfinite(texts[:, 0])
    asks, answers = split or (is_inverted, np.ones(len(table), dtype=bool))
    sides = None if split is None and is_inverted.all() else (asks & is_inverted, answers)
    task = RetrievalTask.from_table(table, field, split=sides, min_class_size=min_class_size)
    return run_task(*asked_by_texts(task, table, texts, vector), TEXTS)


def compare_inversion(
    task: RetrievalTask,
    table: VectorTable,
    texts: Floats,
    *,
    vector: str,
    others: Sequence[str],
    cluster: str | None = None,
    seed: int = 0,
) -> InversionEvidence:
    """Return how the texts retrieve, and how much better or worse than vectors of the pictures.

    Parameters
    ----------
    task : RetrievalTask
    table : VectorTable
        With `vector`, `others` and the labels.
    texts : ndarray of shape (n, d)
        The text of each row of the table that asks in the task.
    vector : str
        The pictures in the space of the texts, which answer them.
    others : sequence of str
        Vectors by which pictures ask and answer.
    cluster : str, optional
        What is resampled for the intervals; see `evaluate_retrieval`.
    seed : int
        Of the resampling.
    """
    task, table = asked_by_texts(task, table, texts, vector)
    results = [run_task(task, table, name) for name in (TEXTS, *others)]
    population = interval_population(table, task, cluster, seed=seed)
    if population is None:
        return InversionEvidence(None, results, {})
    effects = population.retrieval_effects(table, task, results[0], results[1:])
    found = {name: _negative(effect) for name, effect in zip(others, effects, strict=True)}
    within = [
        replace(result, interval=population.retrieval_interval(table, task, result))
        for result in results
    ]
    return InversionEvidence(population, within, found)


def asked_by_texts(
    task: RetrievalTask, table: VectorTable, texts: Floats, vector: str
) -> tuple[RetrievalTask, VectorTable]:
    """Return a task and a table in which `TEXTS` ask and `vector` answers them."""
    if TEXTS in table.vectors:
        raise InputError(f"the table has a vector {TEXTS!r} already; read it under another name")
    if not np.isfinite(texts[task.query_rows]).all():
        raise InputError("a picture that asks has no text; invert all that ask")
    # Rows without a text never ask, but are scaled with the others.
    vectors = {**table.vectors, TEXTS: np.nan_to_num(texts)}
    return replace(task, answered_by={TEXTS: vector}), replace(table, vectors=vectors)


def text_rows(ids: Sequence[PointId], keys: Sequence[PointId], texts: Floats) -> Floats:
    """Return the text of each of `ids` as rows (n, d), NaN where there is none.

    Raises
    ------
    InputError
        If one of the keys is not among the ids.
    """
    row_of = {point: row for row, point in enumerate(ids)}
    absent = [key for key in keys if key not in row_of]
    if absent:
        raise InputError(f"{len(absent)} inverted pictures are not in the table, as {absent[0]!r}")
    rows = np.full((len(ids), texts.shape[1]), np.nan, dtype=np.float32)
    rows[[row_of[key] for key in keys]] = texts
    return rows


def _negative(effect: Effect) -> Effect:
    low, high = effect.interval
    return replace(effect, delta=-effect.delta, interval=(-high, -low))
