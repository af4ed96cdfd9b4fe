"""The verdict: populations, outcomes, sentences, refusals, and the real collections."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from intramodal.errors import InputError, QueryMismatchError
from intramodal.evaluation.compare import compare
from intramodal.evaluation.fewshot import evaluate_fewshot, run_fewshot
from intramodal.evaluation.intervals import group_jackknife
from intramodal.evaluation.resampling import Resampling, choose_population
from intramodal.evaluation.result_pair import compare_results
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.shots import FewshotTask
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.projection.text_pca import TextPCA
from intramodal.types import VectorTable, unit_rows

RETRIEVAL = {"tasks": ("retrieval",)}


def clustered(
    rng: np.random.Generator, labels: np.ndarray, noise: float, dim: int = 16
) -> np.ndarray:
    """Return vectors around one centre a class."""
    centres = np.random.default_rng(0).normal(size=(int(labels.max()) + 1, dim))
    return np.asarray(centres[labels] + noise * rng.normal(size=(len(labels), dim)), np.float32)


def two_vectors(
    rng: np.random.Generator, *, n: int = 120, n_classes: int = 6, noise: tuple[float, float]
) -> VectorTable:
    labels = np.arange(n) % n_classes
    a, b = (clustered(rng, labels, sigma) for sigma in noise)
    payload: dict[str, list[Any]] = {
        "label": [f"class {c}" for c in labels],
        "shop": [f"shop {i % 15}" for i in range(n)],
        "rare": [None if i % 3 else f"x{i % 2}" for i in range(n)],
        "same": ["x"] * n,
        "tags": [[f"class {c}", f"kind {c % 3}"] for c in labels],
    }
    return VectorTable(list(range(n)), {"raw": a, "pca": b}, payload)


def field(
    found: VectorTable, settings: dict[str, Any] = RETRIEVAL, name: str = "label"
) -> dict[str, Any]:
    comparison = compare(found, "raw", "pca", fields=[name], **settings)
    row: dict[str, Any] = comparison.to_dict()["fields"][name]
    return row


def test_a_clearly_better_vector_is_adopted_and_the_mirror_is_not(
    rng: np.random.Generator,
) -> None:
    better = field(two_vectors(rng, noise=(2.0, 0.8)), {})
    worse = field(two_vectors(rng, noise=(0.8, 2.0)), {})
    assert (better["verdict_retrieval"], better["verdict_fewshot"]) == ("better", "better")
    assert (worse["verdict_retrieval"], worse["verdict_fewshot"]) == ("worse", "worse")
    assert better["sentence"].startswith("Adopt pca: better. mAP rises from")
    assert worse["sentence"].startswith("Do not adopt pca: worse. mAP falls from")
    assert "new images of the same 6 classes (120 queries)" in better["sentence"]


def test_the_figures_are_those_of_the_two_results(rng: np.random.Generator) -> None:
    found = two_vectors(rng, noise=(2.0, 1.5))
    row = field(found)
    a, b = (
        evaluate_retrieval(found, vectors=[v], fields=["label"])["label", v]
        for v in ("raw", "pca")
    )
    assert row["map"] == {"raw": a.map, "pca": b.map}
    assert row["delta"] == pytest.approx(b.map - a.map, abs=1e-12)
    assert row["wins"] == int((b.ap > a.ap + 1e-9).sum())
    assert row["wins"] + row["ties"] + row["losses"] == row["n_queries"] == 120


def test_image_groups_are_left_out_as_queries_and_as_gallery(rng: np.random.Generator) -> None:
    """The jackknife over a payload field equals ranking again without each of its values."""
    found = two_vectors(rng, noise=(2.0, 1.5))
    shops = np.array([int(str(s).split()[1]) for s in found.payload["shop"]])
    row = field(found, {"tasks": ("retrieval",), "resampling": Resampling("shop")})

    def difference(rows: np.ndarray) -> float:
        part = found.take(rows)
        a, b = (
            evaluate_retrieval(part, vectors=[v], fields=["label"])["label", v].map
            for v in ("raw", "pca")
        )
        return b - a

    without = [difference(np.flatnonzero(shops != g)) for g in range(15)]
    expected = group_jackknife(row["delta"], np.array(without), np.bincount(shops).astype(float))
    np.testing.assert_allclose(row["interval"], expected.interval, atol=1e-12)
    assert row["population"] == "shop"
    assert "other values of shop like these 15" in row["sentence"]


def test_the_default_population_depends_on_the_number_of_classes(rng: np.random.Generator) -> None:
    few = field(two_vectors(rng, n_classes=19, noise=(2.0, 1.5)))
    many = field(two_vectors(rng, n_classes=20, noise=(2.0, 1.5)))
    assert (few["population"], many["population"]) == ("images", "classes")
    assert "other classes like these 20" in many["sentence"]


def test_independent_queries_are_labelled_as_what_they_are_not(rng: np.random.Generator) -> None:
    row = field(
        two_vectors(rng, noise=(2.0, 1.9)),
        {"tasks": ("retrieval",), "resampling": Resampling("iid")},
    )
    assert row["population"] == "iid"
    assert "which they are not" in row["sentence"]


def test_the_same_call_twice_gives_the_same_figures(rng: np.random.Generator) -> None:
    found = two_vectors(rng, noise=(2.0, 1.9))
    assert field(found, {"seed": 5}) == field(found, {"seed": 5})


def test_pictures_are_left_out_one_by_one_whatever_the_seed(rng: np.random.Generator) -> None:
    found = two_vectors(rng, noise=(2.0, 1.9))
    first, second = (field(found, {"tasks": ("retrieval",), "seed": seed}) for seed in (0, 5))
    assert first == second
    without = []
    for left in range(120):
        part = found.take(np.delete(np.arange(120), left))
        a, b = (
            evaluate_retrieval(part, vectors=[v], fields=["label"])["label", v].map
            for v in ("raw", "pca")
        )
        without.append(b - a)
    expected = group_jackknife(first["delta"], np.array(without), np.ones(120))
    np.testing.assert_allclose(first["interval"], expected.interval, atol=1e-10)


def test_several_fields_are_adjusted_for_their_number(rng: np.random.Generator) -> None:
    found = two_vectors(rng, noise=(2.0, 1.9))
    fields = compare(found, "raw", "pca", fields=["label", "shop"], **RETRIEVAL).to_dict()[
        "fields"
    ]
    first, second = sorted(fields.values(), key=lambda row: row["p_value"])
    assert first["p_adjusted"] == pytest.approx(min(1, 2 * first["p_value"]))
    assert second["p_adjusted"] >= second["p_value"]


def test_the_object_holds_json_values_with_the_documented_keys(rng: np.random.Generator) -> None:
    row = field(two_vectors(rng, noise=(2.0, 1.9)), {})
    json.dumps(row, allow_nan=False)
    assert list(row) == [
        *("map", "map_by_distance", "label_evidence", "delta", "interval", "population"),
        *("p_value", "p_adjusted"),
        *("n_queries", "n_classes", "effective_classes", "wins", "ties", "losses"),
        *("verdict_retrieval", "fewshot", "verdict_fewshot", "verdict", "brief"),
        "sentence",
        *("p_better", "p_not_worse", "p_worse", "pieces", "first_page", "duplicates", "others"),
        "next_maps",
    ]
    assert list(row["pieces"]) == ["map", "first", "fewshot"]
    assert list(row["first_page"]) == ["ndcg@10", "precision@10", "precision@1"]
    assert set(row["fewshot"]["prototype"]["1"]) == {"a", "b", "delta", "interval"}


def test_a_multi_valued_field_is_compared_by_pictures(rng: np.random.Generator) -> None:
    row = field(two_vectors(rng, n_classes=30, noise=(2.0, 1.9)), {}, "tags")
    assert row["population"] == "images"
    assert (row["fewshot"], row["verdict_fewshot"]) == (None, "inconclusive")


def test_evidence_that_cannot_be_had_decides_nothing(rng: np.random.Generator) -> None:
    """Retrieval alone is enough for better and worse, or where it alone was asked for."""
    found = two_vectors(rng, n_classes=30, noise=(2.0, 2.0))
    found.vectors["pca"] = found.vectors["raw"]
    both = field(found, {}, "tags")
    assert (both["verdict_retrieval"], both["verdict"]) == ("not_worse", "inconclusive")
    assert "Few-shot accuracy needs one value per image" in both["sentence"]
    assert "the task retrieval judges without it" in both["sentence"]
    assert field(found, RETRIEVAL, "tags")["verdict"] == "not_worse"
    shots = field(found, {"tasks": ("fewshot",)})
    assert [shots[key] for key in ("delta", "interval", "p_value", "p_adjusted")] == [None] * 4
    assert shots["verdict_retrieval"] == "inconclusive"
    assert shots["verdict"] == shots["verdict_fewshot"] == "not_worse"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_tested", [1, 4, 5])
def test_few_shot_accuracy_of_too_few_test_pictures_is_not_there_and_that_is_said(
    rng: np.random.Generator, n_tested: int
) -> None:
    """Issue 20: an accuracy of no picture was NaN, and ended the comparison with a traceback."""
    found = two_vectors(rng, n=40, n_classes=4, noise=(2.0, 2.0))
    row = field(found, {"tasks": ("fewshot",), "max_queries": n_tested})
    json.dumps(row, allow_nan=False)
    assert (row["fewshot"] is None) == (n_tested < 5)
    assert ("test images of at least 5 units" in row["sentence"]) == (n_tested < 5)


def test_what_is_not_settled_says_how_much_would_tell(rng: np.random.Generator) -> None:
    row = field(two_vectors(rng, n=60, noise=(2.0, 2.0)))
    assert row["verdict"] == "inconclusive"
    assert row["sentence"].startswith("Nothing settled: ")
    needs = row["pieces"]["map"]["needs"]
    assert f"about {needs:,} queries would tell" in row["sentence"]
    assert needs > row["n_queries"]


def test_five_classes_that_decide_nothing_still_say_how_many_would(
    rng: np.random.Generator,
) -> None:
    """How far five classes spread is known, and so how many of their kind would tell."""
    found = two_vectors(rng, n_classes=5, noise=(2.0, 1.9))
    row = field(found, {"tasks": ("retrieval",), "resampling": Resampling("class")})
    assert row["verdict"] == "inconclusive"
    a, b = (
        evaluate_retrieval(found, vectors=[v], fields=["label"])["label", v]
        for v in ("raw", "pca")
    )
    means = np.array([b.class_mean()[c][0] - a.class_mean()[c][0] for c in a.class_mean()])
    piece = row["pieces"]["map"]
    assert piece["delta"] == pytest.approx(means.mean())
    # Two pieces of one field are tested for a gain; the guard is excluded by itself.
    power = stats.norm.isf(0.2)
    ways = [(abs(means.mean()), 0.025 / 2), (means.mean() + 0.01, 0.025)]
    expected = min(
        ((stats.norm.isf(p) + power) * means.std(ddof=1) / distance) ** 2 for distance, p in ways
    )
    assert piece["needs"] == max(6, int(np.ceil(expected)))
    assert piece["needs_unit"] == "classes"


def test_of_many_images_some_ask_unless_all_are_to(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intramodal.evaluation.compare.ALL_ASK", 100)
    monkeypatch.setattr("intramodal.evaluation.compare.DRAWN_QUERIES", 30)
    found = two_vectors(rng, noise=(2.0, 1.5))
    drawn = compare(found, fields=["label"])
    assert (drawn.max_queries, drawn.to_dict()["max_queries"]) == (30, 30)
    assert len(drawn.fields["label"].differences) == 30
    assert compare(found, fields=["label"], max_queries=50).max_queries == 50
    every = compare(found, fields=["label"], all_queries=True)
    assert (every.max_queries, len(every.fields["label"].differences)) == (None, 120)


def test_queries_and_gallery_can_be_apart_for_all_pieces(rng: np.random.Generator) -> None:
    """The same figures as the job of each task gives on these sides."""
    found = two_vectors(rng, noise=(2.0, 1.5))
    found.payload["split"] = ["test" if i % 4 == 0 else "train" for i in range(120)]
    row = field(found, {"sides": "split"})
    expected = evaluate_retrieval(found, vectors=["raw", "pca"], fields=["label"], sides="split")
    assert row["n_queries"] == 30
    for vector in ("raw", "pca"):
        assert row["map"][vector] == pytest.approx(expected["label", vector].map)
    first = expected["label", "raw"].metrics["ndcg@10"].mean()
    assert row["first_page"]["ndcg@10"]["a"] == pytest.approx(first)
    shots = row["pieces"]["fewshot"]["shots"]
    # Of 15 training images a class 8 are the most shots: the test images are never shots.
    assert shots == [1, 2, 4, 8]
    accuracies = evaluate_fewshot(
        found, vectors=["raw"], fields=["label"], sides="split", episodes=400
    )["label", "raw"]["prototype"]
    for i, s in enumerate(shots):
        got = row["fewshot"]["prototype"][str(s)]["a"]
        assert got == pytest.approx(accuracies.mean[i], abs=0.02)


def test_details_name_the_classes_and_queries_that_change_most(rng: np.random.Generator) -> None:
    found = two_vectors(rng, noise=(2.0, 1.7))
    details = compare(found, "raw", "pca", fields=["label"], **RETRIEVAL).details()
    assert len(details["label"]["classes"]) == 6
    gains = [row["delta"] for row in details["label"]["queries_gain"]]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 0 > max(row["delta"] for row in details["label"]["queries_lose"])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("same", RETRIEVAL, "one class only"),
        ("rare", RETRIEVAL, "80 of 120 points have no value"),
        ("label", {"tasks": ("guess",)}, "tasks are retrieval and fewshot"),
        ("label", {"margin": -1}, "margin is a fraction"),
        ("label", {"guard": 0}, "guard is a fraction above 0"),
        ("label", {"duplicates": 1.0}, "cosine between 0 and 1"),
        ("label", {"max_queries": 5, "all_queries": True}, "contradict each other"),
        ("label", {"resampling": Resampling("nothing")}, "cluster field 'nothing'"),
        ("tags", {"resampling": Resampling("class")}, "resample by 'image' instead"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    rng: np.random.Generator, name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        field(two_vectors(rng, noise=(2.0, 1.9)), settings, name)


def test_few_classes_are_no_population_while_their_pictures_are(rng: np.random.Generator) -> None:
    found = two_vectors(rng, n_classes=4, noise=(2.0, 0.8))
    with pytest.raises(InputError, match="at least 5; resample by 'image' instead"):
        field(found, {"resampling": Resampling("class")})
    assert field(found)["verdict"] == "better"


def test_results_over_other_queries_are_refused(rng: np.random.Generator) -> None:
    found = two_vectors(rng, noise=(2.0, 1.5))
    a = evaluate_retrieval(found, vectors=["raw"], fields=["label"])["label", "raw"]
    b = evaluate_retrieval(found.take(np.arange(100)), vectors=["pca"], fields=["label"])[
        "label", "pca"
    ]
    with pytest.raises(QueryMismatchError, match="different queries"):
        compare_results(a, b)


@pytest.mark.parametrize(
    ("n_classes", "cluster", "population"),
    [(20, None, "classes"), (6, None, "images"), (6, "shop", "shop"), (6, "iid", "iid")],
)
def test_two_results_compare_like_the_vectors_they_came_from(
    rng: np.random.Generator, n_classes: int, cluster: str | None, population: str
) -> None:
    found = two_vectors(rng, n_classes=n_classes, noise=(2.0, 1.5))
    a, b = (
        evaluate_retrieval(found, vectors=[v], fields=["label"], resampling=Resampling(cluster))[
            "label", v
        ]
        for v in ("raw", "pca")
    )
    row = field(found, {"tasks": ("retrieval",), "resampling": Resampling(cluster)})
    got = compare_results(a, b, resampling=Resampling(cluster))
    assert got.population == row["population"] == population
    assert (got.delta, got.p_value, list(got.interval)) == pytest.approx(
        (row["delta"], row["p_value"], pytest.approx(row["interval"], abs=1e-12)), abs=1e-12
    )
    assert got.counts() == {name: row[name] for name in ("wins", "ties", "losses")}
    spoken = got.sentence.split(". ")[1].removesuffix(").")
    assert spoken.startswith("This should hold for")
    assert spoken in row["sentence"]
    assert compare_results(a, b, resampling=Resampling(cluster)).to_dict() == got.to_dict()


def test_a_comparison_of_results_names_the_classes_and_queries_that_change_most(
    rng: np.random.Generator,
) -> None:
    found = two_vectors(rng, noise=(2.0, 1.7))
    a, b = (
        evaluate_retrieval(found, vectors=[v], fields=["label"])["label", v]
        for v in ("raw", "pca")
    )
    values = compare_results(a, b).to_dict()
    json.dumps(values, allow_nan=False)
    difference = b.ap - a.ap
    by_class = {
        name: float(np.mean([d for d, label in zip(difference, a.labels, strict=True)
                             if label == name]))
        for name in set(a.labels)
    }  # fmt: skip
    gains = [row["class"] for row in values["classes_gain"]]
    assert gains == sorted((n for n in by_class if by_class[n] > 0), key=lambda n: -by_class[n])
    assert {*gains, *(row["class"] for row in values["classes_lose"])} == set(by_class)
    assert values["queries_gain"][0]["id"] == a.query_ids[int(np.argmax(difference))]
    assert values["queries_lose"][0]["id"] == a.query_ids[int(np.argmin(difference))]
    page = compare_results(a, b)._repr_html_()
    assert "new images of the same 6 classes (120 queries)" in page


@pytest.mark.parametrize(
    ("evaluated", "asked", "message"),
    [
        ({"resampling": Resampling("none")}, None, r"evaluate both with Resampling\('image'\)"),
        ({"resampling": Resampling("iid")}, "shop", r"evaluate both with Resampling\('shop'\)"),
        ({"ties": "best"}, "image", "ties='expected'"),
    ],
)
def test_results_without_what_a_population_needs_are_refused(
    rng: np.random.Generator, evaluated: dict[str, Any], asked: str | None, message: str
) -> None:
    found = two_vectors(rng, noise=(2.0, 1.5))
    a, b = (
        evaluate_retrieval(found, vectors=[v], fields=["label"], **evaluated)["label", v]
        for v in ("raw", "pca")
    )
    with pytest.raises(InputError, match=message):
        compare_results(a, b, resampling=Resampling(asked))


def test_few_classes_of_two_results_are_no_population(rng: np.random.Generator) -> None:
    found = two_vectors(rng, n_classes=4, noise=(2.0, 0.8))
    a, b = (
        evaluate_retrieval(found, vectors=[v], fields=["label"])["label", v]
        for v in ("raw", "pca")
    )
    with pytest.raises(InputError, match="4 classes and a statement"):
        compare_results(a, b, resampling=Resampling("class"))
    assert compare_results(a, b).interval[0] > 0


def test_few_shot_accuracies_of_equal_vectors_rarely_differ(rng: np.random.Generator) -> None:
    """Pictures are shots and tested: leaving out the tested side alone is wrong at 1 of 7."""
    centres = rng.normal(size=(5, 32))
    n_trials, wrong, wrong_mean = 150, np.zeros(5), 0
    for trial in range(n_trials):
        labels = rng.integers(0, 5, 200)
        a, b = (
            (centres[labels] + 2 * rng.normal(size=(200, 32))).astype(np.float32) for _ in "ab"
        )
        found = VectorTable(list(range(200)), {"a": a, "b": b}, {"label": labels.tolist()})
        task = FewshotTask.from_table(found, "label", n_episodes=50, seed=trial)
        population = choose_population(
            found, RetrievalTask.from_table(found, "label"), "image", seed=0
        )
        first, second = (
            run_fewshot(task, found, v, ["prototype"])["prototype"] for v in ("a", "b")
        )
        effects = [population.fewshot_at(found, first, second, i).effect for i in range(5)]
        wrong += [effect.p_value < 0.05 for effect in effects]
        both = population.fewshot_difference(found, first, second).difference.effect
        wrong_mean += both.p_value < 0.05
    assert wrong_mean <= stats.binom.isf(0.001, n_trials, 0.05)
    assert (wrong <= stats.binom.isf(0.001, n_trials, 0.05)).all(), wrong


def test_a_comparison_is_a_frame_of_queries_and_a_table_of_verdicts(
    rng: np.random.Generator,
) -> None:
    pytest.importorskip("pandas")
    found = two_vectors(rng, noise=(2.0, 0.8))
    names = ["label", "shop"]
    comparison = compare(found, "raw", "pca", fields=names, **RETRIEVAL)
    frame = comparison.to_frame()
    assert list(frame.columns) == ["field", "query", "label", "raw", "pca"]
    assert len(frame) == sum(len(row.differences) for row in comparison.fields.values())
    means = frame.groupby("field")["pca"].mean()
    for name in names:
        expected = comparison.to_dict()["fields"][name]["map"]["pca"]
        assert means[name] == pytest.approx(expected, abs=1e-12)  # a mean in another order
    page = comparison._repr_html_()
    assert page.count("<tr>") == 1 + len(names)
    assert "Adopt pca: better" in page


def test_a_comparison_and_its_fields_are_one_line_each(rng: np.random.Generator) -> None:
    found = compare(two_vectors(rng, noise=(2.0, 0.8)), "raw", "pca", fields=["label"])
    a, b = (result.map for result in found.fields["label"].results)
    maps = f"mAP {a:.3f} to {b:.3f}"
    head, line = repr(found).splitlines()
    assert head == "Comparison('raw' against 'pca', 120 points)"
    assert line == f"  label: better, {maps}"
    assert repr(found.fields["label"]) == f"FieldEvidence('label', {maps}, 120 queries)"


def fashion(real_data: Path) -> VectorTable:
    folder = real_data / "fashion988-clip-b32"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    payload: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    return with_pca(np.load(folder / "image_embeddings.npy"), real_data, payload)


def with_pca(X: np.ndarray, real_data: Path, payload: dict[str, list[Any]]) -> VectorTable:
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    components = TextPCA().fit(unit_rows(texts)).components_
    raw = X.astype(np.float32)
    pca = np.asarray(unit_rows(raw) @ components.T, dtype=np.float32)
    return VectorTable(list(range(len(raw))), {"raw": raw, "pca": pca}, payload)


@pytest.mark.real_data
def test_cifar_is_better(real_data: Path) -> None:
    folder = real_data / "cifar10-500-clip-b32"
    labels = np.load(folder / "image_labels.npy").tolist()
    found = with_pca(np.load(folder / "image_embeddings.npy"), real_data, {"label": labels})
    assert field(found, {"min_class_size": 5})["verdict"] == "better"


@pytest.mark.real_data
def test_fashion_gains_in_kinds_and_loses_in_usage_and_gender(real_data: Path) -> None:
    names = ["subCategory", "articleType", "gender", "usage"]
    found = compare(
        fashion(real_data), "raw", "pca", fields=names, **{"min_class_size": 5}
    ).to_dict()["fields"]
    verdicts = {name: row["verdict"] for name, row in found.items()}
    assert verdicts == {
        "subCategory": "better",
        "articleType": "better",
        "gender": "worse",
        "usage": "worse",
    }
    # mAP alone would say of gender that nothing is lost.
    assert found["gender"]["verdict_retrieval"] == "not_worse"
    assert found["usage"]["verdict_retrieval"] == "worse"
