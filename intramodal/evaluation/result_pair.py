"""Two results over the same queries, and the difference of their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, QueryMismatchError
from intramodal.evaluation.intervals import Effect, sign_flip
from intramodal.evaluation.resampling import (
    CLASSES_FROM,
    IID_PHRASE,
    Resampling,
    check_classes,
    classes_phrase,
    field_phrase,
    images_phrase,
)
from intramodal.evaluation.retrieval import RetrievalResult
from intramodal.evaluation.verdict import evidence
from intramodal.plots import Plot, class_plot
from intramodal.runs.frames import html_table

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

    def plot(self) -> Plot:
        """Return the classes that gain and lose most."""
        return Plot.of([class_plot(self.results[0].field, self.classes())])

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
        return f"{told}. This should hold for {self.phrase} ({n:,} queries)."

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


def compare_results(
    a: RetrievalResult,
    b: RetrievalResult,
    *,
    resampling: Resampling = Resampling(),
    seed: int = 0,
) -> PairedComparison:
    """Return how two results over the same queries differ, B minus A.

    Parameters
    ----------
    a, b : RetrievalResult
    resampling : Resampling
        Whom the interval speaks for. Where units leave the gallery ("image", a field), both
        results must have been evaluated with the same, as they are by default.
    seed : int
        Of the resampling.

    Raises
    ------
    QueryMismatchError
        If the results are not over the same queries, in the same order.
    InputError
        For fewer than five units, or results evaluated with another unit.
    """
    if a.query_ids != b.query_ids or a.labels != b.labels:
        raise QueryMismatchError(
            f"the results cover different queries ({len(a.query_ids):,} and "
            f"{len(b.query_ids):,}); evaluate both vectors on the same points"
        )
    n_classes = len(a.class_mean())
    is_multi = any(isinstance(label, tuple) for label in a.labels)
    cluster = resampling.unit
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
            f"evaluate both with Resampling({name!r}) and ties='expected', or use compare"
        )
    effect = without_b.minus(without_a).effect(float((b.ap - a.ap).mean()))
    phrase = images_phrase(n_classes)
    if population != "images":
        phrase = field_phrase(population, len(without_a.sizes))
    return PairedComparison(results=(a, b), effect=effect, population=population, phrase=phrase)
