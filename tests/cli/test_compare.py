"""`intramodal compare` and `intramodal report` on a collection with two vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal import Projection
from tests.cli.kit import N, cells_of, invoke, make_photos, run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> str:
    """Return a collection whose second vector keeps the kind and has lost the season."""
    monkeypatch.chdir(tmp_path)
    make_photos(rng)
    return "photos"


def test_each_field_gets_its_own_verdict(photos: str) -> None:
    found = run("compare", photos, "--labels", "kind,season")
    assert found["vectors"] == ["raw", "pca"]
    verdicts = {name: row["verdict"] for name, row in found["fields"].items()}
    assert verdicts == {"kind": "better", "season": "worse"}
    assert found["cost"]["pca"]["bytes_per_vector"] * 2 == found["cost"]["raw"]["bytes_per_vector"]
    assert found["cost"]["pca"]["recall_at_10"] == 1.0  # so few points are searched exactly
    two_stage = found["cost"]["pca > raw"]
    assert two_stage["bytes_per_vector"] == sum(
        found["cost"][vector]["bytes_per_vector"] for vector in ("raw", "pca")
    )
    assert two_stage["latency_ms_p50"] <= two_stage["latency_ms_p95"]
    assert 0 < two_stage["recall_at_10"] <= 1


def test_the_table_of_first_results_has_every_search_within_80_columns(photos: str) -> None:
    found = run("compare", photos, "--labels", "kind,season")["cost"]
    lines = invoke("compare", photos, "--labels", "kind,season").stdout.splitlines()
    at = lines.index(next(line for line in lines if line.startswith("nDCG@10 / precision@10")))
    head, *others = (cells_of(line) for line in (lines[at + 1], *lines[at + 3 : at + 5]))
    assert head == ["field", "raw", "pca", "pca > raw", "queries"]
    for row, field in zip(others, ("kind", "season"), strict=True):
        figures = [cost["fields"][field] for cost in found.values()]
        cells = [f"{f['ndcg_at_10']:.3f} / {f['precision_at_10']:.3f}" for f in figures]
        assert row == [field, *cells, "50"]
    assert max(map(len, lines[at : at + 5])) <= 80
    assert "about the quality of raw, not that of pca" in lines[at + 5]


def test_controls_run_beside_and_never_decide(photos: str) -> None:
    found = run("compare", photos, "--labels", "kind,season")
    alone = run("compare", photos, "--labels", "kind,season", "--no-controls")
    for name, row in found["fields"].items():
        assert {o["vector"] for o in row["others"]} == {
            *("random", "truncation", "image_pca", "centring")
        }
        assert {**row, "others": []} == alone["fields"][name]


def test_the_file_of_another_projection_is_refused(photos: str) -> None:
    other = Projection(np.eye(16, 8, dtype=np.float32), "pca", "clip", "3f9a")
    other.save("other.safetensors")
    found = run("compare", photos, "--labels", "kind", "--projection", "other.safetensors", code=1)
    assert "give the file it was made with" in found["error"]["message"]


def test_other_projections_run_beside_under_their_names(photos: str) -> None:
    """The first 8 of 16 coordinates hold the kind, the others the season."""
    for method, first in (("kept", 0), ("isoclip", 8)):
        matrix = np.eye(16, dtype=np.float32)[:, first : first + 8]
        Projection(matrix, method, "clip", "3f9a").save(f"{method}.safetensors")
    beside = ("--beside", "kept.safetensors", "--beside", "isoclip.safetensors")
    found = run("compare", photos, "--labels", "kind", "--no-controls", *beside)["fields"]["kind"]
    kept, dropped = found["others"]
    assert (kept["vector"], dropped["vector"]) == ("kept", "isoclip")
    assert kept["map"] == pytest.approx(found["map"]["pca"], abs=1e-6)  # stored as unit vectors
    assert dropped["map"] < found["map"]["raw"]


@pytest.mark.parametrize(
    ("method", "encoder", "told"),
    [("pca", "clip", "there is one already"), ("isoclip", "siglip", "fitted for siglip")],
)
def test_projections_that_cannot_run_beside_are_refused(
    photos: str, method: str, encoder: str, told: str
) -> None:
    fingerprint = "3f9a" if encoder == "clip" else "77aa"
    Projection(np.eye(16, 8, dtype=np.float32), method, encoder, fingerprint).save("x.safetensors")
    beside = ("--beside", "x.safetensors")
    found = run("compare", photos, "--labels", "kind", *beside, code=1)
    assert told in found["error"]["message"]


def test_the_same_comparison_twice_gives_the_same_figures(photos: str) -> None:
    first, second = (run("compare", photos, "--labels", "kind")["fields"] for _ in range(2))
    assert first == second


def test_a_large_collection_is_compared_by_a_random_part_and_says_so(photos: str) -> None:
    asked = ("compare", photos, "--labels", "kind", "--task", "retrieval", "--no-controls")
    found = run(*asked, "--sample", "90", "--max-queries", "40", "--seed", "3")
    row = found["fields"]["kind"]
    assert found["sample"] == {"n_points": 90, "of": N, "seed": 3}
    assert row["n_queries"] == 40
    assert row["sentence"].endswith("Measured among 90 of 120 points, drawn at random.")
    whole = run(*asked)
    assert whole["sample"] is None
    for vector, cost in found["cost"].items():  # what the collection takes, not its sample
        assert cost["ram_bytes"] == whole["cost"][vector]["ram_bytes"]
    assert run(*asked, "--sample", "90", "--seed", "3")["fields"]["kind"]["n_queries"] == 90


def test_the_table_has_a_row_and_a_sentence_a_field(photos: str) -> None:
    result = invoke("compare", photos, "--labels", "kind,season", "--task", "retrieval")
    assert result.exit_code == 0, result.output
    assert "adopt: better" in result.stdout
    assert "kind: Use pca: mAP +" in result.stdout
    assert "season: Keep raw: mAP -" in result.stdout
    full = invoke("compare", photos, "--labels", "kind,season", "--task", "retrieval", "--wide")
    assert "kind: Adopt pca: better. mAP rises from" in full.stdout
    assert "season: Do not adopt pca: worse. mAP falls from" in full.stdout
    costs = result.stdout.split("recall@10")[1]
    assert [name for name in ("raw", "pca", "pca > raw") if f"\n{name}  " in costs] == [
        *("raw", "pca", "pca > raw")
    ]
    assert "64" in costs  # bytes of 16 values


def test_table_and_report_show_the_map_that_the_verdict_rests_on(photos: str) -> None:
    """Over classes it is another mean than over queries, and both places say which it is."""
    asked = ("compare", photos, "--labels", "kind", "--no-controls", "--cluster", "class")
    found = run(*asked)["fields"]["kind"]
    shown = invoke(*asked, "-o", "page.html")
    ends = [f"{found['pieces']['map'][end]:.3f}" for end in "ab"]
    assert "mAP of kind: mean over classes" in shown.stderr
    assert (
        next(line for line in shown.stdout.splitlines() if line.startswith("kind ")).split()[1:3]
        == ends
    )
    page = Path("page.html").read_text()
    assert f"{ends[0]} → {ends[1]} <small>mAP, mean over classes</small>" in page


def test_the_report_that_was_written_and_the_projections_beside_are_said(photos: str) -> None:
    projection = Projection(np.eye(16, 4, dtype=np.float32), "top", "clip", "3f9a")
    projection.save(Path("top.safetensors"))
    asked = ("compare", photos, "--labels", "kind", "--task", "retrieval", "--no-controls")
    result = invoke(*asked, "--beside", "top.safetensors", "-o", "page.html")
    assert "report: page.html" in result.stdout.splitlines()
    [other] = run(*asked, "--beside", "top.safetensors")["fields"]["kind"]["others"]
    rows = [cells_of(line) for line in result.stdout.splitlines() if line.startswith("kind ")]
    assert next(row for row in rows if row[1] == other["vector"])[2] == f"{other['map']:.3f}"


def test_a_comparison_is_a_run_whose_report_can_be_written_again(photos: str) -> None:
    found = run("compare", photos, "--labels", "kind", "-o", "first.html")
    again = run("report", found["run_id"][:12], "-o", "second.html")
    latest = run("report", "-o", "third.html")
    assert again["run_id"] == latest["run_id"] == found["run_id"]
    pages = [Path(f"{name}.html").read_text() for name in ("first", "second", "third")]
    assert pages[0] == pages[1] == pages[2]
    shown = run("runs", "show", found["run_id"])
    metrics = {(m["name"], m["vector"], m["field"]): m["value"] for m in shown["metrics"]}
    assert metrics["mAP", "pca", "kind"] == found["fields"]["kind"]["map"]["pca"]


def test_several_runs_are_reported_as_a_page_or_as_tables(photos: str) -> None:
    ids = [run("compare", photos, "--labels", field)["run_id"] for field in ("kind", "season")]
    for name, sign in (("page.html", "<article>"), ("t.md", "\n# "), ("t.tex", "\\section*")):
        found = run("report", *ids, "-o", name)
        assert found["run_ids"] == ids
        assert f"\n{Path(name).read_text(encoding='utf-8')}".count(sign) == 2
    forced = run("report", ids[0], "--format", "latex", "-o", "tables.txt")
    assert forced["bytes"] == Path("tables.txt").stat().st_size
    assert "\\toprule" in Path("tables.txt").read_text(encoding="utf-8")
    refused = run("report", "-o", "tables.mdd", code=1)["error"]["message"]
    assert "give one as tables.md" in refused


def test_a_run_without_a_report_is_named_as_what_it_is(photos: str) -> None:
    run("compare", photos, "--labels", "kind")
    run("compare", photos, "--labels", "kind", "--cluster", "season", code=1)
    (failed,) = [r["id"] for r in run("runs", "list")["runs"] if r["status"] == "FAILED"]
    refused = run("report", failed, code=1)["error"]["message"]
    assert "is a compare run that is FAILED and stored no report" in refused


def test_the_report_shows_images_against_texts_where_texts_are_given(
    photos: str, rng: np.random.Generator
) -> None:
    command = ("compare", photos, "--labels", "kind", "-o", "r.html")
    run(*command)
    assert "Images and texts" not in Path("r.html").read_text(encoding="utf-8")
    np.save("texts.npy", rng.normal(size=(30, 16)).astype(np.float32))
    run(*command, "--text-vectors", "texts.npy")
    assert "Images and texts" in Path("r.html").read_text(encoding="utf-8")
    np.save("texts.npy", rng.normal(size=(30, 8)).astype(np.float32))
    refused = run(*command, "--text-vectors", "texts.npy", code=1)["error"]["message"]
    assert "texts.npy holds texts of 8 dimensions, but 'raw' has 16" in refused


def test_the_seed_and_the_cluster_are_the_callers(photos: str) -> None:
    found = run("compare", photos, "--labels", "kind", "--cluster", "season", code=1)
    assert "has 4 values; at least 5" in found["error"]["message"]
    iid = run("compare", photos, "--labels", "kind", "--cluster", "iid", "--seed", "3")
    assert iid["fields"]["kind"]["population"] == "iid"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("compare", "photo", "--labels", "kind"), "the store has 'photos'"),
        (("compare", "photos", "--labels", "colour"), "no point has a value in field 'colour'"),
        (("compare", "photos", "--labels", "kind", "--vectors", "raw,pcb"), "it has 'pca', 'raw'"),
        (("report", "nothing"), "there is no runs database"),
    ],
)
def test_wrong_words_are_answered_in_one_sentence(
    photos: str, arguments: tuple[str, ...], sentence: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_configuration_file_gives_lists(photos: str) -> None:
    Path("intramodal.toml").write_text('[compare]\nlabels = ["kind"]\nvectors = ["raw", "pca"]\n')
    found = run("compare", photos, "--task", "retrieval")
    assert found["vectors"] == ["raw", "pca"]
    assert list(found["fields"]) == ["kind"]


def test_one_vector_is_no_comparison(photos: str) -> None:
    result = invoke("compare", photos, "--labels", "kind", "--vectors", "raw")
    assert result.exit_code == 2
    assert "takes two names" in result.stderr


def test_a_report_without_any_comparison_says_what_to_do(photos: str) -> None:
    assert "run something first" in run("report", code=1)["error"]["message"]
    run("export", photos, "-o", "pca.npy")
    assert "run `intramodal compare` first" in run("report", code=1)["error"]["message"]
