"""A comparison and its report derive everything from one table: labels, tasks, unit rows once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

from intramodal import compare, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.evaluation.labels import encode_labels
from intramodal.evaluation.ranking import rank, rank_without_groups
from intramodal.evaluation.shots import FewshotTask
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.projection import projection as projections
from intramodal.reports.report import document_of
from intramodal.store.collection import ImageCollection
from intramodal.types import unit_rows
from tests.cli.kit import make_photos

LARGE = 100
"""Rows from which a matrix is a whole vector, not a block of episodes' means."""


def code_of(function: Any) -> CodeType:
    return getattr(function, "__func__", function).__code__  # type: ignore[no-any-return]


@contextmanager
def calls(*functions: Callable[..., Any]) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Record every call of the functions, from wherever they were imported, with its arguments."""
    codes = {code_of(function): function.__qualname__ for function in functions}
    found: list[tuple[str, dict[str, Any]]] = []

    def noted(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code in codes:
            found.append((codes[frame.f_code], dict(frame.f_locals)))

    sys.setprofile(noted)
    try:
        yield found
    finally:
        sys.setprofile(None)


@pytest.fixture
def photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> Iterator[ImageCollection]:
    monkeypatch.chdir(tmp_path)
    make_photos(rng)
    with open_store(DEFAULT_STORE) as store:
        yield ImageCollection.open(store, "photos")


def test_a_comparison_with_its_report_derives_everything_once(photos: ImageCollection) -> None:
    functions = (
        encode_labels,
        RetrievalTask.from_table,
        FewshotTask.from_table,
        unit_rows,
        projections._finite_unit_rows,
    )
    with calls(*functions) as found:
        document_of(compare(photos, fields=["kind"]))
    n = Counter(name for name, _ in found)
    assert n["encode_labels"] == 1
    assert n["RetrievalTask.from_table"] == 1
    assert n["FewshotTask.from_table"] == 1
    whole = [v["X"] for name, v in found if name in ("unit_rows", "_finite_unit_rows")]
    shapes = Counter(X.shape for X in whole if len(X) > LARGE)
    # raw; pca and the three controls of its size; centring keeps the length of raw.
    assert shapes == {(120, 16): 2, (120, 8): 4}


def test_without_retrieval_nothing_is_ranked_that_is_not_shown(photos: ImageCollection) -> None:
    """Both vectors are: their mAP stands beside few-shot accuracy. Controls are not."""
    with calls(rank, rank_without_groups) as found:
        compare(photos, fields=["kind"], tasks=["fewshot"])
    assert len(found) == 2
    with calls(rank, rank_without_groups) as found:
        controls = compare(photos, fields=["kind"], tasks=["retrieval"]).fields["kind"].others
    assert len(found) == 2 + len(controls) > 2
