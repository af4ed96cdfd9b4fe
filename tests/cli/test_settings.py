"""Files of settings: every option as it is spelled, in files and in the environment."""

from __future__ import annotations

import logging
import os
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from intramodal.cli import cli
from intramodal.commands.configuration import _kind, read_settings
from intramodal.commands.headings import long_names
from intramodal.commands.options import DEFAULT_RUNS
from intramodal.commands.trusted_folders import own_file, trust
from intramodal.errors import InputError
from tests.cli.kit import invoke, walk

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(empty_folder: Path) -> Path:
    """Return the current folder, trusted; nobody has settings of their own."""
    trust(empty_folder)
    return empty_folder


def write(content: str) -> None:
    Path("intramodal.toml").write_text(content)


LEAVES = {path.strip(): command for path, command in walk(cli)}


def options(path: str) -> list[click.Option]:
    return [param for param in LEAVES[path].params if isinstance(param, click.Option)]


@pytest.mark.parametrize("spell", [str, lambda name: name.replace("-", "_")], ids=["-", "_"])
@pytest.mark.parametrize("path", LEAVES)
def test_every_option_can_be_set_by_its_long_names(path: str, spell: Any) -> None:
    for nth in (0, -1):  # --wait, --no-wait
        lines = [
            f"{spell(long_names(option)[nth])} = {_kind(option).example.replace('...', 'a=b')}"
            for option in options(path)
        ]
        write(f"[{path.replace(' ', '.')}]\n" + "\n".join(lines))
        read = read_settings(cli)
        for word in path.split():
            read = read[word]
        assert set(read) == {option.name for option in options(path)}
        table: Any = tomllib.loads("\n".join(lines))
        for option in options(path):
            given, got = table[spell(long_names(option)[nth])], read[str(option.name)]
            is_reversed = nth == -1 and bool(option.secondary_opts)
            assert got == ((not given) if is_reversed else given) or got == [given]


@pytest.mark.parametrize("path", LEAVES)
def test_every_option_is_a_variable_of_its_long_name(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = "INTRAMODAL_" + path.upper().replace(" ", "_").replace("-", "_")
    context = click.Context(LEAVES[path], auto_envvar_prefix=prefix)
    for option in options(path):
        name = f"{prefix}_{long_names(option)[0].upper().replace('-', '_')}"
        assert option.resolve_envvar_value(context) is None
        monkeypatch.setenv(name, "1")
        assert option.resolve_envvar_value(context) == "1", name


def test_a_variable_of_one_command_wins_over_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTRAMODAL_RUNS", "all.db")
    monkeypatch.setenv("INTRAMODAL_RUNS_LIST_RUNS", "list.db")
    assert "no runs database list.db" in invoke("runs", "list").stderr
    assert "no runs database all.db" in invoke("runs", "show", "x").stderr


def test_what_stands_nearer_to_a_command_wins() -> None:
    write("seed = 1\n[evaluate]\nseed = 2\nbins = 9\n[evaluate.fewshot_text]\nseed = 3\n")
    read = read_settings(cli)
    assert read["compare"]["seed"] == 1
    assert read["evaluate"]["fewshot"]["seed"] == 2
    assert read["evaluate"]["fewshot-text"]["seed"] == 3
    assert read["evaluate"]["misalignment"] == {"seed": 2, "bins": 9}


def test_a_table_of_pairs_is_replaced_and_not_merged() -> None:
    own = own_file()
    assert own is not None
    own.write_text('[evaluate.fewshot]\nshots-from = { raw = "a", pca = "b" }\n')
    write('[evaluate.fewshot]\nshots-from = { raw = "c" }\n')
    assert read_settings(cli)["evaluate"]["fewshot"]["shots_from"] == {"raw": "c"}


def test_verbose_names_the_files_in_use(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    own = own_file()
    assert own is not None
    own.write_text("seed = 1\n")
    write("seed = 2\n")
    invoke("-v", "models", "list")
    named = [line for line in caplog.messages if line.startswith("settings: ")]
    assert named == [f"settings: {own}", f"settings: {Path('intramodal.toml').absolute()}"]


@pytest.mark.parametrize(
    "content", [b"\xff", b"a = " + b"[" * 5000, b"# " + b"x" * 1_000_000, b"seed = "]
)
def test_what_is_no_file_of_settings_is_refused_in_one_sentence(content: bytes) -> None:
    Path("intramodal.toml").write_bytes(content)
    result = invoke("models", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: intramodal.toml is ")
    assert result.stderr.count("\n") == 1


def test_a_mark_of_its_encoding_is_no_fault_of_a_file() -> None:
    Path("intramodal.toml").write_text("seed = 1\n", encoding="utf-8-sig")
    assert read_settings(cli)["compare"] == {"seed": 1}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_a_pipe_is_no_file_of_settings() -> None:
    os.mkfifo("intramodal.toml")
    assert invoke("models", "list").exit_code == 0


def test_options_win_over_environment_over_the_folders_file_over_ones_own() -> None:
    def looked_at(arguments: list[str], environment: dict[str, str]) -> str:
        result = CliRunner(env=environment).invoke(cli, ["runs", "list", *arguments])
        assert result.exit_code == 1
        return result.stderr.split("there is no runs database ")[1].split(";")[0]

    assert looked_at([], {}) == str(Path(DEFAULT_RUNS))
    own = own_file()
    assert own is not None
    own.write_text('runs = "own.db"\n')
    assert looked_at([], {}) == "own.db"
    write('runs = "file.db"\n')
    assert looked_at(["--runs", "option.db"], {"INTRAMODAL_RUNS": "env.db"}) == "option.db"
    assert looked_at([], {"INTRAMODAL_RUNS": "env.db"}) == "env.db"
    assert looked_at([], {}) == "file.db"


def test_a_config_file_for_an_unknown_command_is_refused() -> None:
    write("[rums]\nlimit = 3\n")
    with pytest.raises(InputError, match="did you mean runs"):
        read_settings(cli)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[search]\nvektors = ['raw']\n", "sets [search] vektors, but there is no such option"),
        ("[search]\nvektors = ['raw']\n", "did you mean vectors"),
        ("[runs]\nolder_then = '30d'\n", "did you mean older-than"),
        ("sore = 'x'\n", "did you mean store"),
    ],
)
def test_a_config_file_with_an_unknown_option_is_refused(content: str, sentence: str) -> None:
    write(content)
    with pytest.raises(InputError) as refused:
        read_settings(cli)
    assert sentence in str(refused.value)


def test_a_config_file_may_use_every_option_as_it_is_spelled() -> None:
    write("store = 's'\n[compare]\nmin-class-size = 3\n[runs]\nlimit = 7\n")
    read = read_settings(cli)
    assert read["compare"]["min_class_size"] == 3
    assert read["runs"]["list"]["limit"] == 7
    assert read["search"]["store"] == "s"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('ca = ["a"]', "sets ca to a list of text, but it takes text in quotes"),
        ("store = 7.5", ""),
        ("store = true", "sets store to true or false, but it takes text in quotes, or a number"),
        ("deadline = 1979-05-27", "sets deadline to a date, but it takes a number"),
        (
            "[compare]\nmin-class-size = 2.5",
            "[compare] min-class-size to a number",
        ),
        ("[compare]\nmin-class-size = true", "but it takes a whole number; write it as in"),
        ("[backfill]\nwait = 'no'", "sets [backfill] wait to text, but it takes true or false"),
        ("[backfill]\nprojection = 3", "[backfill] projection to a number, but it takes text in"),
        ("[backfill]\nnode = [1]", "takes text in quotes, or a list of such texts"),
        ("[compare]\nlabels = 5", "write it as in labels = ["),
        ("[compare]\nlabels = ['a', 5]", "sets [compare] labels to a list, but it takes text"),
        ("[evaluate]\nshots = ['a']", ""),
        ("[evaluate]\nshots = [1.5]", "takes a whole number, or a list of them"),
        ("[backfill]\ndatatype = 16", "sets [backfill] datatype to a number"),
        ("[compare.where]\na = 1", "sets [compare] where to a table"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_sentence(content: str, sentence: str) -> None:
    write(content)
    if not sentence:  # text that is no number is left to the option
        assert read_settings(cli)
        return
    with pytest.raises(InputError) as refused:
        read_settings(cli)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refused_value_is_not_shown() -> None:
    write('runs = ["postgresql://me:secret@db"]')
    with pytest.raises(InputError, match="a list of text") as refused:
        read_settings(cli)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "command", "parameters"),
    [
        (
            "[backfill]\nfrom = 'image'\nto = 'pca'",
            "backfill",
            {"source": "image", "vector": "pca"},
        ),
        ("[backfill]\nnode = 'http://b'", "backfill", {"nodes": ["http://b"]}),
        ("[backfill]\nno-wait = true", "backfill", {"wait": False}),
        ("[search]\nshard-key = 7", "search", {"shard_key": 7}),
        ("[evaluate]\nmodel = 'm'", "evaluate misalignment", {"models": ["m"]}),
        ("[evaluate]\nmodel = 'm'", "evaluate text", {"model": "m"}),
        ("runs = 'r.db'", "demo", {"runs": "r.db"}),
    ],
)
def test_a_setting_reaches_the_parameter_whatever_that_is_called(
    content: str, command: str, parameters: dict[str, Any]
) -> None:
    write(content)
    read: Any = read_settings(cli)
    for word in command.split():
        read = read[word]
    assert read == parameters
    known = {param.name for name, leaf in walk(cli) if name.strip() == command
             for param in leaf.params}  # fmt: skip
    assert set(parameters) <= known
