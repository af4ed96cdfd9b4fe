"""The whole way on real embeddings: fit, ingest, export, backfill, export."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from intramodal.projection.projection import Projection
from intramodal.types import point_id
from tests.cli.kit import run

MODEL = "open_clip:ViT-B-32:openai"
N_KEPT = 256

pytestmark = pytest.mark.real_data


@pytest.fixture(autouse=True)
def fitted(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with a projection fitted from the ImageNet text embeddings."""
    monkeypatch.chdir(tmp_path)
    texts = real_data / "imagenet-text-clip-b32"
    names = json.loads((texts / "class_names.json").read_text())
    Path("names.txt").write_text("".join(name.split(",")[0] + "\n" for name in names))
    ready = ("--text-vectors", str(texts / "a_photo_of_a_X.npy"), "--anchors", "names.txt")
    run("fit", *ready, "--made-by", MODEL, "-o", "pca.safetensors")
    return texts / "a_photo_of_a_X.npy"


def unit(X: np.ndarray) -> np.ndarray:
    X = np.asarray(X, dtype=np.float64)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def exported(vector: str, name: str) -> tuple[list[str], np.ndarray]:
    run("export", "images", "--vector", vector, "-o", f"{name}.npy")
    with Path(f"{name}.ids.csv").open(newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    return ids, np.load(f"{name}.npy")


def assert_projected(ids: list[str], X: dict[str, np.ndarray], Z: np.ndarray, texts: Path) -> None:
    """Compare exported `pca` rows with the file's matrix, and with one of our own making."""
    rows = unit(np.stack([X[point] for point in ids]))
    matrix = Projection.load("pca.safetensors").matrix
    assert matrix.shape == (512, N_KEPT)
    # float32 dot products over 512 terms of unit vectors, stored normalised
    np.testing.assert_allclose(Z, unit(rows @ matrix), atol=1e-5)
    T = unit(np.load(texts))
    Q = np.linalg.eigh(np.cov(T, rowvar=False))[1][:, ::-1][:, :N_KEPT]
    # Signs, and columns of close eigenvalues, are free: similarities are not.
    expected = unit(rows @ Q)
    np.testing.assert_allclose(Z @ Z.T, expected @ expected.T, atol=1e-5)


def test_exported_rows_are_projected_and_raw_ones_bit_identical_for_labelled_photos(
    real_data: Path, fitted: Path
) -> None:
    photos = real_data / "fashion988-clip-b32"
    ready = (str(photos / "image_embeddings.npy"), "--metadata", str(photos / "labels.csv"))
    done = run("ingest", *ready, "--collection", "images", "--made-by", MODEL)
    assert (done["written"], done["failed"]) == (988, 0)
    ids, before = exported("raw", "before")
    assert (
        run("backfill", "images", "--projection", "pca.safetensors", "--to", "pca")["projected"]
        == 988
    )
    exported("raw", "after")
    assert Path("before.npy").read_bytes() == Path("after.npy").read_bytes()
    assert Path("before.ids.csv").read_bytes() == Path("after.ids.csv").read_bytes()
    X = np.load(photos / "image_embeddings.npy")
    with (photos / "labels.csv").open(newline="") as file:
        by_id = {row["id"]: X[n] for n, row in enumerate(csv.DictReader(file))}
    np.testing.assert_allclose(before, unit(np.stack([by_id[i] for i in ids])), atol=1e-6)
    assert [int(i) for i in ids] == sorted(map(int, by_id))
    pca_ids, Z = exported("pca", "pca")
    assert pca_ids == ids
    assert_projected(ids, by_id, Z, fitted)


def test_both_vectors_in_one_ingest_are_those_of_a_backfill(real_data: Path, fitted: Path) -> None:
    cifar = real_data / "cifar10-500-clip-b32"
    labels = np.load(cifar / "image_labels.npy")
    rows = [f"train/{n}.png,{label}" for n, label in enumerate(labels)]
    Path("labels.csv").write_text("\n".join(["path,label", *rows]))
    ready = (str(cifar / "image_embeddings.npy"), "--metadata", "labels.csv")
    ready = (*ready, "--id-column", "path", "--collection", "images", "--made-by", MODEL)
    assert run("ingest", *ready, "--projection", "pca.safetensors")["written"] == 500
    vector = Projection.load("pca.safetensors").default_vector
    ids, Z = exported(vector, "pca")
    X = np.load(cifar / "image_embeddings.npy")
    by_id = {point_id("images", f"train/{n}.png"): X[n] for n in range(500)}
    assert ids == sorted(by_id)
    assert_projected(ids, by_id, Z, fitted)
    assert run("backfill", "images", "--projection", "pca.safetensors")["projected"] == 0
    assert run("ingest", *ready, "--projection", "pca.safetensors")["skipped"] == 500
