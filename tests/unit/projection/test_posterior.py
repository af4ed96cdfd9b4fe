from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from scipy.stats import multivariate_normal

from intramodal.errors import InputError, ManifestMismatchError, ProjectionError
from intramodal.fit_rows import FitRows
from intramodal.projection.class_posterior import TEMPERATURES, ClassPosterior
from intramodal.projection.classes import Classes
from intramodal.projection.fit import LabelledRows, fit_label_map, fit_posterior
from intramodal.projection.posterior import PosteriorMap, load_map
from intramodal.projection.projection import Projection
from intramodal.types import unit_rows

MADE_BY = ("clip", "3f9a")


def labelled(rng: np.random.Generator, n: int = 200, d: int = 16) -> LabelledRows:
    y = rng.integers(4, size=n)
    X = (rng.normal(size=(n, d)) + 1.5 * rng.normal(size=(4, d))[y]).astype(np.float32)
    gallery = rng.normal(size=(60, d)).astype(np.float32)
    rows = FitRows(share=0.5)
    return LabelledRows(X, [f"c{code}" for code in y], "kind", rows, MADE_BY, gallery)


def test_the_chances_are_those_of_gaussian_classes_of_one_spread(rng: np.random.Generator) -> None:
    rows = labelled(rng)
    codes = np.array([int(name[1]) for name in rows.y])
    mean = unit_rows(rows.X).mean(axis=0, dtype=np.float64)
    fitted = ClassPosterior.fit(rows.X, codes, mean)
    within = Classes.of(rows.X, codes, mean)
    inverse = within.whitened(within.whitened(np.eye(16)))
    c = unit_rows(rows.X).astype(float) - mean
    densities = np.stack(
        [multivariate_normal(m, np.linalg.inv(inverse)).logpdf(c) for m in within.means], axis=1
    )
    t, counts = fitted.temperature, np.bincount(codes)
    # Terms of c alone are the same for all classes, so that densities say the same as the scores.
    wanted = softmax(t * densities + 0.5 * np.log(counts), axis=1)
    found = softmax(c @ fitted.weights + fitted.bias, axis=1)
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    assert t in TEMPERATURES


def test_the_temperature_is_the_one_under_which_rows_left_out_are_likeliest(
    rng: np.random.Generator,
) -> None:
    codes = np.repeat(np.arange(3), 60)
    noise = rng.normal(size=(180, 8))
    means = rng.normal(size=(3, 8))
    sure = ClassPosterior.fit(noise / 20 + means[codes], codes, np.zeros(8))
    unsure = ClassPosterior.fit(noise + means[rng.permutation(codes)] / 20, codes, np.zeros(8))
    assert unsure.temperature == min(TEMPERATURES) < sure.temperature


def test_a_code_is_the_chances_and_the_text_axes_of_the_image(rng: np.random.Generator) -> None:
    rows = labelled(rng)
    text = Projection(np.eye(16, 8, dtype=np.float32), "pca", *MADE_BY)
    made = fit_posterior(rows, text=text)
    Z = made.apply(rows.X[:9] * 5)
    np.testing.assert_allclose(Z[:, :4].sum(axis=1), 1, atol=1e-6)
    axes = unit_rows(unit_rows(rows.X[:9]) - unit_rows(rows.gallery).mean(axis=0))[:, :8]
    np.testing.assert_allclose(Z[:, 4:], np.sqrt(0.05) * unit_rows(axes), atol=1e-6)
    right = np.array([rows.y[row] == f"c{Z[row, :4].argmax()}" for row in range(9)])
    assert right.mean() > 0.5
    assert (made.dim_in, made.dim_out, made.distance) == (16, 12, "Dot")
    assert made.default_vector == "posterior_kind"


def test_both_kinds_of_maps_come_back_from_their_files(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    rows = labelled(rng)
    for made in (fit_posterior(rows), fit_label_map(rows)):
        made.save(tmp_path / "map.safetensors")
        loaded = load_map(tmp_path / "map.safetensors")
        assert type(loaded) is type(made)
        assert loaded.fingerprint == made.fingerprint
        assert loaded.labels == made.labels == rows.labels
        assert loaded.to_dict() == made.to_dict()
        np.testing.assert_array_equal(loaded.apply(rows.X), made.apply(rows.X))
    fit_posterior(rows).save(tmp_path / "codes.safetensors")
    with pytest.raises(ProjectionError, match="holds posterior codes, which are no projection"):
        Projection.load(tmp_path / "codes.safetensors")


def test_a_file_that_was_changed_is_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    made = fit_posterior(labelled(rng))
    path = tmp_path / "codes.safetensors"
    made.save(path)
    tensors = load_file(path)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
    save_file({**tensors, "bias": tensors["bias"] + 1}, path, metadata=about)
    with pytest.raises(ProjectionError, match="changed after it was saved"):
        load_map(path)
    save_file({name: t for name, t in tensors.items() if name != "bias"}, path, metadata=about)
    with pytest.raises(ProjectionError, match="fit it again"):
        load_map(path)


def test_labels_are_part_of_the_identity_of_a_map(rng: np.random.Generator) -> None:
    rows = labelled(rng)
    for fit in (fit_label_map, fit_posterior):
        made: Any = fit(rows)
        for other in (replace(rows, field="hue"), replace(rows, rows=FitRows(share=0.4))):
            assert fit(other).fingerprint != made.fingerprint


def test_classes_of_few_labels_need_force(rng: np.random.Generator) -> None:
    rows = labelled(rng)
    few = replace(rows, X=rows.X[:30], y=[*rows.y[:29], "rare"])
    with pytest.raises(
        InputError, match=r"class 'rare' of 'kind' has 1 of the labelled images.*force"
    ):
        fit_posterior(few)
    made = fit_posterior(few, force=True)
    assert made.n_classes == 5
    assert "fewer than 10 labelled images" in made.warnings()[0]


def test_a_map_of_other_texts_or_of_labels_gives_no_text_axes(rng: np.random.Generator) -> None:
    rows = labelled(rng)
    with pytest.raises(ManifestMismatchError, match="fitted for blip"):
        fit_label_map(rows, text=Projection(np.eye(16, 8, dtype=np.float32), "pca", "blip", "1"))
    with pytest.raises(InputError, match="has seen labels itself"):
        fit_label_map(rows, text=fit_label_map(rows))
    with pytest.raises(InputError, match="the images 16 dimensions"):
        fit_label_map(rows, text=np.ones((3, 4), np.float32))


def test_texts_give_the_directions_that_their_projection_does(rng: np.random.Generator) -> None:
    rows, texts = labelled(rng), rng.normal(size=(100, 16)).astype(np.float32)
    from intramodal.projection.anchors import AnchorSet

    pca = Projection.from_text(
        texts,
        anchors=AnchorSet(tuple(f"n{i}" for i in range(100))),
        encoder="clip",
        encoder_fingerprint="3f9a",
    )
    first, second = fit_label_map(rows, text=pca), fit_label_map(rows, text=texts)
    np.testing.assert_allclose(first.matrix, second.matrix, atol=1e-5)  # float32 directions
    assert first.default_vector == "label_kind"


def test_codes_take_no_texts(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="takes no texts"):
        fit_posterior(labelled(rng)).apply_to_texts(np.ones((1, 16)))


@pytest.mark.parametrize("X", [np.ones((2, 3)), np.full((2, 16), np.nan)])
def test_vectors_that_cannot_be_mapped_are_refused(rng: np.random.Generator, X: Any) -> None:
    with pytest.raises(InputError):
        fit_posterior(labelled(rng)).apply(X)


def test_an_error_of_a_component_grows_by_the_gain_at_most(rng: np.random.Generator) -> None:
    rows = labelled(rng)
    X = unit_rows(rng.normal(size=(200, 16)).astype(np.float32))
    noise = rng.uniform(-1e-4, 1e-4, size=X.shape).astype(np.float32)
    for made in (fit_posterior(rows), fit_label_map(rows)):
        off = np.abs(made.apply(X + noise) - made.apply(X)).max()
        assert off < 4 * 1e-4 * made.gain  # four standard deviations of a sum of 16 errors


def test_posterior_maps_say_which_labels_they_have_seen() -> None:
    parts: Any = [np.ones(4), np.ones((4, 2)), np.ones(2), np.ones((4, 1)), "clip", "1"]
    with pytest.raises(InputError, match="which labels it has seen"):
        PosteriorMap(*parts)
