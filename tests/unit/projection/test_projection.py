from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.metrics import average_precision_score

from intramodal.errors import InputError, MismatchError, ProjectionError
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.types import fingerprint, unit_rows


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


def test_texts_of_a_narrow_tower_are_warned_of(rng: np.random.Generator) -> None:
    # 60 names, but the tower's last matrix has rank 8: half of the 16 dimensions.
    texts = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 16))
    warnings = Projection.from_text(
        texts,
        anchors=AnchorSet(tuple(f"name {i}" for i in range(60))),
        encoder="m",
        encoder_fingerprint="ab",
        n_components=4,
    ).warnings()
    assert len(warnings) == 1
    assert "60 anchors span only 8 of 16 dimensions" in warnings[0]


def test_the_mean_of_the_unit_texts_is_kept_and_is_no_part_of_the_map(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    texts = rng.normal(size=(60, 16)) + 1
    anchors = AnchorSet(tuple(f"name {i}" for i in range(60)))
    made = Projection.from_text(texts, anchors=anchors, encoder="m", encoder_fingerprint="ab")
    expected = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).mean(axis=0)
    made.save(tmp_path / "p")
    kept = Projection.load(tmp_path / "p").text_mean
    assert kept is not None
    np.testing.assert_allclose(kept, expected, atol=1e-6)  # float32
    assert replace(made, text_mean=None).fingerprint == made.fingerprint


def test_whether_texts_were_normalised_is_part_of_the_fingerprint(
    rng: np.random.Generator,
) -> None:
    # Of unit rows both choices give the same directions up to rounding, yet they are two choices.
    texts = np.eye(12)[rng.permutation(12)]
    anchors = AnchorSet(tuple(f"name {i}" for i in range(12)))
    how = {"anchors": anchors, "encoder": "m", "encoder_fingerprint": "ab", "n_components": 2}
    unit = Projection.from_text(texts, normalize=True, **how)
    plain = Projection.from_text(texts, normalize=False, **how)
    assert unit.matrix.tobytes() == plain.matrix.tobytes()
    assert unit.fingerprint != plain.fingerprint
    assert plain.recipe["normalize_text"] is False


def test_rows_of_other_lengths_give_other_directions_unless_normalised(
    rng: np.random.Generator,
) -> None:
    texts = rng.normal(size=(60, 8)) * rng.uniform(0.1, 10, size=(60, 1))
    anchors = AnchorSet(tuple(f"name {i}" for i in range(60)))
    for normalize in (True, False):
        made = Projection.from_text(
            texts, anchors=anchors, encoder="m", encoder_fingerprint="ab", normalize=normalize
        )
        rows = texts / np.linalg.norm(texts, axis=1, keepdims=True) if normalize else texts
        _, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
        Q = vectors[:, -4:]
        np.testing.assert_allclose(made.matrix @ made.matrix.T, Q @ Q.T, atol=1e-5)  # float32


def test_the_recipe_says_what_a_fit_depends_on(rng: np.random.Generator) -> None:
    recipe = fitted(rng).recipe
    assert recipe["libraries"]["numpy"] == np.__version__
    assert set(recipe["libraries"]) == {"intramodal", "numpy", "scikit-learn"}
    assert (recipe["n_anchors"], recipe["n_components"], recipe["rank"]) == (60, 8, 16)
    assert len(recipe["spectrum"]) == 16


def test_other_anchors_make_a_vector_of_another_name(rng: np.random.Generator) -> None:
    texts = rng.normal(size=(1000, 8))
    for anchors, center, name in (
        (AnchorSet.imagenet(), None, "pca"),
        (AnchorSet.imagenet("wordnet"), None, "pca_wordnet"),
        (AnchorSet.imagenet("wordnet"), np.zeros(8), "pca_centered_wordnet"),
        (AnchorSet.imagenet(template="{}"), None, "pca_imagenet"),
    ):
        made = Projection.from_text(
            texts, anchors=anchors, encoder="m", encoder_fingerprint="ab", center=center
        )
        assert made.default_vector == name


def test_many_rows_are_projected_in_blocks_and_from_disk(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    X = rng.normal(size=(5000, 16)).astype(np.float32)  # more than two blocks, the last not full
    np.save(tmp_path / "X.npy", X)
    projection = fitted(rng, center=True)
    found = projection.apply(np.load(tmp_path / "X.npy", mmap_mode="r"))
    assert projection.offset is not None
    expected = (unit_rows(X) - projection.offset) @ projection.matrix
    np.testing.assert_allclose(found, expected, atol=1e-6)  # float32, 16 terms
    assert (type(found), found.dtype) == (np.ndarray, np.float32)
    assert projection.apply(X[:0]).shape == (0, 8)
    np.testing.assert_array_equal(X, np.load(tmp_path / "X.npy"))  # the caller's rows are not ours


def test_a_zero_row_stays_zero(rng: np.random.Generator) -> None:
    np.testing.assert_array_equal(fitted(rng).apply(np.zeros((1, 16))), np.zeros((1, 8)))


def test_a_projection_that_subtracts_an_image_mean_takes_no_texts(
    rng: np.random.Generator,
) -> None:
    T = rng.normal(size=(3, 16))
    linear = fitted(rng)
    np.testing.assert_array_equal(linear.apply_to_texts(T), linear.apply(T))
    with pytest.raises(InputError, match=r"takes no texts; compare .* \(raw\)"):
        fitted(rng, center=True).apply_to_texts(T)


def test_a_file_of_the_first_version_loads_and_keeps_its_fingerprint(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    # As the first release wrote it: matrix and offset, no mean of texts, no digest of the whole.
    tensors = {
        "matrix": rng.normal(size=(8, 3)).astype(np.float32),
        "offset": rng.normal(size=8).astype(np.float32),
    }
    declared = {
        "method": "pca_centered", "encoder_fingerprint": "ab", "shape": [8, 3], "is_centred": True
    }  # fmt: skip
    identity = fingerprint(declared, *(tensors[name].tobytes() for name in ("matrix", "offset")))
    recipe = {"anchors": "cd", "n_anchors": 60, "normalize_text": True, "n_distinct": 60}
    about = {
        "format": "intramodal projection", "version": 1, "method": "pca_centered",
        "encoder": "m", "encoder_fingerprint": "ab", "fingerprint": identity, "recipe": recipe,
    }  # fmt: skip
    save_file(tensors, tmp_path / "p", metadata={"intramodal": json.dumps(about)})
    loaded = Projection.load(tmp_path / "p")
    assert (loaded.fingerprint, loaded.default_vector) == (identity, "pca_centered")
    assert loaded.text_mean is None
    assert loaded.recipe == recipe


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"n_anchors": 60', b'"n_anchors": 61'),
        (b'"encoder": "test"', b'"encoder": "best"'),
        (b'"content"', b'"kontent"'),
        (b'"version": 2', b'"version": 3'),
    ],
    ids=["recipe", "encoder's name", "digest removed", "version"],
)
def test_a_file_that_says_something_else_than_when_saved_is_refused(
    rng: np.random.Generator, tmp_path: Path, before: bytes, after: bytes
) -> None:
    path = tmp_path / "p.safetensors"
    fitted(rng).save(path)
    before, after = (part.replace(b'"', b'\\"') for part in (before, after))  # JSON within JSON
    content = path.read_bytes()
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    with pytest.raises(ProjectionError, match=r"fit it again"):
        Projection.load(path)


def test_a_changed_mean_of_the_texts_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    # The map is untouched, what the model check rests on is not.
    path = tmp_path / "p.safetensors"
    made = fitted(rng)
    made.save(path)
    assert made.text_mean is not None
    content = path.read_bytes()
    assert content.count(made.text_mean.tobytes()) == 1
    path.write_bytes(content.replace(made.text_mean.tobytes(), (-made.text_mean).tobytes()))
    with pytest.raises(ProjectionError, match="was changed after it was saved"):
        Projection.load(path)


def test_a_place_that_cannot_be_written_is_one_sentence(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ProjectionError, match="cannot be written"):
        fitted(rng).save(tmp_path / "file" / "p.safetensors")
    with pytest.raises(ProjectionError, match="is not a projection"):
        Projection.load(tmp_path)


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
        "import sys, numpy as np; from intramodal.projection.projection import Projection\n"
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


@pytest.mark.real_data
@pytest.mark.parametrize(("kept", "figure"), [(256, 0.7534), (128, 0.7636)])
def test_centring_on_the_real_pictures_gives_the_reference_figures(
    real_data: Path, kept: int, figure: float
) -> None:
    images = np.load(real_data / "cifar10-500-clip-b32" / "image_embeddings.npy")
    labels = np.load(real_data / "cifar10-500-clip-b32" / "image_labels.npy")
    projection = Projection.from_text(
        np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy"),
        anchors=AnchorSet.imagenet(),
        encoder="open_clip:ViT-B-32:openai",
        encoder_fingerprint="ab",
        n_components=kept,
        center=unit_rows(images).mean(axis=0),
    )
    # The reference states four digits.
    assert leave_one_out_map(projection.apply(images), labels) == pytest.approx(figure, abs=6e-5)


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


@pytest.mark.parametrize("center", [False, True])
def test_a_projected_query_scores_stored_vectors_as_their_projections_do(
    rng: np.random.Generator, center: bool
) -> None:
    projection = fitted(rng, center)
    # Columns of other lengths, too, as those of IsoCLIP have.
    for stretch in (1.0, np.linspace(0.5, 2, 8).astype(np.float32)):
        made = replace(projection, matrix=projection.matrix * stretch)
        X, Y = unit_rows(rng.normal(size=(5, 16))), unit_rows(rng.normal(size=(9, 16)))
        scores = made.query(3 * X) @ Y.T
        projected = made.apply(X) @ made.apply(Y).T
        gap = scores - projected  # the part of the offset, one number a query
        np.testing.assert_allclose(gap - gap[:, :1], 0, atol=1e-6)  # float32, 16 terms
    assert made.query(X).dtype == np.float32
    with pytest.raises(InputError, match=r"shape \(n, 16\), got \(16,\)"):
        projection.query(X[0])
