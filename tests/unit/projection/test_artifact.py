from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from intramodal.errors import InputError, MismatchError, ProjectionError
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.artifact import Projection
from intramodal.types import unit_rows


def fitted(rng: np.random.Generator, center: bool = False, n: int = 60) -> Projection:
    return Projection.from_text(
        rng.normal(size=(n, 16)).astype(np.float32),
        anchors=AnchorSet(tuple(f"name {i}" for i in range(n))),
        encoder="test",
        encoder_fingerprint="ab",
        center=rng.normal(size=16) / 10 if center else None,
    )


@pytest.mark.parametrize("center", [False, True])
def test_it_is_the_affine_map_of_unit_vectors(rng: np.random.Generator, center: bool) -> None:
    projection = fitted(rng, center)
    X = rng.normal(size=(7, 16)).astype(np.float32)
    offset = projection.offset if center else np.zeros(16)
    expected = (X / np.linalg.norm(X, axis=1, keepdims=True) - offset) @ projection.matrix
    # float32 dot products over 16 terms
    np.testing.assert_allclose(projection.apply(X), expected, atol=1e-6)
    np.testing.assert_allclose(projection.apply(X), projection.apply(50 * X), atol=1e-6)
    assert projection.default_vector == ("pca_centered" if center else "pca")
    assert (projection.dim_in, projection.dim_out) == (16, 8)


@pytest.mark.parametrize("center", [False, True])
def test_a_saved_projection_comes_back_the_same(
    rng: np.random.Generator, tmp_path: Path, center: bool
) -> None:
    projection = fitted(rng, center)
    projection.save(tmp_path / "deep" / "p.safetensors")
    loaded = Projection.load(tmp_path / "deep" / "p.safetensors")
    assert loaded.fingerprint == projection.fingerprint
    assert loaded.recipe == projection.recipe
    assert loaded.matrix.tobytes() == projection.matrix.tobytes()
    assert repr(loaded) == repr(projection)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["p.safetensors"]


def test_saving_twice_gives_the_same_bytes(rng: np.random.Generator, tmp_path: Path) -> None:
    projection = fitted(rng)
    for name in ("a", "b"):
        projection.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_fingerprint_follows_the_map_and_the_encoder(rng: np.random.Generator) -> None:
    matrix = np.linalg.qr(rng.normal(size=(8, 4)))[0]
    base = Projection(matrix, "pca", "m", "ab").fingerprint
    assert Projection(matrix, "pca", "other name", "ab").fingerprint == base
    changed = [
        Projection(-matrix, "pca", "m", "ab"),
        Projection(matrix, "random", "m", "ab"),
        Projection(matrix, "pca", "m", "cd"),
        Projection(matrix, "pca", "m", "ab", offset=np.zeros(8)),
    ]
    assert len({base, *(p.fingerprint for p in changed)}) == 5


def test_the_callers_array_stays_writeable(rng: np.random.Generator) -> None:
    matrix = rng.normal(size=(4, 2)).astype(np.float32)
    projection = Projection(matrix, "pca", "m", "ab")
    matrix[0, 0] = 99
    assert projection.matrix[0, 0] != 99
    assert not projection.matrix.flags.writeable


@pytest.mark.parametrize(
    "X",
    [np.ones(16), np.ones((2, 15)), np.full((2, 16), np.nan)],
    ids=["one dimension", "another length", "NaN"],
)
def test_vectors_that_do_not_fit_are_refused(rng: np.random.Generator, X: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"takes vectors of shape \(n, 16\)|NaN"):
        fitted(rng).apply(X)


def test_texts_must_be_those_of_the_anchors(rng: np.random.Generator) -> None:
    with pytest.raises(MismatchError, match="3 anchors need as many rows"):
        Projection.from_text(
            rng.normal(size=(4, 8)),
            anchors=AnchorSet(("a", "b", "c")),
            encoder="m",
            encoder_fingerprint="ab",
        )


def test_a_text_without_direction_is_refused(rng: np.random.Generator) -> None:
    texts = rng.normal(size=(9, 4))
    texts[3] = 0
    anchors = AnchorSet(tuple("abcdefghi"))
    with pytest.raises(InputError, match=r"row 3 of the text embeddings is zero; .* 'd'"):
        Projection.from_text(texts, anchors=anchors, encoder="m", encoder_fingerprint="ab")


def test_few_anchors_are_warned_of(rng: np.random.Generator) -> None:
    assert fitted(rng, n=60).warnings() == []
    few = fitted(rng, n=10).warnings()
    assert len(few) == 2
    assert "10 different anchors for 16 dimensions" in few[0]


@pytest.mark.parametrize("damage", ["truncated", "foreign", "changed", "absent", "empty"])
def test_a_damaged_file_is_refused_in_a_sentence(
    rng: np.random.Generator, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "p.safetensors"
    fitted(rng).save(path)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    elif damage == "changed":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "absent":
        path.unlink()
    else:
        path.write_bytes(b"")
    with pytest.raises(ProjectionError, match=r"fit it again|intramodal fit"):
        Projection.load(path)


def test_loading_and_applying_needs_no_scikit_learn(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    fitted(rng).save(tmp_path / "p")
    code = (
        "import sys, numpy as np; from intramodal.projection.artifact import Projection\n"
        f"Projection.load({str(tmp_path / 'p')!r}).apply(np.ones((1, 16)))\n"
        "sys.exit(int('sklearn' in sys.modules or 'torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real_data
def test_real_pictures_are_retrieved_as_the_independent_reference_says(real_data: Path) -> None:
    folder = real_data / "imagenet-text-clip-b32"
    projection = Projection.from_text(
        np.load(folder / "a_photo_of_a_X.npy"),
        anchors=AnchorSet.imagenet(),
        encoder="open_clip:ViT-B-32:openai",
        encoder_fingerprint="declared:open_clip:ViT-B-32:openai",
    )
    images = np.load(real_data / "cifar10-500-clip-b32" / "image_embeddings.npy")
    labels = np.load(real_data / "cifar10-500-clip-b32" / "image_labels.npy")
    # The reference's figures, to the precision it states.
    assert leave_one_out_map(images, labels) == pytest.approx(0.586148, abs=1e-4)
    assert leave_one_out_map(projection.apply(images), labels) == pytest.approx(0.740377, abs=1e-4)


def leave_one_out_map(X: np.ndarray, labels: np.ndarray) -> float:
    unit = unit_rows(X)
    scores, others = unit @ unit.T, ~np.eye(len(X), dtype=bool)
    return float(
        np.mean(
            [
                average_precision_score(labels[others[i]] == labels[i], scores[i, others[i]])
                for i in range(len(X))
            ]
        )
    )
