"""The few-shot protocol of the paper's code, against a plain computation in the full space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.fewshot_text import evaluate_fewshot_text
from intramodal.evaluation.rivals.class_texts import ClassTexts
from intramodal.evaluation.shots import FewshotTask, drawn_anew
from intramodal.projection.fit import fit_projection
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.origins import projected_origin
from intramodal.types import VectorTable, declared_fingerprint, unit_rows

MODEL = "open_clip:ViT-B-32:openai"
MADE_BY = VectorOrigin(MODEL, declared_fingerprint(MODEL))
D, K = 24, 5
SIDES = {"train": 12, "val": 3, "test": 9}


def images(rng: np.random.Generator, sides: dict[str, int] = SIDES) -> VectorTable:
    """Return unit images of K classes with a split, in one cone, rows shuffled."""
    split = np.repeat(list(sides), list(sides.values()))
    codes = np.repeat(np.arange(K), len(split))
    split = np.tile(split, K)
    order = rng.permutation(len(codes))
    X = rng.normal(size=(K, D))[codes] + 1.5 + 1.6 * rng.normal(size=(len(codes), D))
    return VectorTable(
        ids=[f"00000000-0000-4000-8000-{i:012d}" for i in range(len(codes))],
        vectors={"raw": unit_rows(X[order])},
        payload={"class": ["edcba"[c] for c in codes[order]], "split": split[order].tolist()},
    )


def half(rng: np.random.Generator) -> Projection:
    Q = np.linalg.qr(rng.normal(size=(D, D)))[0][:, : D // 2]
    return Projection(Q.astype(np.float32), "pca", MODEL, declared_fingerprint(MODEL))


@pytest.fixture
def stored(rng: np.random.Generator) -> Iterator[tuple[ImageCollection, Projection]]:
    """Return a collection with raw and projected vectors, both of unit length, and the map."""
    table, projection = images(rng), half(rng)
    with open_store(":memory:") as store:
        vectors = {
            "raw": (D, MADE_BY),
            "pca": (D // 2, projected_origin(projection, MADE_BY, "raw")),
        }
        photos = ImageCollection.create(store, "photos", vectors)
        X = table.vectors["raw"]
        payload = [dict(zip(table.payload, row, strict=True))
                   for row in zip(*table.payload.values(), strict=True)]  # fmt: skip
        photos.insert(table.ids, {"raw": X, "pca": projection.apply(X)}, payload)
        yield photos, projection


def plain_scores(X: np.ndarray, shots: np.ndarray, classifier: str) -> np.ndarray:
    """Return scores (n, K) as the published code computes them, in float64."""
    groups = X[shots]
    means = groups.mean(axis=1)
    if classifier == "prototype" or shots.shape[1] == 1:
        return np.asarray(X @ (means / np.linalg.norm(means, axis=1)[:, None]).T)
    d = X.shape[1]
    centred = (groups - means[:, None]).reshape(-1, d)
    sigma = np.cov(centred, rowvar=False)
    inverse = d * np.linalg.pinv((len(centred) - 1) * sigma + np.trace(sigma) * np.eye(d))
    W = means @ inverse
    return np.asarray(X @ W.T - (W * means).sum(axis=1) / 2 - np.log(len(means)))


def plain_accuracy(
    task: FewshotTask, table: VectorTable, projection: Projection | None, classifier: str
) -> list[float]:
    """Return the accuracy of each seed; projected vectors are put back into the full space."""
    X = table.vectors["raw"][task.rows].astype(np.float64)
    if projection is not None:
        Q = projection.matrix.astype(np.float64)
        X = X @ Q @ Q.T
    tested = np.flatnonzero(task.is_test)
    best = [plain_scores(X, draw, classifier).argmax(axis=1) for draw in task.draws]
    return [float((b[tested] == task.codes[tested]).mean()) for b in best]


def tasks(table: VectorTable, shots: tuple[int, ...], n_seeds: int = 3) -> list[FewshotTask]:
    split = [side if side in ("train", "test") else None for side in table.payload["split"]]
    rows = FewshotTask.from_table(table, "class", shots=shots, n_episodes=1, split=split)
    return drawn_anew(rows, n_seeds)


SHOTS = (1, 2, 4, 8)


@pytest.mark.parametrize("vector", ["raw", "pca"])
@pytest.mark.parametrize("classifier", ["prototype", "lda"])
def test_it_is_what_the_published_code_computes(
    stored: tuple[ImageCollection, Projection], vector: str, classifier: str
) -> None:
    photos, projection = stored
    found = evaluate_fewshot(
        photos,
        vectors=[vector],
        fields=["class"],
        sides="split",
        shots=SHOTS,
        protocol="paper",
        projections=[projection] if vector == "pca" else [],
    )["class", vector][classifier]
    table = photos.table(["raw"], payload=["class", "split"])
    for row, task in zip(found.accuracy, tasks(table, SHOTS), strict=True):
        projected = projection if vector == "pca" else None
        assert row.tolist() == pytest.approx(
            plain_accuracy(task, table, projected, classifier), abs=1e-12
        )
    assert found.accuracy.shape == (len(SHOTS), 3)
    assert 0.3 < found.accuracy.mean() < 1.0  # neither trivial nor hopeless
    assert found.n_test.tolist() == [K * SIDES["test"]] * len(SHOTS)


def test_lengths_of_projected_vectors_count(rng: np.random.Generator) -> None:
    """A table's rows are taken as they are: the same directions, other lengths, other figures."""
    table, projection = images(rng), half(rng)
    Z = projection.apply(table.vectors["raw"])
    lengths = rng.uniform(0.05, 2, size=(len(Z), 1)).astype(np.float32)
    sized = VectorTable(table.ids, {"pca": Z * lengths, "unit": unit_rows(Z)}, table.payload)
    how: dict[str, Any] = {"vectors": ["pca", "unit"], "fields": ["class"], "sides": "split"}
    paper = evaluate_fewshot(sized, **how, protocol="paper", shots=(8,))
    ours = evaluate_fewshot(sized, **how, episodes=3, shots=(8,))
    for classifier in ("prototype", "lda"):
        a, b = (paper["class", v][classifier].accuracy for v in ("pca", "unit"))
        assert not np.array_equal(a, b)
        a, b = (ours["class", v][classifier].accuracy for v in ("pca", "unit"))
        np.testing.assert_array_equal(a, b)


def test_shots_come_from_the_train_side_and_are_drawn_anew_for_every_number(
    rng: np.random.Generator,
) -> None:
    table = images(rng)
    found = tasks(table, (2, 4), n_seeds=200)
    for task in found:
        drawn = task.rows[task.draws]
        assert {table.payload["split"][row] for row in drawn.ravel()} == {"train"}
        assert all(len(set(draw)) == len(draw) for draw in drawn.reshape(-1, drawn.shape[2]))
        assert {table.payload["split"][row] for row in task.rows[task.is_test]} == {"test"}
        times = np.bincount(task.draws.ravel(), minlength=len(task.rows))[task.is_pool]
        share = task.shots[0] / SIDES["train"]
        # Each image is drawn binomially over the 200 seeds; five standard deviations.
        assert np.abs(times - 200 * share).max() < 5 * np.sqrt(200 * share * (1 - share))
    two, four = (task.draws for task in found)
    nested = np.mean([set(a) <= set(b) for a, b in zip(two.reshape(-1, 2), four.reshape(-1, 4),
                                                       strict=True)])  # fmt: skip
    # A pair lies among four of twelve by chance with 4 3 / (12 11); 1000 draws.
    assert nested == pytest.approx(1 / 11, abs=0.05)


def test_the_seeds_are_one_two_and_three_whatever_is_asked_for_beside(
    rng: np.random.Generator,
) -> None:
    table = images(rng)
    how: dict[str, Any] = {"vectors": ["raw"], "fields": ["class"], "sides": "split"}
    three = evaluate_fewshot(table, **how, protocol="paper", shots=(2, 4))
    first = evaluate_fewshot(table, **how, protocol="paper", shots=(4,), episodes=1)
    later = evaluate_fewshot(table, **how, protocol="paper", shots=(4,), episodes=1, seed=2)
    at = [r["class", "raw"]["prototype"].accuracy[-1] for r in (three, first, later)]
    assert (at[1][0], at[2][0]) == (at[0][0], at[0][2])
    assert (three.episodes, three.to_dict()["protocol"]) == (3, "paper")
    assert three["class", "raw"]["prototype"].mean[-1] == pytest.approx(at[0].mean())


def test_at_one_shot_lda_shows_the_figure_of_the_prototype(rng: np.random.Generator) -> None:
    found = evaluate_fewshot(
        images(rng), vectors=["raw"], fields=["class"], sides="split", protocol="paper"
    )["class", "raw"]
    assert found["lda"].accuracy[0].tolist() == found["prototype"].accuracy[0].tolist()
    assert found["lda"].accuracy[-1].tolist() != found["prototype"].accuracy[-1].tolist()


def test_a_class_with_few_images_gives_some_of_them_again(rng: np.random.Generator) -> None:
    table = images(rng, {"train": 3, "test": 4})
    (task,) = tasks(table, (8,), n_seeds=100)
    assert task.classes_at(8).tolist() == list(range(K))
    assert (task.draws >= 0).all()
    assert task.is_pool[task.draws].all()
    n_different = Counter(len(set(draw)) for draw in task.draws.reshape(-1, 8))
    assert max(n_different) == 3
    found = evaluate_fewshot(
        table, vectors=["raw"], fields=["class"], sides="split", protocol="paper", shots=(8,)
    )["class", "raw"]["lda"]
    assert found.accuracy[0].tolist() == pytest.approx(
        plain_accuracy(tasks(table, (8,))[0], table, None, "lda"), abs=1e-12
    )
    nested = evaluate_fewshot(
        table, vectors=["raw"], fields=["class"], sides="split", shots=(8,), episodes=1
    )
    assert np.isnan(nested["class", "raw"]["lda"].accuracy).all()


def test_validation_images_are_neither_drawn_nor_tested(rng: np.random.Generator) -> None:
    table = images(rng)
    is_val = np.array([side == "val" for side in table.payload["split"]])
    X = table.vectors["raw"].copy()
    X[is_val] = -X[is_val]
    other = VectorTable(table.ids, {"raw": X}, table.payload)
    figures = [
        evaluate_fewshot(
            one, vectors=["raw"], fields=["class"], sides="split", protocol="paper"
        ).to_dict()["fields"]
        for one in (table, other)
    ]
    assert figures[0] == figures[1]


def test_what_the_protocol_lacks_is_one_sentence(
    stored: tuple[ImageCollection, Projection], rng: np.random.Generator
) -> None:
    photos, projection = stored
    how: dict[str, Any] = {"fields": ["class"], "sides": "split", "protocol": "paper"}
    with pytest.raises(InputError, match="'pca' of 'photos' is stored with unit length; give"):
        evaluate_fewshot(photos, **how)
    with pytest.raises(InputError, match="made none of the vectors 'raw'"):
        evaluate_fewshot(photos, **how, vectors=["raw"], projections=[projection])
    with pytest.raises(InputError, match="give a payload field with the values train and test"):
        evaluate_fewshot(photos, **(how | {"sides": None}), projections=[projection])
    with pytest.raises(InputError, match="no protocol 'papers'; choose from nested, paper"):
        evaluate_fewshot(photos, **(how | {"protocol": "papers"}))
    with pytest.raises(InputError, match="projections are for protocol 'paper'"):
        evaluate_fewshot(photos, **(how | {"protocol": "nested"}), projections=[projection])


def plain_text_accuracy(
    task: FewshotTask,
    table: VectorTable,
    W: np.ndarray,
    projection: Projection | None,
    classifier: str,
) -> list[float]:
    """Return each seed's accuracy by .5 of the texts and .5 of the shots, in the full space."""
    X = table.vectors["raw"][task.rows].astype(np.float64)
    if projection is not None:
        Q = projection.matrix.astype(np.float64)
        X = X @ Q @ Q.T
    tested = np.flatnonzero(task.is_test)
    of_texts = X @ W.astype(np.float64).T
    scores = [0.5 * of_texts + 0.5 * plain_scores(X, draw, classifier) for draw in task.draws]
    return [float((s.argmax(axis=1)[tested] == task.codes[tested]).mean()) for s in scores]


@pytest.fixture
def texts(rng: np.random.Generator) -> ClassTexts:
    """Unit texts of the classes that tell some of them apart."""
    W = np.random.default_rng(7).normal(size=(K, D))[::-1]  # near the centres of `images`
    return ClassTexts.from_arrays(list("abcde"), (W + 2 * rng.normal(size=(K, D))).astype("f4"))


@pytest.mark.parametrize("vector", ["raw", "pca"])
@pytest.mark.parametrize("method", ["prototype+text", "lda+text"])
def test_the_preset_of_the_paper_mixes_halves_as_the_published_code(
    stored: tuple[ImageCollection, Projection], texts: ClassTexts, vector: str, method: str
) -> None:
    photos, projection = stored
    found = evaluate_fewshot_text(
        photos,
        texts=texts,
        fields=["class"],
        sides="split",
        methods=[method],
        by=[vector],
        shots=SHOTS,
        preset="paper",
        projections=[projection] if vector == "pca" else [],
    )
    (result,) = found.results
    table = photos.table(["raw"], payload=["class", "split"])
    projected = projection if vector == "pca" else None
    classifier = method.removesuffix("+text")
    for row, task in zip(result.accuracy, tasks(table, SHOTS), strict=True):
        assert row.tolist() == pytest.approx(
            plain_text_accuracy(task, table, texts.W, projected, classifier), abs=1e-12
        )
    assert (found.protocol, found.preset, found.episodes, found.validation) == (
        *("paper", "paper"),
        *(3, 0),
    )
    assert result.extra["parameters"] == {str(s): {"alpha": [0.5] * 3} for s in SHOTS}


def test_a_tables_projections_may_be_given_by_vector(
    rng: np.random.Generator, texts: ClassTexts
) -> None:
    table, projection = images(rng), half(rng)
    Z = projection.apply(table.vectors["raw"])
    how: dict[str, Any] = {"texts": texts, "fields": ["class"], "sides": "split", "shots": (2,)}
    found = [
        evaluate_fewshot_text(
            VectorTable(table.ids, {**table.vectors, name: Z}, table.payload),
            **how,
            by=[name],
            preset="paper",
            projections=projections,
        )["class", name]["lda+text"].n_correct
        for name, projections in (("pca", [projection]), ("ours", {"ours": projection}))
    ]
    np.testing.assert_array_equal(*found)


def test_the_weight_is_not_that_of_the_tuned_rule(
    rng: np.random.Generator, texts: ClassTexts
) -> None:
    table = images(rng)
    how: dict[str, Any] = {"texts": texts, "fields": ["class"], "sides": "split", "shots": (4,)}
    fixed = evaluate_fewshot_text(table, **how, preset="paper")
    other = evaluate_fewshot_text(
        table, **how, protocol="paper", methods=["prototype+text", "lda+text"]
    )
    assert {result.classifier for result in fixed} == {"zero-shot", "prototype+text", "lda+text"}
    assert (other.protocol, other.preset, other.validation) == ("paper", "imagenet", 0)
    a, b = (found["class", "raw"]["lda+text"].n_correct for found in (fixed, other))
    assert not np.array_equal(a, b)


def test_what_the_preset_of_the_paper_lacks_is_one_sentence(
    rng: np.random.Generator, texts: ClassTexts
) -> None:
    table, projection = images(rng), half(rng)
    Z = projection.apply(table.vectors["raw"])
    table = VectorTable(table.ids, {**table.vectors, "pca": Z}, table.payload)
    how: dict[str, Any] = {"texts": texts, "fields": ["class"], "sides": "split", "shots": (2,)}
    with pytest.raises(InputError, match="the paper tunes nothing, so validation must be 0"):
        evaluate_fewshot_text(table, **how, preset="paper", validation=2)
    with pytest.raises(InputError, match="'paper' has no constants of 'ape'"):
        evaluate_fewshot_text(table, **how, preset="paper", methods=["ape"])
    with pytest.raises(InputError, match="give the projection that made the vector"):
        evaluate_fewshot_text(table, **how, preset="paper", by=["pca"])
    with pytest.raises(InputError, match="projections are for protocol 'paper'"):
        evaluate_fewshot_text(table, **how, by=["pca"], projections=[projection])
    with pytest.raises(InputError, match="no preset 'papers'"):
        evaluate_fewshot_text(table, **how, preset="papers")


@pytest.mark.real_data
@pytest.mark.parametrize("classifier", ["prototype", "lda"])
def test_it_is_what_the_published_code_computes_on_real_images(
    real_data: Path, classifier: str
) -> None:
    folder = real_data / "cifar10-500-clip-b32"
    X = unit_rows(np.load(folder / "image_embeddings.npy"))
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    projection = fit_projection(texts, made_by=MODEL, recipe="paper-fewshot")
    labels = np.load(folder / "image_labels.npy").tolist()
    split = ["train" if i % 2 else "test" for i in range(len(X))]
    vectors = {"raw": X, "pca": projection.apply(X)}
    table = VectorTable(list(range(len(X))), vectors, {"class": labels, "split": split})
    how: dict[str, Any] = {"fields": ["class"], "sides": "split", "protocol": "paper"}
    found = evaluate_fewshot(table, **how, vectors=["raw", "pca"], shots=(1, 16))
    for vector, projected in (("raw", None), ("pca", projection)):
        accuracy = found["class", vector][classifier].accuracy
        for row, task in zip(accuracy, tasks(table, (1, 16)), strict=True):
            # float32 scores of 512 terms may part two near classes of an image otherwise.
            expected = plain_accuracy(task, table, projected, classifier)
            assert row.tolist() == pytest.approx(expected, abs=1.5 / task.is_test.sum())
    raw, pca = (found["class", v][classifier].mean for v in ("raw", "pca"))
    assert pca[0] - raw[0] > 0.05  # the gain of PCA← at one shot, as in table 2
