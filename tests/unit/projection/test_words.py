"""Axes between the names of a field's values: no label, only texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.evaluation.labelled_rows import WEIGHTS, word_weight
from intramodal.fit_rows import FitRows
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.fit import Images, LabelledRows, fit_label_map, fit_words
from intramodal.projection.projection import Projection
from tests.plain_encoder import DIM, PlainEncoder

MADE_BY = ("clip", "3f9a")
VALUES = AnchorSet(("blue", "green", "red"))
D = 20


@pytest.fixture
def how(rng: np.random.Generator) -> dict[str, Any]:
    X = (rng.normal(size=(80, D)) + 0.5).astype(np.float32)
    base = Projection(np.linalg.qr(rng.normal(size=(D, 6)))[0], "pca", *MADE_BY)
    return {"values": VALUES, "field": "hue of it", "base": base, "images": Images(X, MADE_BY)}


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def test_names_give_axes_beside_the_directions_of_a_projection(
    rng: np.random.Generator, how: dict[str, Any]
) -> None:
    T, X, Q = rng.normal(size=(3, D)), how["images"].X, how["base"].matrix
    made = fit_words(T, **how, weight=0.7)
    c = unit(X) - unit(X).mean(axis=0)
    texts = unit(T) - unit(T).mean(axis=0)
    V = np.linalg.svd(texts)[2][:2].T  # two axes between three names
    lengths = [np.sqrt(np.mean(np.sum((c @ block) ** 2, axis=1))) for block in (Q, V)]
    Z = made.apply(X)
    np.testing.assert_allclose(Z[:, :6], c @ Q / lengths[0], atol=1e-5)
    products = 0.7**2 / lengths[1] ** 2 * (c @ V) @ (c @ V).T
    np.testing.assert_allclose(Z[:, 6:] @ Z[:, 6:].T, products, atol=1e-5)
    assert (made.dim_out, made.default_vector, made.labels) == (8, "words_hue_of_it", None)
    assert made.recipe["words"]["values"] == ["blue", "green", "red"]


def test_an_encoder_embeds_the_names(how: dict[str, Any], rng: np.random.Generator) -> None:
    encoder = PlainEncoder()
    made_by = (encoder.name, encoder.fingerprint)
    X = rng.normal(size=(40, DIM)).astype(np.float32)
    base = Projection(np.eye(DIM, 6, dtype=np.float32), "pca", *made_by)
    own = {**how, "base": base, "images": Images(X, made_by)}
    if encoder.has_text:
        texts = VALUES.embed(encoder)
        np.testing.assert_array_equal(
            fit_words(encoder, **own).matrix, fit_words(texts, **own).matrix
        )
    with pytest.raises(ManifestMismatchError, match="embed the values with that model"):
        fit_words(encoder, **how)


def test_what_cannot_be_is_refused(rng: np.random.Generator, how: dict[str, Any]) -> None:
    T = rng.normal(size=(3, D))
    for texts, changed, message in (
        (T[:2], {}, "3 values need as many texts"),
        (np.ones((3, D)), {}, "all values have the same text"),
        (T, {"weight": 0.0}, "weight of the field's axes is above 0"),
        (T, {"base": replace(how["base"], encoder_fingerprint="x")}, "fit one for this model"),
    ):
        with pytest.raises(InputError, match=message):
            fit_words(texts, **{**how, **changed})
    labels = [f"l{i % 2}" for i in range(80)]
    rows = LabelledRows(how["images"].X, labels, "hue", FitRows(share=0.5), MADE_BY)
    with pytest.raises(InputError, match="has seen labels itself"):
        fit_words(T, **{**how, "base": fit_label_map(rows)})


def test_labelled_rows_choose_the_weight_of_words_that_mean_something(
    rng: np.random.Generator, how: dict[str, Any]
) -> None:
    T = rng.normal(size=(3, D))
    y = rng.integers(3, size=150)
    X = (rng.normal(size=(150, D)) + T[y]).astype(np.float32)
    own = {**how, "images": Images(X, MADE_BY)}

    def chosen(texts: np.ndarray) -> float:
        names = [VALUES.names[code] for code in y]
        rows = LabelledRows(X, names, "hue", FitRows(share=0.5), MADE_BY)
        return word_weight(rows, lambda weight: fit_words(texts, **own, weight=weight))

    assert chosen(T) == max(WEIGHTS)
    assert chosen(rng.normal(size=(3, D))) < max(WEIGHTS)
