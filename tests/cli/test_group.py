from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from intramodal.cli import COMMANDS, cli
from intramodal.commands.printing import print_table
from tests.cli.kit import walk

HEAVY = ("torch", "sklearn", "scipy", "qdrant_client", "qdrant_edge", "sqlalchemy")

DEADLINE_S = 60.0  # a process that starts on a busy machine


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom intramodal.cli import cli\n"
        "try:\n    cli(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize(("name", "command"), walk(cli), ids=lambda value: str(value)[:40])
def test_every_command_and_option_has_help_and_a_json_form(
    name: str, command: click.Command
) -> None:
    assert command.help, name
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert all(option.help for option in options), name
    assert any("--json" in option.opts for option in options), name


def test_an_unknown_command_is_answered_with_the_closest() -> None:
    result = CliRunner().invoke(cli, ["rums"])
    assert result.exit_code == 2
    assert "did you mean runs" in result.stderr


@pytest.mark.usefixtures("in_tmp")
def test_an_error_is_one_sentence_with_exit_code_1() -> None:
    result = CliRunner().invoke(cli, ["runs", "show", "nothing"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("in_tmp")
def test_an_error_with_json_is_one_object_on_stdout() -> None:
    result = CliRunner().invoke(cli, ["runs", "show", "nothing", "--json"])
    assert result.exit_code == 1
    assert set(json.loads(result.stdout)["error"]) == {"type", "message"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rums", "did you mean runs"),
        ("evaluate retrival", "did you mean retrieval?"),
        (
            "evaluate products",
            "intramodal evaluate needs one of fewshot, fewshot-text, index, misalignment, oti, "
            "recovery, retrieval, text before 'products', for example: intramodal evaluate "
            "retrieval products --json",
        ),
        ("runs 20261128-151228-wc4q", "for example: intramodal runs show 20261128-151228-wc4q"),
        ("runs prune", "say which"),
        ("runs list --limit x", "--limit"),
        ("search", "COLLECTION"),
        ("search photos --image absent.png", "'absent.png' does not exist"),
        ("compare photos --lables kind", "--labels"),
    ],
)
def test_a_wrong_command_line_with_json_is_one_object_on_stdout(words: str, message: str) -> None:
    result = CliRunner().invoke(cli, [*words.split(), "--json"])
    assert result.exit_code == 2
    assert message in json.loads(result.stdout)["error"]["message"]
    assert "Usage:" in result.stderr
    assert CliRunner().invoke(cli, words.split()).stdout == ""


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [
        ("intramodal ru", 1, ["runs"]),
        ("intramodal runs ", 2, ["compare", "export", "list", "prune", "show", "table"]),
        ("intramodal search --ht", 2, ["--html"]),
    ],
)
def test_a_shell_completes_commands_and_options(
    words: str, position: int, expected: list[str]
) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(position)}
    environment = {**os.environ, **asked, "_INTRAMODAL_COMPLETE": "bash_complete"}
    code = "from intramodal.cli import cli; cli(prog_name='intramodal')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert [line.removeprefix("plain,") for line in done.stdout.split()] == expected


def test_no_command_draws_fewer_than_one_query() -> None:
    drawing = [
        path.split()
        for path, command in walk(cli)
        if "max_queries" in {p.name for p in command.params}
    ]
    assert drawing
    for path in drawing:
        result = CliRunner().invoke(cli, [*path, "photos", "--max-queries", "0"])
        assert result.exit_code == 2
        assert "Invalid value for '--max-queries': 0 is not in the range" in result.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_ctrl_c_says_how_to_go_on_and_the_run_is_interrupted(in_tmp: Path) -> None:
    pytest.importorskip("open_clip", reason="the shipped model needs intramodal[encoders]")
    # A job in a shell's background ignores Ctrl-C, and what it starts would, too.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from intramodal.cli import cli; cli(prog_name='intramodal')"
    )
    # It waits for the first path on stdin, and nobody writes one.
    words = ("ingest", "-", "--collection", "photos", "--model", "demo")
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline = time.monotonic() + DEADLINE_S
        while not (rows := runs_listed()):
            assert time.monotonic() < deadline, "the run was not recorded in time"
            assert child.poll() is None
            time.sleep(0.2)
        assert rows[0]["status"] == "RUNNING"
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == 130
    kept = "stopped; what was written is kept"
    assert stderr.endswith(f"{kept}; run the same command again to resume\n")
    assert "Traceback" not in stderr
    assert [row["status"] for row in runs_listed()] == ["INTERRUPTED"]


def runs_listed() -> list[dict[str, str]]:
    listed = json.loads(CliRunner().invoke(cli, ["runs", "list", "--json"]).stdout)
    return list(listed.get("runs", []))  # an error before there is a database


def test_a_table_without_stdout_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as in a program whose stdout is closed
    print_table(("run", "n>"), [("a", 1)])
