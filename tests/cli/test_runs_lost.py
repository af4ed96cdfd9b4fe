"""The runs database is lost while a command works: its result is printed, with one warning."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import Projection
from intramodal.commands.options import DEFAULT_RUNS
from intramodal.runs.ledger import RecordedRun, RunLedger
from tests.cli.kit import invoke, make_photos

COMMANDS = {
    "compare": (
        *("compare", "photos", "--labels", "kind", "--no-controls", "--max-queries", "20"),
        *("--report", "page.html"),
    ),
    "retrieval": ("evaluate", "retrieval", "photos", "--labels", "kind"),
    "few shots": (
        *("evaluate", "fewshot", "photos", "--labels", "kind"),
        *("--shots", "1", "--episodes", "10", "--classifiers", "prototype"),
    ),
    "misalignment": (
        *("evaluate", "misalignment", "photos:raw", "--labels", "kind"),
        *("--report", "page.html"),
    ),
    "index": (
        "evaluate",
        "index",
        "photos",
        "--labels",
        "kind",
        "--max-queries",
        "10",
        "--timed",
        "5",
    ),
    "backfill": ("backfill", "photos", "--projection", "map.safetensors", "--to", "new"),
    "export": ("export", "photos", "-o", "out.npy"),
    "search": ("search", "photos", "--id", "{id}"),
    "ingest": ("ingest", "vectors.npy", "--collection", "others", "--made-by", "m"),
    "adopt": ("adopt", "photos", "--made-by", "clip", "--vector", "raw"),
}
SOME = ("compare", "misalignment", "export")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> str:
    """Leave `photos`, a projection and vectors in an empty folder; return the id of a point."""
    monkeypatch.chdir(tmp_path)
    ids, raw, _ = make_photos(rng)
    matrix = np.linalg.qr(rng.normal(size=(16, 8)))[0]
    Projection(matrix, "pca", "clip", "3f9a").save("map.safetensors")
    np.save("vectors.npy", raw)
    return ids[0]


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return what makes something happen right after a run was entered."""
    enter = RecordedRun.enter

    def after_entering(what: Callable[[], object]) -> None:
        def entered(run: RecordedRun, facts: Any) -> None:
            enter(run, facts)
            what()

        monkeypatch.setattr(RecordedRun, "enter", entered)

    return after_entering


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (r for r in caplog.records if r.name.startswith("intramodal.runs"))
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_whose_runs_database_is_removed_ends_with_its_result_and_one_warning(
    name: str,
    photos: str,
    lose: Callable[[Callable[[], object]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lose(Path(DEFAULT_RUNS).unlink)
    done = invoke(*(word.format(id=photos) for word in COMMANDS[name]), "--json")
    assert done.exit_code == 0, done.output
    run_id = json.loads(done.stdout)["run_id"]
    (warning,) = warnings_of(caplog)
    assert "was removed while it was in use" in warning
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        assert [(run.id, run.status) for run in ledger.runs()] == [(run_id, "COMPLETE")]


@pytest.mark.parametrize("name", SOME)
def test_a_command_whose_runs_database_became_something_else_ends_with_its_result(
    name: str,
    photos: str,
    lose: Callable[[Callable[[], object]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def replace() -> None:
        Path(DEFAULT_RUNS).unlink()
        Path(DEFAULT_RUNS).write_text("dear diary")

    lose(replace)
    done = invoke(*(word.format(id=photos) for word in COMMANDS[name]), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["run_id"]
    assert len(warnings_of(caplog)) == 1
    assert Path(DEFAULT_RUNS).read_text() == "dear diary"
