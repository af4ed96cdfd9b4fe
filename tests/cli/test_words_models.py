"""`fit --words` with the text tower of a (tiny) model: from a folder of images to a search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from intramodal.ingest.encoders.registry import load_encoder
from intramodal.projection.projection import Projection
from intramodal.types import unit_rows
from tests.cli.kit import run
from tests.tiny_models import DIM, WORDS, offline, save_clip, save_open_clip

__all__ = ["offline"]  # a fixture

VALUES, N = ("car", "cat", "dog"), 12


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("save", [save_open_clip, save_clip], ids=["open_clip", "transformers"])
def test_names_of_a_field_are_embedded_by_the_model_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, save: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    model = save(tmp_path / "model")
    for i in range(N):
        path = Path("images", VALUES[i % 3], f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    ingest = ("ingest", "images", "--collection", "photos", "--label-from", "parent")
    assert run(*ingest, "--model", model)["written"] == N
    Path("anchors.txt").write_text("\n".join(WORDS[:9]), encoding="utf-8")
    anchors = ("--anchors", "anchors.txt", "--components", "4")
    run("fit", "--model", model, *anchors, "-o", "pca.safetensors")
    texts = ("--projection", "pca.safetensors", "--model", model)
    found = run("fit", "photos", "--words", "label", *texts, "-o", "w.safetensors")["maps"][0]
    assert found["words"] == {"field": "label", "values": list(VALUES), "weight": 0.5}
    assert (found["dim_in"], found["dim_out"], found["labels"]) == (DIM, 4 + 2, None)

    encoder, made = load_encoder(model), Projection.load("w.safetensors")
    T = unit_rows(encoder.encode_texts([f"a photo of a {value}" for value in VALUES]))
    axes = np.linalg.svd(T - T.mean(axis=0))[2][:2].T
    names = made.matrix[:, 4:].astype(np.float64)
    # The axes of the map span what the texts of the values differ in.
    np.testing.assert_allclose(axes @ (axes.T @ names), names, atol=1e-5)

    assert run("backfill", "photos", "--projection", "w.safetensors")["projected"] == N
    verified = ("backfill", "photos", "--projection", "w.safetensors", "--verify", str(N))
    assert run(*verified)["stale"] == 0
    image = ("search", "photos", "--image", "images/cat/1.png", "--vectors", "words_label")
    hits = run(*image, "--projection", "w.safetensors")["vectors"]["words_label"]
    assert hits[0]["path"] == "cat/1.png"
