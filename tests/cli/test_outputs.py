"""Every option that names a file to write: never over an input, a link or a device."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from intramodal.cli import cli
from intramodal.commands.outputs import Output
from intramodal.files import FOLDERS, SUFFIXES
from tests.cli.kit import invoke, walk

COMMANDS = {path.strip(): command for path, command in walk(cli)}
OUTPUTS = [
    (path, param)
    for path, command in COMMANDS.items()
    for param in command.params
    if isinstance(param.type, Output)
]
FOLDER = {"demo --out", "reproduce --out", "models convert-slip TARGET"}
"""Folders that a command fills, each file of it as `files.replacing` does."""

NEEDED = {
    "fit": ("--text-vectors", "T.npy", "--made-by", "m"),
    "export": ("photos", "--vector", "raw"),
    "search": ("photos", "--id", "1"),
    "compare": ("photos",),
    "judge": ("votes.json",),
    "report": (),
    "runs export": (),
    "runs table": (),
    "evaluate misalignment": ("photos", "--labels", "kind"),
    "evaluate recovery": ("photos", "--text-vectors", "T.npy"),
    "evaluate oti": ("photos", "--labels", "kind"),
}
"""What the command line needs beside the file."""


def spelled(param: click.Parameter) -> str:
    return max(param.opts, key=len)


every = pytest.mark.parametrize(
    ("path", "param"), OUTPUTS, ids=[f"{path} {spelled(param)}" for path, param in OUTPUTS]
)


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def suffix_of(param: click.Parameter) -> str:
    assert isinstance(param.type, Output)
    return next(SUFFIXES[name][0] for name in param.type.formats if name not in FOLDERS)


def refuse(path: str, param: click.Parameter, out: str, *words: str) -> str:
    """Return the one sentence that refuses a file."""
    result = invoke(*path.split(), *NEEDED[path], spelled(param), out, *words)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {spelled(param)}: "), result.stderr
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_every_option_that_writes_a_file_says_of_which_kind() -> None:
    assert {path for path, _ in OUTPUTS} == set(NEEDED)
    for path, command in COMMANDS.items():
        for param in command.params:
            text = str(getattr(param, "help", "")).lower()
            named = str(param.name) in ("out", "target", "report", "html", "junit")
            writes = "file to write" in text or text.startswith(("also write", "file that stores"))
            if isinstance(param.type, click.Path) and (named or writes):
                name = spelled(param) if isinstance(param, click.Option) else param.name.upper()  # type: ignore[union-attr]
                assert isinstance(param.type, Output) or f"{path} {name}" in FOLDER, (path, name)


@every
@pytest.mark.parametrize("name", ["T.npz", "photo.jpg", "runs.db", "noname", "index.html.bak"])
def test_another_suffix_is_refused_and_the_message_names_those_there_are(
    path: str, param: click.Parameter, name: str
) -> None:
    Path(name).write_text("precious")
    assert f"does not end in {suffix_of(param)}" in refuse(path, param, name)
    assert Path(name).read_text() == "precious"


@every
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and links with a name")
def test_a_link_a_folder_and_a_pipe_are_never_replaced(path: str, param: click.Parameter) -> None:
    suffix = suffix_of(param)
    Path("precious").write_text("precious")
    Path(f"link{suffix}").symlink_to("precious")
    Path(f"folder{suffix}").mkdir()
    os.mkfifo(f"pipe{suffix}")
    for kind in ("link", "folder", "pipe"):
        told = refuse(path, param, f"{kind}{suffix}")
        assert f"{kind}{suffix} is a {kind} and is not replaced; name a file" in told
    assert Path("precious").read_text() == "precious"
    assert Path(f"link{suffix}").is_symlink()


def readers(path: str) -> list[str]:
    """Return the options of a command that name files it reads."""
    return [
        spelled(param)
        for param in COMMANDS[path].params
        if isinstance(param, click.Option)
        and (
            (isinstance(param.type, click.Path) and not isinstance(param.type, Output))
            or param.name in ("anchors", "names", "model", "models", "runs_url")
        )
        and spelled(param) != "--pictures"
    ]


@every
def test_a_file_that_the_command_reads_is_never_written_over(
    path: str, param: click.Parameter
) -> None:
    mine = f"mine{suffix_of(param)}"
    Path(mine).write_text("precious")
    Path("again").hardlink_to(mine)
    Path("pointer").symlink_to(mine)
    Path("folder").mkdir()
    assert readers(path)
    for option in readers(path):
        for name in (mine, "again", "pointer", f"folder/../{mine}"):
            said = refuse(path, param, mine, option, name)
            assert f"is read by this command ({option}); name another file" in said
    assert Path(mine).read_text() == "precious"


@every
def test_a_file_within_the_store_is_never_written(path: str, param: click.Parameter) -> None:
    if "store" not in {other.name for other in COMMANDS[path].params}:
        pytest.skip("reads the runs database only")
    Path("s").mkdir()
    said = refuse(path, param, f"s/catalogue{suffix_of(param)}", "--store", "./s")
    assert "is read by this command (--store)" in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--model", "slip:mine.safetensors"),
        ("--model", "open_clip:local-dir:mine.safetensors"),
        ("--runs", "sqlite:///mine.safetensors"),
        ("--anchors", "./mine.safetensors"),
    ],
)
def test_a_name_within_another_word_is_found(option: str, value: str) -> None:
    Path("mine.safetensors").write_text("precious")
    path, param = next(one for one in OUTPUTS if one[0] == "fit")
    assert f"({option})" in refuse(path, param, "mine.safetensors", option, value)


def test_text_that_only_looks_like_the_file_is_no_input() -> None:
    Path("page.html").write_text("last week's")
    result = invoke("compare", "photos", "--labels", "page.html", "-o", "page.html")
    assert "is read by" not in result.stderr
    assert "there is no store" in result.stderr


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device")
@pytest.mark.parametrize(("place", "kind"), [("/dev/null", "a device"), ("/dev/stdout", "a link")])
def test_a_device_is_named_as_what_it_is(place: str, kind: str) -> None:
    path, param = next(one for one in OUTPUTS if one[0] == "fit")
    assert f"{place} is {kind} and is not replaced; name a file" in refuse(path, param, place)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_given_format_wants_its_own_suffix(form: str) -> None:
    result = invoke("runs", "export", "--format", form, "-o", "T.npy")
    assert f"does not end in .{form}" in result.stderr


def test_scores_go_into_a_folder_and_over_no_file() -> None:
    from intramodal import RunLedger
    from intramodal.commands.options import DEFAULT_RUNS

    with RunLedger.open(DEFAULT_RUNS):
        pass
    Path("scores").write_text("precious")
    result = invoke("runs", "export", "--format", "trec", "-o", "scores")
    assert result.exit_code == 1
    assert Path("scores").read_text() == "precious"
