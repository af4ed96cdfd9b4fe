"""Few-shot accuracy of methods that use the class names' text embeddings beside the shots.

Same episodes as `intramodal.evaluation.fewshot`, so that curves with and without text are
paired. Constants of a method are searched on validation images, never on tested ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MismatchError
from intramodal.evaluation.classifiers import FITS
from intramodal.evaluation.fewshot import (
    SHOTS,
    Counts,
    FewshotResult,
    FewshotTask,
    fewshot_result,
    run_fewshot,
)
from intramodal.evaluation.rivals.ape import fit_ape
from intramodal.evaluation.rivals.base import Episode, Fitted, Method
from intramodal.evaluation.rivals.class_texts import ClassTexts
from intramodal.evaluation.rivals.coder import fit_coder, fit_coder_zero_shot
from intramodal.evaluation.rivals.linear import fit_lda_text, fit_prototype_text
from intramodal.evaluation.rivals.tip import fit_tip_adapter, fit_tip_x, fit_zero_shot
from intramodal.evaluation.rivals.tuning import DEFAULT_PRESET, check_preset
from intramodal.types import Floats, VectorTable

METHODS: dict[str, Method] = {
    "zero-shot": fit_zero_shot,
    "coder-zero-shot": fit_coder_zero_shot,
    "tip-adapter": fit_tip_adapter,
    "tip-x": fit_tip_x,
    "coder": fit_coder,
    "ape": fit_ape,
    "lda+text": fit_lda_text,
    "prototype+text": fit_prototype_text,
}
"""The methods with text, by name."""

_BY_IMAGES = ("lda+text", "prototype+text")

N_VALIDATION = 4
"""Validation images a class: CoOp's protocol (Zhou et al. 2022), which all these papers follow."""


def evaluate_fewshot_text(  # noqa: PLR0913 - one option a choice of the protocol
    table: VectorTable,
    texts: ClassTexts,
    *,
    vector: str,
    field: str,
    methods: Sequence[str] = tuple(METHODS),
    image_vector: str | None = None,
    preset: str = DEFAULT_PRESET,
    shots: Sequence[int] = SHOTS,
    n_episodes: int = 10,
    n_validation: int = N_VALIDATION,
    seed: int = 0,
    min_class_size: int = 2,
    split: Sequence[Any] | None = None,
    test_share: float | None = None,
) -> dict[str, FewshotResult]:
    """Return the few-shot accuracy of methods that know the class names, one result a method.

    Episodes, classes and tests are those of `evaluate_fewshot` with the same seed, less
    `n_validation` images of every class, the last of each permutation. At s shots min(s,
    `n_validation`) of them tune (as in CoOp); none is ever a shot or tested in its episode.

    Parameters
    ----------
    table : VectorTable
        Of `ImageCollection.table`.
    texts : ClassTexts
        Of all classes of the field, by the text tower that belongs to `vector`.
    vector : str
        The images in the space of the texts; rows are scaled to unit length here.
    field : str
        Payload field with one class an image.
    methods : sequence of str
        Of `METHODS`; and "prototype" and "lda", which use no text, for curves beside them.
    image_vector : str, optional
        What "prototype", "lda", "prototype+text" and "lda+text" compare images by, for example
        a projected vector; `vector` unless given.
    preset : str
        Data set whose published ranges of search, or constants, are taken.
    shots : sequence of int
        Labelled images a class. What fewer than two classes can serve becomes NaN.
    n_episodes : int
        Fewer are the first of more.
    n_validation : int
        With 0 nothing is tuned: constants are the preset's, and "tip-x", which has none, is
        refused.
    seed : int
    min_class_size : int
        Classes with fewer images are left out.
    split : sequence of length n, optional
        As in `evaluate_fewshot`; rows named "val" tune if there are any.
    test_share : float, optional
        As in `evaluate_fewshot`.

    Returns
    -------
    dict of str to FewshotResult
        Constants of every episode are in ``extra["parameters"]``, by shots.

    Raises
    ------
    InputError
        If the field cannot serve as a label, a class has no text, or an option is out of range.

    Notes
    -----
    Images are not augmented: a stored vector is one view, where the papers average ten.
    """
    task = FewshotTask.from_table(
        table,
        field,
        shots=shots,
        n_episodes=n_episodes,
        seed=seed,
        min_class_size=min_class_size,
        split=split,
        test_share=test_share,
        n_validation=n_validation,
    )
    return run_fewshot_text(
        task, table, texts, vector, methods, image_vector=image_vector, preset=preset
    )


def run_fewshot_text(
    task: FewshotTask,
    table: VectorTable,
    texts: ClassTexts,
    vector: str,
    methods: Sequence[str],
    *,
    image_vector: str | None = None,
    preset: str = DEFAULT_PRESET,
) -> dict[str, FewshotResult]:
    """Return the accuracy of methods for a task that they share; see `evaluate_fewshot_text`."""
    check_preset(preset)
    _check_methods(task, methods)
    by = image_vector or vector
    plain = [name for name in methods if name in FITS]
    found = run_fewshot(task, table, by, plain) if plain else {}
    stage = _Stage.of(task, table, texts, vector, by)
    for name in methods:
        if name not in FITS:
            found[name] = _evaluated(stage, table, name, preset)
    return {name: found[name] for name in methods}


@dataclass(frozen=True, eq=False)
class _Stage:
    """A task with all arrays that methods look at."""

    task: FewshotTask
    X: Floats
    Z: Floats
    texts: ClassTexts
    vector: str
    image_vector: str

    @classmethod
    def of(
        cls, task: FewshotTask, table: VectorTable, texts: ClassTexts, vector: str, by: str
    ) -> _Stage:
        X, texts = task.images(table, vector), texts.of(task.names)
        if texts.W.shape[1] != X.shape[1]:
            raise MismatchError(
                f"class texts have {texts.W.shape[1]} dimensions and vector {vector!r} has "
                f"{X.shape[1]}; take texts of the model that made the vector"
            )
        Z = X if by == vector else task.images(table, by)
        return cls(task, X, Z, texts, vector, by)

    def episodes(self, n_shots: int, classes: NDArray[np.intp], preset: str) -> Iterator[Episode]:
        task, texts = self.task, self.texts.take(classes)
        testable = task.is_test & np.isin(task.codes, classes)
        n_tuning = min(n_shots, task.n_validation)
        for draw, reserved in zip(task.draws, task.validation, strict=True):
            shots, reserved = draw[classes, :n_shots], reserved[classes]
            is_tested = testable.copy()
            is_tested[np.concatenate([shots, reserved], axis=1).ravel()] = False
            yield Episode(
                X=self.X,
                Z=self.Z,
                W=texts.W,
                bank=texts.bank,
                owners=texts.owners,
                is_name=texts.is_name,
                shots=shots,
                validation=reserved[:, :n_tuning],
                tested=np.flatnonzero(is_tested),
                preset=preset,
            )


def _evaluated(stage: _Stage, table: VectorTable, name: str, preset: str) -> FewshotResult:
    task = stage.task
    parts = [_counts(stage, n_shots, METHODS[name], preset) for n_shots in task.shots]
    vector = stage.image_vector if name in _BY_IMAGES else stage.vector
    result = fewshot_result(task, table, vector, name, [counts for counts, _ in parts])
    parameters = {str(s): values for s, (_, values) in zip(task.shots, parts, strict=True)}
    facts = {"parameters": parameters, "preset": preset, "text_vector": stage.vector}
    return replace(result, extra={**result.extra, **facts})


def _counts(
    stage: _Stage, n_shots: int, method: Method, preset: str
) -> tuple[Counts, dict[str, list[float]]]:
    task = stage.task
    right, tested = (np.zeros(len(task.codes), dtype=np.int64) for _ in range(2))
    accuracy = np.full(len(task.draws), np.nan)
    parameters: dict[str, list[float]] = defaultdict(list)
    classes = task.classes_at(n_shots)
    if len(classes) < 2:
        return (right, tested, accuracy), {}
    truth = np.searchsorted(classes, task.codes)
    for e, episode in enumerate(stage.episodes(n_shots, classes, preset)):
        fitted = method(episode)
        hit = _best(episode, fitted) == truth[episode.tested]
        right[episode.tested] += hit
        tested[episode.tested] += 1
        accuracy[e] = hit.mean()
        for name, value in fitted.parameters.items():
            parameters[name].append(value)
    return (right, tested, accuracy), dict(parameters)


def _best(episode: Episode, fitted: Fitted) -> NDArray[np.intp]:
    # The first of equal logits: classes are in the order of their names.
    blocks = episode.blocks(episode.tested)
    return np.concatenate([fitted.logits(block).argmax(axis=1) for block in blocks])


def _check_methods(task: FewshotTask, methods: Sequence[str]) -> None:
    known = {**METHODS, **FITS}
    unknown = sorted(set(methods) - set(known))
    if unknown:
        raise InputError(f"no method {unknown[0]!r}; choose from {', '.join(sorted(known))}")
    if not methods:
        raise InputError(f"methods is empty; choose from {', '.join(sorted(known))}")
    if "tip-x" in methods and task.n_validation == 0:
        raise InputError("tip-x has no published constants; keep validation images to tune it on")
