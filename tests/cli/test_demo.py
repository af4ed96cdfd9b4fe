"""`intramodal demo`: the main job, offline, with the shipped vectors or with the shipped model."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, open_store
from intramodal.cli import cli
from intramodal.commands.demo import _show
from intramodal.demo import image_vectors, pictures_list
from intramodal.reports.report import report_of_run
from intramodal.runs.ledger import RunLedger
from tests.browser import chromium
from tests.cli.kit import assert_tables_fit, rendered_tables

WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder

class WithoutTorch(PathFinder):
    names = ("torch", "torchvision", "open_clip", "transformers", "timm")

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in cls.names:
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTorch
from intramodal.cli import main
main()
"""
needs_encoders = pytest.mark.skipif(
    find_spec("open_clip") is None, reason="encoding needs intramodal[encoders]"
)


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def without_torch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as after a light install."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=600,
    )


@pytest.fixture(scope="module")
def found(out: Path) -> Any:
    """Return what the demo finds where torch is not installed."""
    done = without_torch("demo", "--out", str(out), "--json", cwd=out)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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


def words_of(line: str) -> list[str]:
    """Return the words of a proposed line without the program."""
    words = shlex.split(line)
    return words[words.index("intramodal") + 1 :]


def test_what_it_says_to_do_next_works(found: Any, tmp_path: Path) -> None:
    *searches, listed = map(words_of, found["next"])
    assert {row["collection"] for row in run(*listed)["runs"]} == {"demo"}
    done = subprocess.run(["sh", "-c", found["next"][-1]], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for searched in searches:
        searched[searched.index("--runs") + 1] = str(tmp_path / "runs.db")
        assert run(*searched)["n_pictures"] == 2 * 10


def test_its_tables_fit_every_terminal(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = rendered_tables(monkeypatch)
    _show(found)
    assert_tables_fit(tables)


def test_the_searches_it_proposes_are_those_that_change_most(found: Any, out: Path) -> None:
    with RunLedger.open(str(out / "runs.db"), create=False) as ledger:
        all_details = report_of_run(ledger, found["run_id"]).details
    queries = [
        {"field": field, **query}
        for field, details in all_details.items()
        for query in (*details["queries_gain"], *details["queries_lose"])
    ]
    gain, loss = found["most_changed"]["gain"], found["most_changed"]["loss"]
    assert gain["delta"] == max(query["delta"] for query in queries) > 0
    assert loss["delta"] == min(query["delta"] for query in queries) < 0
    for query, line in zip((gain, loss), found["next"], strict=False):
        words = shlex.split(line)
        assert words[words.index("--id") + 1] == query["id"]
        assert words[words.index("--label") + 1] == query["field"]


def test_the_same_vectors_again_write_nothing(found: Any, out: Path) -> None:
    again = run(
        *("ingest", str(image_vectors()), "--collection", "demo", "--made-by", "demo"),
        *("--metadata", str(pictures_list()), "--id-column", "path"),
        *("--projection", str(out / "demo-pca.safetensors")),
        *("--store", str(out / "store"), "--runs", str(out / "runs.db")),
    )
    assert (again["written"], again["skipped"]) == (0, found["n_images"])


def test_encoding_without_torch_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = without_torch("demo", "--encode", "--out", "there", cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install 'intramodal[encoders]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def without_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is empty; the demo's files are neither in a checkout nor installed."""
    monkeypatch.setattr("intramodal.demo._CHECKOUT", tmp_path / "none")
    monkeypatch.setattr("intramodal.demo._PACKAGE", "not_installed_here")
    return tmp_path


def test_without_its_files_one_sentence_says_what_to_install(without_files: Path) -> None:
    result = CliRunner().invoke(cli, ["demo", "--out", str(without_files / "out")])
    assert result.exit_code == 1
    assert "pip install 'intramodal[demo]'" in result.stderr
    assert list(without_files.iterdir()) == []


@needs_encoders
def test_without_its_files_the_model_says_what_to_install(without_files: Path) -> None:
    place = str(without_files / "pca.safetensors")
    result = CliRunner().invoke(cli, ["fit", "--model", "demo", "--out", place])
    assert result.exit_code == 1
    assert "pip install 'intramodal[demo]'" in result.stderr
    assert list(without_files.iterdir()) == []


@needs_encoders
def test_with_the_model_it_encodes_and_finds_the_same(found: Any, out: Path) -> None:
    encoded = run("demo", "--encode", "--out", str(out))
    assert encoded["collection"] == "demo-encoded"
    assert (encoded["n_images"], encoded["n_failed"]) == (found["n_images"], 0)
    for name, row in found["fields"].items():
        own = encoded["fields"][name]
        assert own["verdict"] == row["verdict"]
        # Half precision exchanges neighbours whose cosines differ in the fourth digit only.
        assert own["delta"] == pytest.approx(row["delta"], abs=0.002)
    again = run(
        *("ingest", str(pictures_list()), "--collection", "demo-encoded", "--model", "demo"),
        *("--projection", str(out / "demo-encoded-pca.safetensors")),
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
