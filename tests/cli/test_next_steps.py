"""How commands end: what they made and where, and lines that a shell runs as they are."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intramodal.commands.next_steps import program, unused
from tests.cli.kit import invoke, run

N = 30


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*words: str) -> tuple[str, list[str]]:
    """Return what a command prints, and the lines that it proposes; with --json it has none."""
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout, re.findall(r"^next: (.*)$", result.stderr, re.MULTILINE)


def works(line: str) -> str:
    """Run a proposed line as it is."""
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


def make_vectors(rng: np.random.Generator) -> None:
    texts = rng.normal(size=(40, 16)).astype(np.float32)
    np.save("texts.npy", texts)
    Path("names.txt").write_text("\n".join(f"name {n}" for n in range(40)))
    np.save("X.npy", rng.normal(size=(N, 16)).astype(np.float32))


def test_each_step_proposes_the_next_one(rng: np.random.Generator) -> None:
    make_vectors(rng)
    place = ("--store", "the store", "--runs", "the runs.db")
    shown, (prompts,) = said(
        *("ingest", "X.npy", "--collection", "shop", "--made-by", "my model", *place)
    )
    assert "collection: shop (store: the store)\n" in shown
    works(prompts)
    assert len(Path("prompts.txt").read_text().splitlines()) > 900
    fit = ("fit", "--text-vectors", "texts.npy", "--anchors", "names.txt", "--components", "8")
    shown, (backfill,) = said(*fit, "--made-by", "my model", "-o", "p.safetensors", *place)
    assert shown.endswith("projection: p.safetensors\n")
    works(backfill)
    refill = ("backfill", "shop", "--projection", "p.safetensors")
    shown, (verify, compare) = said(*refill, *place)
    assert "vector: pca_names\ncollection: shop (store: the store)\n" in shown
    assert "all agree" in works(verify)
    assert "report: judge.html" in works(compare)
    shown, (again,) = said(
        "backfill", "shop", "--projection", "p.safetensors", "--dry-run", *place
    )
    assert "--dry-run" not in again
    works(again)
    # A projection that is everywhere it belongs proposes nothing.
    _, none = said(*fit, "--made-by", "my model", "-o", "p.safetensors", *place)
    assert none == []


def test_evaluations_and_searches_propose_a_closer_look(rng: np.random.Generator) -> None:
    make_vectors(rng)
    Path("meta.csv").write_text("id,kind\n" + "".join(f"{n},{n % 3}\n" for n in range(N)))
    words = ("ingest", "X.npy", "--metadata", "meta.csv", "--collection", "shop")
    said(*words, "--made-by", "m")
    shown, (look,) = said("evaluate", "retrieval", "shop", "--labels", "kind")
    assert "evaluate-retrieval" in works(look)
    _, (page,) = said("search", "shop", "--id", "7")
    assert "page: page.html" in works(page)
    shown, none = said("export", "shop", "-o", "out.npy")
    assert shown.endswith("vectors: out.npy (30 x 16)\nids: out.ids.csv\n")
    shown, _ = said("runs", "export", "-o", "runs.csv")
    assert shown.startswith("runs: runs.csv (")
    assert none == []
    assert "next" not in run("search", "shop", "--id", "7")


def test_the_program_is_called_as_it_was_called(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = in_tmp / "my env" / "intramodal"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\necho found $1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["my env/intramodal", "runs"])
    assert program() == "'my env/intramodal'"
    assert works(f"{program()} it") == "found it\n"
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", [str(script)])  # as the shell found it
    assert program() == "intramodal"
    assert works(f"{program()} it") == "found it\n"
    other = in_tmp / "intramodal"
    other.write_text("")
    monkeypatch.setattr(sys, "argv", [str(other)])  # another one is on the path
    assert program() == shlex.quote(str(other))
    for called in ("-c", "/usr/lib/intramodal/__main__.py", "pytest"):
        monkeypatch.setattr(sys, "argv", [called])
        assert program() == shlex.join([sys.executable, "-m", "intramodal"])
    assert "Usage: intramodal" in works(f"{program()} --help")


def test_a_proposed_line_writes_over_nothing_and_has_no_secret(rng: np.random.Generator) -> None:
    for name in ("report.html", "report-2.html"):
        Path(name).touch()
    assert (unused("report.html"), unused("page.html")) == ("report-3.html", "page.html")
    make_vectors(rng)
    words = ("ingest", "X.npy", "--collection", "shop", "--made-by", "m")
    result = invoke(*words, "--runs", "sqlite:///runs.db?password=planted")
    assert "planted" not in result.output
