"""Few-shot accuracy of methods that use the class names' text embeddings beside the shots.

Same episodes as `intramodal.evaluation.fewshot`, so that curves with and without text are
paired. Constants of a method are searched on validation images, never on tested ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MismatchError
from intramodal.evaluation.classifiers import FITS
from intramodal.evaluation.distances import other_distances
from intramodal.evaluation.fewshot import (
    Counts,
    FewshotResult,
    FewshotResults,
    fewshot_result,
    joined,
    run_fewshot,
)
from intramodal.evaluation.label_evidence import beside_fields
from intramodal.evaluation.protocols import (
    N_SEEDS,
    Lengths,
    Projections,
    Protocol,
    TakingPart,
    check_protocol,
    maps_of,
    shot_images,
    with_shots,
)
from intramodal.evaluation.results import log_source
from intramodal.evaluation.rivals.ape import fit_ape
from intramodal.evaluation.rivals.base import Episode, Fitted, Method
from intramodal.evaluation.rivals.class_texts import TEMPLATES, ClassTexts, DescribedClasses
from intramodal.evaluation.rivals.coder import fit_coder, fit_coder_zero_shot
from intramodal.evaluation.rivals.linear import fit_lda_text, fit_prototype_text
from intramodal.evaluation.rivals.tip import fit_tip_adapter, fit_tip_x, fit_zero_shot
from intramodal.evaluation.rivals.tuning import DEFAULT_PRESET, PAPER_PRESET, check_preset
from intramodal.evaluation.shots import SHOTS, FewshotTask, drawn_anew
from intramodal.evaluation.tasks import Mask, Points, Sides
from intramodal.evaluation.texts import Texts, texts_of
from intramodal.progress import tracked
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.types import Encoder, Floats, VectorTable

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

PAPER_METHODS = ("zero-shot", *_BY_IMAGES)
"""Those of `METHODS` whose constants the preset "paper" knows."""

N_EPISODES = 10
"""Draws of the shots unless told otherwise."""

N_VALIDATION = 4
"""Validation images a class: CoOp's protocol (Zhou et al. 2022), which all these papers follow."""


BY_IMAGES = ("prototype", "lda", "prototype+text", "lda+text")
"""Methods that compare images by a vector of their own choice, each of `by` in turn."""

_MOST_NAMED = 5


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FewshotTextResults(FewshotResults):
    """Few-shot accuracy of methods that know the class names.

    Parameters
    ----------
    vector : str
        The images in the space of the texts.
    texts : str
        Where these come from.
    template, preset : str
    validation : int
    """

    vector: str
    texts: str
    template: str
    preset: str
    validation: int

    def to_dict(self, *, classes: bool = False) -> dict[str, Any]:
        """Return what ``--json`` prints; with `classes` every class's accuracy, too."""
        return super().to_dict(classes=classes) | {
            "vector": self.vector,
            "texts": self.texts,
            "template": self.template,
            "preset": self.preset,
            "n_validation": self.validation,
        }


def evaluate_fewshot_text(  # noqa: PLR0913  a job has as many knobs as it has
    source: VectorTable | ImageCollection,
    *,
    texts: ClassTexts | Texts | Encoder | Floats,
    vector: str | None = None,
    fields: Sequence[str],
    methods: Sequence[str] | None = None,
    by: Sequence[str] = (),
    shots: Sequence[int] = SHOTS,
    protocol: Protocol | None = None,
    projections: Projections = (),
    shots_from: Mapping[str, str] | None = None,
    episodes: int | None = None,
    validation: int | None = None,
    preset: str = DEFAULT_PRESET,
    template: str = TEMPLATES[0],
    words: DescribedClasses | None = None,
    sides: Sides | str | tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
    test_share: float | None = None,
    min_class_size: int = 2,
    seed: int = 0,
    run: Run | None = None,
) -> FewshotTextResults:
    """Return the few-shot accuracy of methods that know the class names.

    Episodes, classes and tests are those of `evaluate_fewshot` with the same seed, less
    `validation` images of every class, the last of each permutation. At s shots min(s,
    `validation`) of them tune (as in CoOp); none is ever a shot or tested in its episode.

    Parameters
    ----------
    source : ImageCollection or VectorTable
    texts : ClassTexts, Texts, Encoder or ndarray of shape (n_classes, d)
        Of all classes of the fields, by the text tower that belongs to `vector`; an array has
        one row per class in alphabetical order.
    vector : str, optional
        The images in the space of the texts, by default the encoder's own; rows are scaled to
        unit length here.
    fields : sequence of str
        Payload fields with one class an image.
    methods : sequence of str, optional
        Of `METHODS`, by default all; and "prototype" and "lda", which use no text, for curves
        beside them.
    by : sequence of str
        What "prototype", "lda", "prototype+text" and "lda+text" compare images by, for example
        a projected vector; `vector` unless given.
    shots : sequence of int
        Labelled images per class. What fewer than two classes can serve becomes NaN.
    protocol : {"nested", "paper"}, optional
        As in `evaluate_fewshot`; ``"paper"`` tunes nothing. By default ``"nested"``, but for the
        preset "paper".
    projections : sequence of Projection, or mapping of str to Projection
        Those that made vectors of `by`: for protocol or preset "paper". By vector where a table
        has them under other names than projections give.
    shots_from : mapping of str to str, optional
        As in `evaluate_fewshot`, for `vector` and those of `by`.
    episodes : int, optional
        Fewer are the first of more; by default 10, and 3 of protocol "paper".
    validation : int, optional
        With 0 nothing is tuned: constants are the preset's, and "tip-x", which has none, is
        refused. By default 4, and 0 of protocol or preset "paper".
    preset : str
        Data set whose published ranges of search, or constants, are taken. ``"paper"`` (figure 6)
        mixes .5 of the texts' cosines with .5 of the classifier of shots, for "prototype+text" and
        "lda+text"; it knows no constants of the other methods. Projected images are compared with
        projected texts.
    template : str
        ``{}`` is the class name.
    words : DescribedClasses, optional
        Further texts for CODER, which the encoder of `texts` embeds.
    sides, where, test_share, min_class_size, seed
        As in `evaluate_fewshot`.
    run : Run, optional
        Records the results.

    Returns
    -------
    FewshotTextResults
        Constants of every episode are in each result's ``extra["parameters"]``, by shots.

    Raises
    ------
    InputError
        If a field cannot serve as a label, a class has no text, or an option is out of range.

    Notes
    -----
    A stored vector is one view, where the papers average ten augmented ones; `shots_from` takes
    one augmented view.
    """
    sides, run, shots_from = Sides.of(sides), run or Run(), shots_from or {}
    vector = own_vector(source, vector)
    plan = _Plan.of(protocol, preset, methods, episodes, validation)
    check_protocol(plan.protocol, sides, test_share, plan.unasked(projections))
    place = texts if isinstance(texts, ClassTexts) else texts_of(texts)
    needed = with_shots(source, shots_from, [vector, *by])
    scaled = Lengths.of(source, needed, projections) if plan.is_paper else None
    those = TakingPart.of(source, needed, fields, sides=sides, where=where, scaled=scaled)
    drawn: Any = {"min_class_size": min_class_size, "seed": seed}
    how: Any = {"shots": shots, "split": those.split, "test_share": test_share, **drawn}
    at = _Vectors(vector, tuple(by or [vector]), maps_of(source, needed, projections), shots_from)
    results: list[FewshotResult] = []
    for name in tracked(fields, "few-shot with text", unit="field", name=str):
        task = FewshotTask.from_table(those.rows, name, **how, **plan.draws)
        results += _by_each(task, those.rows, _class_texts(place, task, template, words), at, plan)
    found = FewshotTextResults(
        points=Points.of(source, those.table, seed, where),
        run_id=run.id,
        results=results,
        split=sides.split,
        test_share=test_share,
        protocol=plan.protocol,
        shots_from=shots_from,
        episodes=plan.episodes,
        seed=seed,
        vector=vector,
        texts="class texts" if isinstance(place, ClassTexts) else place.name,
        template=template,
        preset=preset,
        validation=plan.validation,
        distances=other_distances(source, those.table, those.read),
        label_evidence=beside_fields(those.rows, those.split, fields, at.by, **drawn),
    )
    log_source(run, source, found.points)
    run.keep(found)
    return found


@dataclass(frozen=True)
class _Plan:
    """What is run, with what was left open decided."""

    protocol: Protocol
    preset: str
    methods: tuple[str, ...]
    episodes: int
    validation: int

    @classmethod
    def of(
        cls,
        protocol: Protocol | None,
        preset: str,
        methods: Sequence[str] | None,
        episodes: int | None,
        validation: int | None,
    ) -> _Plan:
        is_preset = preset == PAPER_PRESET
        protocol = protocol or ("paper" if is_preset else "nested")
        is_fixed = is_preset or protocol == "paper"
        if is_fixed and validation:
            raise InputError(
                f"the paper tunes nothing, so validation must be 0, got {validation}; leave it out"
            )
        if methods is None:
            methods = PAPER_METHODS if is_preset else tuple(METHODS)
        if episodes is None:
            episodes = N_SEEDS if protocol == "paper" else N_EPISODES
        if validation is None:
            validation = 0 if is_fixed else N_VALIDATION
        return cls(protocol, preset, tuple(methods), episodes, validation)

    def unasked(self, projections: Projections) -> Projections:
        """Return projections that only the protocol can have asked for."""
        return () if self.preset == PAPER_PRESET else projections

    @property
    def draws(self) -> dict[str, Any]:
        """How many episodes are drawn, and of each class how many images that tune constants."""
        return {"n_episodes": self.episodes, "n_validation": self.validation}

    @property
    def is_paper(self) -> bool:
        """Whether shots are drawn as in the paper's code."""
        return self.protocol == "paper"


@dataclass(frozen=True, eq=False)
class _Vectors:
    """What images are compared by."""

    vector: str
    by: tuple[str, ...]
    maps: Mapping[str, Projection]
    shots_from: Mapping[str, str]


def _by_each(
    task: FewshotTask,
    rows: VectorTable,
    texts: ClassTexts,
    at: _Vectors,
    plan: _Plan,
) -> list[FewshotResult]:
    """Return the results of all methods; those that compare images, by every vector."""
    parts = drawn_anew(task, plan.episodes) if plan.is_paper else [task]
    found: list[FewshotResult] = []
    for n, image_vector in enumerate(at.by):
        some = [name for name in plan.methods if n == 0 or name in BY_IMAGES]
        if some or n == 0:
            results = [
                run_fewshot_text(
                    part,
                    rows,
                    texts,
                    at.vector,
                    some,
                    image_vector=image_vector,
                    preset=plan.preset,
                    projection=at.maps.get(image_vector),
                    shots_from=at.shots_from,
                )
                for part in parts
            ]
            found += joined(results).values()
    return found


def _class_texts(
    texts: ClassTexts | Texts, task: FewshotTask, template: str, words: DescribedClasses | None
) -> ClassTexts:
    if isinstance(texts, ClassTexts):
        return texts
    if words is not None:
        return _described(texts, task, template, words)
    embedded = texts.embed(AnchorSet(tuple(task.names), template).prompts())
    if embedded is None:
        raise InputError(
            f"{texts.name} has no text tower; give precomputed text embeddings in its place"
        )
    if len(embedded) != len(task.names):
        raise InputError(
            f"field {task.field!r} has {len(task.names)} classes and {texts.name} "
            f"{len(embedded)} texts; give one per class, in alphabetical order"
        )
    return ClassTexts.from_arrays(task.names, embedded)


def _described(
    texts: Texts, task: FewshotTask, template: str, words: DescribedClasses
) -> ClassTexts:
    """Return the names' texts with further ones, embedded by the model."""
    encoder = texts.encoder
    if encoder is None:
        raise InputError(
            f"{words.place} holds texts that a model must embed, and {texts.name} ready "
            f"embeddings; give the model in their place"
        )
    if set(words.by_class).isdisjoint(task.names):
        raise InputError(
            f"{words.place} says nothing of a class of field {task.field!r}; its classes are "
            f"{_some(words.by_class)}, the field's {_some(task.names)}"
        )
    return ClassTexts.encode(encoder, task.names, templates=[template], words=words.by_class)


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(repr(name) for name in found[:_MOST_NAMED]) + (
        ", ..." if len(found) > _MOST_NAMED else ""
    )


def run_fewshot_text(  # noqa: PLR0913  one option a choice of the evaluation
    task: FewshotTask,
    table: VectorTable,
    texts: ClassTexts,
    vector: str,
    methods: Sequence[str],
    *,
    image_vector: str | None = None,
    preset: str = DEFAULT_PRESET,
    projection: Projection | None = None,
    shots_from: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, FewshotResult]:
    """Return the accuracy of methods for a task that they share; see `evaluate_fewshot_text`.

    `projection` is the one that made `image_vector`, if any did.
    """
    check_preset(preset)
    _check_methods(task, methods, preset)
    by = image_vector or vector
    plain = [name for name in methods if name in FITS]
    found = run_fewshot(task, table, by, plain, shots_from.get(by)) if plain else {}
    of_texts = projection if preset == PAPER_PRESET else None
    stage = _Stage.of(task, table, texts, vector, by, of_texts).with_shots(table, shots_from)
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
    T: Floats | None
    """Texts in the space of `Z`."""
    first_shot: int = 0
    """Row of `X` and `Z` from which on images stand as they are shots."""

    @classmethod
    def of(
        cls,
        task: FewshotTask,
        table: VectorTable,
        texts: ClassTexts,
        vector: str,
        by: str,
        projection: Projection | None = None,
    ) -> _Stage:
        X, texts = task.images(table, vector), texts.of(task.names)
        if texts.W.shape[1] != X.shape[1]:
            raise MismatchError(
                f"class texts have {texts.W.shape[1]} dimensions and vector {vector!r} has "
                f"{X.shape[1]}; take texts of the model that made the vector"
            )
        if by == vector:
            return cls(task, X, X, texts, vector, by, texts.W)
        T = None if projection is None else projection.apply_to_texts(texts.W)
        return cls(task, X, task.images(table, by), texts, vector, by, T)

    def with_shots(self, table: VectorTable, shots_from: Mapping[str, str]) -> _Stage:
        """Return the stage whose shots come from other vectors, below those that are tested."""
        if self.vector not in shots_from and self.image_vector not in shots_from:
            return self

        def stacked(name: str, X: Floats) -> Floats:
            of = shots_from.get(name)
            return np.concatenate([X, X if of is None else shot_images(self.task, table, of, X)])

        X = stacked(self.vector, self.X)
        Z = X if self.Z is self.X else stacked(self.image_vector, self.Z)
        return replace(self, X=X, Z=Z, first_shot=len(self.X))

    def episodes(self, n_shots: int, classes: NDArray[np.intp], preset: str) -> Iterator[Episode]:
        task, texts = self.task, self.texts.take(classes)
        T = None if self.T is None else self.T[classes]
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
                T=T,
                bank=texts.bank,
                owners=texts.owners,
                is_name=texts.is_name,
                shots=shots + self.first_shot,
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


def _check_methods(task: FewshotTask, methods: Sequence[str], preset: str) -> None:
    known = {**METHODS, **FITS}
    unknown = sorted(set(methods) - set(known))
    if unknown:
        raise InputError(f"no method {unknown[0]!r}; choose from {', '.join(sorted(known))}")
    if not methods:
        raise InputError(f"methods is empty; choose from {', '.join(sorted(known))}")
    fixed = [m for m in methods if m in METHODS and m not in PAPER_METHODS]
    if preset == PAPER_PRESET and fixed:
        raise InputError(
            f"the preset {preset!r} has no constants of {fixed[0]!r}; choose from "
            f"{', '.join((*PAPER_METHODS, *FITS))}, or another preset"
        )
    if "tip-x" in methods and task.n_validation == 0:
        raise InputError("tip-x has no published constants; keep validation images to tune it on")
