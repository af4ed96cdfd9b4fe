"""Few-shot accuracy: equal to scikit-learn's classifiers on the same episodes, and paired."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier

from intramodal.errors import InputError
from intramodal.evaluation import classifiers, fewshot, shots
from intramodal.evaluation.classifiers import FITS, fit_lda, fit_nested, fit_prototypes
from intramodal.evaluation.fewshot import evaluate_fewshot, run_fewshot
from intramodal.evaluation.kernels import classification
from intramodal.evaluation.shots import FewshotTask
from intramodal.projection.text_pca import TextPCA
from intramodal.types import VectorTable, unit_rows
from tests.unit.evaluation import plain_kernels

SIZES = (3, 6, 9, 12, 20)


def clusters(rng: np.random.Generator, sizes=SIZES, d=24, noise=1.0) -> VectorTable:
    """Return classes "a", "b", ... of the given sizes around random centres, rows shuffled."""
    codes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = rng.normal(size=(len(sizes), d)) + 2.0  # a common cone, as embeddings have
    X = centres[codes] + noise * rng.normal(size=(len(codes), d)) * rng.uniform(0.2, 2.0, d)
    return VectorTable(
        ids=[f"{i:04d}" for i in range(len(codes))],
        vectors={"raw": X.astype(np.float32)},
        payload={"label": ["abcdefghij"[code] for code in codes]},
    )


class PooledShrinkage(BaseEstimator):
    """The estimator as scikit-learn takes it: applied to each class, then averaged.

    It is linear in the class covariance, so the average over classes is the estimate from the
    pooled one: cov = (S + tr(S) / (n - 1) I) / d with the scatter S = n mean(cov_k).
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def fit(self, X: np.ndarray) -> PooledShrinkage:
        d = X.shape[1]
        scatter = self.n * np.cov(X, rowvar=False, bias=True)
        self.covariance_ = (scatter + np.trace(scatter) / (self.n - 1) * np.eye(d)) / d
        return self


def sklearn_prototype(shots: np.ndarray, codes: np.ndarray) -> KNeighborsClassifier:
    means = np.stack([shots[codes == c].mean(axis=0) for c in np.unique(codes)])
    prototypes = means / np.linalg.norm(means, axis=1, keepdims=True)
    # NearestCentroid refuses classes without scatter, and scaled means are such.
    return KNeighborsClassifier(n_neighbors=1).fit(prototypes, np.unique(codes))


def sklearn_lda(shots: np.ndarray, codes: np.ndarray) -> LinearDiscriminantAnalysis:
    estimator = PooledShrinkage(len(shots))
    return LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=estimator).fit(
        shots, codes
    )


def plain_accuracy(task: FewshotTask, X: np.ndarray, n_shots: int, fit) -> list[float]:
    """Return the accuracy of every episode by a plain loop over episodes and images."""
    X = X.astype(np.float64) / np.linalg.norm(X, axis=1, keepdims=True)
    classes = [c for c in range(len(task.names)) if (task.codes == c).sum() > n_shots]
    found = []
    for draw in task.draws:
        shots = [row for c in classes for row in draw[c, :n_shots]]
        rest = [i for i in range(len(X)) if task.codes[i] in classes and i not in shots]
        model = fit(X[shots], task.codes[shots])
        found.append(float((model.predict(X[rest]) == task.codes[rest]).mean()))
    return found


@pytest.mark.parametrize(
    ("classifier", "oracle", "shots"),
    [("prototype", sklearn_prototype, (1, 2, 5, 8)), ("lda", sklearn_lda, (2, 5, 8))],
)
@pytest.mark.parametrize("d", [8, 64])  # fewer, and more, dimensions than shots in all
def test_accuracy_equals_scikit_learn_on_the_same_episodes(rng, classifier, oracle, shots, d):
    table = clusters(rng, d=d)
    task = FewshotTask.from_table(table, "label", shots=shots, n_episodes=6, seed=3)
    result = run_fewshot(task, table, "raw", [classifier])[classifier]
    for row, s in zip(result.accuracy, shots, strict=True):
        assert row.tolist() == pytest.approx(
            plain_accuracy(task, table.vectors["raw"], s, oracle), abs=1e-12
        )
    assert 0.3 < np.nanmean(result.accuracy) < 1.0  # neither trivial nor hopeless


def direct_lda(X: np.ndarray, shots: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return scores (n, K) by the published formula, in float64 and with an explicit inverse."""
    d = X.shape[1]
    groups = X[shots]
    means = groups.mean(axis=1)
    residuals = (groups - means[:, None]).reshape(-1, d)
    sigma = np.cov(residuals, rowvar=False)
    inverse = d * np.linalg.inv((shots.size - 1) * sigma + np.trace(sigma) * np.eye(d))
    W = means @ inverse
    return images @ W.T - 0.5 * (means * W).sum(axis=1) - np.log(len(means))


@pytest.mark.parametrize(("d", "n_classes", "n_shots"), [(40, 3, 2), (40, 8, 9), (12, 3, 4)])
def test_lda_scores_are_those_of_the_published_formula(rng, d, n_classes, n_shots):
    X = unit_rows(rng.normal(size=(n_classes * n_shots, d)) + 1.5)
    shots = rng.permutation(len(X)).reshape(n_classes, n_shots)
    W = fit_lda(X, shots).astype(np.float64)
    scores = X @ W[:, :-1].T + W[:, -1]
    expected = direct_lda(X.astype(np.float64), shots, X.astype(np.float64))
    # Only differences between classes mean anything; weights are stored as float32.
    for found in (scores, expected):
        found -= found[:, :1].copy()
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_with_one_shot_lda_is_the_prototype_classifier(rng):
    found = evaluate_fewshot(
        clusters(rng), vectors=["raw"], fields=["label"], shots=(1, 2), episodes=20
    )["label", "raw"]
    prototype, lda = found["prototype"], found["lda"]
    np.testing.assert_array_equal(lda.n_correct[0], prototype.n_correct[0])
    assert (lda.n_correct[1] != prototype.n_correct[1]).any()


@pytest.mark.parametrize("n_shots", [1, 2, 3])
def test_shots_without_scatter_make_lda_the_prototype_classifier(rng, n_shots):
    X = unit_rows(rng.normal(size=(3, 8)))
    shots = np.repeat(np.arange(3), n_shots).reshape(3, n_shots)
    np.testing.assert_array_equal(fit_lda(X, shots), fit_prototypes(X, shots))


@pytest.mark.parametrize("n_rows", [1, 7, 2048])
@pytest.mark.parametrize("d", [12, 30, 200])  # reached at 4 shots, at 8, never
def test_one_pass_over_nested_shots_fits_what_each_number_alone_does(rng, monkeypatch, d, n_rows):
    monkeypatch.setattr(classifiers, "_N_ROWS", n_rows)
    X = unit_rows(rng.normal(size=(64, d)) + 1.0)
    shots = rng.permutation(64).reshape(4, 16)
    kinds = [(name, s) for name in FITS for s in (1, 2, 4, 8, 16)]
    found = fit_nested(X, shots, kinds[::-1])[::-1]
    for W, (name, s) in zip(found, kinds, strict=True):
        expected = {"prototype": fit_prototypes, "lda": fit_lda}[name](X, shots[:, :s])
        np.testing.assert_allclose(W, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", [classification, plain_kernels])
def test_the_kernel_and_its_oracle_say_what_argmax_says(rng, kernel):
    scores = rng.integers(0, 3, size=(200, 3 * 5)).astype(np.float32)  # full of ties
    bias, truth = rng.integers(0, 2, 15).astype(np.float32), rng.integers(0, 5, 200)
    hits = np.empty((200, 3), dtype=bool)
    kernel.mark_hits(scores, bias, truth, hits)
    for p in range(3):
        own = slice(5 * p, 5 * p + 5)
        expected = [row[own].tolist().index(max(row[own])) for row in scores + bias]
        assert hits[:, p].tolist() == (np.array(expected) == truth).tolist()
    assert 0.1 < hits.mean() < 0.5


def test_a_run_on_the_oracle_gives_the_same_numbers(rng, monkeypatch):
    table = clusters(rng)
    compiled = evaluate_fewshot(table, vectors=["raw"], fields=["label"], episodes=5)[
        "label", "raw"
    ]
    monkeypatch.setattr(classification, "mark_hits", plain_kernels.mark_hits)
    by_oracle = evaluate_fewshot(table, vectors=["raw"], fields=["label"], episodes=5)[
        "label", "raw"
    ]
    for name, result in by_oracle.items():
        np.testing.assert_array_equal(result.n_correct, compiled[name].n_correct)


def test_shots_are_different_images_of_their_class_and_the_first_is_uniform(rng):
    task = FewshotTask.from_table(clusters(rng), "label", n_episodes=2000, shots=(2, 4, 12))
    for code, size in enumerate(SIZES):
        drawn = task.draws[:, code]
        there = drawn[:, : min(size, 12)]
        assert (task.codes[there] == code).all()
        assert all(len(set(row)) == len(row) for row in there[:50].tolist())
        assert (drawn[:, size:] == -1).all()
        counts = np.bincount(drawn[:, 0], minlength=len(task.codes))[task.codes == code]
        # Binomial counts; 4.5 standard deviations, over 50 images.
        assert abs(counts - 2000 / size).max() < 4.5 * np.sqrt(2000 / size * (1 - 1 / size))


def test_fewer_shots_are_the_first_of_more_and_fewer_episodes_the_first_of_more(rng):
    table = clusters(rng)
    few = FewshotTask.from_table(table, "label", shots=(2,), n_episodes=3, seed=5)
    many = FewshotTask.from_table(table, "label", shots=(1, 2, 8), n_episodes=7, seed=5)
    np.testing.assert_array_equal(few.draws, many.draws[:3, :, :2])
    assert many.shots == (1, 2, 8)


def test_same_seed_same_figures_and_another_seed_others(rng):
    table = clusters(rng)
    a, b, c = (
        evaluate_fewshot(table, vectors=["raw"], fields=["label"], seed=seed, episodes=10)[
            "label", "raw"
        ]["lda"]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a.accuracy, b.accuracy)
    assert (a.accuracy[:3] != c.accuracy[:3]).any()


def test_two_vectors_are_tested_on_the_same_episodes(rng):
    table = clusters(rng)
    table.vectors["noise"] = rng.normal(size=(len(table), 3)).astype(np.float32)
    a, b = (
        evaluate_fewshot(table, vectors=[v], fields=["label"], episodes=9)["label", v]["prototype"]
        for v in ("raw", "noise")
    )
    np.testing.assert_array_equal(a.n_tested, b.n_tested)
    assert (a.ids, a.labels) == (b.ids, b.labels)
    assert a.n_tested.std(axis=1)[0] > 0  # images differ in how often they were shots


@pytest.mark.parametrize("classifier", ["prototype", "lda"])
def test_rotations_and_lengths_of_vectors_change_nothing(rng, classifier):
    table = clusters(rng)
    Q = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    lengths = rng.uniform(0.1, 10.0, size=(len(table), 1))
    table.vectors["turned"] = (lengths * table.vectors["raw"] @ Q).astype(np.float32)
    a, b = (
        evaluate_fewshot(table, vectors=[v], fields=["label"], episodes=20)["label", v][classifier]
        for v in ("raw", "turned")
    )
    np.testing.assert_array_equal(a.n_correct, b.n_correct)


def test_no_image_is_tested_while_it_is_a_shot(rng):
    table = clusters(rng)
    task = FewshotTask.from_table(table, "label", shots=(1, 4), n_episodes=15)
    result = run_fewshot(task, table, "raw", ["prototype"])["prototype"]
    for row, s in enumerate((1, 4)):
        part = np.isin(task.codes, task.classes_at(s))
        shots = task.draws[:, task.classes_at(s), :s].ravel()
        n_drawn = np.bincount(shots, minlength=len(task.codes))
        np.testing.assert_array_equal(result.n_tested[row], (15 - n_drawn) * part)
    assert result.n_test.tolist() == [50 - 5, 47 - 4 * 4]


def test_random_vectors_are_classified_at_chance(rng):
    table = VectorTable(
        ids=list(range(2000)),
        vectors={"raw": rng.normal(size=(2000, 16)).astype(np.float32)},
        payload={"label": [str(i % 4) for i in range(2000)]},
    )
    found = evaluate_fewshot(table, vectors=["raw"], fields=["label"], shots=(1, 16), episodes=4)[
        "label", "raw"
    ]
    # Leaking shots into the test would show at 16 shots: 64 of 2000 right at once. Standard
    # deviation of an episode: sqrt(.25 * .75 / 1936) = .0098; 4 of them, episodes as one.
    for result in found.values():
        assert result.mean == pytest.approx([0.25, 0.25], abs=0.04)


def test_per_image_counts_add_up_to_episodes_and_classes(rng):
    result = evaluate_fewshot(clusters(rng), vectors=["raw"], fields=["label"], episodes=8)[
        "label", "raw"
    ]["lda"]
    for row in range(3):
        weights = result.n_test[row] * 8
        assert result.n_correct[row].sum() / weights == pytest.approx(result.mean[row])
        for k, name in enumerate(result.class_names):
            own = np.array(result.labels) == name
            if result.n_tested[row, own].sum():
                share = result.n_correct[row, own].sum() / result.n_tested[row, own].sum()
                assert result.class_accuracy[row, k] == pytest.approx(share)


def test_classes_without_enough_images_take_no_part_and_hopeless_shots_are_nan(rng):
    result = evaluate_fewshot(
        clusters(rng), vectors=["raw"], fields=["label"], shots=(16, 3, 12), episodes=4
    )["label", "raw"]["prototype"]
    assert result.shots == (3, 12, 16)
    assert result.extra["n_classes"] == [4, 1, 1]
    assert np.isfinite(result.accuracy[0]).all()
    assert np.isnan(result.accuracy[1:]).all()  # one class alone is no choice
    assert np.isnan(result.class_accuracy[0, 0])
    assert result.to_dict()["shots"]["16"]["accuracy"] is None
    assert result.n_pool[0] == np.mean(SIZES[1:])


def test_a_split_draws_shots_from_training_rows_and_tests_test_rows_only(rng):
    # In the test rows each class lies where the other one lies in training.
    n = 40
    codes = np.arange(n) % 2
    split = ["train" if i < 20 else "test" if i < 36 else "val" for i in range(n)]
    place = np.where(np.array(split) == "train", codes, 1 - codes)
    X = np.eye(2)[place] + 0.01 * rng.normal(size=(n, 2))
    table = VectorTable(list(range(n)), {"raw": X.astype(np.float32)}, {"label": codes.tolist()})
    task = FewshotTask.from_table(
        table, "label", shots=(1, 10, 11), n_episodes=5, seed=0, split=split
    )
    result = run_fewshot(task, table, "raw", ["prototype"])["prototype"]
    assert result.mean.tolist()[:2] == [0.0, 0.0]
    assert np.isnan(result.mean[2])
    assert result.ids == list(range(20, 36))
    assert result.n_tested[:2].tolist() == [[5] * 16] * 2
    assert result.n_pool.tolist()[:2] == [10.0, 10.0]
    assert result.extra["n_outside_split"] == 4
    assert result.extra["n_missing"] == 0


def test_a_test_share_tests_the_same_images_of_every_class_with_all_shots(rng):
    table = clusters(rng, sizes=(3, 6, 10, 40))
    table.payload["label"][:2] = None, None
    options = {"vectors": ["raw"], "fields": ["label"], "shots": (1, 2), "episodes": 4}
    a, b, c = (
        evaluate_fewshot(table, test_share=0.4, seed=seed, **options)["label", "raw"]["prototype"]
        for seed in (1, 1, 2)
    )
    labels = np.array([label for label in table.payload["label"] if label])
    for name in a.class_names:
        n_tested = max(1, round(0.4 * (labels == name).sum()))
        assert a.labels.count(name) == n_tested
    # Two training images are needed for two shots; every test image is tested in each episode.
    assert set(a.n_tested[0]) == {4}
    assert set(a.n_tested[1]) <= {0, 4}
    assert a.ids == b.ids
    np.testing.assert_array_equal(a.n_correct, b.n_correct)
    assert a.ids != c.ids
    assert a.extra["test_share"] == 0.4
    assert a.extra["n_missing"] == 2


def test_a_test_share_is_drawn_alike_from_each_class(rng):
    table = clusters(rng, sizes=(10, 20))
    n_drawn = np.zeros(30)
    for seed in range(400):
        task = FewshotTask.from_table(table, "label", n_episodes=1, seed=seed, test_share=0.3)
        n_drawn[task.rows[task.is_test]] += 1
        assert not task.is_test[task.draws[task.draws >= 0]].any()
    # Binomial, 400 draws at 0.3; 4.5 standard deviations, over 30 images.
    assert np.abs(n_drawn - 120).max() < 4.5 * np.sqrt(400 * 0.3 * 0.7)


def test_only_images_that_episodes_use_are_scaled_but_all_are_checked(rng, monkeypatch):
    monkeypatch.setattr(shots, "_N_ROWS", 7)
    table = clusters(rng)
    split = ["test" if i % 2 else "train" for i in range(50)]
    task = FewshotTask.from_table(
        table, "label", shots=(1,), n_episodes=2, split=split, n_validation=1
    )
    X, raw = task.images(table, "raw"), table.vectors["raw"][task.rows]
    used = np.union1d(task.draws[:, :, 0], task.validation[:, :, 0])
    used = np.union1d(used[used >= 0], np.flatnonzero(task.is_test))
    unused = np.setdiff1d(np.arange(len(X)), used)
    np.testing.assert_array_equal(X[used], unit_rows(raw)[used])
    assert len(unused) > 5
    assert not X[unused].any()
    table.vectors["raw"][task.rows[unused[-1]]] = np.inf
    with pytest.raises(InputError, match="NaN or infinity"):
        task.images(table, "raw")


def test_equal_scores_go_to_the_class_whose_name_comes_first():
    table = VectorTable(
        ids=list(range(12)),
        vectors={"raw": np.ones((12, 4), dtype=np.float32)},
        payload={"label": ["c", "b", "a"] * 4},
    )
    for result in evaluate_fewshot(table, vectors=["raw"], fields=["label"], shots=(1, 2))[
        "label", "raw"
    ].values():
        assert result.class_accuracy.tolist() == [[1.0, 0.0, 0.0]] * 2


@pytest.mark.parametrize(("n_columns", "n_scores"), [(1, 1), (7, 40)])
def test_block_sizes_change_nothing(rng, monkeypatch, n_columns, n_scores):
    table = clusters(rng)
    before = evaluate_fewshot(table, vectors=["raw"], fields=["label"], episodes=5)["label", "raw"]
    monkeypatch.setattr(fewshot, "_N_WEIGHTS", n_columns)
    monkeypatch.setattr(fewshot, "_N_COLUMNS", n_columns)
    monkeypatch.setattr(fewshot, "_N_SCORES", n_scores)
    after = evaluate_fewshot(table, vectors=["raw"], fields=["label"], episodes=5)["label", "raw"]
    for name, result in before.items():
        np.testing.assert_array_equal(result.n_correct, after[name].n_correct)
        np.testing.assert_array_equal(result.accuracy, after[name].accuracy)


def test_points_without_a_label_and_small_classes_are_left_out_and_counted(rng):
    table = clusters(rng)
    table.payload["label"][0] = None
    result = evaluate_fewshot(table, vectors=["raw"], fields=["label"], min_class_size=9)[
        "label", "raw"
    ]["prototype"]
    assert result.extra["n_missing"] == 1
    assert result.extra["n_dropped"] >= 8
    assert "0000" not in result.ids


HALF = np.arange(50) < 25


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fields": ["place"]}, "without the field 'place'"),
        ({"vectors": ["pca"]}, "without the vector 'pca', only with raw"),
        ({"classifiers": ["svm"]}, "no classifier 'svm'; choose from lda, prototype"),
        ({"shots": ()}, "shots must be whole numbers"),
        ({"shots": (0, 1)}, "shots must be whole numbers"),
        ({"shots": (1.5,)}, "shots must be whole numbers"),
        ({"episodes": 0}, "n_episodes"),
        ({"test_share": 0.0}, "test_share must lie between 0 and 1"),
        ({"test_share": 1.0}, "test_share must lie between 0 and 1"),
        ({"test_share": 0.5, "sides": (HALF, ~HALF)}, "leave out test_share"),
        ({"fields": ["tags"]}, "gives some points several classes"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(rng, options, words):
    table = clusters(rng)
    table.payload["tags"] = [["x", "y"]] + ["x", "y"] * 24 + ["x"]
    with pytest.raises(InputError, match=words):
        evaluate_fewshot(table, **{"vectors": ["raw"], "fields": ["label"], **options})


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (["train"] * 3, "split has 3 values for 50 points"),
        (["train"] * 50, "split names no 'test' row"),
    ],
)
def test_a_split_that_names_no_sides_is_refused(rng, split, words):
    with pytest.raises(InputError, match=words):
        FewshotTask.from_table(clusters(rng), "label", split=split)


def test_nan_is_refused(rng):
    table = clusters(rng)
    table.vectors["raw"][3, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        evaluate_fewshot(table, vectors=["raw"], fields=["label"])["label", "raw"]


# Nearest prototype, %, at 1, 4 and 16 shots on raw and on PCA← vectors, from an independent
# implementation and 50 draws of its own; classes of fewer than 5 images left out. With 5000 draws
# of ours the 54 differences have a standard deviation of 1.05 of their standard errors; the
# largest, subCategory on raw at 4 shots (72.8), has 2.96, as the largest of 54 has in one of seven
# cases. It is chance: a plain loop with other draws gives 72.8, too, and no other protocol (other
# metric, class sizes, centring, macro mean) moves this figure alone.
REFERENCE = {
    "cifar": ((57.1, 79.9, 87.4), (72.9, 88.2, 92.0)),
    "masterCategory": ((74.9, 92.5, 97.3), (77.7, 93.3, 97.3)),
    "subCategory": ((51.5, 70.9, 90.9), (57.9, 75.2, 91.8)),
    "articleType": ((51.6, 69.7, 82.1), (56.0, 72.3, 83.3)),
    "baseColour": ((9.9, 15.7, 32.3), (10.9, 18.5, 36.4)),
    "year": ((26.3, 34.9, 43.2), (25.4, 34.8, 43.4)),
    "season": ((42.1, 49.7, 53.4), (42.7, 49.2, 52.2)),
    "gender": ((27.2, 49.1, 69.6), (28.3, 42.2, 63.5)),
    "usage": ((34.6, 55.0, 69.1), (29.5, 50.2, 63.6)),
}


@pytest.fixture(scope="module")
def real_tables(real_data) -> dict[str, VectorTable]:
    cifar, fashion = real_data / "cifar10-500-clip-b32", real_data / "fashion988-clip-b32"
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    labels = np.load(cifar / "image_labels.npy").tolist()
    with (fashion / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = np.load(fashion / "image_embeddings.npy")[: len(rows)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    fitted = TextPCA(256).fit(texts)
    found = {}
    for name, X, payload in (
        ("cifar", np.load(cifar / "image_embeddings.npy"), {"cifar": labels}),
        ("fashion", images, columns),
    ):
        raw = unit_rows(X)
        vectors = {"raw": raw, "pca": fitted.transform(raw)}
        found[name] = VectorTable(list(range(len(raw))), vectors, payload)
    return found


@pytest.mark.real_data
@pytest.mark.parametrize("field", REFERENCE)
def test_prototype_accuracy_on_real_vectors_is_that_of_the_reference(real_tables, field):
    table = real_tables["cifar" if field == "cifar" else "fashion"]
    for vector, expected in zip(("raw", "pca"), REFERENCE[field], strict=True):
        found = evaluate_fewshot(
            table,
            vectors=[vector],
            fields=[field],
            classifiers=["prototype"],
            shots=(1, 4, 16),
            episodes=500,
            min_class_size=5,
        )[field, vector]["prototype"]
        spread = found.accuracy.std(axis=1, ddof=1)
        # The reference is itself a mean of 50 draws, printed to 0.05 points.
        tolerance = 3 * spread * np.sqrt(1 / 50 + 1 / 500) + 0.0005
        assert (np.abs(found.mean - np.array(expected) / 100) <= tolerance).all(), found
