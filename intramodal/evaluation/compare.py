"""Should vector B replace vector A? Paired evidence per label field, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, QueryMismatchError
from intramodal.evaluation.fewshot import FewshotResult, FewshotTask, run_fewshot
from intramodal.evaluation.intervals import Effect, holm, sign_flip
from intramodal.evaluation.ranking import rank
from intramodal.evaluation.resampling import (
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
from intramodal.evaluation.tasks import RetrievalTask, encode_labels
from intramodal.evaluation.verdict import Outcome, combine, evidence, head, judge
from intramodal.progress import tracked
from intramodal.runs.frames import data_frame, html_table
from intramodal.types import Floats, VectorTable, unit_rows

N_CHANGED = 20
_TIED = 1e-9
"""Average precisions nearer than this are equal: float64 sums over a ranking differ by less."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PairedResults:
    """Two results over the same queries, in the same order.

    Parameters
    ----------
    results : pair of RetrievalResult
        A and B.
    """

    results: tuple[RetrievalResult, RetrievalResult]

    @cached_property
    def differences(self) -> NDArray[np.float64]:
        """Average precision of B minus A of every query (n_queries,)."""
        return self.results[1].ap - self.results[0].ap

    def classes(self) -> list[dict[str, Any]]:
        """Return mean average precisions and their difference for every class."""
        a, b = (result.class_mean() for result in self.results)
        return [
            {"class": name, "a": mean, "b": b[name][0], "delta": b[name][0] - mean, "n_queries": n}
            for name, (mean, n) in a.items()
        ]

    def classes_changed(self, sign: int) -> list[dict[str, Any]]:
        """Return the classes that gain (+1) or lose (-1) most."""
        rows = self.classes()
        order = _most_changed([row["delta"] for row in rows], sign)
        return [rows[i] for i in order]

    def changed(self, sign: int) -> list[dict[str, Any]]:
        """Return the queries that gain (+1) or lose (-1) most."""
        a, b = self.results
        return [
            {
                "id": a.query_ids[i],
                "label": a.labels[i],
                "ap": {a.vector: float(a.ap[i]), b.vector: float(b.ap[i])},
                "delta": float(self.differences[i]),
            }
            for i in _most_changed(self.differences, sign)
        ]

    def counts(self) -> dict[str, int]:
        """Return how many queries gain, stay and lose."""
        wins, losses = (
            int((self.differences > _TIED).sum()),
            int((self.differences < -_TIED).sum()),
        )
        return {"wins": wins, "ties": len(self.differences) - wins - losses, "losses": losses}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PairedComparison(PairedResults):
    """The difference in mAP of two results, B minus A, and whom it speaks of.

    Parameters
    ----------
    results : pair of RetrievalResult
    effect : Effect
    population : str
        "classes", "images", "iid", or the payload field whose values are the units.
    phrase : str
        The same in words.
    """

    effect: Effect
    population: str
    phrase: str

    @property
    def delta(self) -> float:
        """MAP of B minus mAP of A, a fraction."""
        return self.effect.delta

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the difference; excludes zero exactly when ``p_value < 0.05``."""
        return self.effect.interval

    @property
    def p_value(self) -> float:
        """Two-sided p-value, of the same procedure as the interval."""
        return self.effect.p_value

    @property
    def sentence(self) -> str:
        """The difference with its figures and its population."""
        a, b = self.results
        told = evidence("mAP", a.map, b.map, self.effect, self.p_value, p_words="p")
        n = len(self.differences)
        return f"{told}. This speaks of {self.phrase}, from {n:,} queries."

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, with the classes and queries that change most."""
        return {
            "map": {result.vector: result.map for result in self.results},
            "delta": self.delta,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "population": self.population,
            "n_queries": len(self.differences),
            **self.counts(),
            "sentence": self.sentence,
            "classes_gain": self.classes_changed(+1),
            "classes_lose": self.classes_changed(-1),
            "queries_gain": self.changed(+1),
            "queries_lose": self.changed(-1),
        }

    def _repr_html_(self) -> str:
        counts = self.counts()
        a, b = (f"mAP {result.vector}" for result in self.results)
        row = [*(result.map for result in self.results), *counts.values(), self.sentence]
        return html_table([a, b, *counts, "difference"], [row])

    def __repr__(self) -> str:
        """Return the difference with its interval and population."""
        low, high = self.interval
        return (
            f"PairedComparison(mAP {self.delta:+.4f} [{low:+.4f}, {high:+.4f}], "
            f"p {self.p_value:.4g}, {self.phrase})"
        )


def _most_changed(differences: Sequence[float] | NDArray[np.float64], sign: int) -> list[int]:
    values = sign * np.asarray(differences)
    order = np.argsort(-values, kind="stable")[:N_CHANGED]
    return [int(i) for i in order if values[i] > _TIED]


TASKS = ("retrieval", "fewshot")
DECIDING_CLASSIFIER = "prototype"
"""The paper's nearest prototype decides; LDA undoes part of any linear map and is shown beside."""
NO_FEWSHOT = "few-shot accuracy needs one value a picture, and classes of two pictures"


@dataclass(frozen=True)
class ShotEvidence:
    """Few-shot accuracy of both vectors at one number of shots."""

    a: float
    b: float
    effect: Effect

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "delta": self.effect.delta,
            "interval": list(self.effect.interval),
        }


@dataclass(frozen=True)
class OtherEvidence:
    """A further vector against A, in the same population; it never changes the verdict on B."""

    vector: str
    map: float
    effect: Effect

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        interval = list(self.effect.interval)
        return {
            "vector": self.vector,
            "map": self.map,
            "delta": self.effect.delta,
            "interval": interval,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class FieldEvidence(PairedResults):
    """What one label field says.

    Parameters
    ----------
    field : str
    population : Population
    n_classes : int
    results : pair of RetrievalResult
        Over the same queries.
    effect : Effect or None
        Difference in mAP; None if retrieval was not asked for.
    fewshot : dict of str to dict of int to ShotEvidence
        By classifier and shots; empty if not asked for, or not feasible.
    tasks : tuple of str
        What was asked for: "retrieval", "fewshot".
    others : sequence of OtherEvidence
        Controls and rivals; empty unless asked for.
    """

    field: str
    population: Population
    n_classes: int
    effect: Effect | None
    fewshot: Mapping[str, Mapping[int, ShotEvidence]]
    tasks: tuple[str, ...] = TASKS
    others: Sequence[OtherEvidence] = ()

    @property
    def deciding(self) -> Mapping[int, ShotEvidence]:
        """The few-shot evidence that a verdict rests on."""
        return self.fewshot.get(DECIDING_CLASSIFIER, {})


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two vectors compared by several label fields.

    Parameters
    ----------
    vectors : (str, str)
        A, in use, and B, which may replace it.
    dims : (int, int)
        Their lengths.
    margin : float
        Largest harmless loss, a fraction.
    fields : dict of str to FieldEvidence
    """

    vectors: tuple[str, str]
    dims: tuple[int, int]
    margin: float
    fields: Mapping[str, FieldEvidence]

    @cached_property
    def p_adjusted(self) -> dict[str, float]:
        """p-values of the differences in mAP, adjusted for the number of fields."""
        asked = {name: row.effect for name, row in self.fields.items() if row.effect}
        return dict(zip(asked, holm([effect.p_value for effect in asked.values()]), strict=True))

    @cached_property
    def p_adjusted_fewshot(self) -> dict[tuple[str, int], float]:
        """p-values of the deciding accuracies, adjusted for all fields and shots together."""
        asked = {
            (n, s): e.effect for n, row in self.fields.items() for s, e in row.deciding.items()
        }
        return dict(zip(asked, holm([effect.p_value for effect in asked.values()]), strict=True))

    def verdicts(self, field: str) -> tuple[Outcome, Outcome, Outcome]:
        """Return the outcomes of retrieval, of few-shot, and of both.

        Evidence that was not asked for does not count; what was asked for and cannot be had is
        inconclusive.
        """
        row = self.fields[field]
        retrieval: Outcome = "inconclusive"
        if row.effect:
            retrieval = judge(row.effect, self.p_adjusted[field], self.margin)
        fewshot = combine(self._judged(field, shots) for shots in row.deciding)
        by_task: dict[str, Outcome] = {"retrieval": retrieval, "fewshot": fewshot}
        return retrieval, fewshot, combine(by_task[task] for task in row.tasks)

    def sentence(self, field: str) -> str:
        """Return the verdict with its figures and the population it speaks of."""
        row = self.fields[field]
        verdict = self.verdicts(field)[2]
        share = self.dims[1] / self.dims[0]
        found = "; ".join(filter(None, [self._retrieval_words(field), self._fewshot_words(field)]))
        words = f"{head(verdict, self.vectors[1], self.margin, share)}. {found}. "
        words += f"This speaks of {row.population.phrase}, from {len(row.differences):,} queries"
        return words + (self._needed(field) if verdict == "inconclusive" else "") + "."

    def details(self) -> dict[str, dict[str, Any]]:
        """Return, per field, all classes and the queries that gain and lose most."""
        return {
            name: {
                "classes": row.classes(),
                "queries_gain": row.changed(+1),
                "queries_lose": row.changed(-1),
            }
            for name, row in self.fields.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return "vectors" and "fields" as ``intramodal compare --json`` prints them."""
        return {
            "vectors": list(self.vectors),
            "fields": {name: self._field(name) for name in self.fields},
        }

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a field and query; needs the extra ``notebook``."""
        a, b = self.vectors
        columns: dict[str, list[Any]] = {key: [] for key in ("field", "query", "label", a, b)}
        for name, row in self.fields.items():
            first, second = row.results
            columns["field"] += [name] * len(first.query_ids)
            columns["query"] += first.query_ids
            columns["label"] += first.labels
            columns[a] += first.ap.tolist()
            columns[b] += second.ap.tolist()
        return data_frame(columns)

    def _repr_html_(self) -> str:
        a, b = self.vectors
        rows = [
            (name, *(result.map for result in row.results), self.sentence(name))
            for name, row in self.fields.items()
        ]
        return html_table(["field", f"mAP {a}", f"mAP {b}", "verdict"], rows)

    def _field(self, name: str) -> dict[str, Any]:
        row = self.fields[name]
        effect = row.effect
        retrieval, fewshot, verdict = self.verdicts(name)
        return {
            "map": {result.vector: result.map for result in row.results},
            "delta": effect.delta if effect else None,
            "interval": list(effect.interval) if effect else None,
            "population": row.population.name,
            "p_value": effect.p_value if effect else None,
            "p_adjusted": self.p_adjusted.get(name),
            "n_queries": len(row.differences),
            "n_classes": row.n_classes,
            **row.counts(),
            "verdict_retrieval": retrieval,
            "fewshot": {
                classifier: {str(shots): found.to_dict() for shots, found in by_shots.items()}
                for classifier, by_shots in row.fewshot.items()
            }
            or None,
            "verdict_fewshot": fewshot,
            "verdict": verdict,
            "sentence": self.sentence(name),
            "others": [other.to_dict() for other in row.others],
        }

    def _judged(self, field: str, shots: int) -> Outcome:
        effect = self.fields[field].deciding[shots].effect
        return judge(effect, self.p_adjusted_fewshot[field, shots], self.margin)

    def _retrieval_words(self, field: str) -> str:
        row = self.fields[field]
        if not row.effect:
            return ""
        a, b = row.results
        return evidence("mAP", a.map, b.map, row.effect, self.p_adjusted[field])

    def _fewshot_words(self, field: str) -> str:
        row = self.fields[field]
        if row.deciding:
            shots = self._telling(field)
            found, p = row.deciding[shots], self.p_adjusted_fewshot[field, shots]
            return evidence(f"{shots}-shot accuracy", found.a, found.b, found.effect, p)
        return NO_FEWSHOT if "fewshot" in row.tasks else ""

    def _telling(self, field: str) -> int:
        """Return the shots whose accuracy weighs most: the surest with the few-shot verdict."""
        shots = list(self.fields[field].deciding)
        verdict = self.verdicts(field)[1]
        telling = [s for s in shots if self._judged(field, s) == verdict] or shots
        return min(telling, key=lambda s: self.p_adjusted_fewshot[field, s])

    def _needed(self, field: str) -> str:
        """Return how much evidence would settle the first of the two that is not settled."""
        row = self.fields[field]
        effect, n_tests = row.effect, len(self.p_adjusted)
        if effect is None or self.verdicts(field)[0] != "inconclusive":
            if not row.deciding:
                return "; --task retrieval judges by retrieval alone"
            effect = row.deciding[self._telling(field)].effect
            n_tests = len(self.p_adjusted_fewshot)
        needed = effect.units_needed(self.margin, n_tests=n_tests)
        if needed is None:
            return f"; no number of {row.population.unit} would settle an exact tie"
        if row.population.name == "images":  # of which some only answer
            needed = int(np.ceil(len(row.differences) * needed / effect.n_units))
        return f"; about {needed:,} {row.population.unit} would be needed"


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


@dataclass(frozen=True)
class DimensionSweep:
    """mAP of the first dimensions of a projected vector.

    Parameters
    ----------
    field : str
    dims : list of int
        Ascending.
    map : list of float
        Of each number of dimensions.
    raw_map : float
        Of the vector that was projected.
    knee : int
        Fewest dimensions whose mAP is within `margin` of the best.
    n_queries : int
    """

    field: str
    dims: list[int]
    map: list[float]
    raw_map: float
    knee: int
    n_queries: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


def sweep_dimensions(  # noqa: PLR0913  settings with defaults
    table: VectorTable,
    Z: Floats,
    *,
    raw: str,
    field: str,
    dims: Sequence[int],
    turns: bool = False,
    margin: float = 0.005,
    min_class_size: int = 2,
) -> DimensionSweep:
    """Return mAP by number of kept dimensions, leave-one-out.

    Parameters
    ----------
    table : VectorTable
        With the vector `raw` and the payload column `field`.
    Z : ndarray of shape (n, k)
        Projected vectors as the map gives them, not normalised: their columns are ordered, so
        the first of them are the vectors of a smaller projection.
    raw, field : str
    dims : sequence of int
        Numbers of columns of `Z` to keep.
    turns : bool
        Whether all directions together turn `raw` and drop nothing: as many dimensions as it has
        then give its mAP, and are swept, too.
    margin : float
        Difference in mAP that does not count.
    min_class_size : int
    """
    task = RetrievalTask.from_table(table, field, min_class_size=min_class_size)

    def mean_ap(X: Floats) -> float:
        unit = unit_rows(X)
        ranking = rank(unit[task.query_rows], unit[task.gallery_rows], task.relevance, ks=())
        return float(ranking.ap.mean())

    found = {n: mean_ap(Z[:, :n]) for n in sorted(set(dims))}
    raw_map = mean_ap(table.vectors[raw])
    if turns:
        found.setdefault(table.vectors[raw].shape[1], raw_map)
    best = max(found.values())
    return DimensionSweep(
        field=field,
        dims=list(found),
        map=list(found.values()),
        raw_map=raw_map,
        knee=min(n for n, value in found.items() if value >= best - margin),
        n_queries=len(task.query_rows),
    )
