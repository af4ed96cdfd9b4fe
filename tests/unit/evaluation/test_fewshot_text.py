"""Few-shot accuracy with text: the episodes of `evaluate_fewshot`, and nothing tuned on tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import InputError, MismatchError
from intramodal.evaluation.fewshot import FewshotResult, evaluate_fewshot, run_fewshot
from intramodal.evaluation.fewshot_text import METHODS, evaluate_fewshot_text, run_fewshot_text
from intramodal.evaluation.rivals import base as episodes
from intramodal.evaluation.rivals.class_texts import ClassTexts, ClassWords, read_texts
from intramodal.evaluation.shots import FewshotTask
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.projection.text_pca import TextPCA
from intramodal.types import VectorTable, unit_rows
from tests.unit.evaluation.plain_text_methods import plain_method

NAMES = ["a", "b", "c", "d"]
SIZES = (7, 9, 12, 20)
D = 16


def scene(rng: np.random.Generator, noise: float = 1.2) -> tuple[VectorTable, ClassTexts]:
    """Return four classes of `SIZES` images, shuffled, and texts near them."""
    codes = rng.permutation(np.repeat(np.arange(4), SIZES))
    centres = rng.normal(size=(4, D))
    X = centres[codes] + noise * rng.normal(size=(len(codes), D)) + 1.0
    vectors = {"raw": X.astype(np.float32), "half": X[:, :8].astype(np.float32)}
    table = VectorTable(list(range(len(X))), vectors, {"label": [NAMES[c] for c in codes]})
    W = centres + 0.8 * rng.normal(size=(4, D)) - 0.5
    # In another order than the labels', and with a class that no image has.
    return table, ClassTexts.from_arrays(["d", "e", "c", "b", "a"], W[[3, 0, 2, 1, 0]])


def run(table: VectorTable, texts: ClassTexts, **options) -> dict[str, FewshotResult]:
    renamed = {"n_episodes": "episodes", "n_validation": "validation"}
    defaults = {"episodes": 4, "shots": (1, 2, 4)}
    options = {renamed.get(name, name): value for name, value in options.items()}
    by = options.pop("image_vector", None)
    options["by"] = [] if by is None else [by]
    options["fields"] = [options.pop("field", "label")]
    found = evaluate_fewshot_text(table, texts=texts, **{**defaults, **options})
    return {result.classifier: result for result in found}


def test_zero_shot_is_the_nearest_text_whatever_the_shots(rng):
    table, texts = scene(rng)
    X, W = table.vectors["raw"], texts.W[[4, 3, 2, 0]]
    nearest = [NAMES[i] for i in (X @ W.T).argmax(axis=1)]
    is_right = np.array(nearest) == np.array(table.payload["label"])
    found = run(table, texts, methods=["zero-shot"], n_validation=0, shots=(1, 4))["zero-shot"]
    np.testing.assert_array_equal(found.n_correct, found.n_tested * is_right)
    assert 0.2 < is_right.mean() < 1.0


@pytest.mark.parametrize("n_validation", [0, 2])
def test_the_same_shots_are_drawn_as_without_text(rng, n_validation):
    table, texts = scene(rng)
    plain = FewshotTask.from_table(table, "label", shots=(1, 2, 4), n_episodes=5, seed=3)
    tuned = FewshotTask.from_table(
        table, "label", shots=(1, 2, 4), n_episodes=5, seed=3, n_validation=n_validation
    )
    np.testing.assert_array_equal(plain.draws, tuned.draws)
    found = run_fewshot_text(tuned, table, texts, "raw", ["prototype", "ape", "zero-shot"])
    expected = run_fewshot(tuned, table, "raw", ["prototype"])["prototype"]
    for result in found.values():
        assert (result.ids, result.labels) == (expected.ids, expected.labels)
        np.testing.assert_array_equal(result.n_tested, expected.n_tested)
    np.testing.assert_array_equal(found["prototype"].n_correct, expected.n_correct)


def test_without_validation_images_the_tests_are_those_of_evaluate_fewshot(rng):
    table, texts = scene(rng)
    plain = evaluate_fewshot(
        table, vectors=["raw"], fields=["label"], shots=(1, 2, 4), episodes=4
    )["label", "raw"]
    found = run(table, texts, methods=["tip-adapter"], n_validation=0)["tip-adapter"]
    np.testing.assert_array_equal(found.n_tested, plain["prototype"].n_tested)


def test_validation_images_are_neither_shots_nor_tested(rng):
    table, _ = scene(rng)
    task = FewshotTask.from_table(table, "label", shots=(1, 3), n_episodes=30, n_validation=3)
    result = run_fewshot(task, table, "raw", ["prototype"])["prototype"]
    for e in range(30):
        for k in range(4):
            assert (task.codes[task.validation[e, k]] == k).all()
            assert len({*task.draws[e, k].tolist(), *task.validation[e, k].tolist()}) == 6
    used = np.concatenate([task.draws, task.validation], axis=2)
    n_used = np.bincount(used.ravel(), minlength=len(task.codes))
    np.testing.assert_array_equal(result.n_tested[1], 30 - n_used)
    assert result.n_test.tolist() == [48 - 4 * 4, 48 - 4 * 6]
    assert result.extra["n_validation"] == 3


def test_fewer_episodes_are_the_first_of_more(rng):
    table, texts = scene(rng)
    few, many = (
        run(table, texts, methods=["coder"], n_episodes=n, n_validation=2)["coder"] for n in (2, 4)
    )
    np.testing.assert_array_equal(few.accuracy, many.accuracy[:, :2])
    for s in ("1", "2", "4"):
        for name, values in few.extra["parameters"][s].items():
            assert values == many.extra["parameters"][s][name][:2]


def test_classes_that_cannot_spare_validation_images_take_no_part(rng):
    table, texts = scene(rng)
    found = run(table, texts, methods=["lda+text"], shots=(2, 4, 8, 16), n_validation=4)[
        "lda+text"
    ]
    # 7, 9, 12, 20 images: s shots, four that tune, and one to test at least.
    assert found.extra["n_classes"] == [4, 3, 1, 0]
    assert np.isnan(found.accuracy[2:]).all()
    assert np.isfinite(found.accuracy[:2]).all()
    assert found.extra["parameters"]["8"] == {}
    assert found.extra["reasons"] == [
        *(None, None),
        *(
            f"{n} of 4 classes have enough images ({s} for shots, 4 to tune, 1 to test), and two "
            f"are needed; give fewer shots"
            for n, s in ((1, 8), (0, 16))
        ),
    ]


def test_a_test_share_keeps_shots_and_tuning_out_of_the_tests(rng):
    table, texts = scene(rng)
    task = FewshotTask.from_table(
        table, "label", shots=(1, 2), n_episodes=6, test_share=0.5, n_validation=1
    )
    for drawn in (task.draws, task.validation):
        assert not task.is_test[drawn[drawn >= 0]].any()
    found = run(
        table,
        texts,
        methods=["tip-adapter"],
        shots=(1, 2),
        n_episodes=6,
        n_validation=1,
        test_share=0.5,
    )["tip-adapter"]
    assert found.ids == [table.ids[row] for row in task.rows[task.is_test]]
    assert set(found.n_tested.ravel()) == {6}


def test_a_split_may_name_the_images_that_tune(rng):
    table, texts = scene(rng)
    split = ["val" if i % 3 == 0 else "train" if i % 3 == 1 else "test" for i in range(48)]
    options = {"shots": (1, 2), "n_episodes": 6, "split": split}
    task = FewshotTask.from_table(table, "label", n_validation=2, **options)
    without = FewshotTask.from_table(table, "label", **options)
    sides = np.array(split)[task.rows]
    for drawn, side in ((task.validation, "val"), (task.draws, "train")):
        assert set(sides[drawn[drawn >= 0]]) == {side}
    there = task.draws >= 0
    np.testing.assert_array_equal(there, without.draws >= 0)
    shots = task.rows[task.draws[there]]
    np.testing.assert_array_equal(shots, without.rows[without.draws[there]])
    found = run_fewshot_text(task, table, texts, "raw", ["tip-adapter"])["tip-adapter"]
    assert found.ids == [i for i in range(48) if i % 3 == 2]
    assert found.extra["n_outside_split"] == 0


@pytest.mark.parametrize("name", METHODS)
def test_accuracy_is_that_of_a_plain_loop_over_episodes(rng, name):
    table, texts = scene(rng)
    task = FewshotTask.from_table(table, "label", shots=(3,), n_episodes=3, n_validation=2)
    found = run_fewshot_text(task, table, texts, "raw", [name], image_vector="half")[name]
    assert_plain(found, task, table, texts, "half")


def assert_plain(
    found: FewshotResult, task: FewshotTask, table: VectorTable, texts: ClassTexts, by: str
) -> None:
    """Compare the accuracy at the first number of shots with loops in float64."""
    s = found.shots[0]
    classes = task.classes_at(s)
    X, Z = (unit_rows(table.vectors[name][task.rows]) for name in ("raw", by))
    known = [texts.names.index(task.names[k]) for k in classes]
    for e, accuracy in enumerate(found.accuracy[0]):
        shots, spared = task.draws[e, classes, :s], task.validation[e, classes]
        out = {*shots.ravel().tolist(), *spared.ravel().tolist()}
        tested = [i for i in range(len(X)) if i not in out and task.codes[i] in classes]
        rows = np.concatenate([np.flatnonzero(texts.owners == k) for k in known])
        seen = episodes.Episode(
            X=X,
            Z=Z,
            W=texts.W[known],
            bank=texts.bank[rows],
            owners=np.array([known.index(owner) for owner in texts.owners[rows]]),
            is_name=texts.is_name[rows],
            shots=shots,
            validation=spared[:, : min(s, 4)],
            tested=np.array(tested),
            preset="imagenet",
        )
        constants = {k: v[e] for k, v in found.extra["parameters"][str(s)].items()}
        logits = plain_method(found.classifier, seen, seen.tested)(constants)
        right = classes[logits.argmax(axis=1)] == task.codes[tested]
        assert accuracy == pytest.approx(right.mean(), abs=1e-12)


def test_what_linear_classifiers_compare_images_by_is_named(rng):
    table, texts = scene(rng)
    methods = ["prototype+text", "tip-adapter", "prototype"]
    found = run(table, texts, methods=methods, n_validation=2, image_vector="half")
    assert [r.vector for r in found.values()] == ["half", "raw", "half"]
    assert list(found) == methods
    assert found["prototype+text"].extra["text_vector"] == "raw"
    raw = run(table, texts, methods=methods, n_validation=2)
    assert (raw["prototype+text"].n_correct != found["prototype+text"].n_correct).any()
    np.testing.assert_array_equal(raw["tip-adapter"].n_correct, found["tip-adapter"].n_correct)


@pytest.mark.parametrize("name", METHODS)
def test_block_sizes_change_nothing(rng, monkeypatch, name):
    table, texts = scene(rng)
    before = run(table, texts, methods=[name], n_validation=2)[name]
    monkeypatch.setattr(episodes, "_N_AFFINITIES", 1)
    after = run(table, texts, methods=[name], n_validation=2)[name]
    np.testing.assert_array_equal(before.n_correct, after.n_correct)


def test_results_are_json_and_keep_the_constants(rng):
    table, texts = scene(rng)
    found = run(table, texts, methods=["ape"], n_validation=2)["ape"]
    values = json.loads(json.dumps(found.to_dict()))
    assert values["extra"]["preset"] == "imagenet"
    assert len(values["extra"]["parameters"]["4"]["gamma"]) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": ["svm"]}, "no method 'svm'; choose from ape, coder, coder-zero-shot, lda"),
        ({"methods": []}, "methods is empty"),
        ({"preset": "cifar"}, "no preset 'cifar'; choose from caltech101"),
        ({"n_validation": -1}, "n_validation must be a whole number from 0"),
        ({"n_validation": 0}, "tip-x has no published constants"),
        ({"shots": (0,)}, "shots must be whole numbers"),
        ({"vector": "pca"}, "without the vector 'pca'"),
        ({"image_vector": "pca"}, "without the vector 'pca'"),
        ({"field": "place"}, "without the field 'place'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_sentence(rng, options, words):
    table, texts = scene(rng)
    with pytest.raises(InputError, match=words):
        run(table, texts, **options)


def test_texts_of_another_model_or_without_a_class_are_refused(rng):
    table, texts = scene(rng)
    with pytest.raises(MismatchError, match="16 dimensions and vector 'half' has 8"):
        run(table, texts, vector="half")
    few = ClassTexts.from_arrays(["a", "b"], texts.W[:2])
    with pytest.raises(InputError, match="2 of 4 classes have no text, among them 'c'"):
        run(table, few)


def test_a_class_is_the_mean_of_its_unit_prompts():
    encoder = load_encoder("demo", device="cpu")
    found = ClassTexts.encode(
        encoder,
        ["dog", "red apple"],
        templates=["a photo of a {}.", "{}"],
        words={"dog": ClassWords(("puppy",), ("an animal that barks", "four legs"))},
    )

    def mean(name: str) -> np.ndarray:
        embedded = unit_rows(encoder.encode_texts([f"a photo of a {name}.", name]))
        return unit_rows(embedded.mean(axis=0, keepdims=True))[0]

    expected = [mean("dog"), mean("puppy")]
    expected += [*unit_rows(encoder.encode_texts(["an animal that barks", "four legs"]))]
    expected.append(mean("red apple"))
    np.testing.assert_allclose(found.bank, expected, atol=1e-6)  # other batches
    np.testing.assert_array_equal(found.W, found.bank[[0, 4]])
    assert found.owners.tolist() == [0, 0, 0, 0, 1]
    assert found.is_name.tolist() == [True, True, False, False, True]
    part = found.of(["red apple", "dog"])
    assert (part.names, part.owners.tolist()) == (["red apple", "dog"], [0, 1, 1, 1, 1])
    np.testing.assert_array_equal(part.bank, found.bank[[4, 0, 1, 2, 3]])
    assert part.is_name.tolist() == [True, True, True, False, False]


def test_texts_that_cannot_serve_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="different"):
        ClassTexts.from_arrays(["a", "a"], np.eye(2))
    with pytest.raises(InputError, match=r"shape \(3, d\), got \(2, 2\)"):
        ClassTexts.from_arrays(["a", "b", "c"], np.eye(2))
    with pytest.raises(InputError, match="zero row"):
        ClassTexts.from_arrays(["a", "b"], np.zeros((2, 2)))
    with pytest.raises(InputError, match="the texts of class 'b' must have the shape"):
        ClassTexts.from_arrays(["a", "b"], np.eye(2), {"b": np.ones(2)})
    with pytest.raises(InputError, match="class 'b' have 3 dimensions and the classes 2"):
        ClassTexts.from_arrays(["a", "b"], np.eye(2), synonyms={"b": np.ones((1, 3))})
    with pytest.raises(InputError, match="templates need"):
        ClassTexts.encode(load_encoder("demo", device="cpu"), ["a"], templates=["a photo"])
    file = tmp_path / "texts.json"
    for content in (
        *("[", "[]", '{"a": []}', '{"a": [1]}', '{"a": "text"}', '{"a": [" "]}', '{"a": {}}'),
        *('{"a": {"names": "b"}}', '{"a": {"synonyms": ["b"]}}', '{"a": {"attributes": []}}'),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=r"JSON|write \{\"class\": \["):
            read_texts(file)


def test_texts_are_read_as_attributes_or_in_both_kinds(tmp_path: Path):
    file = tmp_path / "texts.json"
    file.write_text('{"a": ["one", "two"], "b": {"names": ["three"]}, "c": {"attributes": ["d"]}}')
    assert read_texts(file) == {
        "a": ClassWords(attributes=("one", "two")),
        "b": ClassWords(names=("three",)),
        "c": ClassWords(attributes=("d",)),
    }


def test_coder_describes_pictures_by_names_and_attributes_alike(rng):
    table, texts = scene(rng)
    more = {"a": rng.normal(size=(2, D)), "c": rng.normal(size=(1, D))}
    told = ClassTexts.from_arrays(texts.names, texts.W, more, {"d": rng.normal(size=(2, D))})
    task = FewshotTask.from_table(table, "label", shots=(3,), n_episodes=3, n_validation=2)
    for name in ("coder", "coder-zero-shot"):
        found = run_fewshot_text(task, table, told, "raw", [name])[name]
        assert_plain(found, task, table, told, "raw")
        plain = run_fewshot_text(task, table, texts, "raw", [name])[name]
        assert (found.n_correct != plain.n_correct).any()


# Classes of CIFAR-10 by names of ImageNet classes that they consist of; deer have none.
CIFAR = {
    0: ["airliner", "warplane"],
    1: ["beach wagon", "convertible", "limousine", "minivan", "sports car", "cab", "jeep"],
    2: ["cock", "robin", "jay", "magpie", "ostrich", "goose", "flamingo", "pelican", "toucan"],
    3: ["tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"],
    5: ["Chihuahua", "beagle", "collie", "Rottweiler", "boxer", "pug", "Samoyed", "toy poodle"],
    6: ["bullfrog", "tree frog", "tailed frog"],
    7: ["sorrel", "horse cart"],
    8: ["container ship", "liner", "aircraft carrier", "schooner", "fireboat", "speedboat"],
    9: ["trailer truck", "moving van", "garbage truck", "tow truck", "fire engine", "pickup"],
}


@pytest.fixture(scope="module")
def cifar(real_data) -> tuple[VectorTable, ClassTexts]:
    folder, texts = real_data / "cifar10-500-clip-b32", real_data / "imagenet-text-clip-b32"
    names = [n.split(",")[0] for n in json.loads((texts / "class_names.json").read_text())]
    T = unit_rows(np.load(texts / "a_photo_of_a_X.npy"))
    labels = np.load(folder / "image_labels.npy")
    rows = np.flatnonzero(labels != 4)
    raw = unit_rows(np.load(folder / "image_embeddings.npy"))[rows]
    table = VectorTable(
        rows.tolist(),
        {"raw": raw, "pca": TextPCA(256).fit(T).transform(raw)},
        {"label": [str(label) for label in labels[rows]]},
    )
    bank = {str(k): T[[names.index(name) for name in group]] for k, group in CIFAR.items()}
    W = np.stack([part.mean(axis=0) for part in bank.values()])
    return table, ClassTexts.from_arrays(list(bank), W, bank)


@pytest.mark.real_data
@pytest.mark.parametrize("name", METHODS)
def test_accuracy_on_real_vectors_is_that_of_a_plain_loop(cifar, name):
    table, texts = cifar
    task = FewshotTask.from_table(table, "label", shots=(2,), n_episodes=1, n_validation=4)
    found = run_fewshot_text(task, table, texts, "raw", [name], image_vector="pca")[name]
    assert_plain(found, task, table, texts, "pca")


@pytest.mark.real_data
def test_shots_add_to_the_texts_and_projecting_helps_class_means_on_cifar(cifar):
    table, texts = cifar
    methods = ["zero-shot", "tip-x", "lda+text", "prototype+text", "prototype"]
    raw, pca = (run(table, texts, methods=methods, shots=(16,), n_episodes=8, image_vector=by)
                for by in (None, "pca"))  # fmt: skip
    # Paired over episodes: 3.3 to 9.8 standard errors on these 450 images.
    gains = [raw[name].accuracy - raw["zero-shot"].accuracy for name in methods[1:4]]
    gains += [pca[name].accuracy - raw[name].accuracy for name in methods[3:]]
    for gain in gains:
        assert gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(gain.size), gain
