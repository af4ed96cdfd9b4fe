"""`Comparison`: what was found per label field, its verdicts, and the object that is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from intramodal.evaluation.inference import Effect, holm
from intramodal.evaluation.paired import PairedResults
from intramodal.evaluation.population import Population
from intramodal.evaluation.results import data_frame, html_table
from intramodal.evaluation.verdict import Outcome, combine, evidence, head, judge

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
