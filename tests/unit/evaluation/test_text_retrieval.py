"""Texts against images: one query a class, by scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from intramodal.errors import InputError
from intramodal.evaluation.text_retrieval import class_names, evaluate_text_retrieval
from intramodal.types import VectorTable, unit_rows


def table(rng: np.random.Generator, labels: list[object]) -> VectorTable:
    X = rng.normal(size=(len(labels), 6)).astype(np.float32)
    return VectorTable(list(range(len(labels))), {"raw": X}, {"label": labels})


def test_every_class_asks_all_images(rng: np.random.Generator) -> None:
    labels = [f"l{i % 7}" for i in range(60)]
    found = table(rng, labels)
    T = rng.normal(size=(7, 6)).astype(np.float32)
    result = evaluate_text_retrieval(found, T, vector="raw", field="label")
    S = unit_rows(T) @ unit_rows(found.vectors["raw"]).T
    assert result.query_ids == class_names(found, "label") == [f"l{c}" for c in range(7)]
    for c in range(7):
        expected = average_precision_score([label == f"l{c}" for label in labels], S[c])
        assert result.ap[c] == pytest.approx(expected, abs=1e-12)
    assert result.n_gallery == 60


def test_an_image_of_several_classes_is_found_by_each(rng: np.random.Generator) -> None:
    found = table(rng, [["a", "b"], "a", "b", "c", "c"])
    result = evaluate_text_retrieval(found, np.eye(3, 6, dtype=np.float32), vector="raw",
                                     field="label")  # fmt: skip
    assert result.n_relevant.tolist() == [2, 2, 2]


def test_small_classes_neither_ask_nor_answer(rng: np.random.Generator) -> None:
    found = table(rng, ["a", "a", "b", "b", "c"])
    result = evaluate_text_retrieval(
        found, np.eye(2, 6, dtype=np.float32), vector="raw", field="label", min_class_size=2
    )
    assert (result.query_ids, result.n_gallery) == (["a", "b"], 4)


@pytest.mark.parametrize("shape", [(2, 6), (3, 5)])
def test_texts_that_do_not_fit_are_refused(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    found = table(rng, ["a", "b", "c"] * 3)
    with pytest.raises(InputError, match="one text a class"):
        evaluate_text_retrieval(found, np.ones(shape, np.float32), vector="raw", field="label")


def test_a_text_of_no_length_is_refused() -> None:
    table = VectorTable([0, 1], {"raw": np.eye(2, dtype=np.float32)}, {"kind": ["a", "b"]})
    texts = np.array([[1, 0], [0, 0]], dtype=np.float32)
    with pytest.raises(InputError, match="row 1 of the texts is zero"):
        evaluate_text_retrieval(table, texts, vector="raw", field="kind")
