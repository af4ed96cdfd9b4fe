"""`intramodal evaluate` on real CLIP embeddings gives the reference figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal import AnchorSet, ImageCollection, Projection, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.manifest import VectorOrigin
from intramodal.types import point_id

pytestmark = pytest.mark.real_data

MODEL = ("open_clip:ViT-B-32:openai", "declared:open_clip:ViT-B-32:openai")


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, ["evaluate", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 500 pictures of CIFAR-10, the texts and the projection."""
    folder = tmp_path_factory.mktemp("cifar")
    source = real_data / "cifar10-500-clip-b32"
    X = np.load(source / "image_embeddings.npy").astype(np.float32)
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    np.save(folder / "T.npy", texts.astype(np.float32))
    projection = Projection.from_text(
        texts, anchors=AnchorSet.imagenet(), encoder=MODEL[0], encoder_fingerprint=MODEL[1]
    )
    projection.save(folder / "pca.safetensors")
    projected = VectorOrigin(*MODEL, projection=projection.fingerprint, source="raw", method="pca")
    vectors = {"raw": (512, VectorOrigin(*MODEL)), "pca": (256, projected)}
    labels = np.load(source / "image_labels.npy").tolist()
    with open_store(str(folder / DEFAULT_STORE)) as store:
        collection = ImageCollection.create(store, "cifar", vectors)
        ids = [point_id("cifar", str(i)) for i in range(len(X))]
        payloads = [{"label": label} for label in labels]
        collection.write(ids, {"raw": X, "pca": projection.apply(X)}, payloads)
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_retrieval_gives_the_reference_figures() -> None:
    vectors = run("retrieval", "cifar", "--labels", "label")["fields"]["label"]["vectors"]
    # As printed in the reference: four and three decimals.
    assert vectors["raw"]["map"] == pytest.approx(0.5861, abs=1e-4)
    assert vectors["pca"]["map"] == pytest.approx(0.7404, abs=1e-4)
    assert vectors["raw"]["hit@1"] == pytest.approx(0.834, abs=6e-4)
    assert vectors["pca"]["hit@1"] == pytest.approx(0.896, abs=6e-4)


def test_the_histograms_move_and_retrieval_does_not_follow_them() -> None:
    options = ("--text-vectors", "T.npy", "--projection", "pca.safetensors")
    rows = run("misalignment", "cifar", "--labels", "label", *options)["rows"]
    raw, pca, adjusted = rows
    assert [row["vector"] for row in rows] == ["raw", "pca", "pca_adjusted"]
    assert (raw["auc"], pca["auc"]) == pytest.approx((0.842, 0.937), abs=6e-4)
    gaps = raw["modality"]["gap"], pca["modality"]["gap"]
    assert gaps == pytest.approx((0.987, 0.809), abs=6e-4)
    assert raw["modality"]["text_mean"] == pytest.approx(0.199, abs=6e-4)
    # Section 3.2: the mean put back lifts the cosines; retrieval stays that of the projection.
    assert pca["other_mean"] < adjusted["other_mean"] - 0.2
    assert abs(adjusted["map"] - pca["map"]) < 0.05
    assert adjusted["map"] > raw["map"] + 0.1


def test_all_class_names_determine_the_similarities() -> None:
    options = ("--text-vectors", "T.npy", "--sizes", "256,1000", "--subsets", "2")
    found = run("recovery", "cifar", *options)
    half, full = found["curve"]
    assert half["n_free"] >= 256
    assert (full["n_free"], full["is_determined"]) == (0, True)
    assert full["rms"] < 1e-6
    check = found["without_anchors"]
    assert (check["n_needed"], check["n_free"]) == (131_328, 131_328 - 500)
