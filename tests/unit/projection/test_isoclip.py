"""IsoCLIP from stored vectors against its published form on the features before the projector."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from intramodal.errors import InputError, RankError
from intramodal.projection.isoclip import PUBLISHED, IsoClip
from intramodal.projection.projection import Projection
from intramodal.types import unit_rows

D, D_IMAGE, D_TEXT = 16, 24, 20


@pytest.fixture
def W(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(D, D_IMAGE)), rng.normal(size=(D, D_TEXT))


def made(how: IsoClip, image: np.ndarray, text: np.ndarray) -> Projection:
    return how.projection(image, text, encoder="clip", encoder_fingerprint="3f9a")


def published_cosines(
    features: np.ndarray, image: np.ndarray, text: np.ndarray, k_top: int, k_bottom: int
) -> np.ndarray:
    """Return image-image cosines as the authors compute them: a changed projector on features."""
    d = len(image)
    U = np.linalg.svd(image.T @ text)[0][:, k_top : d - k_bottom]
    changed = features @ (image @ U @ U.T).T
    changed /= np.linalg.norm(changed, axis=1, keepdims=True)
    return np.asarray(changed @ changed.T)


@pytest.mark.parametrize(("k_top", "k_bottom"), [(0, 0), (3, 0), (0, 5), (4, 6), (8, 7)])
def test_stored_vectors_give_the_cosines_of_the_changed_projector(
    rng: np.random.Generator, W: tuple[np.ndarray, np.ndarray], k_top: int, k_bottom: int
) -> None:
    features = rng.normal(size=(30, D_IMAGE))
    projection = made(IsoClip(k_top, k_bottom), *W)
    assert (projection.dim_in, projection.dim_out) == (D, D - k_top - k_bottom)
    Z = unit_rows(projection.apply(features @ W[0].T))
    # float32 products over 16 terms, times the condition of a random projector
    np.testing.assert_allclose(
        Z @ Z.T, published_cosines(features, *W, k_top, k_bottom), atol=1e-4
    )


def test_dropping_nothing_is_the_encoders_own_cosine(
    rng: np.random.Generator, W: tuple[np.ndarray, np.ndarray]
) -> None:
    # With every direction kept, W U U^T is W itself.
    X = rng.normal(size=(9, D))
    unit, Z = unit_rows(X), unit_rows(made(IsoClip(0, 0), *W).apply(X))
    np.testing.assert_allclose(Z @ Z.T, unit @ unit.T, atol=1e-4)


def test_the_dimensions_for_openai_clip_are_the_published_ones(rng: np.random.Generator) -> None:
    for model, d, widths, k in (
        ("open_clip:ViT-B-32:openai", 512, (768, 512), 312),
        ("hf:openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
         768, (1024, 768), 318),
    ):  # fmt: skip
        image, text = (rng.normal(size=(d, width)) for width in widths)
        assert made(IsoClip.published(model), image, text).dim_out == k


def test_every_published_size_leaves_something_of_512_dimensions() -> None:
    assert all(0 < sum(sizes) < 512 for sizes in PUBLISHED.values())


def test_a_model_without_published_sizes_needs_them_given() -> None:
    with pytest.raises(InputError, match=r"no published sizes for 'slip:x.pt'.*k_top and"):
        IsoClip.published("slip:x.pt")


@pytest.mark.parametrize("sizes", [(-1, 0), (0, -1), (True, 0), (1.5, 0)])
def test_sizes_are_whole_numbers(sizes: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="must be a whole number from 0"):
        IsoClip(*sizes)


def test_dropping_everything_is_refused(W: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError, match="leaves none of 16"):
        made(IsoClip(10, 6), *W)


def test_directions_that_the_projectors_do_not_share_are_refused(rng: np.random.Generator) -> None:
    # A text tower of width 6 reaches 6 of 16 dimensions.
    image, text = rng.normal(size=(D, D_IMAGE)), rng.normal(size=(D, 6))
    with pytest.raises(RankError, match=r"share 6 directions .* `k_bottom` of at least 10"):
        made(IsoClip(0, 0), image, text)
    assert made(IsoClip(2, 10), image, text).dim_out == 4


def test_rounding_of_float32_weights_is_no_direction(rng: np.random.Generator) -> None:
    thin = rng.normal(size=(D, 5)) @ rng.normal(size=(5, D_TEXT))
    with pytest.raises(RankError, match="share 5 directions"):
        made(IsoClip(0, 0), rng.normal(size=(D, D_IMAGE)), thin.astype(np.float32))


@pytest.mark.parametrize(
    ("image", "text", "said"),
    [
        (np.ones((4, 6)), np.ones((5, 6)), r"\(4, 6\) and \(5, 6\)"),
        (np.ones(4), np.ones((4, 6)), r"got shape \(4,\)"),
        (np.full((4, 6), np.nan), np.ones((4, 6)), "row 0 of a projector"),
        (np.zeros((4, 6)), np.ones((4, 6)), "zeros only"),
    ],
)
def test_matrices_that_are_no_projectors_are_refused(
    image: np.ndarray, text: np.ndarray, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        made(IsoClip(0, 0), image, text)


def test_the_recipe_says_what_was_dropped_from_which_matrices(
    W: tuple[np.ndarray, np.ndarray],
) -> None:
    projection, other = made(IsoClip(2, 3), *W), made(IsoClip(3, 2), *W)
    recipe = projection.recipe
    assert (recipe["k_top"], recipe["k_bottom"], recipe["n_components"]) == (2, 3, 11)
    assert recipe["projector_shapes"] == {"image": [D, D_IMAGE], "text": [D, D_TEXT]}
    singular = np.linalg.svd(W[0].T @ W[1], compute_uv=False)
    np.testing.assert_allclose(recipe["singular_values"], singular, rtol=1e-9, atol=1e-9)
    assert recipe["projectors"] == other.recipe["projectors"]
    assert projection.fingerprint != other.fingerprint
    assert projection.default_vector == "isoclip"
    assert projection.warnings() == []


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np; from intramodal.projection.isoclip import IsoClip\n"
        "IsoClip(1, 1).projection(np.eye(4), np.eye(4), encoder='m', encoder_fingerprint='f')\n"
        "sys.exit(int('torch' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
