"""How methods compare images, against NumPy; and the reference figures through them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.paper.base import Case, DataSet, Method, Model, chosen, declared
from intramodal.paper.experiments import retrieval, seen_by
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.store.base import VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from intramodal.types import Encoder

DIM, KEPT = 24, 12
Matrix = NDArray[np.float64]


def unit(X: NDArray[Any]) -> Matrix:
    X = np.asarray(X, dtype=np.float64)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def axes_of(texts: NDArray[Any]) -> Matrix:
    """Return the principal directions of unit texts, by a decomposition of its own."""
    values, vectors = np.linalg.eigh(np.cov(unit(texts).T))
    return np.asarray(vectors[:, np.argsort(-values)])


def fitted(texts: NDArray[Any]) -> Projection:
    names = tuple(f"class {n}" for n in range(len(texts)))
    return Projection.from_text(
        texts, anchors=AnchorSet(names), encoder="clip", encoder_fingerprint="3f9a" * 16
    )


def case_of(
    X: NDArray[Any],
    labels: list[str],
    projection: Projection,
    *,
    model: str = "clip_b32",
    encoder: Encoder | None = None,
) -> Case:
    store = open_store(":memory:")
    store.create("photos", {"raw": VectorSpec(X.shape[1])})
    store.upsert("photos", list(range(len(X))), {"raw": X}, [{"class": one} for one in labels])
    about = {"layout": "", "origin": "", "licence": "", "n_images": len(X), "split": ""}
    dataset = DataSet(
        "photos",
        "Photos",
        lambda root: (),
        protocol="leave-one-out",
        **about,  # type: ignore[arg-type]
    )

    def load() -> Encoder:
        assert encoder is not None, "no method but IsoCLIP needs the model here"
        return encoder

    return Case(
        dataset,
        chosen("models", Model, [model])[0],
        ImageCollection.open(store, "photos"),
        vector="raw",
        root=None,
        work=Path(),
        load=load,
        fit=lambda: projection,
    )


def cosines(case: Case, name: str) -> Matrix:
    """Return the cosines of all pairs as a method sees them, in the order of the ids."""
    (method,) = chosen("methods", Method, [name])
    (X,) = seen_by(case, method, "seen").values()
    order = np.argsort(np.array(case.table.ids, dtype=int))
    return np.asarray(unit(X[order]) @ unit(X[order]).T)


def of_images(X: Matrix, Q: Matrix) -> Matrix:
    """Return the axes of the images themselves, as many as Q has."""
    values, vectors = np.linalg.eigh(np.cov(X.T))
    return np.asarray(vectors[:, np.argsort(-values)[:KEPT]])


EXPECTED: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "original": lambda X, Q: X,
    "pca": lambda X, Q: X @ Q[:, :KEPT],
    "pca_centered": lambda X, Q: (X - X.mean(axis=0)) @ Q[:, :KEPT],
    "centring": lambda X, Q: X - X.mean(axis=0),
    "discarded": lambda X, Q: X @ Q[:, KEPT:],
    "truncation": lambda X, Q: X[:, :KEPT],
    "image_pca": lambda X, Q: X @ of_images(X, Q),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_method_compares_images_as_numpy_does(name: str) -> None:
    rng = np.random.default_rng(3)
    # A common part, so that subtracting the mean makes a difference.
    X = (rng.normal(size=(30, DIM)) * np.linspace(3, 0.3, DIM) + 1).astype(np.float32)
    texts = rng.normal(size=(60, DIM)) * np.linspace(2, 0.2, DIM)
    case = case_of(X, ["a", "b"] * 15, fitted(texts))
    Z = unit(EXPECTED[name](unit(X), axes_of(texts)))
    # float32 coordinates of up to 24 dimensions
    np.testing.assert_allclose(cosines(case, name), Z @ Z.T, atol=2e-6)


def test_random_directions_are_as_many_and_orthonormal() -> None:
    rng = np.random.default_rng(4)
    case = case_of(np.eye(DIM, dtype=np.float32), ["a"] * DIM, fitted(rng.normal(size=(60, DIM))))
    (method,) = chosen("methods", Method, ["random"])
    (Q,) = seen_by(case, method, "seen").values()
    assert Q.shape == (DIM, KEPT)
    np.testing.assert_allclose(Q.T @ Q, np.eye(KEPT), atol=1e-6)


def test_isoclip_drops_both_ends_of_the_spectrum_of_the_projectors() -> None:
    encoder = load_encoder("demo")
    W, T = encoder.projectors()  # type: ignore[attr-defined]
    X = np.random.default_rng(5).normal(size=(12, encoder.dim)).astype(np.float32)
    texts = np.random.default_rng(6).normal(size=(2 * encoder.dim, encoder.dim))
    case = case_of(X, ["a", "b"] * 6, fitted(texts), model="demo", encoder=encoder)
    k_top, k_bottom = case.model.isoclip or (0, 0)
    U = np.linalg.svd(W.T @ T, full_matrices=False)[0][:, : encoder.dim]
    kept = U[:, k_top : encoder.dim - k_bottom]
    Z = unit(unit(X) @ (W @ kept @ kept.T @ np.linalg.pinv(W)).T)
    np.testing.assert_allclose(cosines(case, "isoclip"), Z @ Z.T, atol=2e-5)


def test_isoclip_without_published_sizes_says_what_to_do() -> None:
    texts = np.random.default_rng(6).normal(size=(60, DIM))
    case = case_of(np.eye(DIM, dtype=np.float32), ["a"] * DIM, fitted(texts), model="siglip_b16")
    with pytest.raises(InputError, match="SigLIP B/16; leave the method or the model out"):
        cosines(case, "isoclip")


def test_every_map_of_images_is_checked_here() -> None:
    maps = {m.name for m in declared("methods", Method).values() if not m.classifier}
    assert maps - {"oti"} == {*EXPECTED, "random", "isoclip"}


def collection_of(folder: Path, field: str) -> tuple[NDArray[Any], list[str]]:
    """Return vectors and labels of images whose class has five at least."""
    X = np.load(folder / "image_embeddings.npy")
    if field == "label":
        labels = [str(one) for one in np.load(folder / "image_labels.npy")]
    else:
        with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
            labels = [row[field] for row in csv.DictReader(file)]
    names, counts = np.unique(labels, return_counts=True)
    common = set(names[counts >= 5])
    rows = [row for row, label in enumerate(labels) if label in common]
    return X[rows], [labels[row] for row in rows]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "field", "original", "pca"),
    [
        ("cifar10-500-clip-b32", "label", 0.586148, 0.740377),
        ("fashion988-clip-b32", "articleType", 0.606651, 0.646136),
        ("fashion988-clip-b32", "gender", 0.565044, 0.565238),
        ("fashion988-clip-b32", "usage", 0.755920, 0.747671),
    ],
)
def test_reference_figures_come_out_of_the_paper_s_methods(
    real_data: Path, folder: str, field: str, original: float, pca: float
) -> None:
    texts = real_data / "imagenet-text-clip-b32"
    names = json.loads((texts / "class_names.json").read_text(encoding="utf-8"))
    projection = Projection.from_text(
        np.load(texts / "a_photo_of_a_X.npy"),
        anchors=AnchorSet(tuple(names)),
        encoder="clip",
        encoder_fingerprint="3f9a" * 16,
    )
    case = case_of(*collection_of(real_data / folder, field), projection)
    for name, expected in (("original", original), ("pca", pca)):
        (method,) = chosen("methods", Method, [name])
        found = retrieval(case, method, Run()).figures["mAP"]
        # float32 scores against the reference's float64
        assert found == pytest.approx(expected, abs=2e-5)
