"""A map that was fitted to shuffled labels scores chance, by every command and every route.

Where rows that it was fitted on judged it, shuffled labels would look like a gain. What is right
here is chance, computed or by the raw vector; what leaks is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.evaluation.label_evidence import expected_ap
from intramodal.fit_rows import FitRows
from intramodal.reports.report import latest_comparison, report_of_run
from intramodal.runs.ledger import RunLedger
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint
from tests.cli.kit import invoke, run

N, D, K = 300, 96, 4
MODEL = "open_clip:ViT-B-32:openai"
HELD = {i for i in range(N) if FitRows(share=0.5).holds(i)}
LABELS = ("--labels", "noise")
METHODS = {"label": (), "posterior": ("--method", "posterior", "--force")}
EVERY = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with maps of both kinds, fitted to labels that no vector knows of."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rng = np.random.default_rng(6)
        X, noise = rng.normal(size=(N, D)).astype(np.float32), rng.integers(K, size=N)
        payloads = [
            {"noise": f"n{n}", "half": "b" if i % 2 else "a",
             "side": "fit" if i in HELD else ("query", "gallery")[i % 2]}
            for i, n in enumerate(noise)
        ]  # fmt: skip
        origin = VectorOrigin(MODEL, declared_fingerprint(MODEL))
        with open_store(DEFAULT_STORE) as store:
            made = ImageCollection.create(store, "photos", {"raw": (D, origin)})
            made.write(list(range(N)), {"raw": X}, payloads)
        with Path("labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", "told"), *enumerate(f"n{n}" for n in noise)])
        for name, more in METHODS.items():
            run("fit", "photos", *LABELS, *more, "-o", f"{name}.safetensors")
            run("backfill", "photos", "--projection", f"{name}.safetensors")
        run("backfill", "photos", "--projection", "label.safetensors", "--new-collection", "copy")
    return folder


@pytest.fixture(autouse=True)
def in_shop(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)


def holds(interval: list[float], value: float) -> bool:
    """Return whether a figure's interval holds a value, at 99.9%: many are looked at here."""
    low, high = interval
    return abs(value - (low + high) / 2) < 3.3 / 1.96 * (high - low) / 2


def is_chance(figures: dict[str, Any]) -> None:
    """Assert that the interval of a mAP holds chance, and that shuffling again changes nothing."""
    beside = figures["label_evidence"]
    assert holds(figures["interval"], beside["chance"])
    assert beside["control"] == pytest.approx(beside["chance"], abs=0.05)
    # Three standard errors of 75 to 150 queries.
    assert beside["accuracy"] == pytest.approx(1 / K, abs=0.12)


ROUTES: dict[str, tuple[str, ...]] = {
    "leave-one-out": ("photos", *LABELS),
    "filter": ("photos", *LABELS, "--where", "half=a"),
    "sample": ("photos", *LABELS, "--sample", "200"),
    "sides": ("photos", *LABELS, "--queries", "half=a", "--gallery", "half=b"),
    "few queries": ("photos", *LABELS, "--max-queries", "100"),
    "labels of a file": ("photos", "--labels", "told", "--labels-from", "labels.csv"),
}


@EVERY
@pytest.mark.parametrize("route", ROUTES)
def test_retrieval_by_shuffled_labels_is_chance_by_every_route(route: str, method: str) -> None:
    name = f"{method}_noise"
    found = run("evaluate", "retrieval", *ROUTES[route], "--vectors", name)
    assert found["held_out"]["n_fit_rows"] > 0
    (field,) = found["fields"].values()
    figures = field["vectors"][name]
    if route != "labels of a file":
        is_chance(figures)
        return
    # The map has seen labels of another field, as far as the names tell: there is no control.
    n = field["n_gallery"]
    chance = expected_ap(np.array([n // K - 1]), np.array([n - 1]))
    assert holds(figures["interval"], float(chance[0]))


def test_a_copy_of_the_collection_knows_which_rows_its_map_was_fitted_on() -> None:
    found = run("evaluate", "retrieval", "copy", *LABELS, "--vectors", "label_noise")
    assert found["held_out"]["n_fit_rows"] == len(HELD)
    is_chance(found["fields"]["noise"]["vectors"]["label_noise"])


@EVERY
def test_a_comparison_by_shuffled_labels_finds_no_gain(method: str) -> None:
    name = f"{method}_noise"
    found = run("compare", "photos", *LABELS, "--vectors", f"raw,{name}")
    field = found["fields"]["noise"]
    assert found["held_out"]["n_fit_rows"] == len(HELD)
    assert holds(field["interval"], 0.0)
    assert field["verdict"] not in ("better", "worse", "mixed")
    assert field["label_evidence"][name]["chance"] == pytest.approx(field["map"][name], abs=0.03)


@EVERY
def test_a_map_beside_a_comparison_takes_its_rows_out_too(method: str) -> None:
    other = "label" if method == "posterior" else "posterior"
    run("fit", "photos", "--labels", "half", *METHODS[method], "--fit-rows", "side=fit,query",
        "-o", f"{method} half.safetensors")  # fmt: skip
    found = run("compare", "photos", *LABELS, "--vectors", f"raw,{other}_noise",
                "--beside", f"{method} half.safetensors")  # fmt: skip
    n_gone = sum(i in HELD or i % 2 == 0 for i in range(N))
    assert found["held_out"]["n_fit_rows"] == n_gone


@EVERY
def test_few_shots_of_shuffled_labels_classify_as_chance(method: str) -> None:
    name = f"{method}_noise"
    found = run("evaluate", "fewshot", "photos", *LABELS, "--vectors", name, "--shots", "4",
                "--episodes", "100", "--classifiers", "prototype")  # fmt: skip
    row = found["fields"]["noise"]["vectors"][name]["prototype"]["4"]
    assert found["held_out"]["n_fit_rows"] == len(HELD)
    # The interval is over the draws of shots; other images would add more.
    assert row["accuracy"] == pytest.approx(1 / K, abs=0.04)


@EVERY
def test_the_stores_answers_by_shuffled_labels_are_chance(method: str) -> None:
    name = f"{method}_noise"
    found = run("evaluate", "index", "photos", *LABELS, "--searches", name, "--exact",
                "--timed", "2")  # fmt: skip
    (row,) = found["rows"]
    assert holds(row["exact_interval"], row["label_evidence"][name]["chance"])
    assert row["n_outside"] == 0  # no row for fitting is among the answers
    assert row["precision_at_k"] == pytest.approx(1 / K, abs=0.04)


def test_advice_by_shuffled_labels_promises_nothing() -> None:
    found = run("advise", "photos", *LABELS)["fields"]["noise"]
    for name, one in found["candidates"].items():
        if name != "raw":
            assert holds(one["interval"], 0.0)
            assert holds(one["first_page_interval"], 0.0)


LEAKS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "queries": lambda v: ("evaluate", "retrieval", "photos", *LABELS, "--vectors", v,
                          "--where", "side=fit"),
    "gallery": lambda v: ("evaluate", "retrieval", "photos", *LABELS, "--vectors", v,
                          "--queries", "side=query", "--gallery", "side=fit"),
    "compare": lambda v: ("compare", "photos", *LABELS, "--vectors", f"raw,{v}",
                          "--where", "side=fit"),
    "shots": lambda v: ("evaluate", "fewshot", "photos", *LABELS, "--vectors", v,
                        "--where", "side=fit"),
    "index": lambda v: ("evaluate", "index", "photos", *LABELS, "--searches", v,
                        "--where", "side=fit"),
    "misalignment": lambda v: ("evaluate", "misalignment", f"photos:{v}", *LABELS,
                               "--where", "side=fit"),
}  # fmt: skip


@EVERY
@pytest.mark.parametrize("leak", LEAKS)
def test_a_call_that_leaks_is_refused(leak: str, method: str) -> None:
    result = invoke(*LEAKS[leak](f"{method}_noise"))
    assert result.exit_code == 1, result.output
    assert "such rows never judge it" in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_a_map_fitted_on_every_row_has_no_row_that_judges_it() -> None:
    run("fit", "photos", *LABELS, "--fit-share", "1", "-o", "all.safetensors")
    result = invoke("compare", "photos", *LABELS, "--vectors", "raw,label_noise",
                    "--beside", "all.safetensors")  # fmt: skip
    assert result.exit_code == 1
    assert "such rows never judge it" in " ".join(result.stderr.split())


SIDE = ("--query-side", "label.safetensors")


@pytest.fixture(scope="module")
def elsewhere(shop: Path) -> Path:
    """The same images under other ids, with vectors as another run makes them; and others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop)
        rng = np.random.default_rng(8)
        with open_store(DEFAULT_STORE) as store:
            photos = ImageCollection.open(store, "photos").table(["raw"], payload=["noise"])
            X = photos.vectors["raw"]
            nearly = X + 1e-4 * rng.normal(size=X.shape).astype(np.float32)
            others = rng.normal(size=X.shape).astype(np.float32)
            payloads = [{"noise": label} for label in photos.payload["noise"]]
            origin = VectorOrigin(MODEL, declared_fingerprint(MODEL))
            for name, Y in (("same images", nearly), ("other images", others)):
                made = ImageCollection.create(store, name, {"raw": (D, origin)})
                made.write([i + 5000 for i in range(N)], {"raw": Y}, payloads)
    return shop


@pytest.mark.parametrize("stored", [False, True], ids=["query side", "stored"])
def test_a_map_of_another_collection_is_not_judged_by_the_images_that_it_has_seen(
    elsewhere: Path, *, stored: bool
) -> None:
    vectors = SIDE
    if stored:
        for name in ("same images", "other images"):
            run("backfill", name, "--projection", "label.safetensors", "--to", "moved")
        vectors = ("--vectors", "raw,moved")
    result = invoke("compare", "same images", *LABELS, *vectors)
    assert result.exit_code == 1, result.output
    assert "under other ids" in " ".join(result.stderr.split())
    drawn = invoke("compare", "same images", *LABELS, *vectors, "--sample", "150")
    assert "under other ids" in " ".join(drawn.stderr.split())
    # Of other images it may be judged: nothing of them has it seen.
    field = run("compare", "other images", *LABELS, *vectors)["fields"]["noise"]
    assert field["verdict"] not in ("better", "worse", "mixed")


def test_a_map_that_is_stored_under_another_name_keeps_its_rows() -> None:
    run("backfill", "photos", "--projection", "label.safetensors", "--to", "renamed")
    found = run("evaluate", "retrieval", "photos", *LABELS, "--vectors", "renamed")
    assert found["held_out"]["n_fit_rows"] == len(HELD)
    is_chance(found["fields"]["noise"]["vectors"]["renamed"])
    adopted = invoke("adopt", "photos", "--vector", "renamed", "--made-by", MODEL)
    assert adopted.exit_code == 1  # it cannot be passed off as the encoder's own


def test_a_filter_whose_field_has_changed_since_is_refused() -> None:
    with open_store(DEFAULT_STORE) as store:
        made = ImageCollection.create(
            store, "moving", {"raw": (D, VectorOrigin(MODEL, declared_fingerprint(MODEL)))}
        )
        X = np.random.default_rng(2).normal(size=(N, D)).astype(np.float32)
        rows = [{"noise": f"n{i // 2 % K}", "split": ("test", "train")[i % 2]} for i in range(N)]
        made.write(list(range(N)), {"raw": X}, rows)
    run("fit", "moving", *LABELS, "--fit-rows", "split=train", "-o", "train.safetensors")
    judge = ("compare", "moving", *LABELS, "--query-side", "train.safetensors")
    assert run(*judge)["held_out"]["n_fit_rows"] == N // 2
    with open_store(DEFAULT_STORE) as store:
        for first, split in enumerate(("train", "test")):
            store.set_payload("moving", list(range(first, N, 2)), {"split": split})
    result = invoke(*judge)
    assert result.exit_code == 1, result.output
    assert "and split=train no longer says so" in " ".join(result.stderr.split())


def test_few_shots_by_the_papers_protocol_never_come_from_rows_for_fitting() -> None:
    found = run("evaluate", "fewshot", "photos", *LABELS, "--vectors", "raw,label_noise",
                "--protocol", "paper", "--test-share", "0.5", "--shots", "8", "--episodes", "20",
                "--classifiers", "prototype", "--projection", "label.safetensors")  # fmt: skip
    assert found["held_out"]["n_fit_rows"] == len(HELD)
    row = found["fields"]["noise"]["vectors"]["label_noise"]["prototype"]["8"]
    assert row["accuracy"] == pytest.approx(1 / K, abs=0.08)


@EVERY
def test_a_result_that_a_map_has_seen_is_neither_right_nor_wrong(method: str) -> None:
    query = next(i for i in range(N) if i not in HELD)
    marks = {}
    for asked in (query, min(HELD)):
        search = ("search", "photos", "--id", str(asked), "--label", "noise", "-k", "50")
        run(*search, "--vectors", f"raw,{method}_noise", "--html", "found.html")
        page = Path("found.html").read_text(encoding="utf-8")
        assert "results are not marked" in page
        marks[asked] = page.count('class="mark"')
    assert 50 < marks[query] < 100
    assert marks[min(HELD)] == 50  # those of the encoder's own vector


def test_the_report_shows_no_result_that_the_map_has_seen() -> None:
    run("compare", "photos", *LABELS, "--vectors", "raw,label_noise", "-o", "seen.html")
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        document = report_of_run(ledger, latest_comparison(ledger))
    answers = [a.picture.id for row in document.neighbours for hits in row.answers.values()
               for a in hits]  # fmt: skip
    assert answers
    assert not set(map(str, HELD)) & set(answers)


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "misalignment", "photos", *LABELS, "--projection", "label.safetensors"),
        ("advise", "photos", *LABELS, "--projection", "label.safetensors"),
        ("fit", "photos", *LABELS, "--projection", "label.safetensors", "-o", "again.safetensors"),
    ],
)  # fmt: skip
def test_a_map_of_labels_never_passes_for_one_of_texts(words: tuple[str, ...]) -> None:
    result = invoke(*words)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
