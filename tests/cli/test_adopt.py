"""`intramodal adopt`: what can be checked is checked before anything is declared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intramodal import ImageCollection, Projection, load_encoder, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from tests.cli.kit import invoke, run

N = 6


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Leave six pictures, and `shop` with the demo model's vectors of them, undeclared."""
    pytest.importorskip("open_clip", reason="the shipped model needs intramodal[encoders]")
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for n in range(N):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(f"pictures/{n}.png")
    paths = [Path(f"pictures/{n}.png") for n in range(N)]
    X = load_encoder("demo").encode_images(paths)
    with open_store(DEFAULT_STORE) as store:
        store.create("shop", {"image": VectorSpec(X.shape[1]), "other": VectorSpec(X.shape[1])})
        vectors = {"image": X, "other": rng.normal(size=X.shape).astype(np.float32)}
        store.upsert("shop", list(range(N)), vectors, [{"path": path.name} for path in paths])


def adopt(*more: str, vector: str = "image", made_by: str = "demo", code: int = 0) -> dict:
    return run("adopt", "shop", "--vector", vector, "--made-by", made_by, *more, code=code)


def declared() -> set[str]:
    with open_store(DEFAULT_STORE) as store:
        return set(ImageCollection.open(store, "shop").manifest.vectors)


def test_pictures_at_hand_are_encoded_and_agree() -> None:
    found = adopt("--pictures", "pictures")
    assert found["pictures"]["n"] == N
    assert found["pictures"]["lowest"] == pytest.approx(1, abs=1e-5)  # the same float32 model
    assert declared() == {"image"}


def test_vectors_that_are_not_the_models_are_refused_and_nothing_is_declared() -> None:
    found = adopt("--pictures", "pictures", vector="other", code=1)
    assert "median cosine" in found["error"]["message"]
    assert declared() == set()


def test_a_known_model_of_another_size_is_refused() -> None:
    found = adopt(made_by="open_clip:ViT-B-32:openai", code=1)
    assert "512 dimensions" in found["error"]["message"]
    assert declared() == set()


def test_a_folder_without_the_pictures_is_refused() -> None:
    Path("empty").mkdir()
    assert "no point of 'shop'" in adopt("--pictures", "empty", code=1)["error"]["message"]


def test_texts_at_hand_are_compared_where_their_angle_is_known() -> None:
    Projection(np.eye(256, 128, dtype=np.float32), "pca", "demo", "declared:demo").save("p.st")
    found = adopt("--projection", "p.st")
    assert found["model_check"]["verdict"] == "not checked"
    told = invoke("adopt", "shop", "--vector", "image", "--made-by", "demo").stdout
    assert "256 dimensions" in told
