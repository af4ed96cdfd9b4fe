"""How commands end: what they made and where, and lines that a shell runs as they are."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from intramodal import open_store
from intramodal.cli import cli
from intramodal.commands.next_steps import program, unused
from intramodal.commands.options import DEFAULT_STORE
from intramodal.demo import image_vectors, pictures_list
from intramodal.evaluation.preference import VOTES_FORMAT
from intramodal.ingest.vectors.matrices import read_matrix
from intramodal.store.base import VectorSpec
from intramodal.types import PointId
from tests.cli.evaluated import DIM, N, fill, half, pictures, texts
from tests.cli.kit import invoke, run, walk
from tests.foreign_directories import make_local_mode, make_shard
from tests.tiny_models import save_slip

SHOP = "-the 'shop"
"""A collection that a line must quote, and set apart from its options."""
MAP = "a map's.safetensors"
NEW_MAP = "-new map.safetensors"
TABLE = "-the vectors.npy"

OF_SHOP = ("--", SHOP)
LABELS = ("--labels", "kind")
TEXTS = ("--text-vectors", "classes.npy")
ON = ("--on", SHOP, "--label", "kind", "--vector", "raw", "--methods", "original")
FIT = ("--text-vectors", "T.npy", "--anchors", "names.txt", "--components", "8")

CASES: dict[str, list[tuple[str, ...]]] = {
    "demo": [("--out", "my demo")],
    "ingest": [
        ("--collection", "-new", "--made-by", "own model", "--", TABLE),
        ("--collection", "-new", "--made-by", "clip", "--projection", MAP, "--", TABLE),
    ],
    "import-local": [("theirs",), ("theirs", "--dry-run")],
    "advise": [(*LABELS, *OF_SHOP)],
    "fit": [
        (*FIT, "--made-by", "clip", "-o", NEW_MAP),
        (*LABELS, "-o", "-{field}.safetensors", "--", f"{SHOP}:raw"),
    ],
    "backfill": [
        ("--projection", MAP, "--to", "it's half", "--dry-run", *OF_SHOP),
        ("--projection", MAP, "--to", "it's half", *OF_SHOP),
        ("--projection", MAP, "--verify", "20", *OF_SHOP),
        ("--projection", MAP, "--recompute", "kind=kind 1", *OF_SHOP),
        ("--rollback", "--to", "pca", "--dry-run", *OF_SHOP),
    ],
    "adopt": [
        ("undeclared", "--made-by", "own model"),
        ("undeclared", "--made-by", "clip", "--projection", MAP),
        ("--shard", "their shard", "--dry-run", "--", "-a copy"),
        ("--shard", "their shard", "--", "-a copy"),
    ],
    "evaluate retrieval": [(*LABELS, *OF_SHOP)],
    "evaluate fewshot": [(*LABELS, "--episodes", "2", "--shots", "1", *OF_SHOP)],
    "evaluate fewshot-text": [
        (*LABELS, *TEXTS, "--shots", "1", "--episodes", "2", "--methods", "tip-adapter",
         "--validation", "1", *OF_SHOP),
    ],
    "evaluate index": [(*LABELS, "--searches", "raw,pca:raw", "--timed", "2", *OF_SHOP)],
    "evaluate misalignment": [(*LABELS, *OF_SHOP)],
    "evaluate oti": [("emoji", "--labels", "identity", "--steps", "1", "--device", "cpu")],
    "evaluate recovery": [("--text-vectors", "T.npy", "--sizes", "4,40", "--subsets", "2",
                           *OF_SHOP)],
    "evaluate text": [(*LABELS, *TEXTS, *OF_SHOP)],
    "compare": [
        (*LABELS, "--no-controls", "--vectors", "raw,pca", *OF_SHOP),
        ("-k", "3", *OF_SHOP),
    ],
    "judge": [("votes.json",), ("votes.json", "--judgments", "right ones.json")],
    "search": [("--id", "<point>", *OF_SHOP)],
    "report": [(), ("<run>", "<other>", "-o", "both.html")],
    "reproduce": [
        ("table3", *ON, "--dry-run"),
        ("table3", *ON),
    ],
    "runs list": [()],
    "runs show": [("<run>",)],
    "runs compare": [("<run>", "<other>")],
    "runs table": [()],
    "runs prune": [("--keep", "1")],
    "models convert-slip": [("slip.pt", "a slip")],
    "doctor": [("--store", "no store yet")],
    "init": [()],
}  # fmt: skip
"""The words of calls that propose something."""

NOTHING_FOLLOWS = {
    "anchors": "a program of the user's embeds the prompts; the note says what takes its vectors",
    "export": "the file is for other programs",
    "runs export": "the file is for other programs",
    "models list": "a list to choose from",
    "trust": "a setting, which the next command reads",
}

ALL = [(name, words) for name, calls in CASES.items() for words in calls]
LONG = ("demo", "doctor", "evaluate oti", "models convert-slip")
"""What needs a model, or proposes a whole demo: test_demo runs the demo's own lines."""

Typed = Callable[[str], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which every call of the table has what it needs."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rng = np.random.default_rng(0)
        with open_store(DEFAULT_STORE) as store:
            fill(store, SHOP)
            store.create("undeclared", {"image": VectorSpec(DIM)})
            some = rng.normal(size=(N, DIM)).astype(np.float32)
            store.upsert("undeclared", list(range(N)), {"image": some}, [{}] * N)
        half().save(MAP)
        for name, X in {"T.npy": texts(), "classes.npy": texts()[:6], TABLE: some}.items():
            np.save(name, X)
        Path("names.txt").write_text("".join(f"thing {n}\n" for n in range(40)))
        make_local_mode(folder / "theirs")
        for seed in "12":
            compare = ("compare", *LABELS, "--no-controls", "--seed", seed, *OF_SHOP)
            assert invoke(*compare).exit_code == 0
        first, *others = pictures().ids[:5]
        write_votes(Path("votes.json"), collection=SHOP, query=first, right=others)
    return folder


def write_votes(
    path: Path, *, collection: str, query: PointId, right: list[PointId], run: str | None = None
) -> None:
    """Write what a judging page saves of one query."""
    vote = {"query": query, "choice": "b", "left": "a", "right": right}
    about = {"format": VOTES_FORMAT, "collection": collection, "vectors": ["raw", "pca"]}
    path.write_text(json.dumps({**about, "run_id": run, "seed": 0, "votes": [vote]}))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shop(made: Path, here: Path) -> Path:
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


def said(*words: str, code: int = 0) -> tuple[str, list[str]]:
    """Return what a command prints, and the lines that it proposes; with --json it has none."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    return result.stdout, re.findall(r"^next: (.*)$", result.stderr, re.MULTILINE)


def in_place(words: tuple[str, ...]) -> list[str]:
    """Return the words with the id of a point or of runs in their places."""
    if not any(word.startswith("<") for word in words):
        return list(words)
    runs = run("runs", "list")["runs"]
    places = {"<run>": runs[0]["id"], "<other>": runs[1]["id"], "<point>": str(pictures().ids[7])}
    return [places.get(word, word) for word in words]


def prepare(name: str) -> None:
    """Make what few calls need."""
    if name == "adopt":
        make_shard(Path("their shard"))
    elif name == "evaluate oti":
        pytest.importorskip("torch")
        rows = pictures_list().read_text(encoding="utf-8").splitlines()[: N + 1]
        Path("emoji.csv").write_text("\n".join(rows), encoding="utf-8")
        np.save("emoji.npy", read_matrix(image_vectors())[:N])
        words = ("ingest", "emoji.npy", "--metadata", "emoji.csv", "--id-column", "path")
        said(*words, "--collection", "emoji", "--made-by", "demo")
    elif name == "models convert-slip":
        pytest.importorskip("open_clip")
        save_slip(Path("slip.pt"))


def works(line: str) -> str:
    """Run a proposed line as it is."""
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Return a function that runs a line in this process, with the words that a shell makes."""
    script, words = tmp_path / "my env" / "intramodal", tmp_path / "words"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {shlex.quote(str(words))}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])

    def run_typed(line: str) -> None:
        works(line)
        result = invoke(*words.read_text().split("\0")[:-1])
        assert result.exit_code == 0, (line, result.output)

    return run_typed


def test_every_command_proposes_something_or_says_why_not() -> None:
    names = [path.strip() for path, _ in walk(cli)]
    assert sorted(names) == sorted([*CASES, *NOTHING_FOLLOWS])


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(("name", "words"), [case for case in ALL if case[0] not in LONG])
def test_what_a_command_proposes_can_be_pasted(
    name: str, words: tuple[str, ...], typed: Typed
) -> None:
    for line in proposed(name, words):
        typed(line)


@pytest.mark.slow
@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(("name", "words"), ALL)
def test_what_a_command_proposes_runs_in_a_shell(name: str, words: tuple[str, ...]) -> None:
    for line in proposed(name, words):
        works(line)


def proposed(name: str, words: tuple[str, ...]) -> list[str]:
    """Return the lines that a call proposes, at least one."""
    prepare(name)
    _, lines = said(*name.split(), *in_place(words))
    assert lines
    return lines


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", NOTHING_FOLLOWS)
def test_a_command_that_nothing_follows_proposes_nothing(name: str) -> None:
    words = {
        "anchors": ("names.txt",),
        "export": ("-o", "x.npy", *OF_SHOP),
        "runs export": ("-o", "runs.csv"),
        "trust": (".",),
    }
    shown, lines = said(*name.split(), *words.get(name, ()))
    assert (bool(shown), lines) == (True, [])


def test_each_step_proposes_the_next_one(shop: Path) -> None:
    place = ("--store", "the store", "--runs", "the runs.db")
    ingest = ("ingest", "--collection", "-new", "--made-by", "my model", *place)
    shown, (prompts,) = said(*ingest, "--", TABLE)
    assert "collection: -new (store: the store)\n" in shown
    works(prompts)
    assert len(Path("prompts.txt").read_text().splitlines()) > 900
    fit = ("fit", *FIT, "--made-by", "my model", "-o", "p.safetensors", *place)
    shown, (backfill,) = said(*fit)
    assert shown.endswith("projection: p.safetensors\n")
    works(backfill)
    refill = ("backfill", "--projection", "p.safetensors", *place, "--", "-new")
    shown, (verify, compare) = said(*refill)
    assert "vector: pca_names\ncollection: -new (store: the store)\n" in shown
    assert "all agree" in works(verify)
    assert "report: judge.html" in works(compare)
    # A projection that is everywhere it belongs proposes nothing.
    assert said(*fit)[1] == []


def test_a_line_that_a_terminal_would_not_show_as_it_is_is_not_proposed() -> None:
    write_table("kind\nof thing", "kind of thing")
    for field, n in (("kind\nof thing", 0), ("kind of thing", 1)):
        words = ("compare", "shop", "--labels", json.dumps(field), "--no-controls")
        _, lines = said(*words)
        assert len([line for line in lines if " fit shop" in line]) == n
        assert not any("\\n" in line for line in lines)


def test_a_line_with_a_secret_is_not_proposed_and_no_line_writes_over_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("report.html", "report-2.html"):
        Path(name).touch()
    assert (unused("report.html"), unused("page.html")) == ("report-3.html", "page.html")
    write_table("kind")
    monkeypatch.setenv("QDRANT_API_KEY", "planted-key")
    place = ("--runs", "of-planted-key.db")
    result = invoke("search", "shop", "--id", "7", *place)
    assert result.exit_code == 0, result.output
    assert "planted" not in result.output
    assert "next:" not in result.output  # it would not run
    assert "next:" in invoke("search", "shop", "--id", "7").output


def write_table(*fields: str) -> None:
    """Ingest random points that no projection serves, with a class per field."""
    rng = np.random.default_rng(1)
    np.save("X.npy", rng.normal(size=(N, DIM)).astype(np.float32))
    half().save("half.safetensors")
    rows = [json.dumps({"id": n, **dict.fromkeys(fields, f"class {n % 3}")}) for n in range(N)]
    Path("meta.jsonl").write_text("\n".join(rows))
    words = ("ingest", "X.npy", "--metadata", "meta.jsonl", "--collection", "shop")
    said(*words, "--made-by", "clip", "--projection", "half.safetensors")


def test_judgments_are_evaluated_in_the_store_that_the_page_was_made_of(typed: Typed) -> None:
    write_table("kind")
    Path(".intramodal/store").rename("the store")
    found = run("compare", "shop", "--store", "the store", "-k", "3", "-o", "judge.html")
    write_votes(Path("votes.json"), collection="shop", query=7, right=[1, 2], run=found["run_id"])
    _, (line,) = said("judge", "votes.json", "--judgments", "right.json")
    assert "--store 'the store'" in line
    typed(line)


def test_the_program_is_called_as_it_was_called(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = here / "my env" / "intramodal"
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
    other = here / "intramodal"
    other.write_text("")
    monkeypatch.setattr(sys, "argv", [str(other)])  # another one is on the path
    assert program() == shlex.quote(str(other))
    for called in ("-c", "/usr/lib/intramodal/__main__.py", "pytest"):
        monkeypatch.setattr(sys, "argv", [called])
        assert program() == shlex.join([sys.executable, "-m", "intramodal"])
    assert "Usage: intramodal" in works(f"{program()} --help")
