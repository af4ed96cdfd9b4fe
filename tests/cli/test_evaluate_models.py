"""The paper's control: several models side by side, each with texts of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, load_encoder, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.demo import pictures_list
from intramodal.ingest.sources.formats import open_source
from intramodal.store.manifest import VectorOrigin
from intramodal.types import point_id, unit_rows

pytest.importorskip("open_clip", reason="models need intramodal[encoders]")
pytest.importorskip("transformers", reason="models need intramodal[encoders]")

from tests.tiny_models import save_dinov2, save_siglip

N_PICTURES = 96


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(cli, ["evaluate", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose store holds the same pictures as three models see them."""
    folder = tmp_path_factory.mktemp("models")
    models = {
        "demo": "demo",
        "siglip": save_siglip(folder / "siglip"),
        "dino": save_dinov2(folder / "dino"),
    }
    listed = list(open_source(str(pictures_list())))
    records = listed[:: len(listed) // N_PICTURES][:N_PICTURES]
    pictures = [record.read() for record in records]
    payloads = [{"kind": record.payload["category"]} for record in records]
    ids = [point_id("emoji", record.key) for record in records]
    with open_store(str(folder / DEFAULT_STORE)) as store:
        for name, model in models.items():
            encoder = load_encoder(model, device="cpu")
            X = encoder.encode_images(pictures)
            origin = VectorOrigin(encoder.name, encoder.fingerprint)
            collection = ImageCollection.create(store, name, {"raw": (encoder.dim, origin)})
            collection.write(ids, {"raw": X}, payloads)
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def direct_overlap(a: np.ndarray, b: np.ndarray, edges: list[float]) -> float:
    parts = [np.histogram(part, edges, density=True)[0] for part in (a, b)]
    return float((np.minimum(*parts) * np.diff(edges)).sum())


def test_three_models_are_measured_in_one_command_with_their_own_texts() -> None:
    rows = run("misalignment", "demo", "siglip", "dino", "--labels", "kind", "--texts")["rows"]
    assert [row["collection"] for row in rows] == ["demo", "siglip", "dino"]
    assert rows[2]["modality"] is None  # no text tower
    for row in rows:
        with open_store(DEFAULT_STORE) as store:
            table = ImageCollection.open(store, row["collection"]).table(["raw"], payload=["kind"])
        X, labels = unit_rows(table.vectors["raw"]), table.payload["kind"]
        i, j = np.triu_indices(len(X), 1)
        cosines = (X @ X.T)[i, j].astype(np.float64)
        is_same = np.array([labels[a] == labels[b] for a, b in zip(i, j, strict=True)])
        overlap = direct_overlap(cosines[is_same], cosines[~is_same], row["edges"])
        # The same float32 cosines in another order of sums: one in 4,560 may change its bin.
        assert row["overlap"] == pytest.approx(overlap, abs=2e-3)
        if row["modality"] is None:
            continue
        prompts = [f"a photo of a {name}" for name in sorted(set(labels))]
        T = unit_rows(load_encoder(row["model"], device="cpu").encode_texts(prompts))
        between = (X @ T.T).ravel().astype(np.float64)
        modality = row["modality"]
        assert modality["n_text"] == len(between)
        expected = direct_overlap(cosines, between, modality["edges"])
        assert modality["overlap"] == pytest.approx(expected, abs=5e-3)
        assert modality["text_mean"] == pytest.approx(between.mean(), abs=1e-5)


def test_texts_of_another_model_are_refused() -> None:
    options = ("--labels", "kind", "--model", "demo")
    found = run("misalignment", "siglip", *options, code=1)
    assert found["error"]["type"] == "ManifestMismatchError"
    assert "its texts must come from the same model" in found["error"]["message"]


def test_recovery_takes_the_texts_of_the_collections_own_model() -> None:
    found = run("recovery", "demo", "--sizes", "64,512,1000", "--subsets", "2")
    assert (found["texts"], found["n_texts"], found["dim"]) == ("demo", 1000, 256)
    assert [row["is_determined"] for row in found["curve"]] == [False, True, True]
    assert found["curve"][2]["rms"] < 1e-6


def test_a_model_without_texts_has_no_recovery() -> None:
    found = run("recovery", "dino", code=1)
    assert "has no text tower" in found["error"]["message"]
