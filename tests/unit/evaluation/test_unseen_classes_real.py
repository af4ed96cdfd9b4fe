"""A map fitted to half of the article types gains less by the others, which are told apart."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.resampling import NO_INTERVAL, Resampling
from intramodal.evaluation.retrieval import RetrievalResults, evaluate_retrieval
from intramodal.fit_rows import FitRows
from intramodal.projection.fit import LabelledRows, fit_label_map
from intramodal.types import FittedVector, VectorTable, unit_rows

pytestmark = pytest.mark.real_data


def evaluated(real_data: Path, n_known: int) -> RetrievalResults:
    """Judge a label map that has seen half of the images of so many article types."""
    folder = real_data / "fashion988-clip-b32"
    X = unit_rows(np.load(folder / "image_embeddings.npy"))
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        y = np.array([row["articleType"] for row in csv.DictReader(file)])
    names, counts = np.unique(y, return_counts=True)
    kept = np.isin(y, names[counts >= 5])
    X, y, names = X[kept], y[kept], names[counts >= 5]
    rng = np.random.default_rng(0)
    known = rng.permutation(names)[:n_known]
    drawn = np.flatnonzero(np.isin(y, known) & (rng.random(len(y)) < 0.5))
    rule = FitRows(ids=tuple(drawn.tolist()))
    rows = LabelledRows(X[drawn], y[drawn].tolist(), "type", rule, ("clip", "3f9a"))
    table = VectorTable(
        list(range(len(X))),
        {"raw": X, "label": fit_label_map(rows, label_weight=0.8).apply(X)},
        {"type": y.tolist()},
        fitted={"label": FittedVector(rows.labels, "raw")},
    )
    return evaluate_retrieval(
        table, vectors=["raw", "label"], fields=["type"], resampling=Resampling(NO_INTERVAL)
    )


def test_unseen_classes_gain_less_are_reported_apart_and_warned_of(
    real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    found = evaluated(real_data, 19)
    raw, label = found["type", "raw"], found["type", "label"]
    beside = label.label_evidence
    assert beside is not None
    assert beside.map_seen is not None
    assert beside.map_unseen is not None
    is_unseen = np.isin(raw.labels, beside.unseen)
    assert beside.map_unseen == pytest.approx(label.ap[is_unseen].mean())
    gains = (
        beside.map_seen - raw.ap[~is_unseen].mean(),
        beside.map_unseen - raw.ap[is_unseen].mean(),
    )
    assert gains[0] > gains[1] + 0.02
    assert "such classes lose, and are reported apart" in caplog.text
    assert f"{len(beside.unseen)} classes it has not seen" in beside.sentence


def test_a_map_that_knows_fewer_than_half_of_the_classes_does_not_judge_them(
    real_data: Path,
) -> None:
    with pytest.raises(InputError, match=r"has never seen \d+ of 3\d classes of 'type'"):
        evaluated(real_data, 12)
