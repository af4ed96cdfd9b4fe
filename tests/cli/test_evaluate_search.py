"""`intramodal evaluate index` and `evaluate text`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intramodal import RunLedger
from intramodal.commands.options import DEFAULT_RUNS
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.retrieval import CLASSES
from intramodal.runs.interchange import export_runs
from intramodal.runs.scores import SCORES, unpack_scores
from tests.cli.evaluated import N, invoke, pictures, run
from tests.cli.kit import cells_of


@pytest.fixture(autouse=True)
def folder(in_shop: Path) -> Path:
    return in_shop


def test_every_search_is_judged_beside_the_exact_ranking() -> None:
    found = run(
        *("index", "photos", "--labels", "kind", "-k", "15", "--timed", "3"),
        *("--searches", "raw,pca,pca:raw,raw+pca,raw+pca=1e-9"),
    )
    exact = run("retrieval", "photos", "--labels", "kind", "--vectors", "raw,pca")
    maps = {name: row["map"] for name, row in exact["fields"]["kind"]["vectors"].items()}
    rows = {row["search"]: row for row in found["rows"]}
    assert list(rows) == ["raw", "pca", "pca > raw", "raw + pca", "raw=1 + pca=1e-09"]
    for name in ("raw", "pca"):
        low, high = rows[name]["map_interval"]
        # So few points are searched exactly; ties apart, the interval holds the exact figure.
        assert low - 1e-6 <= rows[name]["exact_map"] == maps[name] <= high + 1e-6
        assert rows[name]["map_at_k"] <= low
        assert rows[name]["recall"] == 1
    assert rows["pca > raw"]["exact_map"] == maps["raw"]
    assert rows["raw + pca"]["exact_map"] is None
    assert rows["raw + pca"]["recall"] is None
    # What counts for next to nothing leaves the ranking of the other.
    assert rows["raw=1 + pca=1e-09"]["map_at_k"] == rows["raw"]["map_at_k"]
    assert rows["raw=1 + pca=1e-09"]["map_at_k"] != rows["raw + pca"]["map_at_k"]
    assert rows["raw"]["latency_ms"]["n"] == 3


def test_the_gallery_is_filtered_where_the_search_happens() -> None:
    found = run(
        *("index", "photos", "--labels", "kind", "--searches", "raw", "-k", "10"),
        *("--gallery", "split=train", "--queries", "split=test", "--exact"),
    )
    (row,) = found["rows"]
    n_queries = pictures().payload["split"].count("test")
    assert (row["n_queries"], row["n_outside"], row["recall"]) == (n_queries, 0, 1)


@pytest.mark.parametrize("text", ["", "raw:", "+pca", "a:b+c", "a+b:c"])
def test_a_search_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="in two stages"):
        IndexSearch.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("raw+pca", IndexSearch("raw", fuse="pca")),
        ("raw=3+pca", IndexSearch("raw", fuse="pca", weights=(3, 1))),
        ("raw+pca=.5", IndexSearch("raw", fuse="pca", weights=(1, 0.5))),
        ("''=2+raw=3", IndexSearch("", fuse="raw", weights=(2, 3))),
        # Names that hold what is no weight, or end like one: then a weight follows.
        ("a=b+v@2", IndexSearch("a=b", fuse="v@2")),
        ("a=+3", IndexSearch("a=", fuse="3")),
        ("a=3=1+2*b", IndexSearch("a=3", fuse="2*b", weights=(1, 1))),
        ("a=3", IndexSearch("a=3")),
        ("a=3:b=2", IndexSearch("b=2", prefetch="a=3")),
    ],
)
def test_weights_are_numbers_behind_the_vectors_of_a_fused_search(
    text: str, meant: IndexSearch
) -> None:
    assert IndexSearch.parse(text) == meant


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf"])
def test_a_weight_that_is_none_is_refused(weight: str) -> None:
    with pytest.raises(ValueError, match="two weights above 0"):
        IndexSearch.parse(f"raw={weight}+pca")


def test_the_names_of_the_classes_ask_for_their_images() -> None:
    table = pictures()
    kinds = sorted(set(table.payload["kind"]))
    means = [
        table.vectors["raw"][[kind == k for kind in table.payload["kind"]]].mean(axis=0)
        for k in kinds
    ]
    np.save("kinds.npy", np.asarray(means, dtype=np.float32))
    found = run("text", "photos", "--labels", "kind", "--text-vectors", "kinds.npy")
    row = found["fields"]["kind"]
    assert (row["n_classes"], row["n_gallery"]) == (len(kinds), N)
    assert row["map"] > 0.4  # by chance a sixth
    assert list(row["classes"]) == kinds
    assert row["population"] == "images"
    assert row["interval"][0] < row["map"] < row["interval"][1]
    told = invoke("text", "photos", "--labels", "kind", "--text-vectors", "kinds.npy").output
    assert "texts against images" in told


def test_texts_on_a_projected_vector_need_its_projection() -> None:
    np.save("kinds.npy", np.ones((6, 16), dtype=np.float32))
    arguments = ("text", "photos:pca", "--labels", "kind", "--text-vectors", "kinds.npy")
    found = run(*arguments, code=1)
    assert "--projection" in found["error"]["message"]


def test_a_run_keeps_the_intervals_and_every_query_of_a_search() -> None:
    options = ("--labels", "kind", "-k", "7", "--timed", "2", "--searches", "raw,raw+pca")
    found = run("index", "photos", *options)
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        metrics = {(m.name, m.vector): m for m in ledger.metrics(found["run_id"])}
        scores = unpack_scores(ledger.artefact(found["run_id"], SCORES))
        kept = json.loads(ledger.artefact(found["run_id"], CLASSES))["rows"]
    raw, fused = found["rows"]
    assert found["n_incomplete"] == 0
    assert (raw["denominator"], raw["population"]) == ("all relevant", "images")
    # The bounds of the full mAP are certain: they are no confidence interval of mAP@k.
    for row in (raw, fused):
        figure = metrics["mAP@7", row["search"]]
        assert [figure.low, figure.high] == row["interval"]
        bounds = [
            metrics[f"mAP at {end}, by 7 answers", row["search"]] for end in ("least", "most")
        ]
        assert [bound.value for bound in bounds] == row["map_interval"]
        assert bounds[0].low is None
    assert (metrics["latency p95, ms", "raw"].n, metrics["recall@7", "raw"].n) == (2, N)
    recorded = [metrics[name, "raw"].value for name in ("nDCG@7", "precision@7", "precision@1")]
    assert recorded == [raw[name] for name in ("ndcg_at_k", "precision_at_k", "precision_at_1")]
    exact = metrics["mAP exact", "raw"]
    assert (exact.value, [exact.low, exact.high]) == (raw["exact_map"], raw["exact_interval"])
    assert ("mAP exact", "raw + pca") not in metrics
    assert [s.vector for s in scores] == ["raw", "raw + pca"]
    for entry, row, classes in zip(scores, (raw, fused), kept, strict=True):
        assert len(entry.query_ids) == N
        assert entry.figures["ap@7"].mean() == pytest.approx(row["map_at_k"], abs=1e-12)
        means = [found["ap"] for found in classes["classes"].values()]  # classes of one size
        assert np.mean(means) == pytest.approx(row["map_at_k"], abs=1e-12)


def test_what_searches_and_texts_score_is_exported_for_trec_tools(tmp_path: Path) -> None:
    found = run("index", "photos", "--labels", "kind", "-k", "7", "--searches", "raw")
    target = tmp_path / "scores.trec"
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        export_runs(ledger, target, ids=[found["run_id"]])
    (file,) = target.iterdir()
    mean = next(line for line in file.read_text().splitlines() if line.startswith("map_cut_7")
                and "\tall\t" in line)  # fmt: skip
    assert float(mean.split("\t")[2]) == pytest.approx(found["rows"][0]["map_at_k"], abs=1e-4)


def test_min_of_k_and_relevant_is_named_where_it_is_the_denominator() -> None:
    options = ("--labels", "kind", "-k", "7", "--timed", "2", "--searches", "raw")
    (over_all,) = run("index", "photos", *options)["rows"]
    (over_k,) = run("index", "photos", *options, "--denominator", "min", "--classes")["rows"]
    assert {row["n_queries"] for row in over_k["classes"].values()} == {20}
    assert "classes" not in over_all
    # All classes have one size: 19 others are relevant.
    assert over_k["map_at_k"] == pytest.approx(over_all["map_at_k"] * 19 / 7)
    assert over_k["denominator"] == "min(k, relevant)"


def test_the_table_of_a_search_shows_precision_recall_and_p95_within_80_columns() -> None:
    options = ("--labels", "masterCategory", "--searches", "raw,pca:raw", "--timed", "2")
    found = run("index", "photos", *options)
    lines = invoke("index", "photos", *options).stdout.splitlines()
    assert cells_of(lines[1]) == [
        "field",
        "search",
        "precision@100",
        "precision@1",
        "recall@100",
        "p95 ms",
    ]
    assert max(map(len, lines)) <= 80
    for row in found["rows"]:
        (shown,) = (cells_of(line) for line in lines if f"  {row['search']}  " in line)
        figures = [row[name] for name in ("precision_at_k", "precision_at_1", "recall")]
        assert shown[2:5] == [f"{figure:.3f}" for figure in figures]


def test_no_search_at_all_is_refused() -> None:
    assert invoke("index", "photos", "--labels", "kind", "--searches", ",").exit_code == 2


def test_search_parameters_reach_the_store_and_the_run() -> None:
    told = ("--ef", "32", "--indexed-only", "--ignore-quantization", "--oversampling", "1.5")
    options = ("--labels", "kind", "-k", "3", "--timed", "1", "--searches", "raw")
    found = run("index", "photos", *options, *told)
    quantization = {"ignore": True, "oversampling": 1.5}
    assert found["params"] == {
        "hnsw_ef": 32,
        "indexed_only": True,
        "quantization": quantization,
    }
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        stated = ledger.get(found["run_id"]).parameters
    assert (stated["ef"], stated["ignore_quantization"]) == ("32", "True")
