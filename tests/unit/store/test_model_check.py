"""The wrong-model warning, on the real vectors that its threshold comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intramodal.commands.options import DEFAULT_STORE
from intramodal.errors import InputError
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.model_check import FAMILIES, check_model, family_of
from intramodal.store.open import open_store
from tests.cli.kit import invoke, run

MODEL = "open_clip:ViT-B-32:openai"
SETS = {
    # mean image-text cosine; the first is the reference's, the others by the formula in this file
    "cifar10-500-clip-b32": 0.199,
    "flickr8k100-clip-b32": 0.180,
    "fashion988-clip-b32": 0.166,
}


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(":memory:") as opened:
        yield opened


@pytest.fixture
def holding(store: Store) -> Callable[..., ImageCollection]:
    def make(X: np.ndarray, model: str = MODEL) -> ImageCollection:
        origin = VectorOrigin(model, f"declared:{model}")
        made = ImageCollection.create(store, "photos", {"raw": (X.shape[1], origin)})
        made.write(list(range(len(X))), {"raw": X.astype(np.float32)}, [{}] * len(X))
        return made

    return make


def fitted(T: np.ndarray, model: str = MODEL) -> Projection:
    anchors = AnchorSet(tuple(f"name {i}" for i in range(len(T))))
    return Projection.from_text(T, anchors=anchors, encoder=model, encoder_fingerprint="ab")


def unit(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float64)
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


@pytest.mark.real_data
@pytest.mark.parametrize("name", SETS)
def test_the_right_model_agrees_on_every_real_set(
    real_data: Path, holding: Callable[..., ImageCollection], name: str
) -> None:
    T = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    X = np.load(real_data / name / "image_embeddings.npy")
    found = check_model(holding(X), fitted(T), "raw")
    all_pairs = float((unit(X) @ unit(T).T).mean())
    assert found.cosine == pytest.approx(all_pairs, abs=1e-4)  # rounded to four digits
    assert found.cosine == pytest.approx(SETS[name], abs=5e-4)
    assert (found.verdict, found.n_points, found.is_doubtful) == ("agrees", len(X), False)


@pytest.mark.real_data
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", range(3))
def test_vectors_of_other_axes_are_doubted(
    real_data: Path, holding: Callable[..., ImageCollection], name: str, seed: int
) -> None:
    # A rotation keeps everything within the pictures, as another model of this size might.
    T = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    X = np.load(real_data / name / "image_embeddings.npy")
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(512, 512)))
    found = check_model(holding(X @ turned), fitted(T), "raw")
    assert found.is_doubtful
    assert found.cosine is not None
    assert abs(found.cosine) < FAMILIES[0].least
    assert "may come from another model" in found.says
    assert found.to_dict()["verdict"] == "wrong model?"


def test_the_figure_is_the_mean_over_all_pairs(
    rng: np.random.Generator, holding: Callable[..., ImageCollection]
) -> None:
    T, X = rng.normal(size=(40, 8)) + 1, rng.normal(size=(30, 8)) + 1
    found = check_model(holding(X), fitted(T), "raw")
    assert found.cosine == pytest.approx((unit(X) @ unit(T).T).mean(), abs=1e-4)


@pytest.mark.parametrize(
    "model",
    ["open_clip:ViT-B-16-SigLIP:webli", "open_clip:ViT-B-32:laion2b_s34b_b79k", "demo", "my clip"],
)
def test_models_without_a_measured_figure_are_not_checked(
    rng: np.random.Generator, holding: Callable[..., ImageCollection], model: str
) -> None:
    photos = holding(rng.normal(size=(5, 8)), model)
    found = check_model(photos, fitted(rng.normal(size=(40, 8)), model), "raw")
    assert (found.verdict, found.cosine, found.expected) == ("not checked", None, None)
    assert model in found.says


def test_the_same_weights_under_other_names_are_known() -> None:
    for name in ("hf:openai/clip-vit-base-patch32", "hf:openai/clip-vit-base-patch32@3d74acf9"):
        assert family_of(name) is family_of(MODEL) is not None


def test_what_cannot_be_measured_is_not_checked(
    rng: np.random.Generator, holding: Callable[..., ImageCollection]
) -> None:
    projection = fitted(rng.normal(size=(40, 8)))
    photos = holding(np.empty((0, 8)))
    assert "no point has a vector 'raw'" in check_model(photos, projection, "raw").says
    assert "no vector 'image' of 8" in check_model(photos, projection, "image").says
    photos.write([1], {"raw": np.ones((1, 8), np.float32)}, [{}])
    old = replace(projection, text_mean=None)
    assert "no mean of texts" in check_model(photos, old, "raw").says


def test_no_more_points_are_read_than_needed(
    rng: np.random.Generator, holding: Callable[..., ImageCollection]
) -> None:
    X = rng.normal(size=(2600, 4)) + 1
    photos = holding(X)
    mean, n = photos.center("raw", most=1500)
    assert n == 2000  # whole pages
    np.testing.assert_allclose(mean, unit(X[:2000]).mean(axis=0), atol=1e-6)  # float32
    assert photos.center("raw", most=100)[1] == 100
    assert photos.center("raw")[1] == 2600


def test_a_mean_of_nothing_is_refused(
    holding: Callable[..., ImageCollection],
) -> None:
    with pytest.raises(InputError, match="no point of 'photos' has a vector 'raw'"):
        holding(np.empty((0, 4))).center("raw")


def test_a_model_that_the_collection_contradicts_is_refused_elsewhere_and_not_checked_here(
    rng: np.random.Generator, store: Store
) -> None:
    other = VectorOrigin("open_clip:ViT-B-16:openai", "cd")
    photos = ImageCollection.create(store, "photos", {"raw": (8, other)})
    photos.write([1], {"raw": np.ones((1, 8), np.float32)}, [{}])
    found = check_model(photos, fitted(rng.normal(size=(40, 8))), "raw")
    assert "declared to be of open_clip:ViT-B-16:openai" in found.says


def test_a_backfill_says_before_and_after_what_the_check_found(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    X = (rng.normal(size=(30, 16)) + 1).astype(np.float32)
    origin = VectorOrigin(MODEL, f"declared:{MODEL}")
    with open_store(DEFAULT_STORE) as opened:
        photos = ImageCollection.create(opened, "photos", {"raw": (16, origin)})
        photos.write(list(range(30)), {"raw": X}, [{}] * 30)
    texts = rng.normal(size=(40, 16))
    fitted(texts - 1).save("wrong.st")  # opposite to the pictures
    fitted(texts + 1).save("right.st")
    place = ("backfill", "photos", "--projection")
    planned = run(*place, "wrong.st", "--dry-run")["model_check"]
    assert planned["verdict"] == "wrong model?"
    assert planned["cosine"] < 0 < planned["expected"][0] < planned["expected"][1]
    assert caplog.messages == [planned["says"]]
    done = run(*place, "wrong.st", "--to", "wrong")  # a warning, no refusal
    assert (done["model_check"], done["projected"]) == (planned, 30)
    caplog.clear()
    assert run(*place, "right.st")["model_check"]["verdict"] == "agrees"
    assert caplog.messages == []
    assert "the mean image-text cosine is" in invoke(*place, "right.st").stdout
