"""The rest of the reference table of the real data: figures no other test compares.

Raw and projected mAP and R@1 of all nine fields are in `test_retrieval`, prototype accuracies in
`test_fewshot`, three controls and the sweep over dimensions in `projection/test_controls`, means,
AUC and gap in `test_misalignment`, the guard against a wrong model in
`store/test_model_check`, transformers against open_clip in `congruence/test_encoder_parity`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from intramodal.evaluation.resampling import Resampling
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.projection import controls
from intramodal.projection.directions import principal_directions
from intramodal.projection.projection import Projection
from intramodal.projection.text_pca import TextPCA, unit_texts
from intramodal.types import VectorTable, unit_rows

pytestmark = pytest.mark.real_data

TWO_DIGITS, ONE_DIGIT = 0.006, 0.06  # of mAP x 100, as they are printed
N_KEPT = 256
FIELDS = ("cifar", "articleType", "gender")


@pytest.fixture(scope="module")
def texts(real_data: Path) -> np.ndarray:
    return np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")


@pytest.fixture(scope="module")
def images(real_data: Path) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Return images and labels by field."""
    cifar, fashion = real_data / "cifar10-500-clip-b32", real_data / "fashion988-clip-b32"
    with (fashion / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    X = np.load(fashion / "image_embeddings.npy").astype(np.float32)
    labels = np.load(cifar / "image_labels.npy").astype(str).tolist()
    found = {"cifar": (np.load(cifar / "image_embeddings.npy").astype(np.float32), labels)}
    return found | {name: (X, [row[name] for row in rows]) for name in rows[0] if name != "id"}


def projection(matrix: np.ndarray) -> Projection:
    return Projection(matrix.astype(np.float32), "pca", "clip", "3f9a")


def pca(texts: np.ndarray, n: int = N_KEPT, *, normalize: bool = True) -> Projection:
    return projection(TextPCA(n, normalize=normalize).fit(texts).components_.T)


def map100(Z: np.ndarray, labels: list[str], *, least: int = 5) -> float:
    table = VectorTable(list(range(len(Z))), {"z": Z}, {"label": labels})
    return (
        100
        * evaluate_retrieval(
            table,
            vectors=["z"],
            fields=["label"],
            min_class_size=least,
            ks=(),
            resampling=Resampling("none"),
        )["label", "z"].map
    )


def near_draws(figure: float, draws: list[float]) -> bool:
    """Whether a figure of one random draw may be one of these draws: within 3 errors."""
    spread = np.std(draws, ddof=1)
    return bool(abs(figure - np.mean(draws)) <= 3 * spread * np.sqrt(1 + 1 / len(draws)))


@pytest.mark.parametrize(
    ("field", "raw", "projected"),
    [("cifar", 58.61, 74.04), ("articleType", 60.67, 64.61), ("gender", 56.50, 56.52)],
)
def test_the_controls_are_beside_the_same_raw_and_projected_figures(
    texts, images, field, raw, projected
) -> None:
    X, labels = images[field]
    assert map100(X, labels) == pytest.approx(raw, abs=TWO_DIGITS)
    assert map100(pca(texts).apply(X), labels) == pytest.approx(projected, abs=TWO_DIGITS)


@pytest.mark.parametrize(("field", "figure"), [*zip(FIELDS, (71.15, 64.10, 56.01), strict=True)])
def test_texts_that_are_not_centred_give_other_directions(texts, images, field, figure) -> None:
    X, labels = images[field]
    _, directions = principal_directions(unit_texts(texts))
    found = map100(projection(directions[:N_KEPT].T).apply(X), labels)
    assert found == pytest.approx(figure, abs=TWO_DIGITS)


@pytest.mark.parametrize(("field", "figure"), [*zip(FIELDS, (73.65, 64.75, 56.53), strict=True)])
def test_texts_of_their_own_lengths_give_other_directions(texts, images, field, figure) -> None:
    X, labels = images[field]
    found = map100(pca(texts, normalize=False).apply(X), labels)
    assert found == pytest.approx(figure, abs=TWO_DIGITS)


@pytest.mark.parametrize(("field", "figure"), [*zip(FIELDS, (57.48, 59.84, 55.73), strict=True)])
def test_a_random_half_is_as_the_reference_drew_one(texts, images, field, figure) -> None:
    X, labels = images[field]
    like = pca(texts)
    draws = [map100(controls.random_projection(like, seed=s).apply(X), labels) for s in range(20)]
    assert near_draws(figure, draws), draws


@pytest.mark.parametrize(
    ("n", "cifar", "article"),
    [(320, 72.3, 64.7), (384, 69.8, 64.4), (448, 66.8, 63.8), (512, 58.6, 60.7)],
)
def test_more_dimensions_give_the_reference_figures(texts, images, n, cifar, article) -> None:
    # The texts span 511 directions: all 512 are a turn, and no PCA that we would fit.
    unit = unit_texts(texts)
    _, directions = principal_directions(unit - unit.mean(axis=0))
    for field, figure in (("cifar", cifar), ("articleType", article)):
        X, labels = images[field]
        found = map100(projection(directions[:n].T).apply(X), labels)
        assert found == pytest.approx(figure, abs=ONE_DIGIT), field


@pytest.mark.parametrize(
    ("n", "figure"),
    [(25, 58.2), (50, 65.8), (100, 72.1), (250, 72.0), (500, 73.1)],
)
def test_fewer_class_names_give_figures_around_those_of_the_reference(
    texts, images, n, figure
) -> None:
    # The reference drew its names once; n texts span n - 1 directions.
    X, labels = images["cifar"]
    draws = []
    for seed in range(20):
        names = np.random.default_rng(seed).permutation(len(texts))[:n]
        try:
            made = pca(texts[names], min(n - 1, N_KEPT))
        except ValueError:  # three of the names have the text of another one
            made = pca(texts[names], min(n - 2, N_KEPT))
        draws.append(map100(made.apply(X), labels))
    assert near_draws(figure, draws), draws


@pytest.mark.parametrize(
    ("field", "gain"),
    [("articleType", 1.7), ("subCategory", 1.1), ("gender", 0.6), ("usage", 0.4),
     ("baseColour", 0.0)],
)  # fmt: skip
def test_the_corpus_mean_adds_what_the_reference_says(texts, images, field, gain) -> None:
    # These gains are over classes of two images and more.
    X, labels = images[field]
    like = pca(texts)
    with_mean = map100(controls.centred(like, unit_rows(X)).apply(X), labels, least=2)
    assert with_mean - map100(like.apply(X), labels, least=2) == pytest.approx(gain, abs=ONE_DIGIT)


def test_directions_at_the_cut_are_close(texts) -> None:
    fitted = TextPCA(N_KEPT).fit(texts)
    kept, dropped = fitted.spectrum_[N_KEPT - 1 : N_KEPT + 1]
    assert (kept - dropped) / kept == pytest.approx(0.007, abs=6e-4)  # one digit
    assert len(np.unique(texts, axis=0)) == 997


@pytest.fixture(scope="module")
def flickr(real_data: Path) -> VectorTable:
    """Return 100 images and their 500 captions, each labelled by its image."""
    folder = real_data / "flickr8k100-clip-b32"
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        owner = np.array([row["image_id"] for row in csv.DictReader(file)])
    names, first = np.unique(owner, return_index=True)
    X = np.load(folder / "image_embeddings.npy")[first]
    Y = np.load(folder / "text_embeddings.npy")
    payload = {
        "image": [*names.tolist(), *owner.tolist()],
        "kind": ["image"] * len(names) + ["caption"] * len(owner),
    }
    rows = np.vstack([X, Y]).astype(np.float32)
    return VectorTable(list(range(len(rows))), {"raw": rows}, payload)


@pytest.mark.parametrize(("asking", "figure"), [("image", 0.93), ("caption", 0.832)])
def test_images_and_captions_find_each_other(flickr, asking, figure) -> None:
    asks = np.array([kind == asking for kind in flickr.payload["kind"]])
    found = evaluate_retrieval(
        flickr,
        vectors=["raw"],
        fields=["image"],
        sides=(asks, ~asks),
        resampling=Resampling("none"),
    )["image", "raw"]
    assert found.metrics["hit@1"].mean() == pytest.approx(figure, abs=1e-6)  # of 100 and of 500


def test_projecting_texts_makes_captions_worse(flickr, texts) -> None:
    captions = flickr.take(
        np.array([kind == "caption" for kind in flickr.payload["kind"]]).nonzero()[0]
    )
    X = captions.vectors["raw"]
    for Z, figure in ((X, 68.3), (pca(texts).apply(X), 65.1)):
        assert map100(Z, captions.payload["image"]) == pytest.approx(figure, abs=ONE_DIGIT)


def test_the_texts_of_the_right_model_lie_at_its_angle(texts, images) -> None:
    X = images["cifar"][0]
    cosines = unit_rows(X) @ unit_rows(texts).T
    assert cosines.mean() == pytest.approx(0.199, abs=6e-4)
