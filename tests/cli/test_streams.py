"""Any encoding, closed and full streams: a sentence and an exit code, never a traceback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from intramodal.cli import cli
from intramodal.commands.options import print_json
from intramodal.commands.printing import print_table
from tests.cli.kit import walk

ENCODINGS = ("cp1252", "ascii", "latin-1", "utf-16", "cp437", "shift_jis")
PYTHON = f"{shlex.quote(sys.executable)} -c 'from intramodal.cli import main; main()'"
ARROW = "fit --help"  # its first sentence has the arrow of PCA←
FULL = Path("/dev/full")
IS_POSIX = os.name == "posix"


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell in which `intramodal` is this tree's."""
    words = line.replace("intramodal", PYTHON, 1)
    return subprocess.run(
        ["sh", "-c", words], env={**os.environ, **environment}, capture_output=True, timeout=120
    )


# Encodings


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_help_page_is_written_in_any_encoding(encoding: str) -> None:
    for name, _ in walk(cli):
        result = CliRunner(charset=encoding).invoke(cli, [*name.split(), "--help"])
        assert result.exit_code == 0, (name, result.exception)
        assert result.stdout_bytes.decode(encoding).startswith("Usage:")


def test_what_an_encoding_lacks_is_escaped() -> None:
    shown = CliRunner(charset="cp1252").invoke(cli, shlex.split(ARROW)).stdout_bytes
    assert b"PCA\\u2190" in shown
    assert "PCA←" in CliRunner().invoke(cli, shlex.split(ARROW)).stdout


NAMED = "日本 é ← 😀 \udce9"  # the last: half a character, as of a file name that is not UTF-8


def written(encoding: str, job: Callable[[], None]) -> str:
    """Return what a command of the group that does this job writes on stdout."""
    group = type(cli)("group", callback=job, invoke_without_command=True)
    result = CliRunner(charset=encoding).invoke(group, [])
    assert result.exit_code == 0, result.stderr
    return result.stdout_bytes.decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_json_in_any_encoding(encoding: str) -> None:
    shown = written(encoding, lambda: print_json({"name": NAMED}))
    assert json.loads(shown) == {"name": NAMED}


def test_json_stays_readable_where_it_can() -> None:
    assert written("utf-8", lambda: print_json({"name": "←"})) == '{"name": "←"}\n'


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_is_written_in_any_encoding(encoding: str) -> None:
    shown = written(encoding, lambda: print_table(("name", "n>"), [(NAMED, None)], title="×"))
    assert "name" in shown


def test_the_streams_of_who_calls_stay_as_they_were() -> None:
    before = (sys.stdout.errors, sys.stderr.errors)
    CliRunner().invoke(cli, ["--help"])
    with pytest.raises(SystemExit):
        cli(["--help"])
    assert (sys.stdout.errors, sys.stderr.errors) == before


# Streams that are closed, full or gone


@pytest.mark.skipif(not IS_POSIX, reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_fault(closed: str) -> None:
    ended = shell(f"intramodal runs list --runs absent.db {closed}")
    assert ended.returncode == 1
    assert ended.stderr == b"" or ended.stderr.startswith(b"Error: there is no runs database")
    assert ended.stdout == b""


@pytest.mark.skipif(not IS_POSIX, reason="needs a POSIX shell")
def test_closed_descriptors_are_taken_by_nothing_else() -> None:
    code = "import os; from intramodal.commands.streams import usable_streams as usable\n"
    code += "with usable(): os.write(3, str([os.fstat(n).st_rdev for n in range(3)]).encode())"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} 3>seen <&- >&- 2>&-"
    subprocess.run(["sh", "-c", line], check=True)
    assert Path("seen").read_text() == str([Path(os.devnull).stat().st_rdev] * 3)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", ["--help", "models list"])
def test_a_full_disk_under_stdout_is_one_sentence(words: str) -> None:
    ended = shell(f"intramodal {words} >{FULL}")
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        b"Error: the output cannot be written (No space left on device)"
    )
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_under_stderr_is_an_exit_code() -> None:
    ended = shell(f"intramodal runs show nothing 2>{FULL}")
    assert (ended.returncode, ended.stdout) == (1, b"")


@pytest.mark.skipif(not IS_POSIX, reason="needs a POSIX shell")
@pytest.mark.parametrize("words", ["models list", "--help"])
def test_a_reader_that_leaves_early_is_no_traceback(words: str) -> None:
    assert shell(f"intramodal {words} | true").stderr == b""
