"""The table of every command at 80 and 120 columns: no number and no id is cut."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.cli import cli
from intramodal.commands import printing
from intramodal.commands.backfill import _cell
from intramodal.commands.columns import Column, id_column, state_column, wide
from tests.cli.evaluated import COMMANDS, make_shop, pictures
from tests.cli.kit import Shown, assert_tables_fit, invoke, rendered_tables, walk
from tests.foreign_directories import make_local_mode
from tests.unit.evaluation.test_preference import write as write_votes

LABELS = ("--labels", "kind,masterCategory")
TEXTS = ("--text-vectors", "classes.npy")
RETRIEVAL = ("photos", *LABELS)

CASES: dict[str, tuple[str, ...] | None] = {
    "demo": None,  # in test_demo
    "ingest": ("V.npy", "--metadata", "V.csv", "--collection", "new", "--made-by", "clip"),
    "import-local": ("theirs",),
    "advise": ("photos", "--labels", "kind", "--wide"),
    "fit": ("--text-vectors", "T.npy", "--anchors", "names.txt", "--made-by", "clip",
            "--components", "8", "-o", "fitted.safetensors"),
    "backfill": ("photos", "--projection", "pca.safetensors", "--dry-run"),
    "adopt": None,
    "evaluate retrieval": (*RETRIEVAL, "--wide"),
    "evaluate fewshot": (*COMMANDS["fewshot"], "--wide"),
    "evaluate fewshot-text": ("photos", "--labels", "kind", *TEXTS, "--shots", "1",
                              "--episodes", "2", "--methods", "tip-adapter", "--validation", "1"),
    "evaluate index": ("photos", "--labels", "kind", "--searches", "raw,pca:raw", "--timed", "2"),
    "evaluate misalignment": (*COMMANDS["misalignment"], "--wide"),
    "evaluate oti": None,  # in test_evaluate_oti
    "evaluate recovery": COMMANDS["recovery"],
    "evaluate text": ("photos", "--labels", "kind", *TEXTS, "--wide"),
    "compare": ("photos", *LABELS, "--no-controls", "--wide"),
    "judge": ("votes.json",),
    "search": ("photos", "--id", "<point>"),
    "export": None,
    "report": None,
    "reproduce": ("table2", "--on", "photos", "--label", "kind", "--vector", "raw", "--dry-run"),
    "runs list": ("--wide",),
    "runs show": ("<run>",),
    "runs compare": ("<run>", "<other>"),
    "runs export": None,
    "runs table": None,  # text for programs
    "runs prune": ("--keep", "1"),
    "models list": (),
    "anchors": None,
    "models convert-slip": None,
    "doctor": None,
    "init": None,
    "trust": None,
}  # fmt: skip
"""The words of one call; None for a command that prints no table, or is elsewhere."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = make_shop(tmp_path_factory.mktemp("shop"))
    former = Path.cwd()
    os.chdir(folder)
    rng = np.random.default_rng(2)
    np.save("classes.npy", rng.normal(size=(6, 16)).astype(np.float32))
    np.save("V.npy", rng.normal(size=(9, 16)).astype(np.float32))
    Path("names.txt").write_text("".join(f"thing {n}\n" for n in range(40)))
    with Path("V.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id"], *([n] for n in range(9))])
    write_votes(folder / "votes.json", ["a", "b", "tie", "b"])
    make_local_mode(folder / "theirs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["intramodal"])  # a run records it, however long pytest's is
        invoke("evaluate", "retrieval", *RETRIEVAL)
        invoke("evaluate", "retrieval", "photos", "--labels", "kind", "--seed", "3")
    yield folder
    os.chdir(former)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    return rendered_tables(monkeypatch)


def words_of(command: tuple[str, ...]) -> list[str]:
    """Return the arguments with the id of a point or of runs in their places."""
    if not any(word.startswith("<") for word in command):
        return list(command)
    runs = json.loads(invoke("runs", "list", "--json").stdout)["runs"]
    places = {"<run>": runs[-1]["id"], "<other>": runs[-2]["id"], "<point>": pictures().ids[7]}
    return [str(places.get(word, word)) for word in command]


def test_every_command_has_a_table_or_none() -> None:
    assert set(CASES) == {path.strip() for path, _ in walk(cli)}


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", [name for name, words in CASES.items() if words is not None])
def test_a_table_fits_and_cuts_no_number_and_no_id(
    name: str, tables: list[Shown], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["intramodal", *name.split()])  # which a run records
    given = words_of(CASES[name] or ())
    result = invoke(*name.split(), *given)
    assert result.exit_code == 0, result.output
    assert_tables_fit(tables)


# The rule


def rendered(columns: Any, rows: Any, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        printing.print_table(columns, rows)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_texts_wrap_before_anything_else_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = (id_column("run"), "what", "mAP>")
    row = ("20261128-121430-8q8f", "some words that are long", "0.454 ± 0.061")
    head, rule, *lines = rendered(columns, [row], 52, monkeypatch)
    assert head.split() == ["run", "what", "mAP"]
    assert set(rule) == {"─"}
    assert lines[0].split()[0] == row[0]
    assert lines[0].endswith(row[2])
    assert len(lines) == 2


def test_where_the_columns_do_not_fit_each_row_is_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = (id_column("run"), id_column("point"), "n>")
    row = ("20261128-121430-8q8f", "0b6e5fc8-8d5e-5d0e-9b1e-0a4a6d1f9c11", "12,345")
    lines = rendered(columns, [row, row], 60, monkeypatch)
    assert lines == [f"run    {row[0]}", f"point  {row[1]}", f"n      {row[2]}", ""] * 2


def test_names_and_values_have_no_empty_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("vector", "pca"), ("largest deviation", _cell(2.9802322387695312e-08))]
    lines = rendered(("", ""), rows, 80, monkeypatch)
    assert lines == ["vector             pca", "largest deviation  2.98e-08"]


def test_an_id_that_is_wider_than_the_terminal_is_folded_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = rendered((id_column("id"),), [("0123456789" * 40,)], 60, monkeypatch)
    assert "".join(lines).removeprefix("id").replace(" ", "") == "0123456789" * 40


def test_a_heading_wraps_before_its_at_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = rendered((id_column("a"), "precision@100>"), [("x" * 9, "0.5")], 22, monkeypatch)
    assert [line.split()[-1] for line in lines[:2]] == ["precision", "@100"]


def test_wide_columns_are_shown_only_when_asked_for(shop: Path) -> None:
    few, all_of = (invoke("evaluate", "retrieval", *RETRIEVAL, *w) for w in ((), ("--wide",)))
    assert "MRR" not in few.stdout
    assert "MRR" in all_of.stdout
    assert "± " in few.stdout


def test_a_tiny_loss_is_no_negative_zero() -> None:
    assert printing.number(-0.0001, sign=True) == "+0.000"
    assert printing.with_interval(0.646, [0.634, 0.657]) == "0.646 ± 0.012"


@pytest.mark.parametrize(
    ("state", "colour"),
    [("adopt: better", "green"), ("do not adopt: worse", "red"), ("not settled", "yellow")],
)
def test_a_verdict_has_the_colour_of_the_report(state: str, colour: str) -> None:
    assert printing.colour_of(state) == colour
    assert state_column("verdict") == Column("verdict", "state")
    assert wide("n>").is_wide
