"""`intramodal evaluate`: every figure equals a direct computation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, roc_auc_score

from intramodal import ImageCollection, Projection, RunLedger, open_store
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.runs.scores import SCORES, unpack_scores
from intramodal.types import VectorTable, point_id, unit_rows
from tests.cli.evaluated import (
    DIM,
    N_KINDS,
    N,
    fill,
    half,
    invoke,
    pictures,
    run,
    texts,
)


@pytest.fixture(autouse=True)
def folder(in_shop: Path) -> Path:
    return in_shop


def leave_one_out(X: np.ndarray, labels: list[Any]) -> np.ndarray:
    """Return every average precision, by scikit-learn."""
    X = X.astype(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = np.array(labels)
    others = ~np.eye(len(X), dtype=bool)
    scores = X @ X.T
    return np.array(
        [
            average_precision_score(y[others[i]] == y[i], scores[i][others[i]])
            for i in range(len(X))
        ]
    )


def test_figures_of_a_random_part_say_what_it_is_of() -> None:
    asked = ("retrieval", "photos", "--labels", "kind")
    found = run(*asked, "--sample", "90", "--max-queries", "40", "--seed", "3")
    kind = found["fields"]["kind"]
    assert found["sample"] == {"n_points": 90, "of": N, "seed": 3}
    assert (kind["n_queries"], kind["n_gallery"]) == (40, 90)
    assert "drawn at random: 90 of 120 points" in invoke(*asked, "--sample", "90").stderr


def test_retrieval_equals_scikit_learn_for_every_field_and_vector() -> None:
    found = run("retrieval", "photos", "--vectors", "raw,pca", "--labels", "kind,year")
    table = pictures()
    assert found["protocol"] == "leave-one-out"
    for field in ("kind", "year"):
        entry = found["fields"][field]
        assert (entry["n_queries"], entry["n_gallery"], entry["n_without_positives"]) == (N, N, 0)
        assert (entry["n_missing"], entry["n_dropped"]) == (0, 0)
        for vector in ("raw", "pca"):
            expected = leave_one_out(table.vectors[vector], table.payload[field]).mean()
            # No ties here; float32 cosines may swap two neighbours of nearly equal score.
            assert entry["vectors"][vector]["map"] == pytest.approx(expected, abs=1e-4)
            assert "classes" not in entry["vectors"][vector]
    figures = set(found["fields"]["kind"]["vectors"]["raw"])
    assert {"map", "hit@1", "r_precision", "ndcg", "mrr", "tie_width"} <= figures


def test_a_class_of_one_image_stays_in_the_gallery_if_asked() -> None:
    """Issue 22: of classes of two and more alone, a ranking is easier than in a search."""
    table = pictures()
    kinds = ["rare", *table.payload["kind"][1:]]
    rows = [f"{point},{kind}" for point, kind in zip(table.ids, kinds, strict=True)]
    Path("rare.csv").write_text("\n".join(["id,kind", *rows]))
    asked = ("retrieval", "photos", "--vectors", "raw", "--labels", "kind")
    asked = (*asked, "--labels-from", "rare.csv")
    every = (*asked, "--min-class-size", "1")
    without, whole = (run(*one)["fields"]["kind"] for one in (asked, every))
    assert (without["n_gallery"], without["n_dropped"]) == (N - 1, 1)
    assert (whole["n_gallery"], whole["n_dropped"]) == (N, 0)
    assert (whole["n_queries"], whole["n_without_positives"]) == (N - 1, 1)
    assert whole["vectors"]["raw"]["map"] < without["vectors"]["raw"]["map"]
    alone = "left out: 1 queries have no image of their class of 'kind' in the gallery"
    assert alone in invoke(*every).stderr


def test_a_run_keeps_figures_fingerprints_and_the_score_of_every_query() -> None:
    found = run("retrieval", "photos", "--labels", "kind", "--classes")
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        record = ledger.get(found["run_id"])
        metrics = {(m.name, m.vector, m.field): m for m in ledger.metrics(record.id)}
        made_by = [f for f in ledger.fingerprints(record.id) if f.kind != "collection"]
        prints = {(f.kind, f.fingerprint) for f in made_by}
        scores = unpack_scores(ledger.artefact(record.id, SCORES))
    assert (record.kind, record.status) == ("evaluate-retrieval", "COMPLETE")
    entry = found["fields"]["kind"]["vectors"]
    assert metrics["mAP", "pca", "kind"].value == entry["pca"]["map"]
    assert metrics["mAP", "pca", "kind"].n == N
    kept = metrics["mAP", "pca", "kind"]
    assert [kept.low, kept.high] == entry["pca"]["interval"]
    assert entry["pca"]["population"] == "images"
    assert prints == {("encoder", "3f9a"), ("projection", half().fingerprint)}
    assert [s.vector for s in scores] == ["raw", "pca"]
    for kept in scores:
        assert kept.figures["ap"].mean() == pytest.approx(entry[kept.vector]["map"], abs=1e-12)
    by_class = entry["raw"]["classes"]
    assert {row["n_queries"] for row in by_class.values()} == {N // N_KINDS}
    mean = np.mean([row["ap"] for row in by_class.values()])  # classes of one size
    assert mean == pytest.approx(entry["raw"]["map"], abs=1e-12)


def test_the_interval_is_that_of_the_population_that_is_asked_for() -> None:
    options = ("retrieval", "photos", "--labels", "kind", "--vectors", "raw")
    found = {
        cluster: run(*options, "--cluster", cluster)["fields"]["kind"]["vectors"]["raw"]
        for cluster in ("image", "class", "iid", "none")
    }
    assert found["none"]["interval"] is None
    names = [found[cluster]["population"] for cluster in found]
    assert names == ["images", "classes", "iid", None]
    widths = [high - low for low, high in (found[c]["interval"] for c in ("iid", "class"))]
    assert widths[0] < widths[1]  # queries of one class share what they find
    refused = run(*options, "--cluster", "year", code=1)
    assert "'year' has 2 values; at least 5" in refused["error"]["message"]


def test_points_that_take_no_part_are_counted_in_the_table_too() -> None:
    with open_store(DEFAULT_STORE) as store:
        fill(store, "scans", n=60)
        scans = ImageCollection.open(store, "scans")
        scans.write([point_id("scans", "x")], {"raw": np.ones((1, DIM), np.float32)}, [{}])
    told = invoke("retrieval", "scans", "--labels", "kind")
    assert "left out: 1 points lack one of the vectors" in told.stderr
    told = invoke("retrieval", "scans", "--labels", "kind", "--vectors", "raw")
    assert "left out: 1 points have no value in 'kind'" in told.stderr


def test_queries_and_gallery_are_chosen_by_a_field() -> None:
    split = run("retrieval", "photos", "--labels", "kind", "--split", "split")
    filters = ("--queries", "split=test", "--gallery", "split=train")
    named = run("retrieval", "photos", "--labels", "kind", *filters)
    assert split["fields"] == named["fields"]
    assert split["protocol"] == "query-gallery"
    sides = pictures().payload["split"]
    entry = split["fields"]["kind"]
    assert entry["n_queries"] == sides.count("test")
    assert entry["n_gallery"] == sides.count("train")


def test_numbers_are_filtered_by_what_they_print() -> None:
    found = run("retrieval", "photos", "--labels", "kind", "--queries", "year=2012")
    assert found["fields"]["kind"]["n_queries"] == N // 2
    assert found["fields"]["kind"]["n_gallery"] == N


def test_fewshot_gives_the_mean_and_the_interval_over_the_draws() -> None:
    options = ("--shots", "1,4", "--episodes", "6", "--seed", "3")
    found = run("fewshot", "photos", "--labels", "kind", *options, "--classes")
    table = pictures()
    table = table.take(np.argsort(table.ids))
    for vector in ("raw", "pca"):
        results = evaluate_fewshot(
            table, vectors=[vector], fields=["kind"], shots=[1, 4], episodes=6, seed=3
        )["kind", vector]
        for classifier, result in results.items():
            rows = found["fields"]["kind"]["vectors"][vector][classifier]
            for at, shots in enumerate(("1", "4")):
                drawn = result.accuracy[at]
                half_width = student.ppf(0.975, 5) * drawn.std(ddof=1) / np.sqrt(6)
                # The store normalises again: a last bit may turn one of about 700 decisions.
                assert rows[shots]["accuracy"] == pytest.approx(drawn.mean(), abs=2e-3)
                low, high = rows[shots]["interval"]
                assert (high - low) / 2 == pytest.approx(half_width, abs=2e-3)
                assert set(rows[shots]["classes"]) == set(table.payload["kind"])


def test_shots_that_no_class_can_give_are_null() -> None:
    found = run("fewshot", "photos", "--labels", "kind", "--shots", "1,64", "--episodes", "1")
    rows = found["fields"]["kind"]["vectors"]["raw"]["prototype"]
    assert rows["64"]["accuracy"] is None
    assert rows["1"]["interval"] is None  # one draw has no spread
    assert rows["1"]["accuracy"] > 0


def pictures_with_lengths() -> VectorTable:
    """Return the points with projected vectors as the projection leaves them."""
    table = pictures()
    order = np.argsort(table.ids)  # as a store gives them
    vectors = {"raw": table.vectors["raw"], "pca": half().apply(table.vectors["raw"])}
    return replace(table, vectors=vectors).take(order)


def test_shots_come_from_the_training_side_of_a_split() -> None:
    found = run("fewshot", "photos", "--labels", "kind", "--shots", "1", "--split", "split")
    sides = pictures().payload["split"]
    row = found["fields"]["kind"]["vectors"]["raw"]["prototype"]["1"]
    assert row["n_test"] == sides.count("test")


def test_the_protocol_of_the_paper_needs_a_split_and_the_projection() -> None:
    asked = ("fewshot", "photos", "--labels", "kind", "--shots", "1,2", "--protocol", "paper")
    both = ("--split", "split", "--projection", "pca.safetensors")
    found = run(*asked, *both)
    assert (found["protocol"], found["n_episodes"]) == ("paper", 3)
    expected = evaluate_fewshot(
        pictures_with_lengths(), fields=["kind"], sides="split", shots=(1, 2), protocol="paper"
    )
    for vector in ("raw", "pca"):
        rows = found["fields"]["kind"]["vectors"][vector]["lda"]
        means = expected["kind", vector]["lda"].mean
        assert [rows[s]["accuracy"] for s in ("1", "2")] == pytest.approx(means, abs=1e-12)
    assert "mean of 3 seeds" in invoke(*asked, *both).output
    message = run(*asked, "--split", "split", code=1)["error"]["message"]
    assert "'pca' of 'photos' is stored with unit length" in message


def test_a_share_of_every_class_is_tested_with_all_shots() -> None:
    found = run(
        *("fewshot", "photos", "--labels", "kind", "--shots", "1,2", "--test-share", "0.5"),
        *("--episodes", "3"),
    )
    rows = found["fields"]["kind"]["vectors"]["raw"]["lda"]
    sizes = Counter(pictures().payload["kind"]).values()
    assert rows["1"]["n_test"] == rows["2"]["n_test"] == sum(round(n / 2) for n in sizes)
    assert found["test_share"] == 0.5


def direct_overlap(a: np.ndarray, b: np.ndarray, edges: list[float]) -> float:
    parts = [np.histogram(part, edges, density=True)[0] for part in (a, b)]
    return float((np.minimum(*parts) * np.diff(edges)).sum())


def test_misalignment_equals_direct_computations_in_every_view() -> None:
    found = run(
        *("misalignment", "photos", "--labels", "kind", "--text-vectors", "T.npy"),
        *("--projection", "pca.safetensors"),
    )
    table = pictures()
    raw, T = table.vectors["raw"].astype(np.float64), unit_rows(texts()).astype(np.float64)
    adjusted = raw.copy()
    adjusted[:, 8:] = raw[:, 8:].mean(axis=0)  # the projection keeps the first eight dimensions
    views = {"raw": (raw, T), "pca": (raw[:, :8], T[:, :8]), "pca_adjusted": (adjusted, T)}
    assert [row["vector"] for row in found["rows"]] == list(views)
    assert [r["view"] for r in found["rows"]] == ["stored", "projected", "mean adjusted"]
    labels = table.payload["kind"]
    is_same = np.array([labels[i] == labels[j] for i, j in combinations(range(N), 2)])
    for row in found["rows"]:
        X, beside = (M / np.linalg.norm(M, axis=1, keepdims=True) for M in views[row["vector"]])
        cosines = np.array([X[i] @ X[j] for i, j in combinations(range(N), 2)])
        # float32 cosines in fine bins: one in 7,140 pairs may lie on the other side of an edge.
        overlap = direct_overlap(cosines[is_same], cosines[~is_same], row["edges"])
        assert row["overlap"] == pytest.approx(overlap, abs=2e-3)
        assert row["auc"] == pytest.approx(roc_auc_score(is_same, cosines), abs=1e-4)
        between = (X @ beside.T).ravel()
        modality = row["modality"]
        assert modality["text_mean"] == pytest.approx(between.mean(), abs=1e-5)
        assert modality["overlap"] == pytest.approx(
            direct_overlap(cosines, between, modality["edges"]), abs=2e-3
        )
        gap = np.linalg.norm(X.mean(axis=0) - beside.mean(axis=0))
        assert modality["gap"] == pytest.approx(gap, abs=1e-5)
        assert row["map"] == pytest.approx(leave_one_out(X, labels).mean(), abs=1e-4)
    by_name = {row["vector"]: row for row in found["rows"]}
    assert by_name["pca"]["same_mean"] != by_name["pca_adjusted"]["same_mean"]


def test_several_collections_stand_side_by_side_in_one_run() -> None:
    found = run("misalignment", "photos", "prints:pca", "--labels", "kind,year")
    shown = [(row["collection"], row["vector"], row["field"]) for row in found["rows"]]
    assert shown == [
        ("photos", "raw", "kind"),
        ("prints", "pca", "kind"),
        ("photos", "raw", "year"),
        ("prints", "pca", "year"),
    ]
    assert {row["modality"] for row in found["rows"]} == {None}
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        metrics = {(m.name, m.vector, m.field): m.value for m in ledger.metrics(found["run_id"])}
    assert metrics["overlap", "prints:pca", "year"] == found["rows"][3]["overlap"]


def test_a_stored_projection_takes_its_texts_through_its_file_and_is_not_computed_again() -> None:
    files = ("--text-vectors", "T.npy", "--projection", "pca.safetensors")
    found = run("misalignment", "photos", "photos:pca", "--labels", "kind", *files)
    shown = [(row["vector"], row["view"]) for row in found["rows"]]
    assert shown == [
        ("raw", "stored"),
        ("pca", "stored"),
        ("pca_adjusted", "mean adjusted"),
    ]
    alone = run("misalignment", "photos", "--labels", "kind", *files)
    computed = {row["vector"]: row for row in alone["rows"]}["pca"]
    stored = found["rows"][1]
    assert stored["modality"]["gap"] == pytest.approx(computed["modality"]["gap"], abs=1e-6)
    assert stored["auc"] == pytest.approx(computed["auc"], abs=1e-4)


def test_the_projection_of_the_texts_is_missed_before_anything_is_read() -> None:
    options = ("--labels", "knid", "--text-vectors", "T.npy")  # there is no such field either
    error = run("misalignment", "photos:pca", *options, code=1)["error"]
    assert "give that one as --projection, got none" in error["message"]


def test_sampled_pairs_carry_standard_errors() -> None:
    sample = ("--max-pairs", "500", "--seed", "1", "--text-vectors", "T.npy")
    row = run("misalignment", "photos", "--labels", "kind", *sample)["rows"][0]
    assert row["n_same"] + row["n_other"] == 500
    assert set(row["standard_errors"]) == {"overlap", "auc", "d_prime", "same_mean", "other_mean"}
    exact = run("misalignment", "photos", "--labels", "kind")["rows"][0]
    assert exact["standard_errors"] == {}
    off = abs(row["same_mean"] - exact["same_mean"])
    assert off < 5 * row["standard_errors"]["same_mean"]
    again = run("misalignment", "photos", "--labels", "kind", *sample)["rows"][0]
    assert again == row


def test_texts_have_no_part_in_a_centred_projection() -> None:
    centred = Projection(
        half().matrix, "pca_centered", "clip", "3f9a", np.full(DIM, 0.01, np.float32)
    )
    centred.save("centred.safetensors")
    files = ("--text-vectors", "T.npy", "--projection", "centred.safetensors")
    rows = run("misalignment", "photos", "--labels", "kind", *files)["rows"]
    assert [row["vector"] for row in rows] == ["raw", "pca_centered", "pca_centered_adjusted"]
    assert rows[1]["modality"] is None
    assert rows[2]["modality"] is not None


def test_recovery_ends_at_the_truth_and_says_what_is_free_before() -> None:
    options = ("--text-vectors", "T.npy", "--sizes", "4,16,40", "--subsets", "3")
    found = run("recovery", "photos", *options, "--pairs", "400")
    few, full, everything = found["curve"]
    assert (few["n_free"], few["is_determined"]) == (DIM - 4, False)
    assert (full["n_free"], full["is_determined"]) == (0, True)
    assert few["rms"] > 0.1
    assert full["rms"] < 1e-6
    assert everything["rms_error"] is None
    assert everything["condition"] == pytest.approx(np.linalg.cond(unit_rows(texts())), rel=1e-5)
    check = found["without_anchors"]
    assert (check["n_images"], check["n_needed"]) == (N, DIM * (DIM + 1) // 2)
    assert (check["n_free"], check["is_determined"]) == (DIM * (DIM + 1) // 2 - N, False)


def test_recovery_of_a_projected_vector_projects_the_texts() -> None:
    options = ("--text-vectors", "T.npy", "--projection", "pca.safetensors", "--sizes", "40")
    found = run("recovery", "photos:pca", *options)
    assert found["dim"] == 8
    assert found["curve"][0]["rms"] < 1e-6
    check = found["without_anchors"]  # 120 pictures for 36 unknowns
    assert (check["is_determined"], check["n_free"], check["n_used"]) == (True, 0, 72)
    assert check["rms"] < 1e-6


def test_vectors_of_zeros_are_left_out_of_a_recovery_and_counted() -> None:
    with open_store(DEFAULT_STORE) as store:
        fill(store, "broken", n=20)
        broken = ImageCollection.open(store, "broken")
        broken.write([point_id("broken", "x")], {"raw": np.zeros((1, DIM), np.float32)}, [{}])
    options = ("recovery", "broken", "--text-vectors", "T.npy", "--sizes", "4", "--subsets", "2")
    found = run(*options)
    assert (found["n_points"], found["n_zero"]) == (20, 1)
    assert "left out: 1 points whose vector is zero" in invoke(*options).stderr
