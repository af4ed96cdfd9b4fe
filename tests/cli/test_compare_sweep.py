"""The sweep over kept dimensions in the report of a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import AnchorSet, ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.reports.report import DOCUMENT
from intramodal.runs.ledger import RunLedger
from intramodal.store.manifest import VectorOrigin
from intramodal.types import point_id
from tests.cli.kit import run

N, DIM = 96, 16


@pytest.fixture
def fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> Projection:
    """Return the projection that made the second vector of `photos`, and write its texts."""
    monkeypatch.chdir(tmp_path)
    texts = (rng.normal(size=(40, DIM)) * np.arange(DIM, 0, -1)).astype(np.float32)
    projection = Projection.from_text(
        texts,
        anchors=AnchorSet(tuple(f"name {i}" for i in range(40))),
        encoder="clip",
        encoder_fingerprint="3f9a",
    )
    projection.save("pca.safetensors")
    np.save("texts.npy", texts)
    kinds = np.arange(N) % 6
    raw = (rng.normal(size=(6, DIM))[kinds] + rng.normal(size=(N, DIM))).astype(np.float32)
    half = VectorOrigin("clip", "3f9a", projection=projection.fingerprint, source="raw")
    vectors = {"raw": (DIM, VectorOrigin("clip", "3f9a")), "pca": (DIM // 2, half)}
    with open_store(DEFAULT_STORE) as store:
        collection = ImageCollection.create(store, "photos", vectors)
        collection.write(
            [point_id("photos", f"{i}.jpg") for i in range(N)],
            {"raw": raw, "pca": projection.apply(raw)},
            [{"kind": f"kind {k}"} for k in kinds],
        )
    return projection


def swept(*options: str) -> dict[str, Any]:
    found = run("compare", "photos", "--labels", "kind", "--task", "retrieval", *options)
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        document = json.loads(ledger.artefact(found["run_id"], DOCUMENT))
    (sweep,) = document["sweep"]
    assert sweep["raw_map"] == pytest.approx(found["fields"]["kind"]["map"]["raw"], abs=1e-6)
    at_half = sweep["map"][sweep["dims"].index(DIM // 2)]
    assert at_half == pytest.approx(found["fields"]["kind"]["map"]["pca"], abs=1e-6)
    return dict(sweep)


def test_the_sweep_goes_from_an_eighth_to_all_dimensions_with_the_texts(
    fitted: Projection,
) -> None:
    eighths = [DIM * n // 8 for n in range(1, 9)]
    options = ("--projection", "pca.safetensors", "-o", "report.html")
    assert swept(*options)["dims"] == [*eighths[:4], DIM]  # what the file keeps, and the whole
    found = swept(*options, "--text-vectors", "texts.npy")
    assert found["dims"] == eighths
    best = max(found["map"])
    near = [
        n for n, value in zip(found["dims"], found["map"], strict=True) if value >= best - 0.005
    ]
    assert found["knee"] == min(near)
    assert "knee" in Path("report.html").read_text(encoding="utf-8")
