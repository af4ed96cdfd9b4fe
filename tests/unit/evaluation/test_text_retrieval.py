"""Texts against images: one query a class, by scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from intramodal.errors import InputError
from intramodal.evaluation.labels import encode_labels
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import VectorTable, unit_rows
from tests.plain_encoder import PlainEncoder


def table(rng: np.random.Generator, labels: list[object]) -> VectorTable:
    X = rng.normal(size=(len(labels), 6)).astype(np.float32)
    return VectorTable(list(range(len(labels))), {"raw": X}, {"label": labels})


def test_every_class_asks_all_images(rng: np.random.Generator) -> None:
    labels = [f"l{i % 7}" for i in range(60)]
    found = table(rng, labels)
    T = rng.normal(size=(7, 6)).astype(np.float32)
    result = evaluate_text_retrieval(found, texts=T, fields=["label"])["label"]
    S = unit_rows(T) @ unit_rows(found.vectors["raw"]).T
    assert result.query_ids == encode_labels(labels).names == [f"l{c}" for c in range(7)]
    for c in range(7):
        expected = average_precision_score([label == f"l{c}" for label in labels], S[c])
        assert result.ap[c] == pytest.approx(expected, abs=1e-12)
    assert result.n_gallery == 60


def test_an_image_of_several_classes_is_found_by_each(rng: np.random.Generator) -> None:
    found = table(rng, [["a", "b"], "a", "b", "c", "c"])
    texts = np.eye(3, 6, dtype=np.float32)
    result = evaluate_text_retrieval(found, texts=texts, fields=["label"])["label"]
    assert result.n_relevant.tolist() == [2, 2, 2]


def test_small_classes_neither_ask_nor_answer(rng: np.random.Generator) -> None:
    found = table(rng, ["a", "a", "b", "b", "c"])
    result = evaluate_text_retrieval(
        found, texts=np.eye(2, 6, dtype=np.float32), fields=["label"], min_class_size=2
    )["label"]
    assert (result.query_ids, result.n_gallery) == (["a", "b"], 4)


@pytest.mark.parametrize("shape", [(2, 6), (3, 5)])
def test_texts_that_do_not_fit_are_refused(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    found = table(rng, ["a", "b", "c"] * 3)
    with pytest.raises(InputError, match="one text per class"):
        evaluate_text_retrieval(found, texts=np.ones(shape, np.float32), fields=["label"])


def test_a_text_of_no_length_is_refused() -> None:
    table = VectorTable([0, 1], {"raw": np.eye(2, dtype=np.float32)}, {"kind": ["a", "b"]})
    texts = np.array([[1, 0], [0, 0]], dtype=np.float32)
    with pytest.raises(InputError, match="row 1 of the texts is zero"):
        evaluate_text_retrieval(table, texts=texts, fields=["kind"])


def projection(seed: int = 0, *, center: np.ndarray | None = None) -> Projection:
    square = np.random.default_rng(seed).normal(size=(6, 3))
    return Projection(np.linalg.qr(square)[0], "pca", "clip", "3f9a", center)


@pytest.fixture(scope="module")
def photos() -> ImageCollection:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(30, 6)).astype(np.float32)
    store = open_store(":memory:")
    origins = {
        "raw": (6, VectorOrigin("clip", "3f9a")),
        "pca": (3, VectorOrigin("clip", "3f9a", projection=projection().fingerprint)),
        "mid": (3, VectorOrigin("clip", "3f9a", projection=centred().fingerprint)),
    }
    made = ImageCollection.create(store, "photos", origins)
    vectors = {"raw": X, "pca": projection().apply(X), "mid": centred().apply(X)}
    payloads = [{"label": f"l{i % 3}", "side": i % 2} for i in range(30)]
    store.upsert("photos", list(range(30)), vectors, payloads)
    return made


def centred() -> Projection:
    return projection(center=np.full(6, 0.1, dtype=np.float32))


def test_texts_are_projected_as_the_images_were(photos: ImageCollection) -> None:
    T = np.random.default_rng(3).normal(size=(3, 6)).astype(np.float32)
    found = evaluate_text_retrieval(
        photos, texts=T, vector="pca", fields=["label"], projection=projection()
    )
    table = photos.table(["pca"], payload=["label"])
    same = evaluate_text_retrieval(
        table, texts=projection().apply(T), vector="pca", fields=["label"]
    )
    np.testing.assert_allclose(found["label"].ap, same["label"].ap, atol=1e-12)
    assert found.to_dict()["fields"] == same.to_dict()["fields"]
    told = found.to_dict()
    assert (told["collection"], told["vector"], told["texts"]) == ("photos", "pca", "the array")
    assert [result.field for result in found] == ["label"]


@pytest.mark.parametrize(
    ("vector", "given", "told"),
    [
        ("pca", None, "'pca' is projected and texts must be, too"),
        ("pca", projection(1), r"texts must be projected as 'pca' was, by projection \w{12}, got"),
        ("raw", projection(), "as 'raw' was, by projection none, got"),
        ("mid", centred(), "'mid' is centred and takes no texts"),
    ],
)
def test_texts_are_refused_that_the_vector_cannot_be_compared_with(
    photos: ImageCollection, vector: str, given: Projection | None, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        evaluate_text_retrieval(
            photos,
            texts=np.ones((3, 6), np.float32),
            vector=vector,
            fields=["label"],
            projection=given,
        )


class Encoding(PlainEncoder):
    """Says each prompt by the number in it."""

    name, has_text = "numbered", True

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        assert texts == [f"photo of l{c}" for c in range(3)]
        return np.eye(3, 6, dtype=np.float32)


def test_an_encoder_says_the_prompts_of_the_classes(photos: ImageCollection) -> None:
    about: Any = {"fields": ["label"], "template": "photo of {}"}
    found = evaluate_text_retrieval(photos, texts=Encoding(), **about)
    ready = evaluate_text_retrieval(photos, texts=np.eye(3, 6, dtype=np.float32), **about)
    np.testing.assert_array_equal(found["label"].ap, ready["label"].ap)
    assert (found.texts, found.template) == ("numbered", "photo of {}")
    with pytest.raises(
        InputError, match="plain has no text tower; give embeddings of the classes"
    ):
        evaluate_text_retrieval(photos, texts=PlainEncoder(), **about)
