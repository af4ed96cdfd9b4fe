"""What a command that is stopped keeps, and says that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.cli import cli
from intramodal.commands.options import CheckedCommand
from intramodal.evaluation import compare
from intramodal.ingest.vectors import export
from tests.cli.kit import invoke, make_photos, run, walk

LONG = {
    *("advise", "backfill", "compare", "export", "fit", "ingest", "reproduce"),
    *("evaluate fewshot", "evaluate fewshot-text", "evaluate index", "evaluate misalignment"),
    *("evaluate oti", "evaluate recovery", "evaluate retrieval", "evaluate text"),
}


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(rng)


def stops_at(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> None:
    """Let Ctrl-C be pressed at a call of a function, counted from 1."""
    known: Callable[..., Any] = getattr(module, name)
    calls: list[str] = []

    def counted(*arguments: Any, **knobs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return known(*arguments, **knobs)

    monkeypatch.setattr(module, name, counted)


def test_every_command_that_takes_long_says_what_is_kept() -> None:
    says = {
        path.strip()
        for path, command in walk(cli)
        if isinstance(command, CheckedCommand) and command.kept
    }
    assert says == LONG


def test_a_comparison_that_is_stopped_keeps_the_fields_that_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stops_at(monkeypatch, compare, "gathered", 2)
    done = invoke("compare", "photos", "--labels", "kind,season", "--max-queries", "60")
    assert done.exit_code == 130, done.stderr
    (last,) = [line for line in done.stderr.splitlines() if "stopped" in line]
    assert last == (
        "Error: stopped; the figures of finished fields are recorded with the run; run the same "
        "command again to start over"
    )
    (row,) = run("runs", "list")["runs"]
    stored = run("runs", "show", row["id"])
    assert stored["status"] == "INTERRUPTED"
    assert {metric["field"] for metric in stored["metrics"]} == {"kind"}
    assert {"mAP", "mAP delta"} <= {metric["name"] for metric in stored["metrics"]}


def test_an_export_that_is_stopped_leaves_an_earlier_file_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run("export", "photos", "--vector", "raw", "-o", "out/raw.npy")
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    stops_at(monkeypatch, export, "_write", 1)
    stopped = invoke("export", "photos", "--vector", "pca", "-o", "out/raw.npy")
    assert stopped.exit_code == 130
    assert "stopped; no file was written, and an earlier one is as it was" in stopped.stderr
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_an_evaluation_that_is_stopped_is_an_interrupted_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from intramodal.evaluation import retrieval

    stops_at(monkeypatch, retrieval, "rank", 1)
    stopped = invoke("evaluate", "retrieval", "photos", "--labels", "kind")
    assert stopped.exit_code == 130
    assert stopped.stderr.count("stopped; the run is recorded as interrupted") == 1
    assert [row["status"] for row in run("runs", "list")["runs"]] == ["INTERRUPTED"]
