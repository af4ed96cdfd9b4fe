"""What a notebook shows of a public object is short, however much it holds (issue 21)."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

import intramodal
from intramodal import Filter, VectorTable, Votes
from intramodal.evaluation.agreement import Agreement, PseudoLabels
from intramodal.evaluation.precision_recall import PrecisionRecall
from intramodal.ingest.backfill.in_place import BackfillSummary
from intramodal.ingest.backfill.verify import VerifySummary
from intramodal.ingest.pipeline import IngestSummary
from intramodal.ingest.prune import PrunePlan
from intramodal.runs.scores import QueryScores
from intramodal.store.base import Hits, Page
from intramodal.store.search import SearchResults
from intramodal.types import MOST_LINES, first_lines

N = 5000
LONGEST = 1000
IDS = list(range(N))
FAILURES = [{"id": f"{n}", "reason": "its source vector is zero " * 5} for n in IDS]

LARGE: list[Any] = [
    Agreement(("raw", "pca"), 10, IDS, np.zeros(N), N),
    PseudoLabels(["cat"] * N, np.zeros(N)),
    PrecisionRecall("kind", np.zeros(51), {"raw": np.zeros(51)}, 0.1, N, N, {}, "x" * 500),
    BackfillSummary("products", "image", "pca", 1, 2, N, 0, 0, FAILURES, 0.1, 0.1),
    VerifySummary("products", "image", "pca", N, N, 0, IDS, 0.1, 1e-5, 0),
    IngestSummary("photos", N, 0, 0, 0, N, 0, FAILURES, 1.0),
    PrunePlan("photos", "photos", N, N, [f"{n}.jpg" for n in IDS]),
    QueryScores("kind", "raw", IDS, {"ap": np.zeros(N)}),
    Hits([IDS], [np.zeros(N, np.float32)]),
    Page(IDS, {"raw": np.zeros((N, 512), np.float32)}, [{"path": f"{n}.jpg"} for n in IDS]),
    SearchResults("photos", {"raw": [{"id": n, "score": 0.5} for n in IDS]}),
    Filter({"kind": [f"kind {n}" for n in IDS]}, ids=IDS),
    Votes("votes.json", "photos", ("raw", "pca"), None, dict.fromkeys(IDS, "a"), {}),
    VectorTable(IDS, {"raw": np.zeros((N, 8), np.float32)}, {"kind": ["cat"] * N}),
]


@pytest.mark.parametrize("value", LARGE, ids=lambda value: type(value).__name__)
def test_the_repr_of_a_large_object_is_short(value: Any) -> None:
    shown = repr(value)
    assert shown.startswith(f"{type(value).__name__}(")
    assert len(shown) < LONGEST


def test_the_repr_of_a_small_object_says_what_it_holds() -> None:
    shown = repr(Agreement(("raw", "pca"), 10, [1, 2], np.zeros(2), 2))
    assert shown == (
        "Agreement(vectors=('raw', 'pca'), k=10, ids=[1, 2], "
        "overlap=<float64 array of shape (2,)>, n_images=2)"
    )


def test_a_repr_of_one_line_per_result_ends_after_a_few() -> None:
    assert first_lines(["a", "b"]) == "a\nb"
    shown = first_lines(f"row {n}" for n in IDS).splitlines()
    assert len(shown) == MOST_LINES + 1
    assert shown[-1] == f"... and {N - MOST_LINES:,} more"


def meant(annotation: str, module: str) -> Any:
    """Return the type that an annotation of a module means; the others may be for mypy alone."""
    return eval(annotation, dict(vars(sys.modules[module])))


def returned(job: Any) -> Iterator[type]:
    """Yield the classes of this package in what a function or property returns."""
    waiting = [meant(job.__annotations__["return"], job.__module__)]
    while waiting:
        found = waiting.pop()
        waiting += typing.get_args(found)
        if inspect.isclass(found) and found.__module__.startswith("intramodal."):
            yield found


def shown_classes() -> set[type]:
    """Return the public classes and those that public jobs return."""
    values = [getattr(intramodal, name) for name in intramodal.__all__]
    classes = {value for value in values if inspect.isclass(value)}
    for job in values:
        if inspect.isroutine(job):
            classes |= set(returned(job))
    return classes


def prints_all_it_holds(kind: type) -> bool:
    """Return whether a dataclass has Python's own repr and a field without a bound."""
    if not is_dataclass(kind) or not hasattr(kind.__repr__, "__wrapped__"):  # as dataclass's own
        return False
    hints = (meant(each.type, kind.__module__) for each in fields(kind) if each.repr)
    return any(map(is_unbounded, hints))


def is_unbounded(hint: Any) -> bool:
    """Return whether values of a type may be long: arrays, lists, mappings, pairs excepted."""
    origin = typing.get_origin(hint) or hint
    if origin is tuple:
        return Ellipsis in typing.get_args(hint)
    if inspect.isclass(origin) and issubclass(origin, (np.ndarray, Sequence, Mapping, set)):
        return origin is not str
    return any(map(is_unbounded, typing.get_args(hint)))


def test_no_public_class_prints_a_field_of_any_length() -> None:
    """Python's own repr of a dataclass prints whole lists: 10,000 failures of a backfill."""
    classes = shown_classes()
    assert len(classes) > 60
    assert not {kind.__qualname__ for kind in classes if prints_all_it_holds(kind)}
