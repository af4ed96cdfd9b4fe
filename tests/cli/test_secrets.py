"""No key and no password in anything that a command prints, logs, stores or writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from intramodal import RunLedger, open_store
from intramodal.commands.options import DEFAULT_RUNS
from tests.cli.kit import invoke, make_photos, run

KEY, DATABASE, STORE, TOKEN = "planted-key-81", "planted/pass@82", "planted-83", "planted-tok-84"
PLANTED = (KEY, DATABASE, "planted%2Fpass%4082", STORE, TOKEN)
NO_RUNS = f"postgresql://me:{DATABASE}@127.0.0.1:1/runs"
NO_STORE = f"http://me:{STORE}@127.0.0.1:1"
ELSEWHERE = ("--store", NO_STORE, "--runs", NO_RUNS)


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("PGPASSWORD", DATABASE)
    words = ["intramodal", "compare", "photos", *ELSEWHERE, "--api-key", KEY, f"--note={TOKEN}"]
    monkeypatch.setattr(sys, "argv", words)
    return tmp_path


def told(*pages: str | bytes) -> list[str]:
    whole = b"\n".join(p.encode() if isinstance(p, str) else p for p in pages)
    return [secret for secret in PLANTED if secret.encode() in whole]


def test_nothing_that_works_tells_a_secret(
    rng: np.random.Generator, planted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids, _, _ = make_photos(rng)
    compared = run("compare", "photos", "--labels", "kind", "--no-controls", "-o", "r.html")
    shown = compared["run_id"]
    commands = [
        ("runs", "list"),
        ("runs", "show", shown),
        ("runs", "compare", shown, shown),
        *(("runs", "export", "--format", f, "-o", f"out.{f}") for f in ("csv", "json", "trec")),
        ("runs", "prune", "--keep", "0"),
        ("report", "-o", "again.html"),
        ("report", "-o", "tables.md"),
        ("report", "-o", "tables.tex"),
        ("search", "photos", "--id", ids[0], "--html", "page.html"),
        ("search", "photos", "--id", ids[0], "--runs", NO_RUNS),  # warns, and answers
        ("export", "photos", "--vector", "pca", "-o", "pca.npy"),
        ("models", "list"),
        ("doctor",),
    ]
    for command in commands:
        for form in ((), ("--json",)):
            result = invoke("-vv", *command, *form)
            assert result.exit_code == 0, (command, result.output)
            assert told(result.stdout, result.stderr) == [], command
    assert any(line.startswith("not recorded: ") for line in caplog.messages)
    assert told(caplog.text) == []
    assert "***" in invoke("runs", "show", shown).stdout  # it was recorded, and masked
    files = [path for path in planted.rglob("*") if path.is_file()]
    assert {"r.html", "out.json", "tables.tex", "runs.db", "page.html"} <= {p.name for p in files}
    assert [path.name for path in files if told(path.read_bytes())] == []


@pytest.mark.parametrize(
    "command",
    [
        ("compare", "photos", "--labels", "kind", *ELSEWHERE),
        ("compare", "photos", "--labels", "kind", "--store", NO_STORE),
        ("ingest", "pictures", "--collection", "c", "--model", "demo", *ELSEWHERE),
        ("backfill", "photos", "--projection", "p.safetensors", *ELSEWHERE),
        ("adopt", "photos", "--made-by", "clip", "--store", NO_STORE),
        ("search", "photos", "--id", "7", "--store", NO_STORE),
        ("export", "photos", "-o", "x.npy", "--store", NO_STORE),
        ("evaluate", "retrieval", "photos", "--labels", "kind", *ELSEWHERE),
        ("fit", "--text-vectors", "t.npy", "--made-by", "m", "-o", "p.safetensors", *ELSEWHERE),
        ("runs", "list", "--runs", NO_RUNS),
        ("runs", "list", "--runs", f"mysql://me:{DATABASE}@h/x"),
        ("runs", "list", "--runs", f"postgresql://me:{DATABASE}@h:port/x"),
        ("report", "--runs", NO_RUNS),
        ("doctor", *ELSEWHERE),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_nothing_that_fails_tells_a_secret(command: tuple[str, ...]) -> None:
    Path("pictures").mkdir()
    for form in ((), ("--json",)):
        result = invoke("-vv", *command, *form)
        assert result.exit_code == 1, result.output
        assert told(result.stdout, result.stderr) == []
        assert result.stdout + result.stderr


def test_no_repr_tells_a_secret() -> None:
    with open_store(":memory:", api_key=KEY) as store, RunLedger.open(DEFAULT_RUNS) as ledger:
        with ledger.run("fit", parameters={"api_key": KEY, "runs": NO_RUNS}) as recorded:
            pass
        reprs = [repr(x) for x in (store, ledger, recorded, ledger.runs(), ledger.get("2"))]
        assert told(*reprs, ledger.runs()._repr_html_(), str(ledger.describe())) == []
