"""`intramodal demo`: the main job, offline, on the shipped pictures with the shipped model."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, open_store
from intramodal.cli import cli
from intramodal.demo import pictures_list
from tests.browser import chromium

pytest.importorskip("open_clip", reason="the demo needs intramodal[encoders]")


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def found(out: Path) -> Any:
    return run("demo", "--out", str(out))


def n_pictures() -> int:
    with pictures_list().open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def test_every_shipped_picture_is_compared(found: Any, out: Path) -> None:
    assert {"collection", "n_images", "n_failed", "fields", "report", "run_id"} <= set(found)
    assert (found["n_images"], found["n_failed"]) == (n_pictures(), 0)
    assert found["seconds"] > 0
    assert Path(found["report"]).parent == out


def test_concepts_gain_and_the_vendors_style_loses(found: Any) -> None:
    verdicts = {name: row["verdict"] for name, row in found["fields"].items()}
    assert verdicts["identity"] == "better"
    assert verdicts["vendor"] == "worse"
    assert {row["population"] for row in found["fields"].values()} == {"code_point"}


def test_no_control_of_the_same_size_does_as_well(found: Any) -> None:
    """What gains is the texts' half: not any half, nor the pictures' own."""
    identity = found["fields"]["identity"]
    others = {other["vector"]: other["delta"] for other in identity["others"]}
    for control in ("random", "truncation", "bottom", "image_pca"):
        assert others[control] < identity["delta"]


def test_its_runs_are_recorded(found: Any, out: Path) -> None:
    runs = run("runs", "list", "--runs", str(out / "runs.db"))["runs"]
    assert {row["kind"]: row["status"] for row in runs} == {
        "ingest": "COMPLETE",
        "compare": "COMPLETE",
    }
    assert found["run_id"] in {row["id"] for row in runs}


def test_what_it_says_to_do_next_works(found: Any, tmp_path: Path) -> None:
    listed, searched = (shlex.split(line)[1:] for line in found["next"])
    assert {row["collection"] for row in run(*listed)["runs"]} == {"demo"}
    searched[searched.index("--runs") + 1] = str(tmp_path / "runs.db")
    assert run(*searched)["n_pictures"] == 2 * 10


def test_the_same_pictures_again_encode_nothing(found: Any, out: Path) -> None:
    again = run(
        *("ingest", str(pictures_list()), "--collection", "demo", "--model", "demo"),
        *("--projection", str(out / "pca.safetensors")),
        *("--store", str(out / "store"), "--runs", str(out / "runs.db")),
    )
    assert (again["written"], again["skipped"]) == (0, found["n_images"])


def test_the_report_shows_pictures_and_needs_no_second_file(found: Any) -> None:
    path = Path(found["report"])
    page = path.read_text(encoding="utf-8")
    assert page.count('src="data:image/webp;base64,') > 100
    assert path.stat().st_size < 5_000_000


@pytest.mark.browser
@pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed")
def test_the_report_opens_without_a_request_or_an_error(found: Any, tmp_path: Path) -> None:
    seen = chromium.visit(Path(found["report"]), tmp_path)
    assert (seen.requested, seen.console) == ([], [])


@pytest.mark.browser
@pytest.mark.skipif(chromium.find() is None, reason="chromium is not installed")
def test_the_pages_made_from_its_runs_open_without_a_request_or_an_error(
    found: Any, out: Path, tmp_path: Path
) -> None:
    runs = ("--runs", str(out / "runs.db"))
    assert run("runs", "show", found["run_id"], *runs)["status"] == "COMPLETE"
    run("report", found["run_id"], "-o", str(tmp_path / "again.html"), *runs)
    with open_store(str(out / "store")) as store:
        point = ImageCollection.open(store, "demo").table(["raw"]).ids[0]
    searched = run(
        *("search", "demo", "--id", str(point), "--store", str(out / "store")),
        *("--runs", str(tmp_path / "runs.db")),
        *("--html", str(tmp_path / "search.html"), "--pictures", str(pictures_list().parent)),
    )
    assert searched["n_pictures"] == 2 * 10
    for name in ("again.html", "search.html"):
        seen = chromium.visit(tmp_path / name, tmp_path)
        assert (seen.requested, seen.console) == ([], [])
