"""An error that nothing foresaw: one sentence, a file to report, exit code 70, no secret."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from intramodal import __version__
from intramodal.cli import CommandGroup, cli
from intramodal.errors import InputError

SECRET = "planted-key-91"
PASSWORD = "planted/pass@92"


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("QDRANT_API_KEY", SECRET)
    return tmp_path


def raised(monkeypatch: pytest.MonkeyPatch, error: BaseException, *words: str) -> Result:
    """Return what becomes of an error that comes out of a command."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(CommandGroup, "resolve_command", fail)
    return CliRunner().invoke(cli, ["doctor", *words])


def crash_file(folder: Path) -> Path:
    (file,) = folder.glob("intramodal-crash-*.txt")
    return file


def test_a_crash_is_one_sentence_with_exit_code_70_and_a_file(
    monkeypatch: pytest.MonkeyPatch, in_tmp: Path
) -> None:
    result = raised(monkeypatch, KeyError("no such thing"))
    assert result.exit_code == 70
    assert result.stdout == ""
    assert result.stderr.startswith("Error: intramodal itself failed (KeyError: 'no such thing')")
    assert result.stderr.count("\n") == 1
    file = crash_file(in_tmp)
    assert str(file) in result.stderr
    text = file.read_text()
    for wanted in ("Traceback", "KeyError", f"intramodal {__version__}", "numpy", "['doctor']"):
        assert wanted in text
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_crash_with_json_is_one_object_on_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    result = raised(monkeypatch, RuntimeError("x"), "--json")
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "RuntimeError"
    assert result.stderr == f"Error: {error['message']}\n"


def test_a_crash_tells_no_secret(monkeypatch: pytest.MonkeyPatch, in_tmp: Path) -> None:
    url = f"postgresql://me:{PASSWORD}@db/runs"
    error = RuntimeError(f"cannot reach {url} with {SECRET}")
    result = raised(monkeypatch, error, "--runs", url, "--api-key", "planted-93")
    pages = result.output + crash_file(in_tmp).read_text()
    assert "postgresql://me:***@db/runs" in pages
    for secret in (SECRET, PASSWORD, "planted-93"):
        assert secret not in pages


def test_where_no_file_can_be_written_the_end_of_the_traceback_is_shown(
    monkeypatch: pytest.MonkeyPatch, in_tmp: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(in_tmp / "absent"))
    result = raised(monkeypatch, KeyError("x"))
    assert result.exit_code == 70
    assert "no file can be written here" in result.stderr
    assert re.search(r"test_crash\.py:\d+ in fail$", result.stderr.strip())
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.ENAMETOOLONG, "give a shorter one"),
        (errno.EROFS, "give another place"),
        (errno.EMFILE, "ulimit"),
    ],
)
def test_what_the_machine_refuses_is_no_crash(
    monkeypatch: pytest.MonkeyPatch, in_tmp: Path, number: int, words: str
) -> None:
    result = raised(monkeypatch, OSError(number, os.strerror(number), "/some/where"))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {os.strerror(number)}: /some/where; ")
    assert words in result.stderr
    assert list(in_tmp.iterdir()) == []


def test_memory_that_runs_out_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    result = raised(monkeypatch, MemoryError())
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: memory ran out; ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (SystemExit(5), 5),
        (click.exceptions.Exit(6), 6),
        (click.UsageError("wrong"), 2),
        (InputError("wrong"), 1),
    ],
)
def test_an_end_that_is_meant_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, in_tmp: Path, error: BaseException, code: int
) -> None:
    assert raised(monkeypatch, error).exit_code == code
    assert list(in_tmp.iterdir()) == []


def test_a_caller_without_standalone_mode_gets_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(CommandGroup, "resolve_command", fail)
    with pytest.raises(KeyError):
        cli(["doctor"], standalone_mode=False)


def test_the_words_of_the_process_are_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["intramodal", "doctor", "--json"])

    def fail(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(CommandGroup, "resolve_command", fail)
    with pytest.raises(SystemExit) as ended:
        cli()
    assert ended.value.code == 70
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "KeyError"
    assert "['doctor', '--json']" in crash_file(in_tmp).read_text()
